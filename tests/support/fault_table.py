# ruff: noqa: E501, ISC004 - sentences of a table
"""What became of each fault: a line of JSON for each, of which ``make docs`` makes a table.

`make test-faults` writes them into ``build/faults.jsonl``; other runs keep
nothing.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "FILE",
    "FUZZED_ANNOTATIONS",
    "FUZZED_BINDINGS",
    "FUZZED_HTTP",
    "FUZZED_MANIFESTS",
    "keep",
    "record",
]

ROOT = Path(__file__).parents[2]
FILE = ROOT / "build" / "faults.jsonl"
FUZZED = ROOT / "build" / "fuzz-rewriter.json"
FUZZED_HTTP = ROOT / "build" / "fuzz-http.json"
FUZZED_MANIFESTS = ROOT / "build" / "fuzz-manifests.json"
FUZZED_ANNOTATIONS = ROOT / "build" / "fuzz-annotations.json"
FUZZED_BINDINGS = ROOT / "build" / "fuzz-bindings.json"
KEPT = ROOT / "docs" / "what-was-tried.json"

_RUNS = (
    (
        FUZZED,
        "scoped queries, updates and pipelines (atheris)",
        "{answered:,} answered, {refused:,} refused by the library, {failed in MongoDB:,} by MongoDB",
    ),
    (
        FUZZED_HTTP,
        "HTTP requests to both example apps (schemathesis)",
        "every answer as the app describes it, none of 5xx or of another app's data",
    ),
    (
        FUZZED_MANIFESTS,
        "specs of the CRD's own schema, created, changed and deleted (hypothesis)",
        "{accepted:,} accepted, {refused:,} refused by the API server with the field's name;"
        " {ready:,} statuses ready, {not ready:,} with what to do; {credentials:,} credentials tried",
    ),
    (
        FUZZED_ANNOTATIONS,
        "annotations, labels and statuses of MdbApps and Secrets (hypothesis)",
        "{refused:,} refused by the API server; {ready:,} statuses ready, {not ready:,} not;"
        " {credentials:,} credentials tried",
    ),
    (
        FUZZED_BINDINGS,
        "directories in the place of a mounted binding (hypothesis)",
        "{read:,} read as a whole, {refused:,} refused without their content",
    ),
)
"""What is read of a run, what was fuzzed, and what came of it."""


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
    for file, what, outcome in _RUNS:
        if file.exists():
            counts = json.loads(file.read_text())
            yield {
                "what": what,
                "inputs": counts["inputs"],
                "seconds": counts["seconds"],
                "outcome": outcome.format_map(defaultdict(int, counts)),
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
