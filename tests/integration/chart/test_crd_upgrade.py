"""The CRD over the life of a release: made, brought up to date, and never taken back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.api import token_kubeconfig
from support.chart import CHART
from support.clusters import Cluster

from mdb_operator.crd.render import crd

pytestmark = pytest.mark.long

NAME = "mdbapps.mdb-engine.dev"

VALUES = ("--set=replicas=0,mongodb.existingSecret.name=x,masterKey.existingSecret=y",)


def older_chart(cluster: Cluster, directory: Path) -> str:
    """Return a package of the chart as it was when MdbApps had no `suspend`."""
    copy = directory / "older"
    shutil.copytree(CHART, copy)
    template = copy / "templates" / "_crd.tpl"
    text = template.read_text()
    definition = crd()["spec"]
    schema = definition["versions"][0]["schema"]["openAPIV3Schema"]
    del schema["properties"]["spec"]["properties"]["suspend"]
    head = text.partition('{{- define "mdb-operator.crdSpec" -}}\n')[0]
    known = crd()["metadata"]["annotations"]["mdb-engine.dev/crd-hash"]
    template.write_text(
        head.replace(known, "0000000000000000")
        + '{{- define "mdb-operator.crdSpec" -}}\n'
        + yaml.safe_dump(definition, width=100)
        + "{{- end -}}\n"
    )
    cluster.helm("package", str(copy), "--version=0.0.9", "-d", str(directory))
    return str(directory / "mdb-operator-0.0.9.tgz")


def fields(cluster: Cluster) -> set[str]:
    found = cluster.api.get("CustomResourceDefinition", NAME)
    assert found is not None
    schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return set(schema["properties"]["spec"]["properties"])


def apply_crd(file: Path, kubeconfig: Path) -> str:
    """Run what the Job runs."""
    program = Path(sys.executable).with_name("mdb-operator")
    done = subprocess.run(
        [program, "apply-crd", file],
        env=os.environ | {"KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


def hook(cluster: Cluster, chart: str) -> dict[str, dict[str, Any]]:
    """Return the hook of an upgrade to a chart, by kind."""
    text = cluster.helm("upgrade", "op", chart, *VALUES, "--dry-run=server", "--debug")
    manifests = text.partition("HOOKS:\n")[2].partition("MANIFEST:\n")[0]
    found = [one for one in yaml.safe_load_all(manifests) if one]
    return {
        one["kind"]: one
        for one in found
        if "pre-upgrade" in one["metadata"]["annotations"]["helm.sh/hook"]
    }


def test_a_rollback_leaves_the_newer_crd_and_what_mdbapps_have_of_it(
    own_control_plane: Cluster, tmp_path: Path
) -> None:
    cluster = own_control_plane
    older = older_chart(cluster, tmp_path)
    cluster.helm("install", "op", older, *VALUES)
    assert "suspend" not in fields(cluster)
    assert NAME not in cluster.helm("get", "manifest", "op"), "it is no part of the release"

    parts = hook(cluster, str(CHART))
    assert parts.keys() == {
        *("ServiceAccount", "ConfigMap", "ClusterRole", "ClusterRoleBinding", "Job"),
    }
    pod = parts["Job"]["spec"]["template"]["spec"]
    [container], [volume] = pod["containers"], pod["volumes"]
    [mount] = container["volumeMounts"]
    assert container["args"] == ["apply-crd", f"{mount['mountPath']}/crd.yaml"]
    assert volume["configMap"]["name"] == parts["ConfigMap"]["metadata"]["name"]
    # There are no pods here, so what the Job does is done under its account by hand.
    file = tmp_path / "crd.yaml"
    file.write_text(parts["ConfigMap"]["data"]["crd.yaml"])
    for kind in ("ServiceAccount", "ClusterRole", "ClusterRoleBinding"):
        cluster.kubectl("apply", "-f", "-", manifest=yaml.safe_dump(parts[kind]))
    account = pod["serviceAccountName"]
    kubeconfig = tmp_path / "kubeconfig"
    token = cluster.api.token(account, "default")
    kubeconfig.write_text(yaml.safe_dump(token_kubeconfig(cluster.kubeconfig, token)))
    assert apply_crd(file, kubeconfig) == "The CRD is of 0.1.0 now"
    assert apply_crd(file, kubeconfig) == "The CRD is up to date"

    assert hook(cluster, str(CHART)) == {}
    cluster.helm("upgrade", "op", str(CHART), *VALUES)
    app = {
        "apiVersion": "mdb-engine.dev/v1",
        "kind": "MdbApp",
        "metadata": {"name": "shop"},
        "spec": {"slug": "shop", "suspend": True},
    }
    cluster.kubectl("create", "-f", "-", manifest=yaml.safe_dump(app))

    cluster.helm("rollback", "op", "1")
    assert "suspend" in fields(cluster)
    found = cluster.api.get("MdbApp", "shop", "default")
    assert found is not None
    assert found["spec"]["suspend"] is True
    # Nor does an older chart bring its own back, whoever installs it.
    assert hook(cluster, older) == {}
    spec = crd()
    spec["metadata"]["annotations"] = {
        "mdb-engine.dev/crd-version": "0.0.9",
        "mdb-engine.dev/crd-hash": "0000000000000000",
    }
    file.write_text(yaml.safe_dump(spec))
    said = "The CRD is of 0.1.0, which is newer: nothing was written"
    assert apply_crd(file, kubeconfig) == said

    cluster.helm("uninstall", "op", "--no-hooks")
    assert "suspend" in fields(cluster)
    cluster.helm("install", "another", str(CHART), *VALUES)
    assert cluster.api.get("MdbApp", "shop", "default") is not None


@pytest.mark.parametrize("reuse", ["--reuse-values", "--reset-then-reuse-values"])
def test_an_upgrade_with_the_values_of_an_older_chart(
    control_plane: Cluster, namespace: str, tmp_path: Path, reuse: str
) -> None:
    copy = tmp_path / "older"
    shutil.copytree(CHART, copy)
    values = yaml.safe_load((copy / "values.yaml").read_text())
    newer = ("global", "probes", "podSecurityContext", "admissionPolicy", "extraEnv", "service")
    for name in newer:
        del values[name]
    del values["metrics"]["prometheusRule"], values["mongodb"]["tls"]
    (copy / "values.yaml").write_text(yaml.safe_dump(values))
    release = ("op", "-n", namespace)
    off = ("crds.install=false,rbac.create=false,admissionPolicy.enabled=false",)
    control_plane.helm("install", *release, str(copy), *VALUES, *(f"--set={one}" for one in off))
    control_plane.helm("upgrade", *release, str(CHART), reuse, "--set=concurrency=9")
    manifest = control_plane.helm("get", "manifest", *release)
    [deployment] = [
        one for one in yaml.safe_load_all(manifest) if one and one["kind"] == "Deployment"
    ]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert "livenessProbe" in pod["containers"][0]
    settings = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert settings["MDB_OPERATOR_CONCURRENCY"] == "9"
