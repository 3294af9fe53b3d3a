"""The distributions of a release, installed from their files into an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.checkouts import ROOT, clone

pytestmark = pytest.mark.long

VERSION = "1.2.3"

BUILD = """
import sys
from pathlib import Path
from mdb_release import distributions
from mdb_release.source import unpack
directory = Path(sys.argv[1])
distributions.build(unpack(sys.argv[2], directory / "tree", directory / "checkout"), directory)
"""


def run(*command: str | Path, **variables: str) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **variables},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_they_install_with_pip_and_run(tmp_path: Path) -> None:
    clone(tmp_path / "checkout")
    (tmp_path / "tree").mkdir()
    run(sys.executable, "-c", BUILD, tmp_path, VERSION, PYTHONPATH=str(ROOT / "release"))
    python = tmp_path / "environment" / "bin"
    run(sys.executable, "-m", "venv", python.parent)
    names = [f"mdbapp-engine[fastapi]=={VERSION}", f"mdbapp-operator=={VERSION}"]
    names.append(f"kubectl-mdb=={VERSION}")
    run(python / "pip", "install", "--quiet", "--find-links", tmp_path, *names)
    assert "Usage: kubectl-mdb" in run(python / "kubectl-mdb", "--help")
    assert "Operate MdbApps" in run(python / "mdb-operator", "--help")
    assert run(python / "mdb-operator", "version") == f"{VERSION}\n"
    script = "import mdb_engine; mdb_engine.MongoDBEngine; print(mdb_engine.__file__)"
    assert run(python / "python", "-W", "error", "-c", script).startswith(str(python.parent))
