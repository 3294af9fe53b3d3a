"""Look for known vulnerabilities in what the products need, in the locked versions."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from mdb_release.commands import ROOT, run, uv
from mdb_release.source import DISTRIBUTIONS


def audit() -> str:
    """Ask the OSV database with pip-audit about every locked dependency.

    Returns
    -------
    str
        What was found, one vulnerability a line; empty if none.

    Raises
    ------
    ConnectionError
        If the database cannot be asked: nothing is known then.
    """
    with tempfile.TemporaryDirectory(prefix="mdb-audit-") as directory:
        locked = Path(directory) / "requirements.txt"
        packages = [part for name in DISTRIBUTIONS for part in ("--package", name)]
        locked.write_text(
            run(uv(), "export", "--quiet", "--frozen", "--no-dev", "--all-extras",
                "--no-emit-workspace", *packages)
        )  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", "--requirement", locked, "--disable-pip",
             "--require-hashes", "--vulnerability-service", "osv", "--strict",
             "--progress-spinner", "off", "--format", "json"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        raise ConnectionError(done.stderr.strip().splitlines()[-1][:300]) from None
    return "\n".join(
        f"{one['name']} {one['version']}: {bug['id']} (mended in {bug['fix_versions']})"
        for one in found
        for bug in one["vulns"]
    )
