"""A mounted Secret as kubelet lays it out, and changes it: by renaming ``..data``."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path

__all__ = ["MountedSecret"]


class MountedSecret:
    """A directory of symlinks through ``..data``.

    Parameters
    ----------
    directory
        Where it is mounted; made.
    entries
        The first values.
    """

    def __init__(self, directory: Path, entries: Mapping[str, str]) -> None:
        self.directory = directory
        self._numbers = itertools.count(1)
        directory.mkdir(parents=True)
        self.project(entries)

    def project(self, entries: Mapping[str, str]) -> None:
        """Replace all values at once, as kubelet does, and remove the old ones."""
        link = self.directory / "..data"
        old = self.directory / link.readlink() if link.is_symlink() else None
        fresh = self.directory / f"..2026_{next(self._numbers)}"
        fresh.mkdir()
        for name, value in entries.items():
            (fresh / name).write_text(value)
        temporary = self.directory / "..data_tmp"
        temporary.symlink_to(fresh.name)
        temporary.rename(link)
        for name in entries:
            path = self.directory / name
            if not path.is_symlink():
                path.symlink_to(f"..data/{name}")
        if old is not None:
            shutil.rmtree(old)
