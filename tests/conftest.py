"""Make what ``tests/support`` offers available to every test."""

from __future__ import annotations

pytest_plugins = [
    "pytester",
    "support.clusters",
    "support.docker",
    "support.leakscan",
    "support.mongo",
]
