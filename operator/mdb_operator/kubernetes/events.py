"""Kubernetes Events: what ``kubectl describe`` shows of an app's history.

Posted on transitions only, so nothing aggregates them: a transition that happened twice is two
events. An event is a courtesy, so a failure to post one is logged and never fails a reconcile.
"""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Literal

import structlog

from mdb_engine.registry.models.app import Owner
from mdb_operator.constants import API_VERSION, KIND
from mdb_operator.exceptions import KubernetesError
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.resources import EVENTS
from mdb_operator.logging import redact

__all__ = ["EventRecorder"]

NOTE_BYTES = 1024
"""The API server refuses a longer note."""

NAME_LENGTH = 253
"""The longest name of an object."""

_log = structlog.get_logger(__name__)


class EventRecorder:
    """Posts events for a controller and a process of it (the pod's name)."""

    def __init__(self, client: KubeClient, *, component: str, instance: str) -> None:
        self._client = client
        self._component = f"mdb-engine.dev/{component}"
        self._instance = instance[:128]

    async def record(
        self,
        app: Owner,
        kind: Literal["Normal", "Warning"],
        *,
        reason: str,  # one CamelCase word: why the state changed, the condition's reason
        action: str,  # one CamelCase word: what the operator did or tried
        note: str,  # a sentence for a person; redacted and cut to what the API server takes
    ) -> bool:
        """Post one event in the app's namespace; return whether the API server took it."""
        regarding = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": app.namespace,
            "name": app.name,
            "uid": app.uid,
        }
        return await self._post(regarding, kind, reason=reason, action=action, note=note)

    async def record_of_lease(
        self,
        namespace: str,
        name: str,
        kind: Literal["Normal", "Warning"],
        *,
        reason: str,
        action: str,
        note: str,
    ) -> bool:
        """Post one event about the operator as a whole, whose object is its Lease; as `record`."""
        regarding = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "namespace": namespace,
            "name": name,
        }
        return await self._post(regarding, kind, reason=reason, action=action, note=note)

    async def _post(
        self, regarding: dict[str, str], kind: str, *, reason: str, action: str, note: str
    ) -> bool:
        namespace, name = regarding["namespace"], regarding["name"]
        suffix = f".{secrets.token_hex(8)}"
        now = dt.datetime.now(dt.UTC)
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "namespace": namespace,
                "name": name[: NAME_LENGTH - len(suffix)] + suffix,
            },
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": kind,
            "reason": reason,
            "action": action,
            "note": _cut(redact(note)),
            "reportingController": self._component,
            "reportingInstance": self._instance,
            "regarding": regarding,
        }
        try:
            await self._client.create(EVENTS, namespace, event)
        except KubernetesError as error:
            _log.warning(
                "Event not posted",
                namespace=namespace,
                name=name,
                reason=reason,
                error=error.message,
            )
            return False
        return True


def _cut(note: str) -> str:
    encoded = note.encode()
    if len(encoded) <= NOTE_BYTES:
        return note
    return encoded[: NOTE_BYTES - 3].decode(errors="ignore") + "…"
