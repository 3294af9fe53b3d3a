"""Rollout restarts of workloads that cannot re-read a mounted Secret.

Stateless: whether a workload needs a restart is read from the workload itself, so a restart of the
operator restarts nothing, and an operator killed in the middle finishes.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mdb_operator.constants import ANNOTATION_RESTART_SUFFIX, GROUP
from mdb_operator.exceptions import Conflict, NotFound
from mdb_operator.kubernetes.client import KubeClient, KubeObject, metadata_of
from mdb_operator.kubernetes.resources import Resource

__all__ = ["Restart", "WorkloadRestarter", "restart_annotation"]

WORKLOADS = {
    "Deployment": Resource("apps/v1", "deployments"),
    "StatefulSet": Resource("apps/v1", "statefulsets"),
    "DaemonSet": Resource("apps/v1", "daemonsets"),
}
"""The kinds that roll out by themselves when their pod template changes, and no others."""

MARK_LENGTH = 8
"""Characters of an incarnation that tell it from the one before."""

MAX_ATTEMPTS = 5
"""How often a race with the workload's own controller is tried again."""


class Restart(enum.Enum):
    """What `WorkloadRestarter.restart` found and did."""

    RESTARTED = "Restarted"
    UNCHANGED = "Unchanged"
    """Its pods have been started, or told to restart, for this version or a later one."""

    MISSING = "Missing"
    """There is no such workload."""


def restart_annotation(slug: str) -> str:
    """Return the pod template annotation that holds the secret's version for this app."""
    return f"{GROUP}/{slug}.{ANNOTATION_RESTART_SUFFIX}"


class WorkloadRestarter:
    """Restarts Deployments, StatefulSets and DaemonSets as ``kubectl rollout restart`` does."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def restart(
        self,
        namespace: str,  # the MdbApp's own; no other is ever touched
        kind: str,  # one of `WORKLOADS`
        name: str,
        *,
        slug: str,  # part of the annotation
        version: int,  # within an incarnation the annotation only ever goes up to it
        # An app that was deleted with its data and created again begins anew at version 1.
        incarnation: str,
        rotated_at: dt.datetime,  # when that version was made, with a time zone
    ) -> Restart:
        """Make the workload's pods start again, if they may still hold an older version.

        Without a need nothing is written. A workload without the annotation that was created after
        ``rotated_at`` has started with this version, and for the first version pods cannot start
        before the Secret exists. Neither is restarted.

        Raises
        ------
        Conflict
            If the workload kept changing; observe again.
        Forbidden
            If the chart was installed without the right to restart workloads.
        """
        resource = WORKLOADS[kind]
        annotation, wanted = restart_annotation(slug), _Mark(version, incarnation[:MARK_LENGTH])
        for attempts_left in reversed(range(MAX_ATTEMPTS)):
            try:
                workload = await self._client.get(resource, namespace, name)
                if not _needs_restart(workload, annotation, wanted, rotated_at):
                    return Restart.UNCHANGED
                await self._client.patch(
                    resource, namespace, name, _patch(workload, annotation, wanted)
                )
            except NotFound:
                return Restart.MISSING
            except Conflict:
                # Its controller writes the status often, above all during a rollout.
                if not attempts_left:
                    raise
            else:
                return Restart.RESTARTED
        raise AssertionError  # the last attempt returned or raised


@dataclass(frozen=True, slots=True)
class _Mark:
    """What stands in the annotation: ``<version>-<incarnation>``."""

    version: int
    incarnation: str

    @classmethod
    def parse(cls, text: str) -> _Mark | None:
        version, _, incarnation = text.partition("-")
        return cls(int(version), incarnation) if version.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.version}-{self.incarnation}"


def _patch(workload: KubeObject, annotation: str, wanted: _Mark) -> KubeObject:
    metadata = metadata_of(workload)
    return {
        # Without the version a slower operator could set an older one over a newer.
        "metadata": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
        "spec": {"template": {"metadata": {"annotations": {annotation: str(wanted)}}}},
    }


def _needs_restart(
    workload: Mapping[str, Any],
    annotation: str,
    wanted: _Mark,
    rotated_at: dt.datetime,
) -> bool:
    template = (workload.get("spec") or {}).get("template") or {}
    text = (metadata_of(template).get("annotations") or {}).get(annotation)
    if text is not None:
        seen = _Mark.parse(text)
        if seen is None or seen.incarnation != wanted.incarnation:
            return True  # its pods were started for what an app of this slug had before
        return seen.version < wanted.version
    if wanted.version <= 1:
        return False
    created = dt.datetime.fromisoformat(metadata_of(workload)["creationTimestamp"])
    return created < rotated_at
