"""Our distributions as a stranger has them: wheels, in a virtual environment with nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devcluster.packages import find

ROOT = Path(__file__).parents[2]


def _uv(*arguments: str | Path) -> str:
    # `uv run` says where it is; else it is on PATH, or the checkout's own.
    uv = os.environ.get("UV") or find("uv") or ROOT / ".tools" / "bin" / "uv"
    done = subprocess.run([uv, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment."""

    path: Path

    @property
    def distributions(self) -> set[str]:
        """The names of what is installed."""
        listed = _uv("pip", "list", "--quiet", "--format=json", "--python", self.path)
        return {one["name"] for one in json.loads(listed)}

    def run(
        self, program: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run an installed program; what it says is in ``stdout``, errors among it."""
        # In a directory without the checkout's packages, and without what pytest put on the path.
        return subprocess.run(
            [self.path / "bin" / program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=self.path,
            env=dict(environment or {}),
        )


def install(directory: Path, package: str, *needed: str) -> Environment:
    """Install a distribution of ours from its wheel, in the locked versions of what it needs.

    Parameters
    ----------
    directory
        Where wheels and environment are made.
    package
        The distribution, and those of ours that it needs, which no index has.
    needed
        As above.
    """
    wheels = directory / "wheels"
    for one in (package, *needed):
        _uv("build", "--quiet", "--wheel", "--package", one, "--out-dir", wheels)
    locked = directory / "locked.txt"
    locked.write_text(
        _uv("export", "--quiet", "--frozen", "--no-hashes", "--no-emit-workspace",
            "--no-dev", "--package", package)
    )  # fmt: skip
    environment = Environment(directory / "environment")
    _uv("venv", "--quiet", environment.path)
    options: list[str | Path] = ["--constraints", locked, "--find-links", wheels]
    _uv("pip", "install", "--quiet", "--python", environment.path, *options, *wheels.glob("*.whl"))
    return environment
