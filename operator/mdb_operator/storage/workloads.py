"""Rollout restarts of workloads that cannot re-read a mounted Secret.

Stateless: whether a workload needs a restart is read from the workload itself, so a restart of the
operator restarts nothing, and an operator killed in the middle finishes.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from typing import Any

from mdb_operator.constants import ANNOTATION_RESTART_SUFFIX, GROUP
from mdb_operator.exceptions import Conflict, NotFound
from mdb_operator.storage.kube import KubeClient, KubeObject, Resource, metadata_of

__all__ = ["Restart", "WorkloadRestarter", "restart_annotation"]

WORKLOADS = {
    "Deployment": Resource("apps/v1", "deployments"),
    "StatefulSet": Resource("apps/v1", "statefulsets"),
    "DaemonSet": Resource("apps/v1", "daemonsets"),
}
"""The kinds that roll out by themselves when their pod template changes, and no others."""


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
    """Restarts Deployments, StatefulSets and DaemonSets as ``kubectl rollout restart`` does.

    Parameters
    ----------
    client
        The connection.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def restart(
        self,
        namespace: str,
        kind: str,
        name: str,
        *,
        slug: str,
        version: int,
        rotated_at: dt.datetime,
    ) -> Restart:
        """Make the workload's pods start again, if they may still hold an older version.

        Parameters
        ----------
        namespace
            The MdbApp's own namespace; no other is ever touched.
        kind
            One of `WORKLOADS`.
        name
            The workload's name.
        slug
            The app whose secret changed; part of the annotation.
        version
            The secret's version; the annotation only ever goes up to it.
        rotated_at
            When that version was made, with a time zone.

        Returns
        -------
        Restart
            What was found and done. Without a need nothing is written.

        Raises
        ------
        Conflict
            If the workload kept changing; observe again.
        Forbidden
            If the chart was installed without the right to restart workloads.

        Notes
        -----
        A workload without the annotation that was created after ``rotated_at`` has started with
        this version, and for the first version pods cannot start before the Secret exists. Neither
        is restarted.
        """
        resource = WORKLOADS[kind]
        annotation = restart_annotation(slug)
        for attempts_left in reversed(range(MAX_ATTEMPTS)):
            try:
                workload = await self._client.get(resource, namespace, name)
                if not _needs_restart(workload, annotation, version, rotated_at):
                    return Restart.UNCHANGED
                await self._client.patch(
                    resource, namespace, name, _patch(workload, annotation, version)
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


def _patch(workload: KubeObject, annotation: str, version: int) -> KubeObject:
    metadata = metadata_of(workload)
    return {
        # Without the version a slower operator could set an older one over a newer.
        "metadata": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
        "spec": {"template": {"metadata": {"annotations": {annotation: str(version)}}}},
    }


def _needs_restart(
    workload: Mapping[str, Any],
    annotation: str,
    version: int,
    rotated_at: dt.datetime,
) -> bool:
    template = (workload.get("spec") or {}).get("template") or {}
    seen = (metadata_of(template).get("annotations") or {}).get(annotation)
    if isinstance(seen, str) and seen.isdigit():
        return int(seen) < version
    if version <= 1:
        return False
    created = dt.datetime.fromisoformat(metadata_of(workload)["creationTimestamp"])
    return created < rotated_at
