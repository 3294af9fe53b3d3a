# ruff: noqa: T201 - says what came of a run
"""Fuzz the library with directories in the place of a mounted binding: `make fuzz-bindings`."""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from support.binding_inputs import Mount, check_binding, mounts
from support.fault_table import FUZZED_BINDINGS

NOBODY = 65534


def fuzz(seconds: int) -> Counter[str]:
    """Read bindings for some seconds; the first that is not as it has to be ends the run."""
    began = time.monotonic()
    counts: Counter[str] = Counter()

    def one(mount: Mount) -> None:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            counts[check_binding(mount, Path(name))] += 1
        counts["inputs"] += 1

    configured = settings(
        max_examples=500,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    for number in itertools.count():
        if time.monotonic() - began > seconds:
            break
        seed(number)(configured(given(mounts)(one)))()
    counts["seconds"] = round(time.monotonic() - began)
    return counts


def main() -> None:
    """Fuzz, as nobody where it is root: for root no file is closed."""
    user = os.geteuid()
    "\n".encode("unicode_escape")  # loaded while its module can be read
    if user == 0:
        os.seteuid(NOBODY)
    try:
        counts = fuzz(int(sys.argv[1]))
    finally:
        os.seteuid(user)
    FUZZED_BINDINGS.parent.mkdir(exist_ok=True)
    FUZZED_BINDINGS.write_text(json.dumps(counts))
    print(dict(counts))


if __name__ == "__main__":
    main()
