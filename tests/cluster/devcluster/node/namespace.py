"""The inside of a node's namespaces: mounts, link and routes, set up by its first process.

All that is made here belongs to the namespaces and ends with them. Nothing is written outside
of the cluster's directory: ``/run`` is a fresh tmpfs, and ``/var/lib`` and ``/var/log`` are
overlays whose changes go there, since kubelet and CNI have paths that no setting moves.
"""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from devcluster.node.addresses import NodeNetwork
from devcluster.node.layout import Layout

INNER_LINK = "eth0"
"""The node's end of the link."""

_OVERLAID = (Path("/var/lib"), Path("/var/log"))

_LINK_DEADLINE = 10.0
"""Seconds until the process outside must have brought the link."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What distinguishes one node from another.

    Parameters
    ----------
    index
        The number of the node's network.
    hostname
        The node's name.
    """

    index: int
    hostname: str

    @classmethod
    def load(cls, data: Any) -> Self:
        """Return the plan that a JSON file holds."""
        return cls(int(data["index"]), str(data["hostname"]))


def can_overlay(directory: Path) -> bool:
    """Say whether an overlay can keep its changes in a directory: not where that is in another.

    So it is in a container, where the layers of images are copied instead of stacked.
    """
    types = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        types[Path(before.split()[4])] = after.split()[0]
    mounts = (types[parent] for parent in (directory, *directory.parents) if parent in types)
    return next(mounts, "") != "overlay"


def enter(layout: Layout, plan: Plan) -> None:
    """Turn fresh namespaces into a node's."""
    socket.sethostname(plan.hostname)
    _mount(layout)
    _connect(NodeNetwork(plan.index))


def _mount(layout: Layout) -> None:
    # Volumes with mount propagation need a shared tree; it is shared with nobody outside,
    # since the namespace was made private first.
    mount("--make-rshared", "/")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for directory in ("/run/containerd", "/run/lock", "/run/netns"):
        Path(directory).mkdir(mode=0o755)
    kept = Path("/run/devcluster")
    (kept / "root").mkdir(parents=True)
    mount("--bind", str(layout.root), str(kept / "root"))
    for target in _OVERLAID:
        changes = kept / target.name
        for made in (changes / "upper", changes / "work"):
            made.mkdir(mode=0o755, parents=True)
        options = f"lowerdir={target},upperdir={changes}/upper,workdir={changes}/work"
        mount("-t", "overlay", "-o", options, "overlay", str(target))
        if layout.root.is_relative_to(target):  # what is written there must stay
            mount("--bind", str(kept / "root"), str(layout.root))


def join_link(network: NodeNetwork) -> None:
    """Take the inner end of the link that the process outside makes, when it is there."""
    _run("ip", "link", "set", "lo", "up")
    deadline = time.monotonic() + _LINK_DEADLINE
    while INNER_LINK not in {name for _, name in socket.if_nameindex()}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {INNER_LINK} appeared in the node's namespace")
        time.sleep(0.02)
    prefix = network.link_network.prefixlen
    _run("ip", "address", "add", f"{network.node_ip}/{prefix}", "dev", INNER_LINK)
    _run("ip", "link", "set", INNER_LINK, "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def mount(*arguments: str) -> None:
    """Call ``mount``."""
    _run("mount", *arguments)


def _connect(network: NodeNetwork) -> None:
    join_link(network)
    # A service's address is rewritten only after a route for it was found, whichever it is.
    _run("ip", "route", "add", str(network.services), "via", network.host_ip)
    # The node has no way out; what tries shall fail at once instead of timing out.
    _run("ip", "route", "add", "unreachable", "default")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
