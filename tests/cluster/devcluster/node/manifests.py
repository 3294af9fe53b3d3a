"""The objects that every cluster with a node has: DNS as a Service, and two grants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from devcluster.node.addresses import NodeNetwork

_RBAC = "rbac.authorization.k8s.io"
_SERVICE_PORTS = [
    {"name": "dns", "port": 53, "protocol": "UDP"},
    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
]


def of(network: NodeNetwork) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each object with the path of its collection.

    CoreDNS runs beside the pods and not in one, so its Service has no selector and its
    endpoint is the node.
    """
    yield (
        f"/apis/{_RBAC}/v1/clusterroles",
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["namespaces", "pods", "services"],
                    "verbs": ["list", "watch"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                },
            ],
        },
    )
    yield _binding("system:coredns", "system:coredns", "system:coredns")
    yield _binding(
        "devcluster:apiserver-kubelet", "system:kubelet-api-admin", "kube-apiserver-kubelet-client"
    )
    yield (
        "/api/v1/namespaces/kube-system/services",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
            "spec": {"clusterIP": network.dns_ip, "ports": _SERVICE_PORTS},
        },
    )
    yield (
        "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices",
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-node",
                "labels": {
                    "kubernetes.io/service-name": "kube-dns",
                    "endpointslice.kubernetes.io/managed-by": "devcluster",
                },
            },
            "addressType": "IPv4",
            "ports": _SERVICE_PORTS,
            "endpoints": [{"addresses": [network.node_ip], "conditions": {"ready": True}}],
        },
    )


def _binding(name: str, role: str, user: str) -> tuple[str, dict[str, Any]]:
    return f"/apis/{_RBAC}/v1/clusterrolebindings", {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": user}],
    }
