"""Which addresses and ports a cluster uses: never ones that something else has."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from typing import Self

from devcluster.errors import DevclusterError

MAX_CLUSTERS = 64
"""How many nodes a machine has addresses for; a /24 in steps of four."""

_LINKS = ipaddress.IPv4Network("10.231.0.0/24")
_PODS = ipaddress.IPv4Network("10.232.0.0/16")
_SERVICES = ipaddress.IPv4Network("10.233.0.0/16")

API_PORT = 6443
"""The API server's port on a node, which has an address of its own."""


@dataclass(frozen=True, slots=True)
class NodeNetwork:
    """The addresses of the node with a number.

    A link with two addresses joins machine and node; behind the node are a network of pods
    and one of services, to which the machine has routes.

    Parameters
    ----------
    index
        The number, below :data:`MAX_CLUSTERS`.
    """

    index: int

    @property
    def link(self) -> str:
        """The name of the machine's end of the link (15 characters at most)."""
        return f"devcluster{self.index}"

    @property
    def link_network(self) -> ipaddress.IPv4Network:
        """The network of the link."""
        return _part(_LINKS, 30, self.index)

    @property
    def host_ip(self) -> str:
        """The machine's address: where pods reach what runs on the machine."""
        return str(self.link_network[1])

    @property
    def node_ip(self) -> str:
        """The node's address: where the API server and node ports are."""
        return str(self.link_network[2])

    @property
    def pods(self) -> ipaddress.IPv4Network:
        """The network of the pods."""
        return _part(_PODS, 24, self.index)

    @property
    def services(self) -> ipaddress.IPv4Network:
        """The network of the services."""
        return _part(_SERVICES, 24, self.index)

    @property
    def api_service_ip(self) -> str:
        """The address of the service ``kubernetes``: always the first."""
        return str(self.services[1])

    @property
    def dns_ip(self) -> str:
        """The address of the service ``kube-dns``: the tenth, by custom."""
        return str(self.services[10])

    @classmethod
    def choose(cls, routes: Collection[ipaddress.IPv4Network]) -> Self:
        """Return the first node network that nothing else uses.

        Parameters
        ----------
        routes
            The networks to which the machine has routes, other nodes' among them.

        Raises
        ------
        DevclusterError
            If all are in use.
        """
        for index in range(MAX_CLUSTERS):
            network = cls(index)
            mine = (network.link_network, network.pods, network.services)
            if not any(own.overlaps(other) for own in mine for other in routes):
                return network
        raise DevclusterError(
            f"All networks for a node ({_LINKS}, {_PODS}, {_SERVICES}) are in use",
            "End a cluster with `devcluster down --name NAME`; `ip route` shows who uses them.",
        )


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_port(port: int) -> int:
    """Return a port of the loopback interface if nothing listens on it.

    Raises
    ------
    DevclusterError
        If something does.
    """
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DevclusterError(
                f"Port {port}, asked for the API server, cannot be used: {error.strerror}",
                f"`ss -ltnp 'sport = :{port}'` shows who has it. No --port: a free one.",
            ) from error
    return port


def _part(network: ipaddress.IPv4Network, prefix: int, index: int) -> ipaddress.IPv4Network:
    """Return the part with a number, of the equal parts into which a prefix divides a network."""
    size = 1 << (32 - prefix)
    return ipaddress.IPv4Network((int(network.network_address) + index * size, prefix))
