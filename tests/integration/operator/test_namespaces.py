"""Listed namespaces that lose their Role or are deleted, while the others have to be served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import kopf
import pytest
import yaml
from support.clusters import Cluster
from support.installation import ACCOUNT, Installation
from support.waiting import wait_until

from mdb_operator.config import load_config
from mdb_operator.exceptions import Forbidden
from mdb_operator.handlers import mdbapps as handlers
from mdb_operator.kubernetes.client import KubeClient, KubeObject
from mdb_operator.kubernetes.mdbapps import MdbAppStore

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


@pytest.fixture
def let_go(installation: Installation) -> Iterator[str]:
    """Give what the documentation says to apply, for this installation."""
    text = OPERATIONS.read_text()
    block = next(part for part in text.split("```yaml")[1:] if "mdb-operator-let-go" in part)
    role, binding = yaml.safe_load_all(block.partition("```")[0])
    name = f"{installation.namespace}-let-go"
    role["metadata"]["name"] = binding["metadata"]["name"] = binding["roleRef"]["name"] = name
    binding["subjects"][0] |= {"name": ACCOUNT, "namespace": installation.namespace}
    yield yaml.safe_dump_all([role, binding])
    installation.cluster.kubectl(
        "delete", "clusterrolebinding,clusterrole", name, "--ignore-not-found"
    )


def take_role(installation: Installation, namespace: str) -> str:
    """Take the operator's right in a namespace; return what gives it back."""
    kept = installation.kubectl("get", "rolebinding", "-o", "yaml", namespace=namespace)
    installation.kubectl("delete", "rolebinding", "--all", namespace=namespace)
    return kept


def test_a_namespace_that_loses_its_role_holds_up_no_other_and_can_be_let_go(
    installation: Installation, let_go: str
) -> None:
    here, bi = installation, installation.others["bi"]
    process = here.start()
    here.apply("ns-stays")
    here.apply("ns-goes", namespace=bi)
    here.wait_condition("ns-stays")
    here.wait_condition("ns-goes", namespace=bi)

    here.stop(process)
    take_role(here, bi)
    process = here.start()
    process.wait_for("A namespace cannot be watched")
    here.apply("ns-next")
    here.wait_condition("ns-next")

    here.cluster.api.delete("Namespace", bi)
    wait_until(
        lambda: here.app("ns-goes", bi)["metadata"].get("deletionTimestamp"),
        message="the deletion of the namespace reaches its MdbApps",
    )
    here.cluster.kubectl("apply", "-f", "-", manifest=let_go)
    here.wait_gone("ns-goes", bi, deadline=60)  # and nothing else holds the namespace
    registered = here.mongo["apps_config"].find_one({"slug": "ns-goes"})
    assert here.mongo["_mdb_engine_grants"].count_documents({"slug": "ns-goes"}) == 0
    assert registered is not None

    here.apply("ns-last")
    here.wait_condition("ns-last")
    here.stop(process)


class RecordingStore(MdbAppStore):
    """Notes which namespaces may not be listed."""

    def __init__(self, client: KubeClient, namespaces: tuple[str, ...]) -> None:
        super().__init__(client, namespaces)
        self.refused: list[str | None] = []

    async def list_all(self, namespace: str | None = None) -> AsyncIterator[KubeObject]:
        try:
            async for obj in super().list_all(namespace):
                yield obj
        except Forbidden:
            self.refused.append(namespace)
            raise


async def test_a_watch_that_is_refused_comes_back_with_what_happened_in_between(
    control_plane: Cluster, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, bi = installation, installation.others["bi"]
    made = handlers.watch_settings

    def hasty() -> kopf.OperatorSettings:
        settings = made()
        settings.watching.server_timeout = 1
        settings.networking.error_backoffs = (0.1,)
        return settings

    monkeypatch.setattr(handlers, "watch_settings", hasty)
    kubeconfig = here.directory / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    config = load_config(
        kubeconfig=kubeconfig,
        watch_namespaces=(here.apps, bi),
        mongodb_uri="mongodb://unused",
        pod_name="watch",
    )
    seen: set[tuple[str, str]] = set()
    listed: list[tuple[str, int]] = []

    def see(_: str | None, body: Any) -> None:
        seen.add((body["metadata"]["namespace"], body["metadata"]["name"]))

    async def until(holds: Callable[[], bool], message: str) -> None:
        await asyncio.to_thread(wait_until, holds, deadline=60, message=message)

    kube = await KubeClient.connect(kubeconfig=kubeconfig)
    stop = asyncio.Event()
    store = RecordingStore(kube, config.watch_namespaces)
    watch = handlers.MdbAppWatch(
        config,
        store,
        see,
        lambda namespace, uids: listed.append((namespace, len(uids))),
    )
    running = asyncio.create_task(watch.run(stop))
    try:
        await asyncio.to_thread(here.apply, "one", namespace=bi)
        await until(lambda: (bi, "one") in seen, "the first app is seen")
        kept = await asyncio.to_thread(take_role, here, bi)
        before = len(listed)
        await until(lambda: bi in store.refused, "the watch is refused")
        await asyncio.to_thread(here.apply, "two", namespace=here.apps)
        await until(lambda: (here.apps, "two") in seen, "the other namespace is served")
        await asyncio.to_thread(here.cluster.kubectl, "apply", "-f", "-", manifest=kept)
        await asyncio.to_thread(here.apply, "three", namespace=bi)
        await until(lambda: (bi, "three") in seen, "the namespace is served again")
        # Told anew with what was there all the while, so that what went in between can be found.
        assert next(count for namespace, count in listed[before:] if namespace == bi) >= 1
    finally:
        stop.set()
        await running
        await kube.aclose()
