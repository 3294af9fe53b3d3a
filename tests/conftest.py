"""Make what ``tests/support`` offers available to every test."""

from __future__ import annotations

pytest_plugins = [
    "mdb_engine.pytest_plugin",
    "pytester",
    "support.clusters",
    "support.docker",
    "support.leakscan",
    "support.mongo",
]
