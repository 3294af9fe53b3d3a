"""MdbApps, events, workloads and the master key Secret on a real API server."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest
from support.clusters import Cluster
from support.operator_edge import writes

from mdb_engine.core.keyring import generate_master_key
from mdb_engine.exceptions import MasterKeyError
from mdb_engine.registry.models.app import Owner
from mdb_operator.constants import FINALIZER
from mdb_operator.exceptions import ConfigurationInvalid, Conflict, NotFound
from mdb_operator.keys.source import SecretKeySource
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.events import EventRecorder
from mdb_operator.kubernetes.mdbapps import MdbAppStore
from mdb_operator.kubernetes.secrets import SecretStore
from mdb_operator.kubernetes.workloads import Restart, WorkloadRestarter, restart_annotation

MakeApp = Callable[..., Owner]
Requests = list[tuple[str, str, int]]

STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "binding": {"name": "dashboard-mdb"},
    "grantedScopes": ["a", "b"],
}


@pytest.fixture
def store(kube: KubeClient) -> MdbAppStore:
    return MdbAppStore(kube)


async def test_a_status_is_written_once_and_only_when_it_differs(
    store: MdbAppStore, make_app: MakeApp, requests: Requests
) -> None:
    app = make_app()
    written = await store.apply_status(app, {}, STATUS)
    assert written is not None
    assert written["status"] == STATUS
    requests.clear()
    assert await store.apply_status(app, written["status"], STATUS) is None
    assert requests == []
    less = {key: value for key, value in STATUS.items() if key != "binding"}
    written = await store.apply_status(app, STATUS, {**less, "grantedScopes": ["a"]})
    assert written is not None
    assert written["status"] == {"observedGeneration": 1, "grantedScopes": ["a"]}
    assert written["metadata"]["generation"] == 1


async def test_an_app_created_again_under_its_name_is_not_hit(
    store: MdbAppStore, make_app: MakeApp, namespace: str, control_plane: Cluster
) -> None:
    gone = make_app()
    control_plane.kubectl("delete", "mdbapp", "dashboard", "-n", namespace)
    with pytest.raises(NotFound):
        await store.apply_status(gone, {}, STATUS)
    make_app()
    with pytest.raises(Conflict):
        await store.apply_status(gone, {}, STATUS)
    found = await store.get(namespace, "dashboard")
    assert found is not None
    assert found["status"] == {"observedGeneration": -1}


async def test_finalizers_of_others_survive_a_race(
    store: MdbAppStore, make_app: MakeApp, namespace: str, control_plane: Cluster
) -> None:
    make_app()
    seen = await store.get(namespace, "dashboard")
    assert seen is not None
    patch = '{"metadata":{"finalizers":["example.com/theirs"]}}'
    control_plane.kubectl(
        "patch", "mdbapp", "dashboard", "-n", namespace, "--type=merge", "-p", patch
    )
    with pytest.raises(Conflict):
        await store.add_finalizer(seen, FINALIZER)
    seen = await store.get(namespace, "dashboard")
    assert seen is not None
    added = await store.add_finalizer(seen, FINALIZER)
    assert added is not None
    assert await store.add_finalizer(added, FINALIZER) is None
    assert added["metadata"]["finalizers"] == ["example.com/theirs", FINALIZER]
    removed = await store.remove_finalizer(added, FINALIZER)
    assert removed is not None
    assert removed["metadata"]["finalizers"] == ["example.com/theirs"]
    await store.remove_finalizer(removed, "example.com/theirs")


async def test_lists_come_in_pages_and_are_complete(
    kube: KubeClient, make_app: MakeApp, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mdb_operator.kubernetes.client.PAGE_SIZE", 2)
    names = [make_app(f"app{number}").name for number in range(5)]
    store = MdbAppStore(kube, (namespace,))
    assert sorted([app["metadata"]["name"] async for app in store.list_all()]) == names


async def test_an_event_shows_in_the_description_of_its_app_without_secrets(
    kube: KubeClient, make_app: MakeApp, namespace: str, control_plane: Cluster
) -> None:
    app = make_app()
    recorder = EventRecorder(kube, component="mdb-operator", instance="pod-1")
    note = "Cannot reach mongodb://op:hunter2@db/ " + "x" * 2000
    assert await recorder.record(
        app, "Warning", reason="DatabaseUnavailable", action="Connect", note=note
    )
    described = control_plane.kubectl("describe", "mdbapp", "dashboard", "-n", namespace)
    assert "DatabaseUnavailable" in described
    assert "hunter2" not in described


async def test_an_event_that_cannot_be_posted_is_no_failure(
    kube: KubeClient, make_app: MakeApp
) -> None:
    app = make_app()
    recorder = EventRecorder(kube, component="mdb-operator", instance="pod-1")
    elsewhere = Owner("no-such-namespace", app.name, app.uid)
    assert not await recorder.record(elsewhere, "Normal", reason="R", action="A", note="n")


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
async def test_a_workload_is_restarted_once_for_a_version(
    kube: KubeClient, namespace: str, control_plane: Cluster, requests: Requests, kind: str
) -> None:
    manifest = {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": {"kept": "yes"}},
                "spec": {
                    "containers": [{"name": "c", "image": "x"}],
                    "nodeSelector": {"no-such": "node"},
                },
            },
        },
    }
    control_plane.kubectl("create", "-f", "-", manifest=json.dumps(manifest))
    restarter = WorkloadRestarter(kube)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)

    async def restart(version: int, rotated_at: dt.datetime = later) -> Restart:
        return await restarter.restart(
            namespace,
            kind,
            "web",
            slug="dash-",
            version=version,
            incarnation="f" * 32,
            rotated_at=rotated_at,
        )

    requests.clear()
    assert await restart(1) is Restart.UNCHANGED
    assert await restart(2, later - dt.timedelta(hours=1)) is Restart.UNCHANGED
    assert writes(requests) == []
    assert await restart(2) is Restart.RESTARTED
    assert await restart(2) is Restart.UNCHANGED
    assert await restart(1) is Restart.UNCHANGED
    assert await restart(3, later - dt.timedelta(hours=1)) is Restart.RESTARTED
    # The workload's controller writes too, and a lost race is tried again.
    assert [status for verb, _, status in requests if (verb, status) == ("patch", 200)] == [200] * 2
    found = json.loads(control_plane.kubectl("get", kind, "web", "-n", namespace, "-o", "json"))
    annotations = found["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"kept": "yes", restart_annotation("dash-"): "3-ffffffff"}


async def test_a_workload_that_is_not_there_is_no_failure(kube: KubeClient, namespace: str) -> None:
    outcome = await WorkloadRestarter(kube).restart(
        namespace,
        "Deployment",
        "web",
        slug="dash",
        version=2,
        incarnation="f",
        rotated_at=dt.datetime.now(dt.UTC),
    )
    assert outcome is Restart.MISSING


async def test_a_key_is_added_to_the_keyring_and_an_old_one_removed_only_if_nothing_changed(
    kube: KubeClient, namespace: str, control_plane: Cluster
) -> None:
    source = SecretKeySource(SecretStore(kube), namespace, "keys")
    with pytest.raises(MasterKeyError, match="Restore it from your backup"):
        await source.load()
    first = generate_master_key()
    control_plane.kubectl(
        *("create", "secret", "generic", "keys", "-n", namespace, f"--from-literal=k1={first}")
    )
    before = await source.load()
    added, more = await source.add_key()
    assert set(more.ids) == {*before.ids, added}
    assert await source.load() == more
    assert more.active_id == "k1", "what is new wraps nothing yet"
    with pytest.raises(MasterKeyError, match="exists already"):
        await source.add_key("k1")
    with pytest.raises(ConfigurationInvalid, match="nothing is wrapped with it"):
        await source.activate(added, before)
    after = await source.activate(added, more)
    assert await source.load() == after
    assert after.active_id == added
    with pytest.raises(Conflict):
        await source.remove_inactive(before)
    assert await source.remove_inactive(after) == ("k1",)
    assert (await source.load()).ids == (after.active_id,)


@pytest.mark.parametrize(
    ("mark", "who"),
    [
        ({"labels": {"reconcile.external-secrets.io/managed": "true"}}, "External Secrets"),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "mdb:/Secret:x"}}, "Argo CD"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, "Flux"),
        ({"labels": {"secrets-store.csi.k8s.io/managed": "true"}}, "Secrets Store CSI"),
        (
            {
                "ownerReferences": [
                    {
                        "apiVersion": "bitnami.com/v1alpha1",
                        "kind": "SealedSecret",
                        "name": "keys",
                        "uid": "1",
                        "controller": True,
                    }
                ]
            },
            "SealedSecret keys",
        ),
    ],
    ids=["ESO", "Argo CD", "Flux", "CSI", "controller"],
)
async def test_a_keyring_that_another_controller_writes_is_read_and_never_written(
    kube: KubeClient, namespace: str, control_plane: Cluster, mark: dict[str, Any], who: str
) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "keys", **mark},
        "stringData": {"k1": generate_master_key()},
    }
    before = control_plane.api.create(manifest, namespace)["metadata"]["resourceVersion"]
    source = SecretKeySource(SecretStore(kube), namespace, "keys")
    keyring = await source.load()
    assert keyring.ids == ("k1",)
    for write in (source.add_key(), source.remove_inactive(keyring)):
        with pytest.raises(ConfigurationInvalid, match=f"{who}.* would undo .*--resume"):
            await write
    found = control_plane.api.get("Secret", "keys", namespace)
    assert found is not None
    assert found["metadata"]["resourceVersion"] == before
