"""The operator, but for the length of an overlap: a few seconds instead of two minutes or more.

The CRD allows none below two minutes, which a pod needs to see the new Secret. Run in place of
``mdb-operator``; everything else is as it is.
"""

from __future__ import annotations

import sys
from typing import Any

from mdb_engine.registry.secrets import SecretService
from mdb_operator.cli.main import main

OVERLAP_SECONDS = 6

_rotate = SecretService.rotate


async def _rotate_with_a_short_overlap(self: SecretService, slug: str, **options: Any) -> Any:
    return await _rotate(self, slug, **{**options, "overlap_seconds": OVERLAP_SECONDS})


if __name__ == "__main__":
    SecretService.rotate = _rotate_with_a_short_overlap  # type: ignore[method-assign]
    sys.exit(main())
