"""The machine's side of a node: what it must have, the namespaces, the link, the images."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from devcluster import packages
from devcluster.errors import DevclusterError
from devcluster.node import record
from devcluster.node.addresses import NodeNetwork
from devcluster.node.layout import Layout
from devcluster.node.namespace import INNER_LINK
from devcluster.node.processes import child_of
from devcluster.progress import Progress

_DEADLINE = 10.0
_LOCK_DEADLINE = 60.0
_POLL = 0.01

CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
"""Where containerd listens, as seen in the node: short, and hidden from the machine."""


def require(progress: Progress) -> None:
    """Check that this machine can run a node, and install what it lacks.

    Raises
    ------
    DevclusterError
        If it cannot; says what would help.
    """
    if os.geteuid() != 0:
        missing = [need.package for need in packages.NODE if need.missing()]
        also = f" It also lacks {', '.join(missing)}." if missing else ""
        raise DevclusterError(
            f"A node's pods, mounts and network need root, and this is user {os.geteuid()}.{also}",
            "Run it with `sudo env PATH=$PATH`, start a Docker engine that you may use, or do "
            "without pods: `devcluster up --control-plane`.",
        )
    packages.require(packages.NODE, progress)


@contextlib.contextmanager
def choose_network() -> Iterator[NodeNetwork]:
    """Give the addresses for a new node, which nobody else is given before the block ends.

    In the block the node must be connected: the routes to it tell that its addresses are in use.

    Raises
    ------
    DevclusterError
        If there are none.
    """
    # A name in the abstract namespace is a lock for all users and leaves no file behind.
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as lock:
        end = time.monotonic() + _LOCK_DEADLINE
        while True:
            try:
                lock.bind("\0devcluster-network")
                break
            except OSError as error:
                if time.monotonic() > end:
                    raise DevclusterError(
                        "Another devcluster has been choosing addresses for too long",
                        "`ss -xp | grep devcluster-network` shows which process that is.",
                    ) from error
            time.sleep(_POLL)
        yield NodeNetwork.choose(list(_routes()))


def in_namespaces(command: list[str]) -> list[str]:
    """Return a command that runs another as the first process of fresh namespaces."""
    return [
        "unshare",
        *("--mount", "--net", "--pid", "--ipc", "--uts"),
        # The process of unshare itself stays outside; neither may outlive the other.
        *("--fork", "--kill-child", "--mount-proc"),
        "--",
        *command,
    ]


def connect(process: subprocess.Popen[bytes], network: NodeNetwork, layout: Layout) -> int:
    """Join a node's namespace and the machine by a link.

    Parameters
    ----------
    process
        What :func:`in_namespaces` made, started.
    network
        The node's addresses.
    layout
        The cluster's files.

    Returns
    -------
    int
        The node's first process, as the machine sees it.

    Raises
    ------
    DevclusterError
        If the namespaces or the link cannot be made.
    """
    inner = _await_namespaces(process, layout)
    _ip(
        *("link", "add", network.link, "type", "veth"),
        *("peer", "name", INNER_LINK, "netns", str(process.pid)),
    )
    prefix = network.link_network.prefixlen
    _ip("address", "add", f"{network.host_ip}/{prefix}", "dev", network.link)
    _ip("link", "set", network.link, "up")
    _ip("route", "add", str(network.pods), "via", network.node_ip)
    _ip("route", "add", str(network.services), "via", network.node_ip)
    return inner


def import_image(supervisor: int, archive: Path) -> None:
    """Import an image archive into a node's containerd.

    Parameters
    ----------
    supervisor
        The node's first process, as the machine sees it.
    archive
        A Docker or OCI archive.

    Raises
    ------
    DevclusterError
        If containerd refuses.
    """
    # The socket is on the node's own /run, which the machine reaches through the process.
    address = Path(f"/proc/{supervisor}/root{CONTAINERD_SOCKET}")
    done = subprocess.run(
        ["ctr", "--address", address, "--namespace", "k8s.io", "images", "import", archive],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DevclusterError(
            f"containerd cannot import {archive}: {done.stderr.strip()}",
            "It must be what `docker save` or `buildah push docker-archive:` writes.",
        )


def _await_namespaces(process: subprocess.Popen[bytes], layout: Layout) -> int:
    """Wait until the namespaces are there, and return their first process."""
    outside = Path("/proc/self/ns/net").readlink()
    end = time.monotonic() + _DEADLINE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise DevclusterError(
                f"The node's namespaces cannot be made: {record.last_line(layout, 'supervisor')}",
                "In a container, run it as privileged, or do with `devcluster up --control-plane`.",
            )
        inner = child_of(process.pid)
        if inner is not None and Path(f"/proc/{inner}/ns/net").readlink() != outside:
            return inner
        time.sleep(_POLL)
    raise DevclusterError(f"The node's namespaces did not appear within {_DEADLINE:.0f} s")


def _routes() -> Iterator[ipaddress.IPv4Network]:
    done = subprocess.run(["ip", "-json", "-4", "route"], capture_output=True, check=True)
    for route in json.loads(done.stdout or b"[]"):
        if route["dst"] != "default":
            yield ipaddress.IPv4Network(route["dst"])


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DevclusterError(
            f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}",
            "The machine's kernel must have veth interfaces.",
        )
