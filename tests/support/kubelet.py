"""What kubelet does for a pod, without one: mounts an app's Secret and follows it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from support.binding import MountedSecret
from support.installation import Installation

__all__ = ["all_mounted", "mounted"]


@contextmanager
def mounted(here: Installation, name: str, root: Path) -> Iterator[MountedSecret]:
    """Mount an app's Secret as kubelet does, and follow it until the end."""
    with all_mounted(here, {name: here.apps}, root) as mounts:
        yield mounts[name]


@contextmanager
def all_mounted(
    here: Installation, apps: Mapping[str, str], root: Path, pause: float = 0.2
) -> Iterator[dict[str, MountedSecret]]:
    """Mount the Secrets of apps, and follow them until the end.

    Parameters
    ----------
    here
        The installation.
    apps
        The namespace of each app, by its name.
    root
        Below which each is mounted in a directory of the app's name.
    pause
        Seconds between two looks at all of them.
    """
    last = {name: here.secret(f"{name}-mdb", where) for name, where in apps.items()}
    mounts = {name: MountedSecret(root / name, entries) for name, entries in last.items()}
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(pause):
            for name, where in apps.items():
                fresh = last[name]
                with suppress(AssertionError):  # there is none, or no answer: what is mounted stays
                    fresh = here.secret(f"{name}-mdb", where)
                if fresh != last[name]:
                    mounts[name].project(fresh)
                    last[name] = fresh

    thread = threading.Thread(target=follow, name="kubelet")
    thread.start()
    try:
        yield mounts
    finally:
        ended.set()
        thread.join()
