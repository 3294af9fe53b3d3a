"""What RBAC cannot say and the chart's admission policies do, on a real API server.

The operator's account is held to them, whoever has its token. That the operator itself can work
under them all other tests show: every installation of theirs has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.api import Api, ApiError, connection
from support.clusters import Cluster, create_namespace
from support.installed_operator import (
    FULL_NAME,
    MASTER_KEY_SECRET,
    Installed,
    install,
    uninstall,
)
from support.operator_edge import desired_secret
from support.waiting import wait_until

from mdb_engine.registry.models.app import Owner

pytestmark = pytest.mark.long

EXCLUDED = "kube-node-lease"


@pytest.fixture
def installed(control_plane: Cluster, namespace: str, tmp_path: Path) -> Iterator[Installed]:
    system = f"{namespace}-system"
    create_namespace(control_plane, system)
    done = install(
        control_plane,
        system,
        tmp_path,
        workloadRestart={"enabled": True},
        excludeNamespaces=[EXCLUDED],
    )
    yield done
    uninstall(done)
    control_plane.api.delete("Namespace", system)


@pytest.fixture
def operator(installed: Installed, namespace: str) -> Api:
    """Give a connection with the operator's account, once the policies hold."""
    api = connection(installed.kubeconfig)
    for manifest in (secret("probe"), {**secret("probe"), "type": "Opaque"}):

        def holds(manifest: dict[str, Any] = manifest) -> bool:
            try:
                api.create(manifest, namespace)
            except ApiError as error:
                return "ValidatingAdmissionPolicy" in str(error)
            installed.cluster.api.delete("Secret", "probe", namespace)
            return False

        wait_until(holds, message="the API server goes by the new policies")
    return api


def secret(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"a": "b"},
        **changes,
    }


def refused(work: Callable[[], object], why: str) -> None:
    with pytest.raises(ApiError, match=why) as error:
        work()
    assert "ValidatingAdmissionPolicy" in str(error.value)


def test_no_secret_but_its_own_is_written(
    control_plane: Cluster,
    namespace: str,
    make_app: Callable[..., Owner],
    operator: Api,
    installed: Installed,
) -> None:
    admin = control_plane.api
    app = make_app()
    ours = desired_secret(app).manifest()
    name, labels = ours["metadata"]["name"], ours["metadata"]["labels"]

    def change(name: str, where: str = namespace, **metadata: Any) -> object:
        found = admin.get("Secret", name, where)
        assert found is not None
        found["data"] = {**found["data"], "a": "Yw=="}
        found["metadata"] |= metadata
        return operator.replace({"apiVersion": "v1", "kind": "Secret", **found}, where)

    written = "writes only Secrets of the type"
    refused(lambda: operator.create(secret("new"), namespace), written)
    unlabelled = {**ours, "metadata": {**ours["metadata"], "labels": {}}}
    refused(lambda: operator.create(unlabelled, namespace), written)
    foreign = "only Secrets that carry its label"
    admin.create(secret("somebodys", type=ours["type"]), namespace)
    refused(lambda: change("somebodys"), foreign)
    refused(lambda: operator.delete("Secret", "somebodys", namespace), foreign)
    # Nor does it make one its own first: the label that counts is the one that was there.
    refused(lambda: change("somebodys", labels=labels), foreign)

    operator.create(ours, namespace)
    change(name)
    # Somebody strips the label; the ownerReference still tells whose it is.
    admin.patch("Secret", name, {"metadata": {"labels": None}}, namespace)
    refused(lambda: change(name), written)
    change(name, labels=labels)
    operator.delete("Secret", name, namespace)

    # Of its own namespace it may change the keyring, and neither delete it nor touch another.
    system = installed.namespace
    operator.patch("Secret", MASTER_KEY_SECRET, {"data": {"k2": "Yw=="}}, system)
    refused(lambda: operator.delete("Secret", MASTER_KEY_SECRET, system), foreign)
    admin.create(secret("mongodb"), system)
    refused(lambda: change("mongodb", system), foreign)


