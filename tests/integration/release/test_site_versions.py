"""A version of the site is published beside another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.checkouts import clone

pytestmark = pytest.mark.long


def test_a_version_is_published_beside_another(tmp_path: Path) -> None:
    checkout = clone(tmp_path / "checkout")
    programs = Path(sys.executable).parent  # mike looks for mkdocs on PATH
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "NO_MKDOCS_2_WARNING": "1",
        **{f"GIT_{who}_NAME": "Nobody" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "nobody@example.com" for who in ("AUTHOR", "COMMITTER")},
    }

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for version in ("1.2.3", "1.3.0"):
        run(programs / "mike", "deploy", "--update-aliases", version, "latest")
    versions = json.loads(run("git", "show", "gh-pages:versions.json"))
    assert {one["version"]: one["aliases"] for one in versions} == {
        "1.2.3": [],
        "1.3.0": ["latest"],
    }
