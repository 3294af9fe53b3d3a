"""Rendered, applied and removed without Helm, on a real API server; with pods: test_release."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.chart import CHART, SOMEWHERE
from support.clusters import CRD, Cluster, provide_crd
from support.installed_operator import remove_policies

from mdb_operator.constants import FINALIZER

pytestmark = pytest.mark.long

GITOPS = Path(__file__).parents[3] / "docs" / "gitops.md"

VALUES: dict[str, Any] = {
    **SOMEWHERE,
    "replicas": 0,
    "crds": {"install": False},
    "rbac": {"aggregateToDefaultRoles": False, "serviceBinding": False},
    "workloadRestart": {"enabled": True},
    "metrics": {
        "tls": {"existingSecret": "port"},
        "token": {"existingSecret": "token"},
        "grafanaDashboard": {"enabled": True},
    },
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db.example"]}],
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "podDisruptionBudget": {"minAvailable": "50%"},
}


@pytest.fixture
def manifests(control_plane: Cluster, namespace: str, tmp_path: Path) -> Iterator[str]:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump({**VALUES, "watchNamespaces": [namespace]}))
    yield control_plane.helm("template", "op", str(CHART), "-n", namespace, "-f", str(file))
    remove_policies(control_plane, namespace)


def changed_by_a_second_apply(cluster: Cluster, manifests: str) -> list[str]:
    """Apply again from the client, and return what kubectl says of what is not unchanged."""
    again = cluster.kubectl("apply", "-f", "-", manifest=manifests).splitlines()
    cluster.kubectl("diff", "-f", "-", manifest=manifests)  # it fails where there is a difference
    return [line for line in again if not line.endswith(" unchanged")]


def applied_by_another(cluster: Cluster, manifests: str) -> None:
    """Apply from the server, as another manager, which fails where it conflicts."""
    for one in filter(None, yaml.safe_load_all(manifests)):
        cluster.api.apply(one, one["metadata"].get("namespace"), force=False)


def test_the_chart_applied_from_the_client_again_changes_nothing(
    control_plane: Cluster, manifests: str
) -> None:
    control_plane.kubectl("apply", "-f", "-", manifest=manifests)
    assert changed_by_a_second_apply(control_plane, manifests) == []
    applied_by_another(control_plane, manifests)
    assert changed_by_a_second_apply(control_plane, manifests) == []


def test_the_chart_applied_from_the_server_again_changes_nothing(
    control_plane: Cluster, manifests: str
) -> None:
    def versions() -> list[object]:
        text = control_plane.kubectl("get", "-f", "-", "-o", "json", manifest=manifests)
        found = [one["metadata"] for one in yaml.safe_load(text)["items"]]
        # What has a generation has a controller, which writes its status as well.
        return [one.get("generation") or one["resourceVersion"] for one in found]

    for manager in ("kubectl", "argocd-controller"):
        apply = ("apply", "--server-side", f"--field-manager={manager}", "-f", "-")
        control_plane.kubectl(*apply, manifest=manifests)
        before = versions()
        control_plane.kubectl(*apply, manifest=manifests)
        assert before == versions()


def test_the_crd_applied_again_changes_nothing(control_plane: Cluster) -> None:
    provide_crd(control_plane)
    text = CRD.read_text()
    control_plane.kubectl("apply", "-f", "-", manifest=text)
    assert changed_by_a_second_apply(control_plane, text) == []
    applied_by_another(control_plane, text)
    assert changed_by_a_second_apply(control_plane, text) == []


def test_what_is_documented_lets_all_mdbapps_go(
    control_plane: Cluster, namespace: str, manifests: str
) -> None:
    provide_crd(control_plane)
    control_plane.kubectl("apply", "-f", "-", manifest=manifests)
    app = {
        "apiVersion": "mdb-engine.dev/v1",
        "kind": "MdbApp",
        "metadata": {"name": "kept", "finalizers": [FINALIZER]},
        "spec": {"slug": "kept"},
    }
    control_plane.api.create(app, namespace)
    status = '--patch={"status": {"installation": "this one"}}'
    control_plane.kubectl(
        *("-n", namespace, "patch", "mdbapp", "kept", "--subresource=status"),
        *("--type=merge", status),
    )
    text = GITOPS.read_text().partition("## Uninstall without hooks")[2]
    commands = text.partition("```sh\n")[2].partition("```")[0]
    for old, new in (
        ("mdb-system", namespace),
        ("deployment mdb-operator", "deployment op-mdb-operator"),
        ("--no-headers", f"--no-headers | grep '^{namespace} '"),
    ):
        assert old in commands
        commands = commands.replace(old, new)
    subprocess.run(
        ["/bin/bash", "-ec", commands], env=control_plane.environment, check=True, timeout=60
    )
    found = control_plane.api.get("MdbApp", "kept", namespace)
    assert found is not None
    assert "finalizers" not in found["metadata"]
    assert "installation" not in found["status"]
    control_plane.kubectl("delete", "-f", "-", manifest=manifests)
    control_plane.kubectl("-n", namespace, "delete", "mdbapp", "kept", "--timeout=20s")
