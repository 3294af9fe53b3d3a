"""Keep a run: all samples in ``build``, what the documentation shows in ``docs``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.chart import lines
from bench.report import DOCS, machine

from soak.figures import Series, over_time

__all__ = ["keep"]

BUILD: Final = Path("build/soak.json")

CHARTS: Final = {
    "memory": (
        "Memory while apps change and processes are killed, by minutes",
        "MB",
        {
            "the operator that leads": ("operator", "memory, MB"),
            "a pod": ("pod", "memory, MB"),
            "mongod": ("mongod", "memory, MB"),
        },
    ),
    "counts": (
        "Tasks, file descriptors and connections meanwhile, by minutes",
        "",
        {
            "the operator's descriptors": ("operator", "file descriptors"),
            "the operator's tasks": ("operator", "asyncio tasks"),
            "mongod's connections": ("mongod", "connections"),
            "a pod's descriptors": ("pod", "file descriptors"),
            "a pod's tasks": ("pod", "asyncio tasks"),
        },
    ),
}
"""By name: title, unit, and of each line the kind of process and the figure."""


def keep(found: Mapping[str, Any], series: Sequence[Series], *, write: bool) -> None:
    """Write a run down; with ``write`` also where the documentation takes its table from."""
    BUILD.parent.mkdir(exist_ok=True)
    samples = {one.name: one.points for one in series}
    BUILD.write_text(json.dumps({**found, "samples": samples}) + "\n")
    if not write:
        return
    seconds = found["plan"]["seconds"]
    drawn: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for name, (title, unit, of) in CHARTS.items():
        part = {what: list(over_time(series, *one, seconds)) for what, one in of.items()}
        drawn[name] = part
        chart = lines(
            title,
            {what: dict(line) for what, line in part.items() if line},
            unit,
            marks={minute * 60: f"{minute}" for minute in range(0, int(seconds // 60) + 1, 5)},
        )
        (DOCS / "images" / f"soak-{name}.svg").write_text(chart)
    kept = {"machine": machine(), **found, "over time": drawn}
    (DOCS / "soak.json").write_text(json.dumps(kept, indent=1) + "\n")
