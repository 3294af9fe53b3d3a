"""Wheels and sdists."""

from __future__ import annotations

import sys
from pathlib import Path

from mdb_release.commands import run, uv
from mdb_release.source import DISTRIBUTIONS, Source


def build(source: Source, out: Path) -> None:
    """Build a wheel and an sdist of each distribution, the wheel from the sdist.

    The build backend is the locked one (`--no-build-isolation`), and takes its dates from
    ``SOURCE_DATE_EPOCH`` (https://reproducible-builds.org/specs/source-date-epoch/).
    """
    for folder in DISTRIBUTIONS.values():
        run(
            *(uv(), "build", "--quiet", "--no-build-isolation", "--no-create-gitignore"),
            *("--python", sys.executable, "--out-dir", out, source.directory / folder),
            environment={"SOURCE_DATE_EPOCH": str(source.epoch)},
        )
