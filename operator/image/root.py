"""Lay out a root file system that has Python and what a virtual environment needs, and no more.

No shell, no package manager, no pip: of the system only the interpreter, its standard library, the
shared objects that these and the environment load, and a user. Which Debian packages they are of is
noted where distroless images note it, ``/var/lib/dpkg/status.d``, which scanners read. It runs in
the image that the files come from: ``root.py ENVIRONMENT ROOT``.
"""

from __future__ import annotations

import compileall
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

LEFT_OUT = (
    *("config-*", "dist-packages", "site-packages", "ensurepip", "idlelib", "lib2to3"),
    *("pydoc_data", "test", "tests", "tkinter", "turtle*", "venv", "__pycache__"),
    # Modules of the tests, and those whose libraries nothing needs without a terminal.
    *("_tkinter.*", "_test*", "_ctypes_test.*", "_xx*", "xx*", "_curses*", "_dbm.*", "_gdbm.*"),
    *("nis.*", "ossaudiodev.*", "readline.*"),
)
"""Of the standard library."""

LOADED_BY_NAME = ("libgcc_s.so.1",)
"""What glibc opens when a thread is cancelled; no program is linked with it."""

FILES = ("/usr/lib/os-release", "/usr/lib/ssl/openssl.cnf", "/etc/ld.so.cache")

USER_ID = 10001

_PATH_IN_LDD = re.compile(r"(/\S+) \(0x")


def make(environment: Path, root: Path) -> None:
    """Write the file system, and compile what is in it and in the environment."""
    for name in ("bin", "lib", "lib64", "sbin"):
        if (link := Path("/", name)).is_symlink():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(link.readlink())
    library = Path(sysconfig.get_path("stdlib"))
    inside = root / library.relative_to("/")
    shutil.copytree(library, inside, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    copied = {library / path.relative_to(inside) for path in inside.rglob("*.py")}
    python = environment / "bin" / "python"
    for path in [
        python.readlink(),
        *map(Path, FILES),
        *shared_objects(python, environment, inside),
    ]:
        if path.exists():
            copied |= set(copy(path, root))
    describe(copied, root)
    write(root / "etc" / "passwd", f"nonroot:x:{USER_ID}:{USER_ID}::/app:/sbin/nologin\n")
    write(root / "etc" / "group", f"nonroot:x:{USER_ID}:\n")
    write(root / "etc" / "nsswitch.conf", "hosts: files dns\n")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    # Pods have a read-only file system and an image never changes: Python need not look for newer
    # sources. One process, so that the same sources give the same bytes.
    for directory, stripped in ((inside, str(root)), (environment, "")):
        compileall.compile_dir(
            directory,
            stripdir=stripped,
            prependdir="/" if stripped else None,
            quiet=2,
            workers=1,
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        )


def shared_objects(*places: Path) -> Iterator[Path]:
    """Yield every shared object that the programs and modules in these places load."""
    modules = [
        path
        for place in places
        for path in ([place] if place.is_file() else sorted(place.rglob("*.so*")))
    ]
    listed = subprocess.run(
        ["/usr/bin/ldd", *modules], capture_output=True, text=True, check=False
    ).stdout
    if missing := set(re.findall(r"(\S+) => not found", listed)):
        # No fault of the copy's: a module that wants it has always done without in this base.
        sys.stderr.write(f"the base has no {', '.join(sorted(missing))}\n")
    found = {Path(path) for path in _PATH_IN_LDD.findall(listed)}
    [libc] = (path for path in found if path.name.startswith("libc.so"))
    found |= {libc.with_name(name) for name in LOADED_BY_NAME}
    yield from sorted(path for path in found if not path.is_relative_to(places[1]))


def copy(path: Path, root: Path) -> Iterator[Path]:
    """Copy a file with the links that lead to it, and yield where each is in the system."""
    path = path.parent.resolve() / path.name
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    yield path
    if path.is_symlink():
        if not target.is_symlink():
            target.symlink_to(path.readlink())
        yield from copy(path.parent / path.readlink(), root)
    elif not target.exists():
        shutil.copy2(path, target)


def describe(paths: Iterable[Path], root: Path) -> None:
    """Note the Debian packages that files come from, by the names that their lists may have."""
    names = [name for path in paths for name in (str(path), str(path).removeprefix("/usr"))]
    owners = subprocess.run(
        ["/usr/bin/dpkg-query", "--search", *names], capture_output=True, text=True, check=False
    ).stdout
    packages = {line.partition(": ")[0] for line in owners.splitlines() if ": /" in line}
    for package in sorted(packages - {""}):
        status = subprocess.run(
            ["/usr/bin/dpkg-query", "--status", package], capture_output=True, text=True, check=True
        ).stdout
        name = package.partition(":")[0]
        write(root / "var" / "lib" / "dpkg" / "status.d" / name, status)


def write(path: Path, text: str) -> None:
    """Write a file and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
