"""The operator's chart, installed, and a connection with exactly its ServiceAccount's rights."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import yaml

from support.api import token_kubeconfig
from support.clusters import Cluster

CHART = Path(__file__).parents[2] / "charts" / "mdb-operator"

FULL_NAME = "mdb-operator"
"""What the release's objects are called, whatever the release."""

LEASE = f"{FULL_NAME}-leader"

MASTER_KEY_SECRET = f"{FULL_NAME}-master-key"


@dataclass(frozen=True)
class Installed:
    """One release of the chart, without pods."""

    cluster: Cluster
    namespace: str
    kubeconfig: Path


def install(cluster: Cluster, namespace: str, directory: Path, **values: object) -> Installed:
    """Install the chart without pods and without its CRD, and log in as its ServiceAccount.

    Parameters
    ----------
    cluster
        Where.
    namespace
        The operator's own namespace.
    directory
        Where the kubeconfig is written.
    values
        Values of the chart.
    """
    settings = {
        "replicas": 0,
        "fullnameOverride": FULL_NAME,
        "crds": {"install": False},
        "mongodb": {"existingSecret": {"name": "mongodb"}},
        **values,
    }
    path = directory / f"values-{secrets.token_hex(4)}.yaml"
    path.write_text(yaml.safe_dump(settings))
    release = f"op-{secrets.token_hex(4)}"
    cluster.helm("install", release, str(CHART), "-n", namespace, "-f", str(path))
    token = cluster.api.token(FULL_NAME, namespace)
    kubeconfig = directory / f"{release}.kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(token_kubeconfig(cluster.kubeconfig, token)))
    return Installed(cluster, namespace, kubeconfig)


def uninstall(installed: Installed) -> None:
    """Remove what lies outside the namespace; the namespace's own objects end with it."""
    selector = f"app.kubernetes.io/name={FULL_NAME}"
    kinds = "clusterrole,clusterrolebinding"
    names = installed.cluster.kubectl("get", kinds, "-l", selector, "-o", "name").split()
    ours = [name for name in names if f"/{installed.namespace}:" in name]
    if ours:
        installed.cluster.kubectl("delete", *ours)
    remove_policies(installed.cluster, installed.namespace)


def remove_policies(cluster: Cluster, namespace: str) -> None:
    """Remove the admission policies of the installations in a namespace."""
    for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
        for found in cluster.api.objects(kind):
            name = found["metadata"]["name"]
            if f".{namespace}." in name:
                cluster.api.delete(kind, name)
