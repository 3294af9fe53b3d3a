"""What became of each fault: a line of JSON for each, of which ``make docs`` makes a table.

`make test-faults` writes them into ``build/faults.jsonl``; other runs keep
nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["FILE", "FUZZED_HTTP", "keep", "record"]

ROOT = Path(__file__).parents[2]
FILE = ROOT / "build" / "faults.jsonl"
FUZZED = ROOT / "build" / "fuzz-rewriter.json"
FUZZED_HTTP = ROOT / "build" / "fuzz-http.json"
KEPT = ROOT / "docs" / "what-was-tried.json"


def record(
    fault: str,
    operation: str,
    *,
    recovered: int = 1,
    of: int = 1,
    seconds: float,
    losses: int = 0,
    **figures: float,
) -> None:
    """Note that everything held again after a fault.

    Parameters
    ----------
    fault, operation
        What happened, and what was under way.
    recovered, of
        How many times all was well again afterwards, of how many.
    seconds
        The longest that it took, from the end of the fault.
    losses
        Documents, secrets or requests that were lost.
    figures
        Whatever else was counted.
    """
    if os.environ.get("MDB_FAULT_TABLE") != "1":
        return
    FILE.parent.mkdir(exist_ok=True)
    row = {
        "fault": fault,
        "operation": operation,
        "recovered": recovered,
        "of": of,
        "seconds": round(seconds, 1),
        "losses": losses,
        **figures,
    }
    with FILE.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _fuzzed() -> Iterator[dict[str, Any]]:
    """Yield what the last runs of fuzzing say; a finding ends a run, so there is none in them."""
    if FUZZED.exists():
        counts = json.loads(FUZZED.read_text())
        yield {
            "what": "scoped queries, updates and pipelines (atheris)",
            "inputs": counts["inputs"],
            "seconds": counts["seconds"],
            "outcome": f"{counts['answered']:,} answered, {counts['refused']:,} refused by the"
            f" library, {counts['failed in MongoDB']:,} by MongoDB",
            "found": 0,
        }
    if FUZZED_HTTP.exists():
        yield {
            "what": "HTTP requests to both example apps (schemathesis)",
            **json.loads(FUZZED_HTTP.read_text()),
            "outcome": "every answer as the app describes it, none of 5xx or of another app's data",
            "found": 0,
        }


def keep() -> None:
    """Put what the last runs said into the document; a row stands until it is run again."""
    kept: dict[str, list[dict[str, Any]]] = (
        json.loads(KEPT.read_text()) if KEPT.exists() else {"faults": [], "fuzz": []}
    )
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    rows = {(one["fault"], one["operation"]): one for one in kept["faults"]}
    rows |= {(one["fault"], one["operation"]): one for one in map(json.loads, lines)}
    kept["faults"] = list(rows.values())
    fuzzed = {one["what"]: one for one in kept["fuzz"]}
    fuzzed |= {one["what"]: one for one in _fuzzed()}
    kept["fuzz"] = list(fuzzed.values())
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    keep()
