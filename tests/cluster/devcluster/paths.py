"""Where devcluster keeps what it makes: what survives (cache) and what runs now (state)."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_NAME = "default"
"""The name of the cluster, and of the MongoDB, that a command without ``--name`` means."""


def cache_dir() -> Path:
    """Return the directory of what is expensive to make again, created private to the user."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return _private(Path(root) / "devcluster")


def state_dir(name: str) -> Path:
    """Return the directory of what runs under one name, created private to the user."""
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return _private(_private(Path(root) / "devcluster") / name)


def _private(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
