"""The node proper: containerd, kubelet, kube-proxy and CoreDNS, and their configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from devcluster import packages
from devcluster.node import cgroups, dns, kubeconfig, manifests, record, sandbox
from devcluster.node.addresses import NodeNetwork
from devcluster.node.api import Client, wait_until
from devcluster.node.component import Component, State
from devcluster.node.controlplane import Endpoints
from devcluster.node.layout import Layout
from devcluster.node.machine import CONTAINERD_SOCKET, import_image
from devcluster.node.namespace import can_overlay
from devcluster.node.pki import Authority
from devcluster.node.processes import ProcessId

_DEADLINE = 60.0


@dataclass(frozen=True, slots=True)
class Node:
    """A node.

    Parameters
    ----------
    layout
        The cluster's files.
    network
        The node's addresses.
    cluster
        The cluster's name.
    """

    layout: Layout
    network: NodeNetwork
    cluster: str

    @property
    def name(self) -> str:
        """The node's name in Kubernetes."""
        return node_name(self.cluster)


def node_name(cluster: str) -> str:
    """Return the name of a cluster's node."""
    return f"{cluster}-node"


def write_files(node: Node, endpoints: Endpoints, authority: Authority) -> None:
    """Write the node's credentials and configuration."""
    layout = node.layout
    for user, name, groups in (
        ("kubelet", f"system:node:{node.name}", ["system:nodes"]),
        ("kube-proxy", "system:kube-proxy", []),
        ("coredns", "system:coredns", []),
    ):
        identity = authority.issue(layout, layout.pair(user), name, groups=groups)
        kubeconfig.write(layout, user, endpoints.url, identity, node.cluster)
    authority.issue(
        layout,
        layout.pair("kubelet-serving"),
        f"system:node:{node.name}",
        names=[node.name, node.network.node_ip],
    )
    layout.write(layout.config("containerd.toml"), _containerd_config(node))
    layout.write(layout.config("cni/10-devcluster.conflist"), json.dumps(_cni_config(node)))
    layout.write(layout.config("resolv.conf"), "")  # pods get the cluster's DNS
    layout.write(layout.config("kubelet.yaml"), yaml.safe_dump(_kubelet_config(node)))
    layout.write(layout.config("kube-proxy.yaml"), yaml.safe_dump(_proxy_config(node)))
    layout.write(layout.config("Corefile"), _corefile(node))
    for name in ("tmp", "kubelet"):
        layout.data(name).mkdir(mode=0o700, parents=True, exist_ok=True)


def components(node: Node, kubernetes: Path, coredns: Path) -> list[Component]:
    """Return the node's programs.

    Parameters
    ----------
    node
        The node, with its files written.
    kubernetes, coredns
        The directories of the programs.
    """
    layout = node.layout
    return [
        Component(
            "containerd",
            ("containerd", "--config", str(layout.config("containerd.toml"))),
            ready=f"unix:{CONTAINERD_SOCKET}",
            env={"TMPDIR": str(layout.data("tmp"))},
        ),
        Component(
            "kubelet",
            (
                str(kubernetes / "kubelet"),
                f"--config={layout.config('kubelet.yaml')}",
                f"--kubeconfig={layout.kubeconfig_of('kubelet')}",
                f"--root-dir={layout.data('kubelet')}",
                f"--cert-dir={layout.data('kubelet')}/pki",
                f"--hostname-override={node.name}",
                f"--node-ip={node.network.node_ip}",
            ),
            after=("kube-apiserver", "containerd"),
            ready="http://127.0.0.1:10248/healthz",
        ),
        Component(
            "kube-proxy",
            (str(kubernetes / "kube-proxy"), f"--config={layout.config('kube-proxy.yaml')}"),
            after=("kube-apiserver",),
            ready="http://127.0.0.1:10256/healthz",
        ),
        Component(
            "coredns",
            (str(coredns / "coredns"), "-conf", str(layout.config("Corefile"))),
            after=("kube-apiserver",),
            ready="http://127.0.0.1:8181/ready",
        ),
    ]


