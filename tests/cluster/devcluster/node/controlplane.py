"""The control plane: etcd, API server, controller manager and, with a node, scheduler.

None of them needs root. They differ with and without a node only in addresses, so both
kinds of cluster run the same code with the same checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from devcluster.node import kubeconfig, pki
from devcluster.node.addresses import NodeNetwork
from devcluster.node.component import Component
from devcluster.node.layout import Layout

_SERVICES_WITHOUT_NODE = "10.96.0.0/16"
"""Nothing routes to it: without a node a Service is an object and no more."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the control plane listens.

    Parameters
    ----------
    api_host, api_port
        The API server.
    etcd_client_port, etcd_peer_port
        Etcd, on the loopback interface.
    network
        The node's network; None without a node.
    """

    api_host: str
    api_port: int
    etcd_client_port: int
    etcd_peer_port: int
    network: NodeNetwork | None

    @property
    def url(self) -> str:
        """The API server's URL."""
        return f"https://{self.api_host}:{self.api_port}"


def write_credentials(layout: Layout, endpoints: Endpoints, cluster: str) -> pki.Authority:
    """Make the authorities, certificates and kubeconfigs of the control plane.

    Returns
    -------
    Authority
        The cluster's authority, which signs for the node as well.
    """
    etcd = pki.Authority.create(layout, layout.etcd_ca, "etcd-ca")
    etcd.issue(layout, layout.pair("etcd"), "etcd", names=["localhost", "127.0.0.1"])
    etcd.issue(layout, layout.pair("apiserver-etcd"), "kube-apiserver")

    authority = pki.Authority.create(layout, layout.ca, "kubernetes-ca")
    service = "kubernetes.default"
    names = ["kubernetes", service, f"{service}.svc", f"{service}.svc.cluster.local"]
    addresses = {"127.0.0.1", endpoints.api_host, *_service_address(endpoints)}
    authority.issue(
        layout,
        layout.pair("apiserver"),
        "kube-apiserver",
        names=[*names, "localhost", *sorted(addresses)],
    )
    authority.issue(layout, layout.pair("apiserver-kubelet"), "kube-apiserver-kubelet-client")
    pki.write_signing_key(layout, layout.pair("service-account"))
    for user, name, groups in (
        ("admin", "kubernetes-admin", ["system:masters"]),
        ("kube-controller-manager", "system:kube-controller-manager", []),
        ("kube-scheduler", "system:kube-scheduler", []),
    ):
        identity = authority.issue(layout, layout.pair(user), name, groups=groups)
        kubeconfig.write(layout, user, endpoints.url, identity, cluster)
    return authority


def components(layout: Layout, endpoints: Endpoints, binaries: Path) -> list[Component]:
    """Return the programs of the control plane.

    Parameters
    ----------
    layout
        The cluster's files, with the credentials written.
    endpoints
        Where to listen.
    binaries
        The directory of the programs.
    """
    parts = [
        _etcd(layout, endpoints, binaries),
        _apiserver(layout, endpoints, binaries),
        _controller_manager(layout, endpoints, binaries),
    ]
    if endpoints.network is not None:
        parts.append(_scheduler(layout, binaries))
    return parts


def _etcd(layout: Layout, endpoints: Endpoints, binaries: Path) -> Component:
    client = f"https://127.0.0.1:{endpoints.etcd_client_port}"
    peer = f"https://127.0.0.1:{endpoints.etcd_peer_port}"
    pair = layout.pair("etcd")
    flags = {
        "name": "devcluster",
        "data-dir": layout.data("etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"devcluster={peer}",
        "cert-file": pair.certificate,
        "key-file": pair.key,
        "trusted-ca-file": layout.etcd_ca.certificate,
        "client-cert-auth": "true",
        "peer-cert-file": pair.certificate,
        "peer-key-file": pair.key,
        "peer-trusted-ca-file": layout.etcd_ca.certificate,
        "peer-client-cert-auth": "true",
        # Nothing outlives the machine's next start anyway, and each write waits for the disk.
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }
    return Component(
        "etcd",
        (str(binaries / "etcd"), *_arguments(flags)),
        ready=f"tcp:127.0.0.1:{endpoints.etcd_client_port}",
    )


def _apiserver(layout: Layout, endpoints: Endpoints, binaries: Path) -> Component:
    serving, etcd = layout.pair("apiserver"), layout.pair("apiserver-etcd")
    kubelet, tokens = layout.pair("apiserver-kubelet"), layout.pair("service-account")
    network = endpoints.network
    flags = {
        "bind-address": endpoints.api_host,
        "secure-port": endpoints.api_port,
        "advertise-address": endpoints.api_host,
        "tls-cert-file": serving.certificate,
        "tls-private-key-file": serving.key,
        "client-ca-file": layout.ca.certificate,
        "etcd-servers": f"https://127.0.0.1:{endpoints.etcd_client_port}",
        "etcd-cafile": layout.etcd_ca.certificate,
        "etcd-certfile": etcd.certificate,
        "etcd-keyfile": etcd.key,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "service-cluster-ip-range": network.services if network else _SERVICES_WITHOUT_NODE,
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": tokens.certificate,
        "service-account-signing-key-file": tokens.key,
        "kubelet-certificate-authority": layout.ca.certificate,
        "kubelet-client-certificate": kubelet.certificate,
        "kubelet-client-key": kubelet.key,
        "kubelet-preferred-address-types": "InternalIP",
        # A loopback address cannot be a Service's endpoint, and nobody would reach it.
        "endpoint-reconciler-type": "lease" if network else "none",
        "profiling": "false",
    }
    return Component(
        "kube-apiserver",
        (str(binaries / "kube-apiserver"), *_arguments(flags)),
        after=("etcd",),
        ready=f"{endpoints.url}/readyz",
    )


def _controller_manager(layout: Layout, endpoints: Endpoints, binaries: Path) -> Component:
    flags = {
        "kubeconfig": layout.kubeconfig_of("kube-controller-manager"),
        "leader-elect": "false",
        "secure-port": 0,
        "use-service-account-credentials": "true",
        "service-account-private-key-file": layout.pair("service-account").key,
        "root-ca-file": layout.ca.certificate,
        "cluster-signing-cert-file": layout.ca.certificate,
        "cluster-signing-key-file": layout.ca.key,
        # Tests make and remove namespaces by the hundred; the defaults are for big clusters.
        "kube-api-qps": 200,
        "kube-api-burst": 400,
        "profiling": "false",
    }
    if endpoints.network is not None:
        flags["service-cluster-ip-range"] = endpoints.network.services
    return Component(
        "kube-controller-manager",
        (str(binaries / "kube-controller-manager"), *_arguments(flags)),
        after=("kube-apiserver",),
    )


def _scheduler(layout: Layout, binaries: Path) -> Component:
    flags = {
        "kubeconfig": layout.kubeconfig_of("kube-scheduler"),
        "leader-elect": "false",
        "secure-port": 0,
        "profiling": "false",
    }
    return Component(
        "kube-scheduler",
        (str(binaries / "kube-scheduler"), *_arguments(flags)),
        after=("kube-apiserver",),
    )


def _service_address(endpoints: Endpoints) -> list[str]:
    return [endpoints.network.api_service_ip] if endpoints.network else []


def _arguments(flags: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]
