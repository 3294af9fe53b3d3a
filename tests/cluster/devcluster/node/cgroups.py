"""The cgroups in which a node's pods are: one for the cluster in each hierarchy.

The kernel keeps cgroups until they are removed by name: they end with no namespace.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from devcluster.errors import DevclusterError

_DEADLINE = 15.0
_POLL = 0.02


def name_of(root: Path) -> str:
    """Return the name of a cluster's cgroup: another user's cluster may have the same name.

    Parameters
    ----------
    root
        The cluster's directory.
    """
    return f"devcluster-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"


def create(name: str) -> None:
    """Make a cgroup in each hierarchy; kubelet wants to find its root there."""
    for hierarchy in _hierarchies():
        cgroup = hierarchy / name
        cgroup.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new cgroup of version 1
            if (cgroup / setting).exists() and not (cgroup / setting).read_text().strip():
                (cgroup / setting).write_text((hierarchy / setting).read_text())
        controllers = hierarchy / "cgroup.controllers"  # version 2 only
        if controllers.exists():
            for controller in controllers.read_text().split():
                with contextlib.suppress(OSError):
                    (hierarchy / "cgroup.subtree_control").write_text(f"+{controller}")


def find(name: str) -> Iterator[Path]:
    """Return the cgroup with a name in each hierarchy that has it."""
    for hierarchy in _mounts("cgroup", "cgroup2"):
        if (hierarchy / name).is_dir():
            yield hierarchy / name


def remove(name: str) -> None:
    """Remove a cgroup from all hierarchies, with those below it and any process in them.

    Raises
    ------
    DevclusterError
        If a cgroup stays.
    """
    for cgroup in find(name):
        end = time.monotonic() + _DEADLINE
        while cgroup.exists():
            _empty(cgroup)
            if time.monotonic() > end:
                raise DevclusterError(
                    f"The cgroup {cgroup} cannot be removed",
                    "A process is still in it or in one below: see the files cgroup.procs there.",
                )
            time.sleep(_POLL)


def _empty(cgroup: Path) -> None:
    for directory, _, _ in os.walk(cgroup, topdown=False):
        with contextlib.suppress(OSError):
            for pid in (Path(directory) / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path(directory).rmdir()


def _hierarchies() -> list[Path]:
    """Return the hierarchies that pods are in: those of version 1 where there are any."""
    return list(_mounts("cgroup")) or list(_mounts("cgroup2"))


def _mounts(*types: str) -> Iterator[Path]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in types:
            yield Path(before.split()[4])
