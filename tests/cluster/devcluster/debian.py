"""Install what is missing from Debian's packages, where that is possible without asking.

Only root on Debian or Ubuntu can; anybody else is told the command to run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from devcluster.commands import Run, run
from devcluster.errors import DevclusterError
from devcluster.filelock import hold
from devcluster.paths import cache_dir
from devcluster.progress import Progress

INSTALL_DEADLINE_SECONDS = 900.0
"""A browser is 100 MB and more; a quarter of an hour is a very slow line, not a hung one."""


def ensure_debian_packages(packages: Sequence[str], progress: Progress, run: Run = run) -> None:
    """Install the packages that are missing; none is missing: ask no network.

    Raises
    ------
    DevclusterError
        If some are missing and this user on this system cannot install them, or that fails.
    """
    missing = missing_packages(packages, run)
    if not missing:
        return
    command = f"apt-get install {' '.join(missing)}"
    if shutil.which("apt-get") is None:
        raise DevclusterError(
            f"Not installed: {', '.join(missing)}",
            "These are the names of Debian's packages; install your system's.",
        )
    if os.geteuid() != 0:
        raise DevclusterError(f"Not installed: {', '.join(missing)}", f"As root: {command}")
    lock = cache_dir() / "apt.lock"
    with (
        hold(lock, lambda: progress.note("Another process installs packages; waiting for it")),
        progress.step(f"Installing {', '.join(missing)}"),
    ):
        missing = missing_packages(packages, run)
        if not missing:
            return
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        waiting = ["-o", "DPkg::Lock::Timeout=300"]  # somebody else's apt may be at work
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            run(
                ["apt-get", "-q", *waiting, *arguments],
                what=f"Installing {', '.join(missing)}",
                timeout=INSTALL_DEADLINE_SECONDS,
                hint=f"Run it by hand to see all of it: {command}",
                environment=environment,
            )


def missing_packages(packages: Sequence[str], run: Run = run) -> list[str]:
    """Return those packages that are not installed; all of them where there is no dpkg."""
    if shutil.which("dpkg-query") is None:
        return list(packages)
    listing = run(
        ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\n"],
        what="Listing the installed packages",
        timeout=60,
    )
    installed = {line.split()[1] for line in listing.splitlines() if line.startswith("installed ")}
    return [package for package in packages if package not in installed]
