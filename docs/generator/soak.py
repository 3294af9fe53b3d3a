"""The tables of the soak, from ``docs/soak.json`` (``make soak-operator WRITE=--write``)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from generator.benchmarks import taken_on

__all__ = ["growth_rows", "run_rows", "soak_text"]

RESULTS: Final = Path(__file__).resolve().parents[1] / "soak.json"

OPERATIONS: Final = ("reads", "writes")
BROKEN: Final = ("refused", "lost")
CURSORS: Final = "cursors begun anew"


def _kept() -> Mapping[str, Any]:
    kept: Mapping[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return kept


def soak_text() -> str:
    """Say what the run was taken on."""
    return taken_on(_kept().get("machine"), "make soak-operator WRITE=--write")


def _each(counts: Mapping[str, int], names: Iterable[str] | None = None) -> str:
    found = {name: counts[name] for name in (names or sorted(counts, key=lambda n: -counts[n]))}
    return ", ".join(f"{name} {number:,}" for name, number in found.items())


def run_rows() -> list[list[str]]:
    """Return what happened in the run."""
    kept = _kept()
    if not kept:
        return []
    plan, pods = kept["plan"], kept["pods"]
    neighbours = {n: count for n, count in pods.items() if n not in {*OPERATIONS, *BROKEN, CURSORS}}
    kills, changes = kept["kills"], kept["changes"]
    waited = max(kept["ready"], default=0)
    return [
        ["minutes of changes", f"{plan['seconds'] / 60:g}"],
        ["apps, namespaces, pods", f"{plan['apps']}, {kept['namespaces']}, {plan['pods']}"],
        ["changes of apps", f"{sum(changes.values()):,}: {_each(changes)}"],
        ["SIGKILL and cuts", f"{sum(kills.values())}: {_each(kills)}"],
        ["what pods must have, and had", _each(pods, OPERATIONS)],
        ["of that refused or failed; acknowledged and lost", _each(pods, BROKEN)],
        ["cursors that a cut ended and the pod began anew", str(pods[CURSORS])],
        ["reads of an app that consents at times", _each(neighbours)],
        ["all apps Ready after the last change, at most", f"{waited:g} s"],
        ["checks of everything", f"{kept['checks']}, at last of {kept['credentials']} credentials"],
        ["problems", f"{kept['faults']}"],
    ]


def growth_rows() -> list[list[str]]:
    """Return what each kind of process held in the second and in the last third."""
    return [
        [
            one["process"],
            one["figure"],
            f"{one['second']:g}",
            f"{one['last']:g}",
            "not judged" if one["most"] is None else f"{one['most']:g}",
            "yes" if one["flat"] else "**no**",
        ]
        for one in _kept().get("growth", ())
    ]
