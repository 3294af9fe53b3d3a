"""The operator's stores under exactly the rights of the chart, and what those do not allow."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.clusters import Cluster, create_namespace
from support.installed_operator import (
    LEASE,
    MASTER_KEY_SECRET,
    Installed,
    install,
    uninstall,
)
from support.operator_edge import desired_secret

from mdb_engine.registry.models.app import Owner
from mdb_operator.constants import FINALIZER
from mdb_operator.exceptions import Forbidden, KubernetesError
from mdb_operator.keys.source import SecretKeySource
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.events import EventRecorder
from mdb_operator.kubernetes.leases import LeaseRecord, LeaseStore
from mdb_operator.kubernetes.mdbapps import MdbAppStore
from mdb_operator.kubernetes.resources import LEASES, NAMESPACES, SECRETS, Resource
from mdb_operator.kubernetes.secret_watch import SecretWatch
from mdb_operator.kubernetes.secrets import OwnWrites, Projection, SecretStore
from mdb_operator.kubernetes.workloads import Restart, WorkloadRestarter
from mdb_operator.mongodb.installation import identify

PODS = Resource("v1", "pods")
NODES = Resource("v1", "nodes")
CONFIG_MAPS = Resource("v1", "configmaps")
ROLES = Resource("rbac.authorization.k8s.io/v1", "clusterroles")
CRDS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
DEPLOYMENTS = Resource("apps/v1", "deployments")
EVENTS = Resource("v1", "events")

Install = Callable[..., Installed]


@pytest.fixture
def system(control_plane: Cluster, namespace: str) -> Iterator[str]:
    """Give the operator's own namespace, beside the apps' `namespace`."""
    name = f"{namespace}-system"
    create_namespace(control_plane, name)
    yield name
    control_plane.api.delete("Namespace", name)


@pytest.fixture
def installed(control_plane: Cluster, system: str, tmp_path: Path) -> Iterator[Install]:
    """Give a function that installs the chart with values."""
    done: list[Installed] = []

    def run(**values: object) -> Installed:
        done.append(install(control_plane, system, tmp_path, **values))
        return done[-1]

    yield run
    for each in done:
        uninstall(each)


@asynccontextmanager
async def client(installed: Installed) -> AsyncIterator[KubeClient]:
    client = await KubeClient.connect(kubeconfig=installed.kubeconfig)
    yield client
    await client.aclose()


def scopes(namespace: str, *, listed: bool) -> dict[str, list[str]]:
    return {"watchNamespaces": [namespace]} if listed else {}


RESTARTS = {"enabled": True}


@pytest.mark.parametrize("listed", [False, True], ids=["cluster", "namespaces"])
async def test_everything_that_the_operator_does_is_allowed(
    control_plane: Cluster,
    namespace: str,
    system: str,
    make_app: Callable[..., Owner],
    installed: Install,
    *,
    listed: bool,
) -> None:
    account = installed(**scopes(namespace, listed=listed), workloadRestart=RESTARTS)
    app = make_app()
    control_plane.kubectl("create", "deployment", "web", "--image=x", "-n", namespace)
    async with client(account) as kube:
        apps = MdbAppStore(kube, (namespace,) if listed else ())
        assert app.name in [a["metadata"]["name"] async for a in apps.list_all()]
        obj = await apps.get(namespace, app.name)
        assert obj is not None
        obj = await apps.add_finalizer(obj, FINALIZER)
        assert obj is not None
        assert await apps.apply_status(app, {}, {"observedGeneration": 1}) is not None
        obj = await apps.get(namespace, app.name)
        assert obj is not None
        assert await apps.remove_finalizer(obj, FINALIZER) is not None

        secrets = SecretStore(kube)
        assert await secrets.project(desired_secret(app)) is Projection.CREATED
        assert await secrets.project(desired_secret(app, value="2")) is Projection.REPAIRED
        watch = SecretWatch(
            kube, namespace if listed else None, print, OwnWrites(), lambda *_: True
        )
        task = asyncio.create_task(watch.run())
        async with asyncio.timeout(10):
            await watch.wait_synced()
        task.cancel()
        assert await secrets.delete_if_ours(namespace, "dashboard-mdb", app.uid)

        recorder = EventRecorder(kube, component="mdb-operator", instance="test")
        assert await recorder.record(app, "Normal", reason="Provisioned", action="Test", note="-")
        restarted = await WorkloadRestarter(kube).restart(
            namespace,
            "Deployment",
            "web",
            slug="dash",
            version=2,
            incarnation="f",
            rotated_at=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1),
        )
        assert restarted is Restart.RESTARTED

        own = await identify(kube, system, LEASE, None)
        assert own is not None
        assert own.identity.endswith(f"/{LEASE}")

        leases = LeaseStore(kube, system, LEASE)
        held = await leases.create(LeaseRecord.first("me", 10))
        await leases.replace(held.renewed())
        keys = SecretKeySource(secrets, system, MASTER_KEY_SECRET)
        assert (await keys.load()).ids == ("k1",)
        assert (await keys.activate(*await keys.add_key("k2"))).active_id == "k2"
        assert await keys.remove_inactive(await keys.load()) == ("k1",)
        assert (await keys.load()).ids == ("k2",)


async def refused(what: str, work: object) -> None:
    try:
        await work  # type: ignore[misc]
    except Forbidden:
        return
    except KubernetesError as error:
        pytest.fail(f"{what}: allowed, then {error.message}")
    pytest.fail(f"{what}: allowed")


async def listing(kube: KubeClient, resource: Resource, namespace: str | None = None) -> None:
    async for _ in kube.pages(resource, namespace):
        return


async def test_what_the_operator_may_not_do_in_a_whole_cluster(
    system: str, namespace: str, installed: Install
) -> None:
    async with client(installed()) as kube:
        lease = LeaseStore(kube, system, "another")
        for what, work in {
            "list pods": listing(kube, PODS),
            "read another namespace": kube.get(NAMESPACES, None, namespace),
            "list namespaces": listing(kube, NAMESPACES),
            "list nodes": listing(kube, NODES),
            "list config maps": listing(kube, CONFIG_MAPS, namespace),
            "list deployments": listing(kube, DEPLOYMENTS, namespace),
            "list cluster roles": listing(kube, ROLES),
            "list CRDs": listing(kube, CRDS),
            "create a pod": kube.create(PODS, namespace, {}),
            "create a deployment": kube.create(DEPLOYMENTS, namespace, {}),
            "create a cluster role": kube.create(ROLES, namespace, {}),
            "patch a Secret of an app": kube.patch(SECRETS, namespace, "x", {}),
            "delete an event": kube.delete(EVENTS, namespace, "x"),
            "read another Lease": lease.get(),
            "update another Lease": lease.replace(LeaseRecord.first("me", 10)),
            "delete the Lease": kube.delete(LEASES, system, LEASE),
            "create a Lease elsewhere": LeaseStore(kube, namespace, LEASE).create(
                LeaseRecord.first("me", 10)
            ),
        }.items():
            await refused(what, work)


async def test_with_listed_namespaces_there_are_no_rights_elsewhere(
    control_plane: Cluster, system: str, namespace: str, installed: Install
) -> None:
    account = installed(watchNamespaces=[namespace])
    async with client(account) as kube:
        elsewhere = "default"
        for what, work in {
            "list MdbApps": listing(kube, Resource("mdb-engine.dev/v1", "mdbapps")),
            "read another namespace": kube.get(NAMESPACES, None, namespace),
            "list Secrets": listing(kube, SECRETS),
            "list Secrets elsewhere": listing(kube, SECRETS, elsewhere),
            "read a Secret elsewhere": kube.get(SECRETS, elsewhere, "x"),
            "create a Secret elsewhere": kube.create(SECRETS, elsewhere, {}),
            "read a Secret of its own namespace": kube.get(SECRETS, system, "mongodb"),
            "delete the master key": kube.delete(SECRETS, system, MASTER_KEY_SECRET),
        }.items():
            await refused(what, work)
    roles = control_plane.kubectl("get", "clusterrolebinding", "-o", "name")
    assert f"/{system}:" not in roles


async def test_without_the_watch_and_restarts_their_rights_are_gone(
    namespace: str, make_app: Callable[..., Owner], installed: Install
) -> None:
    account = installed(secretWatch={"enabled": False}, workloadRestart={"enabled": False})
    app = make_app()
    async with client(account) as kube:
        await refused("list Secrets", listing(kube, SECRETS, namespace))
        watch = kube.watch(SECRETS, namespace, resource_version="0")
        await refused("watch Secrets", anext(watch))
        await refused("read a workload", kube.get(DEPLOYMENTS, namespace, "web"))
        store = SecretStore(kube)
        assert await store.project(desired_secret(app)) is Projection.CREATED
        assert await store.get_metadata(namespace, "dashboard-mdb") is not None
