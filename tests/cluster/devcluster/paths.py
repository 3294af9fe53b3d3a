"""Where devcluster keeps what it makes: what survives (cache) and what runs now (state)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from devcluster.errors import DevclusterError

DEFAULT_NAME = "devcluster"
"""The name of the cluster that a command without ``--name`` means."""

NAME_VARIABLE = "DEVCLUSTER_NAME"
"""The environment variable that names the cluster where no ``--name`` does."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?")


def cluster_name() -> str:
    """Return the name that the environment chose, or the default one."""
    return check_name(os.environ.get(NAME_VARIABLE) or DEFAULT_NAME)


def check_name(name: str) -> str:
    """Return a cluster's name if it can be part of a host name, a path and a cgroup.

    Raises
    ------
    DevclusterError
        If it cannot.
    """
    if not _NAME.fullmatch(name):
        raise DevclusterError(
            f"{name!r} cannot name a cluster",
            "Use at most 24 of a-z, 0-9 and '-', beginning and ending with a letter or digit.",
        )
    return name


def cache_dir() -> Path:
    """Return the directory of what is expensive to make again, created private to the user."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return _private(Path(root) / "devcluster")


def state_root() -> Path:
    """Return the directory that holds a directory for each name, created private to the user."""
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return _private(Path(root) / "devcluster")


def _private(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
