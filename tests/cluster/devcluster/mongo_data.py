"""The directory of a ``mongod``: where it lies, whether its server lives, and how both end.

A server is found to be alive by a lock in its directory that its process has inherited, not by
its process id, so a recycled id is never mistaken for a server and never killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.filelock import is_held

DATA_PREFIX = "devcluster-mongo-"
ALIVE = "alive.lock"
PID_FILE = "mongod.pid"

STOP_DEADLINE_SECONDS = 20.0
"""A killed process is gone in milliseconds unless the disk is stuck."""

MEMORY_ROOM_BYTES = 2 * 1024**3
"""The data goes to ``/dev/shm`` only where this much is free: containers often have 64 MB."""


def data_root() -> Path:
    """Return the directory to put data in: memory where there is room, else the temporary one."""
    memory = Path("/dev/shm")  # noqa: S108 - the data goes to a directory made by mkdtemp below it
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= MEMORY_ROOM_BYTES
    return memory if roomy else Path(tempfile.gettempdir())


def remove_dead_data(root: Path) -> None:
    """Remove the directories of servers that were killed together with their starter."""
    for directory in root.glob(f"{DATA_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = directory / ALIVE
            ours = directory.stat().st_uid == os.getuid()
            if ours and lock.exists() and not is_held(lock):
                shutil.rmtree(directory, ignore_errors=True)


def data_of(label: str) -> list[Path]:
    """Return the directories that were made with a label, wherever there was room then."""
    roots = {Path("/dev/shm"), Path(tempfile.gettempdir())}  # noqa: S108 - looked for, not made
    pattern = f"{DATA_PREFIX}{label}-*"
    found = (directory for root in sorted(roots) for directory in root.glob(pattern))
    return [directory for directory in found if directory.stat().st_uid == os.getuid()]


def end_server(data: Path) -> None:
    """Kill the server of a directory if it is alive, and remove the directory.

    Raises
    ------
    DevclusterError
        If the process cannot be ended.
    """
    lock = data / ALIVE
    deadline = time.monotonic() + STOP_DEADLINE_SECONDS
    while is_held(lock):
        # Only while the lock is held is the number known to be the server's.
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            os.kill(int((data / PID_FILE).read_text()), signal.SIGKILL)
        if time.monotonic() > deadline:
            raise DevclusterError(f"The mongod of {data} does not end.", "Its files stay.")
        time.sleep(0.005)
    if data.name.startswith(DATA_PREFIX):
        shutil.rmtree(data, ignore_errors=True)


def last_words(data: Path) -> str:
    """Return the last error that a server logged, or the last line that it printed."""
    last = ""
    for name in ("console.log", "mongod.log"):
        with contextlib.suppress(FileNotFoundError):
            for line in (data / name).read_text(errors="replace").splitlines():
                last = _message(line) or last
    return last or "nothing"


def _message(line: str) -> str:
    """Return what one line says, or an empty string for one that reports no trouble."""
    try:
        record = json.loads(line)
    except ValueError:
        return line.strip()
    if record.get("s") not in {"E", "F"}:
        return ""
    attributes = record.get("attr", {})
    detail = attributes.get("error") if isinstance(attributes, dict) else None
    return f"{record.get('msg', '')} {detail or ''}".strip()


@contextlib.contextmanager
def alive_lock(data: Path) -> Iterator[int]:
    """Yield a locked descriptor; the lock lives as long as any process that has inherited it."""
    fresh = data / f"{ALIVE}.new"
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        fresh.rename(data / ALIVE)  # nobody ever sees it unlocked while the server starts
        yield descriptor
    finally:
        os.close(descriptor)
