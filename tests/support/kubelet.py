"""What kubelet does for a pod, without one: mounts an app's Secret and follows it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.binding import MountedSecret
from support.installation import Installation

__all__ = ["mounted"]


@contextmanager
def mounted(here: Installation, name: str, root: Path) -> Iterator[MountedSecret]:
    """Mount an app's Secret as kubelet does, and follow it until the end."""
    entries = here.secret(f"{name}-mdb")
    mount = MountedSecret(root / name, entries)
    ended = threading.Event()

    def follow() -> None:
        last = entries
        while not ended.wait(0.2):
            fresh = here.secret(f"{name}-mdb")
            if fresh != last:
                mount.project(fresh)
                last = fresh

    thread = threading.Thread(target=follow, name="kubelet")
    thread.start()
    try:
        yield mount
    finally:
        ended.set()
        thread.join()
