"""Stopping the operator before its release goes, on a real API server."""

from __future__ import annotations

import json

import pytest
from support.clusters import Cluster

from mdb_operator.cli.uninstall import stop_operator
from mdb_operator.exceptions import OperatorError
from mdb_operator.kubernetes.client import KubeClient

METADATA = {"name": "operator", "labels": {"app": "operator"}}


async def test_a_pod_that_is_being_ended_is_waited_for(
    control_plane: Cluster, kube: KubeClient, namespace: str
) -> None:
    def kubectl(*arguments: str, manifest: str | None = None) -> None:
        control_plane.kubectl("-n", namespace, *arguments, manifest=manifest)

    def set_phase(phase: str) -> None:
        status = json.dumps({"status": {"phase": phase}})
        kubectl("patch", "pod", "operator", "--subresource=status", "-p", status)

    # On no node, so that it is there until somebody says that its containers have ended.
    container = {"name": "operator", "image": "localhost/nothing"}
    pod = {"nodeName": "no-node", "containers": [container]}
    template = {"metadata": METADATA, "spec": pod}
    spec = {"replicas": 0, "selector": {"matchLabels": METADATA["labels"]}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": METADATA, "spec": spec}
    for one in (deployment, {"apiVersion": "v1", "kind": "Pod", **template}):
        kubectl("create", "-f", "-", manifest=json.dumps(one))
    kubectl("wait", "--for=jsonpath={.status.observedGeneration}=1", "deployment/operator")
    set_phase("Running")
    kubectl("delete", "pod", "operator", "--wait=false", "--grace-period=60")

    said: list[str] = []
    with pytest.raises(OperatorError, match="did not end within 0 s"):
        await stop_operator(kube, namespace, "operator", said.append, deadline_seconds=0)
    assert said == []
    set_phase("Failed")
    await stop_operator(kube, namespace, "operator", said.append, deadline_seconds=20)
    assert said == ["The operator has stopped"]
