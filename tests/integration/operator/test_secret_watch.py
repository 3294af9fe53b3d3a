from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.clusters import Cluster
from support.operator_edge import desired_secret
from support.waiting import wait_until_async

from mdb_engine.registry.models.app import Owner
from mdb_operator.constants import LABEL_OWNER_UID
from mdb_operator.exceptions import Expired, KubernetesUnavailable
from mdb_operator.kubernetes.client import PAGE_BYTES, KubeClient, KubeObject
from mdb_operator.kubernetes.resources import SECRETS
from mdb_operator.kubernetes.secret_watch import (
    SecretChange,
    SecretPoll,
    SecretWatch,
    Watcher,
)
from mdb_operator.kubernetes.secrets import OwnWrites, SecretStore

NAME = "dashboard-mdb"

STRANGER = "no-mdbapp-"
"""How the owners' UIDs of Secrets begin that somebody else has put our label on."""

DAMAGE = {
    "deleted": ["delete", "secret", NAME],
    "edited": ["patch", "secret", NAME, "--type=merge", '-p={"stringData":{"app-secret":"x"}}'],
    "unlabelled": ["label", "secret", NAME, f"{LABEL_OWNER_UID}-"],
    "disowned": [
        *("patch", "secret", NAME, "--type=merge"),
        '-p={"metadata":{"ownerReferences":null}}',
    ],
}


class Seen:
    """The changes that were told."""

    def __init__(self) -> None:
        self.changes: list[SecretChange] = []
        self.own = OwnWrites()

    def __call__(self, change: SecretChange) -> None:
        self.changes.append(change)

    def is_app(self, _namespace: str, uid: str) -> bool:
        """Take every UID for an MdbApp's but those that the API server never gives."""
        return not uid.startswith(STRANGER)

    async def wait(self, count: int, deadline: float = 2.0) -> None:
        await wait_until_async(
            lambda: len(self.changes) >= count,
            deadline=deadline,
            message=lambda: f"{count} changes; seen: {self.changes}",
        )


@asynccontextmanager
async def running(watcher: Watcher) -> AsyncIterator[None]:
    task = asyncio.create_task(watcher.run())
    try:
        async with asyncio.timeout(10):
            await watcher.wait_synced()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def store(kube: KubeClient, seen: Seen) -> SecretStore:
    return SecretStore(kube, seen.own)


@pytest.fixture
async def app(make_app: Callable[..., Owner], store: SecretStore) -> Owner:
    app = make_app()
    await store.project(desired_secret(app))
    return app


@pytest.mark.parametrize("kind", DAMAGE)
async def test_a_change_is_told_within_a_moment_with_its_app(
    control_plane: Cluster, kube: KubeClient, namespace: str, seen: Seen, app: Owner, kind: str
) -> None:
    async with running(SecretWatch(kube, namespace, seen, seen.own, seen.is_app)):
        started = time.monotonic()
        await asyncio.to_thread(control_plane.kubectl, *DAMAGE[kind], "-n", namespace)
        await seen.wait(1)
        assert time.monotonic() - started < 2
    change = seen.changes[0]
    assert (change.namespace, change.name, change.owner_uid) == (namespace, NAME, app.uid)
    assert change.owner_name == app.name
    assert change.gone == (kind in {"deleted", "unlabelled"})


async def test_own_writes_and_secrets_of_others_wake_nobody(
    control_plane: Cluster,
    kube: KubeClient,
    namespace: str,
    store: SecretStore,
    seen: Seen,
    app: Owner,
) -> None:
    async with running(SecretWatch(kube, namespace, seen, seen.own, seen.is_app)):
        await asyncio.to_thread(
            control_plane.kubectl, "create", "secret", "generic", "theirs", "-n", namespace
        )
        await store.project(desired_secret(app, value="rotated"))
        await asyncio.to_thread(control_plane.kubectl, *DAMAGE["edited"], "-n", namespace)
        await seen.wait(1)
        # An own write may be told when its event overtakes its answer; that is one idle look.
        assert {change.name for change in seen.changes} == {NAME}
        assert len(seen.changes) <= 2


async def test_the_whole_cluster_is_watched_without_a_namespace(
    control_plane: Cluster, kube: KubeClient, namespace: str, seen: Seen, app: Owner
) -> None:
    async with running(SecretWatch(kube, None, seen, seen.own, seen.is_app)):
        await asyncio.to_thread(control_plane.kubectl, *DAMAGE["deleted"], "-n", namespace)
        await wait_until_async(
            lambda: any(change.owner_uid == app.uid for change in seen.changes),
            deadline=2,
            message="the deletion is told",
        )