def test_an_excluded_namespace_is_left_alone(control_plane: Cluster, operator: Api) -> None:
    app = Owner(EXCLUDED, "dashboard", "11111111-2222-3333-4444-555555555555")
    ours = desired_secret(app).manifest()
    ours["metadata"].pop("ownerReferences")
    refused(lambda: operator.create(ours, EXCLUDED), "leaves this namespace alone")
    assert control_plane.api.get("Secret", ours["metadata"]["name"], EXCLUDED) is None


def template(kind: str) -> dict[str, Any]:
    labels = {"app": "web"}
    pod: dict[str, Any] = {
        "metadata": {"labels": labels, "annotations": {"kept": "yes"}},
        "spec": {"containers": [{"name": "web", "image": "x"}]},
    }
    spec: dict[str, Any] = {"selector": {"matchLabels": labels}, "template": pod}
    if kind == "StatefulSet":
        spec["serviceName"] = "web"
    if kind != "DaemonSet":
        spec["replicas"] = 0
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_of_a_workload_only_its_own_annotation(
    control_plane: Cluster, namespace: str, operator: Api, kind: str
) -> None:
    control_plane.api.create(template(kind), namespace)

    def annotated(**annotations: str | None) -> dict[str, Any]:
        return {"spec": {"template": {"metadata": {"annotations": annotations}}}}

    def change(patch: dict[str, Any]) -> object:
        return operator.patch(kind, "web", patch, namespace)

    change(annotated(**{"mdb-engine.dev/shop.secret-version": "2-abc"}))
    change(annotated(**{"mdb-engine.dev/shop.secret-version": "3-abc"}))
    more: list[dict[str, Any]] = [
        annotated(other="no"),
        annotated(kept="changed"),
        annotated(kept=None),
        annotated(**{"mdb-engine.dev/shop.other": "no"}),
        {"spec": {"template": {"metadata": {"labels": {"more": "no"}}}}},
        {"spec": {"template": {"spec": {"serviceAccountName": "admin"}}}},
        {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "evil"}]}}}},
        {"spec": {"minReadySeconds": 5}},
        {"metadata": {"labels": {"more": "no"}}},
        {"metadata": {"annotations": {"more": "no"}}},
        {"metadata": {"finalizers": ["example.com/hold"]}},
    ]
    if kind != "DaemonSet":
        more.append({"spec": {"replicas": 1}})
    for patch in more:
        refused(lambda patch=patch: change(patch), "changes nothing of a workload")  # type: ignore[misc]
        control_plane.api.patch(kind, "web", {"metadata": {"annotations": {"a": "b"}}}, namespace)
    # What others do is none of the policy's business.
    control_plane.api.patch(kind, "web", {"spec": {"minReadySeconds": 5}}, namespace)


def test_nothing_of_an_mdbapps_spec(
    make_app: Callable[..., Owner], namespace: str, operator: Api
) -> None:
    app = make_app()
    finalizer = {"metadata": {"finalizers": ["mdb-engine.dev/deregister"]}}
    operator.patch("MdbApp", app.name, finalizer, namespace)
    operator.patch("MdbApp", app.name, {"metadata": {"finalizers": None}}, namespace)
    suspend = {"spec": {"suspend": True}}
    refused(
        lambda: operator.patch("MdbApp", app.name, suspend, namespace), "does not change the sp"
    )


def test_the_policies_are_free_of_type_errors(control_plane: Cluster, installed: Installed) -> None:
    """The API server checks the expressions against the schemas of what they are about."""
    for what in ("secrets", "workloads", "mdbapps"):
        name = f"{FULL_NAME}.{installed.namespace}.{what}"

        def checked(name: str = name) -> dict[str, Any] | None:
            found = control_plane.api.get("ValidatingAdmissionPolicy", name)
            assert found is not None
            status: dict[str, Any] = found.get("status") or {}
            return status.get("typeChecking") if "observedGeneration" in status else None

        checking = wait_until(lambda: checked() is not None and [checked()], message=name)
        assert checking == [{}]
