"""Which process is which: a process id alone may have gone to another one meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_POLL = 0.02


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process id and when the process started, in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Return the identity of a process, or None if it does not run (any more)."""
        fields = _stat(pid)
        if fields is None or fields[0] in "ZX":
            return None
        return cls(pid, int(fields[19]))

    @classmethod
    def load(cls, data: Any) -> Self:
        """Return the identity that :meth:`dump` made a record of."""
        return cls(int(data["pid"]), int(data["started"]))

    def dump(self) -> dict[str, int]:
        """Return what a JSON file can hold."""
        return {"pid": self.pid, "started": self.started}

    def alive(self) -> bool:
        """Say whether this very process still runs; a zombie does not."""
        return ProcessId.of(self.pid) == self

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, unless the process is gone."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def boot_id() -> str:
    """Return what is different after every start of the machine."""
    return _BOOT_ID.read_text().strip()


def child_of(pid: int) -> int | None:
    """Return a child of a process, or None if it has none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields is not None and int(fields[1]) == pid:
                return int(entry.name)
    return None


def in_namespace_of(pid: int) -> dict[int, int]:
    """Return the processes in a process's pid namespace: inner process id to outer."""
    found: dict[int, int] = {}
    with contextlib.suppress(FileNotFoundError):
        wanted = Path(f"/proc/{pid}/ns/pid").readlink()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                if (entry / "ns/pid").readlink() == wanted:
                    found[_inner_pid(entry)] = int(entry.name)
    return found


def wait_gone(processes: Iterable[ProcessId], deadline: float) -> list[ProcessId]:
    """Wait until processes have ended, and return those that have not by the deadline.

    Parameters
    ----------
    processes
        Whom to wait for.
    deadline
        How long, in seconds.
    """
    end = time.monotonic() + deadline
    left = [process for process in processes if process.alive()]
    while left and time.monotonic() < end:
        time.sleep(_POLL)
        left = [process for process in left if process.alive()]
    return left


def _stat(pid: int) -> list[str] | None:
    """Return /proc/PID/stat from the state on: the name before it may hold anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _inner_pid(entry: Path) -> int:
    for line in (entry / "status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return int(entry.name)
