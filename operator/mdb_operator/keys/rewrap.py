"""Wraps every app's data keys with the active master key, whenever another one became active.

The registry knows what is still wrapped with another key, so a run that was interrupted, by an
error or by the end of the process, is begun again and goes on where it was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from mdb_engine.core.tasks import raise_if_cancelled
from mdb_engine.exceptions import MdbEngineError
from mdb_engine.registry.registry import Registry
from mdb_operator.backoff import Backoff

__all__ = ["Rewrapper"]

LATE_SECONDS = 600.0
"""How long after another key became active somebody may still wrap with the old one: whoever has
not seen the new keyring yet, or asks a key manager that has not."""

AGAIN_SECONDS = 5.0
"""How often it is looked for that, which is one command."""

_log = structlog.get_logger(__name__)


class Rewrapper:
    """Re-wraps in the background."""

    def __init__(
        self,
        registry: Registry,
        on_progress: Callable[[int, int], None],  # told how many rows are new, and how many left
        # Told after a run that changed something: the apps' status names the key.
        on_done: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._on_progress = on_progress
        self._on_done = on_done
        self._late_until = float("-inf")
        self._wanted = asyncio.Event()
        self._wanted.set()  # a run may have been interrupted before this process began

    def request(self) -> None:
        """Say that the keyring changed."""
        self._late_until = time.monotonic() + LATE_SECONDS
        self._wanted.set()

    async def run(self) -> None:
        """Work until cancelled."""
        backoff = Backoff(first=1.0, most=30.0)
        while True:
            raise_if_cancelled()
            late = time.monotonic() < self._late_until
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), AGAIN_SECONDS if late else None)
            self._wanted.clear()
            try:
                await self._rewrap()
            except MdbEngineError as error:
                _log.warning("Not everything is wrapped with the active key", error=error.message)
                raise_if_cancelled()
                await asyncio.sleep(backoff.next())
                self._wanted.set()
            else:
                backoff.reset()

    async def _rewrap(self) -> None:
        before = 0

        def progress(done: int, total: int) -> None:
            nonlocal before
            self._on_progress(done - before, total - done)
            if done > before:
                _log.info("Wrapping with the active master key", done=done, total=total)
            before = done

        try:
            await self._registry.master_key.run(progress)
        finally:
            if before:
                self._on_done()