def load_sandbox_image(layout: Layout, supervisor: ProcessId, pause: Path) -> None:
    """Give containerd the image of the pods' sandboxes, which no registry is asked for."""

    def containerd_ready() -> bool:
        health = record.load_health(layout).get("containerd")
        return health is not None and health.state is not State.STARTING

    wait_until(containerd_ready, _DEADLINE, "containerd did not start")
    archive = sandbox.write_archive(layout.data("tmp") / "pause.tar", pause / "pause")
    import_image(supervisor.pid, archive)
    archive.unlink()


def create_objects(client: Client, network: NodeNetwork) -> None:
    """Create the objects that every cluster with a node has."""
    for path, content in manifests.of(network):
        client.create(path, content)


def is_ready(client: Client, node: Node) -> bool:
    """Say whether the node takes pods, and pods resolve names and reach Services."""
    found = client.get(f"/api/v1/nodes/{node.name}")
    conditions = found["status"].get("conditions", []) if found else []
    takes_pods = any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions
    )
    return takes_pods and dns.answers(node.network.dns_ip, "kubernetes.default.svc.cluster.local")


def _containerd_config(node: Node) -> str:
    layout = node.layout
    snapshotter = "overlayfs" if can_overlay(layout.root) else "native"
    return f"""\
version = 2
root = "{layout.data("containerd")}"
state = "/run/containerd/state"
temp = "{layout.data("tmp")}"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{layout.data("containerd-opt")}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox.IMAGE}"
  # CAP_SYS_RESOURCE may be missing, and without it no process may protect itself.
  restrict_oom_score_adj = true
  # A profile would stay loaded in the kernel when the cluster is gone.
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{packages.plugin_directory()}"
  conf_dir = "{layout.config("cni")}"

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{snapshotter}"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""


def _cni_config(node: Node) -> dict[str, Any]:
    """Return the pods' network: a routed link for each, so every packet passes the rules.

    On a bridge, packets between pods of a node pass by the rules that make Services unless the
    kernel has br_netfilter, which a machine may lack.
    """
    return {
        "cniVersion": "0.4.0",
        "name": "devcluster",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": str(node.network.pods)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": str(node.layout.data("cni")),
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _kubelet_config(node: Node) -> dict[str, Any]:
    layout = node.layout
    serving = layout.pair("kubelet-serving")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.ca.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "clusterDNS": [node.network.dns_ip],
        "clusterDomain": "cluster.local",
        "resolvConf": str(layout.config("resolv.conf")),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "podLogsDir": str(layout.logs / "pods"),
        "volumePluginDir": str(layout.data("kubelet") / "plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.name_of(layout.root)}",
        "featureGates": {"KubeletInUserNamespace": True},
        "oomScoreAdj": 0,
        "failSwapOn": False,
        # As many a machine has; refused by default from 1.35 on.
        "failCgroupV1": False,
        # A laptop's disk is often nearly full; that is no reason to evict a test's pods, nor to
        # remove images that no registry has.
        "evictionHard": {
            "imagefs.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        # How long a changed Secret takes to reach a running pod; a minute by default.
        "syncFrequency": "2s",
        "serializeImagePulls": False,
    }


def _proxy_config(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(node.layout.kubeconfig_of("kube-proxy"))},
        "hostnameOverride": node.name,
        "mode": "iptables",
        "clusterCIDR": str(node.network.pods),
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "oomScoreAdj": 0,
        "iptables": {"minSyncPeriod": "100ms", "localhostNodePorts": False},
        # These settings are the machine's and not the namespace's: leave them alone.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def _corefile(node: Node) -> str:
    return f"""\
. {{
    bind {node.network.node_ip}
    errors
    health 127.0.0.1:8080
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {node.layout.kubeconfig_of("coredns")}
        ttl 5
    }}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
