"""Programs that tests need beside the locked dependencies."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.filelock import hold
from devcluster.packages import Requirement, find, require
from devcluster.paths import cache_dir
from devcluster.progress import Progress
from support.clusters import cannot_test


def ensure_debian_packages(packages: Sequence[str]) -> None:
    """See to it that programs are there, installing Debian's packages of their names as root.

    Skips the test loudly where they are missing and cannot be installed; fails it in CI.
    """
    requirements = [Requirement(package, (package,)) for package in packages]
    try:
        with hold(cache_dir() / "packages.lock"):
            require(requirements, Progress())
    except DevclusterError as error:
        cannot_test(str(error))


def program(name: str) -> str:
    """Return the path of a program, after `ensure_debian_packages` of its name."""
    ensure_debian_packages([name])
    found = find(name)
    assert found is not None
    return found


def installed_modules(source: Path) -> Path:
    """Return a directory of the user's cache with the modules of Node's that a lock file names.

    Parameters
    ----------
    source
        Where ``package.json`` and ``package-lock.json`` are.
    """
    digest = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()[:16]
    directory = cache_dir() / f"node-modules-{digest}"
    with hold(cache_dir() / "node-modules.lock"):
        if not (directory / "done").exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            for file in ("package.json", "package-lock.json"):
                shutil.copy(source / file, directory)
            done = subprocess.run(
                [
                    *(program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"),
                    *("--omit=peer", "--omit=optional"),
                ],
                cwd=directory,
                check=False,
                capture_output=True,
                text=True,
                timeout=300,
            )
            if done.returncode != 0:
                cannot_test(f"npm cannot install what {source} needs: {done.stderr[-500:]}")
            (directory / "done").touch()
    return directory
