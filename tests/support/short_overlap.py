"""The operator, but for the length of an overlap: a few seconds instead of two minutes or more.

The CRD allows none below two minutes, which a pod needs to see the new Secret. Run in place of
``mdb-operator``; everything else is as it is.
"""

from __future__ import annotations

import sys
from typing import Any

from mdb_engine.core.secret import SecretRecord
from mdb_engine.registry.secrets import SecretService
from mdb_operator.cli.main import main

OVERLAP_SECONDS = 6


def shorten(seconds: float) -> None:
    """Let overlaps of this process last as long, whatever a spec says."""
    begin = SecretService.begin_overlap

    async def short(self: SecretService, seen: SecretRecord, **options: Any) -> SecretRecord:
        return await begin(self, seen, **{**options, "overlap_seconds": seconds})

    SecretService.begin_overlap = short  # type: ignore[method-assign]


if __name__ == "__main__":
    shorten(OVERLAP_SECONDS)
    sys.exit(main())
