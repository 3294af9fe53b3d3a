"""What the worker processes of one test run share: a directory, and things done once in it.

The directory is named after the process that began the run, so that runs at the same time, of
this checkout or another, never meet; and so that a later run finds what a killed one left.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from devcluster.filelock import hold
from devcluster.node.processes import ProcessId
from devcluster.paths import state_root

WORKER_VARIABLE = "PYTEST_XDIST_WORKER"


@dataclass(frozen=True, slots=True)
class TestRun:
    """One run of pytest, with all of its workers.

    Parameters
    ----------
    name
        Unique among the runs of this machine, and good as a cluster's name.
    """

    name: str
    __test__ = False  # pytest would take the class for tests

    @classmethod
    def current(cls) -> TestRun:
        """Return the run of this process."""
        return cls(f"test-{_owner()}")

    @property
    def path(self) -> Path:
        """Where the run's directory is, if there is one."""
        return state_root() / ".tests" / self.name

    @property
    def directory(self) -> Path:
        """The run's directory, made when it is first asked for."""
        path = self.path
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
            owner = ProcessId.of(_owner())
            (path / "owner.json").write_text(json.dumps(owner.dump() if owner else None))
        return path

    def once(self, what: str, action: Callable[[], None]) -> None:
        """Do something that the first process to come does, while the others wait for it.

        Parameters
        ----------
        what
            Its name, unique in the run and good as a file's.
        action
            Done again by the next to come if it raises.
        """
        done = self.directory / f"{what}.done"
        with hold(self.directory / f"{what}.lock"):
            if not done.exists():
                action()
                done.touch()

    def forget(self) -> None:
        """Remove the run's directory."""
        shutil.rmtree(self.path, ignore_errors=True)

    @staticmethod
    def killed() -> Iterator[TestRun]:
        """Yield the runs that did not come to their end."""
        for path in sorted((state_root() / ".tests").glob("*")):
            try:
                owner = json.loads((path / "owner.json").read_text())
            except (FileNotFoundError, ValueError):
                continue  # it is being made or removed
            if owner is not None and not ProcessId.load(owner).alive():
                yield TestRun(path.name)


def is_worker() -> bool:
    """Say whether this process is one of several that run the tests for another."""
    return WORKER_VARIABLE in os.environ


def _owner() -> int:
    return os.getppid() if is_worker() else os.getpid()
