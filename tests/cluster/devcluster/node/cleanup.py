"""Remove a cluster, however much of it still runs: nothing here trusts that it ended well."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.node import cgroups, record
from devcluster.node.addresses import NodeNetwork
from devcluster.node.layout import Layout
from devcluster.node.processes import ProcessId, wait_gone

_DEADLINE = 15.0
"""Seconds for the kernel to end processes and to take namespaces and cgroups apart."""

_POLL = 0.02

_SUPERVISOR = "devcluster.node.supervisor"


def remove(layout: Layout, *, files: bool = True) -> None:
    """End a cluster's processes and remove its links, cgroups and files.

    Parameters
    ----------
    layout
        The cluster's files.
    files
        Whether to remove the files too; without, the logs stay to be read.

    Raises
    ------
    DevclusterError
        If something cannot be removed.
    """
    _end_processes(layout)
    for index in _indexes(layout):
        remove_link(NodeNetwork(index))
    cgroups.remove(cgroups.name_of(layout.root))
    if files:
        try:
            shutil.rmtree(layout.root)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise DevclusterError(
                f"Cannot remove {error.filename}: {error.strerror}",
                "If root started the cluster, root must remove it; the processes are gone.",
            ) from error


def processes(root: Path) -> list[ProcessId]:
    """Return the supervisors and components of a cluster that run, found by what they were given.

    The record names the supervisor only, and a killed ``devcluster up`` may not even have
    come to write that.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if _belongs(arguments, root):
                identity = ProcessId.of(int(entry.name))
                if identity is not None:
                    found.append(identity)
    return found


def _belongs(arguments: list[str], root: Path) -> bool:
    if _SUPERVISOR in arguments:
        return str(root) in arguments
    program = Path(arguments[0])
    return program.parent.parent.name == "bin" and any(
        f"{root}/" in argument for argument in arguments
    )


def _end_processes(layout: Layout) -> None:
    known = record.load(layout)
    targets = processes(layout.root)
    if known is not None and known.runs() and known.supervisor not in targets:
        targets.append(known.supervisor)
    for process in targets:
        with contextlib.suppress(PermissionError):
            process.kill()
    left = wait_gone(targets, _DEADLINE)
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        raise DevclusterError(
            f"These processes of the cluster do not end: {pids}",
            "If root started the cluster, root must end it.",
        )


def _indexes(layout: Layout) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        yield int(json.loads(layout.plan.read_text())["namespace"]["index"])


def remove_link(network: NodeNetwork) -> None:
    """Remove the link, unless it is gone already with the namespace of its other end."""
    end = time.monotonic() + _DEADLINE
    while network.link in {name for _, name in socket.if_nameindex()}:
        subprocess.run(["ip", "link", "delete", network.link], capture_output=True, check=False)
        if time.monotonic() > end:
            raise DevclusterError(
                f"The interface {network.link} cannot be removed",
                f"Try `ip link delete {network.link}` as root.",
            )
        time.sleep(_POLL)
