"""Print a run, keep it in ``docs/benchmarks.json``, and draw the charts of ``docs/images``."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bench.chart import bars
from bench.measure import Figure
from bench.operations import TITLES

__all__ = ["Run", "print_figure", "print_parts", "write"]

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
RESULTS: Final = DOCS / "benchmarks.json"


@dataclass
class Run:
    """All figures of one run."""

    operations: list[dict[str, Any]] = field(default_factory=list)
    startup: Mapping[str, Any] = field(default_factory=dict)
    pods: Mapping[str, Any] = field(default_factory=dict)

    def add(self, server: str, driver: str, name: str, concurrency: int, figure: Figure) -> None:
        """Keep one figure."""
        where = {"server": server, "driver": driver, "operation": name, "concurrency": concurrency}
        where["title"] = TITLES[name]
        self.operations.append({**where, **figure.as_json()})


def print_figure(server: str, driver: str, name: str, concurrency: int, figure: Figure) -> None:
    """Print one line."""
    print(
        f"{server:7} {driver:8} {name:17} x{concurrency:<3}"
        f"{figure.plain_us:10.1f} us {figure.library_us:10.1f} us {figure.more_cpu_us:+9.1f} us cpu"
        f"{figure.ratio:8.3f}  ({figure.low:.2f} to {figure.high:.2f})",
        flush=True,
    )


def print_parts(run: Run) -> None:
    """Print what is no operation."""
    for name, part in (("startup", run.startup), ("pods", run.pods)):
        if part:
            print(name, json.dumps(part, indent=1))


def machine() -> Mapping[str, str]:
    """Say what a run was taken on, as far as its figures depend on it."""
    model = "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        models = [line.partition(":")[2].strip() for line in lines if "model name" in line]
        model = f"{len(models)} of {models[0]}" if models else model
    packages = ("pymongo", "motor", "fastapi", "pydantic")
    return {
        "processor": model,
        "load average": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def write(run: Run, name: str) -> None:
    """Keep a run under a name, and draw the charts anew from the one that is called ``now``."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=DOCS,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    made = {"commit": commit, "machine": machine(), "operations": run.operations}
    former = kept.get(name, {})
    if not run.operations:  # a part of it alone was run again
        made["operations"] = former.get("operations", [])
    made["startup"] = run.startup or former.get("startup", {})
    made["pods"] = run.pods or former.get("pods", {})
    kept[name] = made
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    draw(kept)


def draw(kept: Mapping[str, Any]) -> None:
    """Draw the charts of the current run."""
    images = DOCS / "images"
    images.mkdir(exist_ok=True)
    for server, value, title, aim in (
        ("mongod", "ratio", "Time of an operation, by that of a plain client (mongod)", 1.03),
        (
            "stub",
            "more_cpu_us",
            "Processor time beyond a plain client's, in µs (a server of no time)",
            15.0,
        ),
    ):
        for_chart: dict[str, dict[str, float]] = {}
        for one in kept.get("now", {}).get("operations", ()):
            if one["server"] == server and one["concurrency"] == 1:
                name = one["title"].replace("`", "")
                for_chart.setdefault(name, {})[one["driver"]] = one[value]
        if for_chart:
            text = bars(title, for_chart, base=1.0 if value == "ratio" else 0.0, aim=aim)
            (images / f"benchmarks-{server}.svg").write_text(text)
