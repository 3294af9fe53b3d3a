"""The tables of the benchmarks, from ``docs/benchmarks.json``, which ``make bench-full`` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

__all__ = [
    "concurrency_rows",
    "machine_text",
    "mongod_rows",
    "operator_rows",
    "operator_text",
    "pods_rows",
    "startup_rows",
    "stub_rows",
    "taken_on",
]

RESULTS: Final = Path(__file__).resolve().parents[1] / "benchmarks.json"
OPERATOR: Final = RESULTS.with_name("benchmarks-operator.json")
DRIVERS: Final = ("pymongo", "motor")
THOUSAND: Final = 1000
BUSY: Final = 3.0
"""The load average above which others were at work: the benchmark itself makes one of about two."""

LOAD: Final = "load average"

Kept = Mapping[str, Any]


def _kept() -> Kept:
    kept: Kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return kept


def _figures(kept: Kept, run: str, **where: Any) -> dict[str, Kept]:
    """Return the figures of one server, driver and concurrency, by title of the operation."""
    operations = kept.get(run, {}).get("operations", ())
    return {
        one["title"]: one
        for one in operations
        if all(one[name] == value for name, value in where.items())
    }


def machine_text() -> str:
    """Say what the current run was taken on."""
    return _timed_on(_kept().get("now", {}).get("machine"))


def taken_on(machine: Mapping[str, str] | None, again: str) -> str:
    """Say what a run was taken on, or the command that makes one."""
    if machine is None:
        return f"No run is kept: `{again}`."
    said = {"processor", LOAD}
    versions = ", ".join(f"{name} {machine[name]}" for name in machine if name not in said)
    load = f", at a load average of {machine[LOAD]}" if LOAD in machine else ""
    return f"Taken on {machine['processor']}{load}; {versions}."


def _timed_on(machine: Mapping[str, str] | None) -> str:
    text = taken_on(machine, "make bench-full")
    if machine is not None and float(machine[LOAD]) > BUSY:
        text += (
            " **The machine was busy with other work: ratios of times that are this noisy do not"
            " say whether an aim is met. Run it again on a quiet one.**"
        )
    return text


def _of_operator() -> Kept:
    kept: Kept = json.loads(OPERATOR.read_text(encoding="utf-8")) if OPERATOR.exists() else {}
    return kept


def operator_text() -> str:
    """Say what the operator's figures were taken on."""
    return taken_on(_of_operator().get("machine"), "make bench-operator WRITE=--write")


def operator_rows() -> list[list[str]]:
    """Return what was measured, with a column for each run."""
    runs = _of_operator().get("runs", ())
    head = ["", *(f"{one['apps']:,}, {one['isolation']}" for one in runs)]
    found = [{**dict(one["summary"]), f"{LOAD} before it": one[LOAD]} for one in runs]
    names = dict.fromkeys(name for one in found for name in one)
    return [head, *([name, *(one.get(name, "") for one in found)] for name in names)]


def mongod_rows() -> list[list[str]]:
    """Return each operation's ratio on a real server, one at a time, and what it was before."""
    kept = _kept()
    rows: dict[str, list[str]] = {}
    for driver in DRIVERS:
        where = {"server": "mongod", "driver": driver, "concurrency": 1}
        before = _figures(kept, "before", **where)
        for title, one in _figures(kept, "now", **where).items():
            times = f"{one['plain_us']:,.0f} → {one['library_us']:,.0f} µs"
            spread = f"{one['low']:.2f} to {one['high']:.2f}"
            former = f"{before[title]['ratio']:.2f}" if title in before else ""
            row = rows.setdefault(title, [title])
            row += [times, f"{one['ratio']:.2f} ({spread})", former]
    return list(rows.values())


def stub_rows() -> list[list[str]]:
    """Return the processor time that each operation costs more, where the server takes none."""
    kept = _kept()
    rows: dict[str, list[str]] = {}
    for driver in DRIVERS:
        where = {"server": "stub", "driver": driver, "concurrency": 1}
        before = _figures(kept, "before", **where)
        for title, one in _figures(kept, "now", **where).items():
            more = one["more_cpu_us"]
            former = f"{before[title]['more_cpu_us']:+,.0f}" if title in before else ""
            rows.setdefault(title, [title]).extend([f"{more:+,.0f}", former])
    return list(rows.values())


def concurrency_rows() -> list[list[str]]:
    """Return the ratios on a real server by how many operations are under way at once."""
    kept = _kept()
    rows: dict[str, list[str]] = {}
    for driver in DRIVERS:
        for concurrency in (1, 16, 64):
            where = {"server": "mongod", "driver": driver, "concurrency": concurrency}
            found = _figures(kept, "now", **where)
            for title in _figures(kept, "now", server="mongod", driver=driver, concurrency=1):
                cell = f"{found[title]['ratio']:.2f}" if title in found else ""
                rows.setdefault(title, [title]).append(cell)
    return list(rows.values())


def startup_rows() -> list[list[str]]:
    """Return what an app's process costs before it does anything."""
    kept = _kept()
    now, before = (kept.get(name, {}).get("startup", {}) for name in ("now", "before"))
    if not now:
        return []
    names = {
        "import_ms": "importing the app's module, ms",
        "modules": "modules loaded",
        "idle_mb": "memory of an idle process, MB",
    }
    return [
        [
            text,
            f"{now['plain'][name]:g}",
            f"{now['library'][name]:g}",
            f"{before['plain'][name]:g} → {before['library'][name]:g}" if before else "",
        ]
        for name, text in names.items()
    ]


def pods_rows() -> list[list[str]]:
    """Return what pods cost MongoDB, and the other apps a pod."""
    run = _kept().get("now", {}).get("pods")
    if not run:
        return []
    count = run["pods"]
    parts = [run[name] for name in ("with_0", f"with_{count}", "each_of_another")]
    election = run["election"]

    def row(text: str, *path: str) -> list[str]:
        cells = []
        for part in parts:
            value: Any = part
            for step in path:
                value = value.get(step, "") if isinstance(value, Mapping) else ""
            cells.append(str(max(value) if isinstance(value, list) else value))
        return [text, *cells]

    def one(text: str, value: object) -> list[str]:
        return [text, "", str(value), ""]

    rest = [float(part["rest"]["cpu_percent"]) for part in parts]
    thousand = [f"{rest[0] + (used - rest[0]) * THOUSAND / count:.1f}" for used in rest[1:]]
    spent = max(0.0, run["one_pod"]["ms_per_unrelated_change"])  # a difference of two times
    return [
        ["", "no pods", f"{count} of one app", f"{count}, each of another"],
        row("processor of `mongod` at rest, % of a core", "rest", "cpu_percent"),
        ["by that, with 1,000 pods", "", *thousand],
        row("commands a minute at rest", "commands_per_minute"),
        row("connections", "connections"),
        row("change streams", "change_streams"),
        row("processor with ten writes a second, %", "writing", "cpu_percent"),
        row("median time of such a write, ms", "writing", "write_ms"),
        row("memory of `mongod`, MB", "mongod_mb"),
        row("a revocation of all holds in all pods after, s, at most", "revocation_seconds"),
        one("a pod's processor for a change of another app's row, ms", f"{spent:g}"),
        one("memory of one pod, MB", run["one_pod"]["resident_mb"]),
        one("another primary of three members, after, s", election["elected_after"]),
        one("the longest that one read nothing then, s", election["longest_without"]),
        one("readings that failed, of one a second by each", election["failed"]),
    ]
