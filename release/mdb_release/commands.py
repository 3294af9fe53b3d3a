"""Run the programs that a release is made with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]


def run(
    *command: str | Path, directory: Path = ROOT, environment: Mapping[str, str] | None = None
) -> str:
    """Return what a program prints.

    Raises
    ------
    click.ClickException
        If it fails; with the end of what it said.
    """
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise click.ClickException(f"{' '.join(map(str, command[:3]))} failed:\n{said}")
    return done.stdout


def uv() -> str:
    """Return the locked uv: another version may build, or export, otherwise."""
    found = shutil.which("uv", path=str(Path(sys.executable).parent))
    if found is None:
        raise click.ClickException("This environment has no uv. Run: make setup")
    return found
