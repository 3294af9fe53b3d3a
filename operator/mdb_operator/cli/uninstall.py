"""Leave a cluster so that nothing hangs: what the chart's pre-delete hook runs.

An MdbApp whose finalizer nobody removes can never be deleted, nor can its namespace. Uninstalling
keeps the MdbApps, their Secrets and all data, and takes only the finalizer off and the claim out of
the status; a later installation puts both there again. The operator is stopped first, since it
would put them back at once. What another installation handles is left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping

from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.constants import FINALIZER
from mdb_operator.exceptions import Conflict, Forbidden, NotFound, OperatorError
from mdb_operator.kubernetes.client import KubeClient, KubeObject
from mdb_operator.kubernetes.mdbapps import MdbAppStore, app_ref
from mdb_operator.kubernetes.resources import DEPLOYMENTS, PODS

__all__ = ["is_of_helm", "release_all", "stop_operator"]

POLL_SECONDS = 0.5
"""How often it is looked whether the operator's pods are gone."""

_ENDED = frozenset({"Succeeded", "Failed"})
"""Phases in which no container runs; an evicted pod stays in one."""

ROUNDS = 3
"""How often those that changed while their finalizer was taken off are tried again."""


HELM_RELEASE = "meta.helm.sh/release-name"
"""Helm's annotation of whatever it installs, and of nothing that it only renders."""


async def is_of_helm(client: KubeClient, namespace: str, deployment: str) -> bool:
    """Tell whether Helm installed the Deployment, or it is gone.

    Who renders the hooks and applies them like any other object wants to install, not uninstall.
    """
    try:
        found = await client.get(DEPLOYMENTS, namespace, deployment, metadata_only=True)
    except NotFound:
        return True
    return HELM_RELEASE in (found["metadata"].get("annotations") or {})


async def stop_operator(
    client: KubeClient,
    namespace: str,
    deployment: str,
    say: Callable[[str], None],
    *,
    deadline_seconds: float,
) -> None:
    """Scale the operator's Deployment to nothing and wait until its pods are gone.

    Raises
    ------
    OperatorError
        If they are not gone in time.
    """
    try:
        await client.patch(DEPLOYMENTS, namespace, deployment, {"spec": {"replicas": 0}})
    except NotFound:
        say("The operator is not there any more")
        return
    deadline = time.monotonic() + deadline_seconds
    while True:
        found = await client.get(DEPLOYMENTS, namespace, deployment)
        status = found.get("status") or {}
        seen = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
        labels = found["spec"]["selector"]["matchLabels"]
        if seen and not status.get("replicas") and not await _running(client, namespace, labels):
            say("The operator has stopped")
            return
        if time.monotonic() > deadline:
            raise OperatorError(
                f"the pods of Deployment {namespace}/{deployment} did not end within "
                f"{deadline_seconds:g} s; end them, then uninstall again"
            )
        await asyncio.sleep(POLL_SECONDS)


async def _running(client: KubeClient, namespace: str, labels: Mapping[str, str]) -> bool:
    """Return whether a pod runs. A Deployment counts none that is being ended and still works."""
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    async for page in client.pages(PODS, namespace, label_selector=selector):
        if any(pod["status"].get("phase") not in _ENDED for pod in page["items"]):
            return True
    return False


async def release_all(
    store: MdbAppStore,
    say: Callable[[str], None],
    is_ours: Callable[[MdbAppResource], bool],
) -> int:
    """Take our finalizer off all MdbApps of this installation; return off how many.

    Raises
    ------
    OperatorError
        If some change faster than they can be written.
    """
    done = 0
    raced: list[str] = []
    for _ in range(ROUNDS):
        raced = []
        async for obj in _all_reachable(store, say):
            ref = app_ref(obj)
            if not is_ours(MdbAppResource.from_body(obj)):
                continue
            try:
                if await _release(store, obj):
                    done += 1
                    say(f"Let go of {ref.namespace}/{ref.name}")
            except Conflict:
                raced.append(f"{ref.namespace}/{ref.name}")
            except NotFound:
                continue  # it was being deleted, and its finalizer was the last
        if not raced:
            return done
    raise OperatorError(f"these MdbApps change all the time: {', '.join(raced)}; try again")


async def _release(store: MdbAppStore, obj: KubeObject) -> bool:
    """Take off the finalizer and then the claim: who comes next must not lose its finalizer."""
    written = await store.remove_finalizer(obj, FINALIZER)
    obj = obj if written is None else written
    status = obj.get("status") or {}
    left = {key: value for key, value in status.items() if key != "installation"}
    version = obj["metadata"]["resourceVersion"]
    released = await store.apply_status(app_ref(obj), status, left, resource_version=version)
    return written is not None or released is not None


async def _all_reachable(
    store: MdbAppStore, say: Callable[[str], None]
) -> AsyncIterator[KubeObject]:
    """Yield all MdbApps, but for those of a listed namespace that went with its Role."""
    for scope in store.scopes:
        try:
            async for obj in store.list_all(scope):
                yield obj
        except Forbidden as error:
            if scope is None:
                raise
            say(f"Left out namespace {scope}: {error.message}")
