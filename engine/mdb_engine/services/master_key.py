"""Changing the master key: every DEK is wrapped anew, while everything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["MasterKeyRotation", "RewrapReport"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RewrapReport:
    """What a run came to.

    Parameters
    ----------
    total
        Apps that had a version under another key when it began.
    done
        Apps whose versions are all under the active key now.
    """

    total: int
    done: int


class MasterKeyRotation:
    """Re-wraps all DEKs under the active key of the keyring.  Made by ``registry.master_key``."""

    async def pending(self) -> int:
        """Count the apps that have a version under another key than the active one."""
        raise NotImplementedError

    async def run(self, progress: Progress | None = None) -> RewrapReport:
        """Re-wrap what is not yet under the active key; may be killed and run again at any time.

        Parameters
        ----------
        progress
            Called with the apps done and their total, after each.

        Raises
        ------
        MasterKeyError
            After all others were done: which apps could not be, with the key's id. Nothing of
            these was written.
        """
        raise NotImplementedError