async def test_a_secret_as_large_as_can_be_stops_no_watch(
    control_plane: Cluster, kube: KubeClient, namespace: str, seen: Seen, app: Owner
) -> None:
    restarts: list[str] = []
    large = {"metadata": {"annotations": {f"a{part}": "x" * 60_000 for part in range(4)}}}
    async with running(SecretWatch(kube, namespace, seen, seen.own, seen.is_app, restarts.append)):
        patch = json.dumps({**large, "stringData": {"app-secret": "x"}})
        await asyncio.to_thread(
            control_plane.kubectl,
            *("patch", "secret", NAME, "-n", namespace, "--type=merge", "--patch-file=/dev/stdin"),
            manifest=patch,
        )
        await seen.wait(1)
        await asyncio.to_thread(control_plane.kubectl, *DAMAGE["deleted"], "-n", namespace)
        await seen.wait(2)
    assert restarts == []


@pytest.mark.long
async def test_secrets_of_nobody_with_large_annotations_cost_nothing(
    kube: KubeClient,
    namespace: str,
    seen: Seen,
    app: Owner,
    control_plane: Cluster,
) -> None:
    annotations = {f"a{part}": "x" * 62_000 for part in range(4)}

    async def create(number: int) -> None:
        labels = {LABEL_OWNER_UID: f"{STRANGER}{number}"}
        metadata = {"name": f"large-{number}", "labels": labels, "annotations": annotations}
        await kube.create(SECRETS, namespace, {"metadata": metadata})

    for start in range(0, 160, 8):
        await asyncio.gather(*(create(number) for number in range(start, start + 8)))
    watch = SecretWatch(kube, namespace, seen, seen.own, seen.is_app)
    tracemalloc.start()
    try:
        async with running(watch):
            kept, peak = tracemalloc.get_traced_memory()
            assert set(watch._known) == {(namespace, NAME)}
            await kube.patch(SECRETS, namespace, "large-1", {"stringData": {"other": "x"}})
            await asyncio.to_thread(control_plane.kubectl, *DAMAGE["deleted"], "-n", namespace)
            await seen.wait(1)
    finally:
        tracemalloc.stop()
    assert [change.name for change in seen.changes] == [NAME]
    # 160 of 245 KiB are 39 MiB, and several times that parsed as one page.
    assert peak < 5 * PAGE_BYTES
    assert kept < PAGE_BYTES


class Interrupted(KubeClient):
    """A real client whose watch breaks in the given ways first."""

    def break_with(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.broken = asyncio.Event()
        self.go_on = asyncio.Event()

    async def watch(self, *args: Any, **options: Any) -> AsyncIterator[KubeObject]:
        if self.faults:
            self.broken.set()
            await self.go_on.wait()
            raise self.faults.pop(0)
        async for event in super().watch(*args, **options):
            yield event


@pytest.mark.parametrize(
    "fault",
    [Expired("410"), KubernetesUnavailable("cut"), KubernetesUnavailable("500", status=500)],
    ids=["expired", "cut", "refused"],
)
async def test_what_happened_while_the_watch_was_broken_is_told_afterwards(
    control_plane: Cluster,
    namespace: str,
    store: SecretStore,
    seen: Seen,
    app: Owner,
    fault: Exception,
) -> None:
    await store.project(desired_secret(app, name="second-mdb"))
    client = await Interrupted.connect(kubeconfig=control_plane.kubeconfig)
    restarts: list[str] = []
    try:
        client.break_with(fault)
        watch = SecretWatch(client, namespace, seen, seen.own, seen.is_app, restarts.append)
        async with running(watch):
            await client.broken.wait()
            await asyncio.to_thread(control_plane.kubectl, *DAMAGE["edited"], "-n", namespace)
            await asyncio.to_thread(
                control_plane.kubectl, "delete", "secret", "second-mdb", "-n", namespace
            )
            client.go_on.set()
            await seen.wait(2)
    finally:
        await client.aclose()
    told = {(change.name, change.gone) for change in seen.changes}
    assert told == {(NAME, False), ("second-mdb", True)}
    assert restarts == [fault.code]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["deleted", "edited"])
async def test_polling_by_name_finds_the_same_changes(
    control_plane: Cluster,
    namespace: str,
    store: SecretStore,
    seen: Seen,
    app: Owner,
    requests: list[tuple[str, str, int]],
    kind: str,
) -> None:
    poll = SecretPoll(store, lambda: [(namespace, NAME)], seen, seen.own, interval=0.05)
    requests.clear()
    async with running(poll):
        await wait_until_async(lambda: len(requests) > 1, message="the first round")
        await asyncio.to_thread(control_plane.kubectl, *DAMAGE[kind], "-n", namespace)
        await seen.wait(1)
    assert {verb for verb, _, _ in requests} == {"get"}
    assert {change.owner_uid for change in seen.changes} == {app.uid}
