"""Clones of the repository as it is, committed or not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def clone(directory: Path) -> Path:
    """Return a checkout of this state of the repository, committed on a day long ago."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)
    who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.com"]
    day = {"GIT_AUTHOR_DATE": "2026-03-01T12:00Z", "GIT_COMMITTER_DATE": "2026-03-01T12:00Z"}
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "All of it"]):
        subprocess.run(["git", *command], cwd=directory, check=True, env=day)
    return directory
