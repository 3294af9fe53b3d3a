"""Leave what is never loaded out of an installation, and out of its record.

Of the Kubernetes client the operator uses the connection alone. The methods, one for every request
that there is, are loaded on demand, and would be a third of the image. Of AWS's client it uses KMS
and what logs in there; the descriptions of all other services would be another third. What a
distribution has installed stands in its RECORD (https://packaging.python.org/en/latest/specifications/recording-installed-packages/);
what goes, goes there as well, so that checks of an installation and scanners still agree with it.
"""

from __future__ import annotations

import csv
import sys
from fnmatch import fnmatch
from pathlib import Path

LEFT_OUT = (
    "kubernetes/*client/api/*_api.py",
    "*.dist-info/uv_cache.json",  # when uv has last seen the sources: another at every build
)

AWS_DATA = "botocore/data/"
AWS_SERVICES = ("kms", "sso*", "signin", "sts")
"""What stays of the descriptions of AWS's services: KMS, and what logs in there."""


def left_out(name: str) -> bool:
    """Say whether a file of a distribution is left out, by its name in the record."""
    service, slash, _ = name.removeprefix(AWS_DATA).partition("/")
    if name.startswith(AWS_DATA) and slash:
        return not any(fnmatch(service, pattern) for pattern in AWS_SERVICES)
    return any(fnmatch(name, pattern) for pattern in LEFT_OUT)


def prune(packages: Path) -> int:
    """Remove files and their lines.

    Parameters
    ----------
    packages
        A ``site-packages`` directory.

    Returns
    -------
    int
        How many files were removed.
    """
    removed = 0
    for record in sorted(packages.glob("*.dist-info/RECORD")):
        rows = list(csv.reader(record.read_text(encoding="utf-8").splitlines()))
        kept = []
        for row in rows:
            path = packages / row[0]
            if not left_out(row[0]):
                kept.append(row)
                continue
            path.unlink(missing_ok=True)
            for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
                compiled.unlink()
            removed += 1
        if kept != rows:
            with record.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(kept)
    return removed


if __name__ == "__main__":
    [found] = Path(sys.argv[1]).glob("lib/python3*/site-packages")
    if not prune(found):
        sys.exit(f"nothing of {LEFT_OUT} is in {found}: the patterns are out of date")
