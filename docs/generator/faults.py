"""The tables of what was tried, from ``docs/what-was-tried.json`` (``make test-faults``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

__all__ = ["fault_rows", "fuzz_rows"]

RESULTS: Final = Path(__file__).resolve().parents[1] / "what-was-tried.json"


def _kept(part: str) -> list[dict[str, Any]]:
    kept: dict[str, Any] = (
        json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    )
    found: list[dict[str, Any]] = kept.get(part, [])
    return found


def fault_rows() -> list[list[str]]:
    """Return each fault, what it met, how often all was well again, how soon, and what was lost."""
    return [
        [
            row["fault"],
            row["operation"],
            f"{row['recovered']} of {row['of']}",
            f"{row['seconds']:g}",
            str(row["losses"]),
        ]
        for row in _kept("faults")
    ]


def fuzz_rows() -> list[list[str]]:
    """Return what was fuzzed, with how many inputs, for how long, and what was found."""
    return [
        [
            row["what"],
            f"{row['inputs']:,}",
            f"{row['seconds'] / 60:.0f} min",
            row["outcome"],
            str(row["found"]),
        ]
        for row in _kept("fuzz")
    ]
