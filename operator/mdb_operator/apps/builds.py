"""Brings collections and indexes up to what the specs say, outside of the workers.

An index over much data takes minutes or hours, and one that somebody's open transaction blocks
takes for ever. A worker waits for a moment, in which all usual ones are done; then the build goes
on by itself, the status says so, and its end wakes the app up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from mdb_engine.registry.models.app import AppRecord
from mdb_engine.registry.models.layout import LayoutConflict
from mdb_operator.kubernetes.resources import AppKey

__all__ = ["Builds", "Built"]

PATIENCE_SECONDS = 0.5
"""How long a worker waits for a build: an index over an empty collection takes 20 ms."""

AT_ONCE = 32
"""Builds that run at once. Each holds a connection, of which the driver opens 100, so that even if
all of them hang two thirds are left for what must not wait."""


@dataclass(frozen=True, slots=True)
class Built:
    """What became of an app's collections and indexes."""

    wrote: bool
    record: AppRecord  # the registration as it is now
    conflicts: tuple[LayoutConflict, ...] = ()  # what could not be made, and why


@dataclass(slots=True)
class _Build:
    """A build of one registration."""

    record: AppRecord  # what it was begun for
    started: datetime
    task: asyncio.Task[Built]
    awaited: bool = True  # whether a worker still waits for its end

    def is_for(self, record: AppRecord) -> bool:
        """Whether it makes what this registration asks for, and not a former one or its spec."""
        begun = self.record
        return (begun.incarnation, begun.spec) == (record.incarnation, record.spec)


class Builds:
    """Builds, one at a time for each app; `on_end` is told of one that nobody waited for."""

    def __init__(
        self,
        build: Callable[[AppRecord], Awaitable[Built]],
        on_end: Callable[[AppKey], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._build = build
        self._on_end = on_end
        self._clock = clock
        self._running: dict[AppKey, _Build] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def ensure(self, key: AppKey, record: AppRecord) -> Built | datetime:
        """Do what is to be done, or let it go on.

        Returns
        -------
        Built or datetime
            What became of it; or since when a build runs that is not at its end.

        Raises
        ------
        MdbEngineError
            What the build ended with.
        """
        found = self._running.get(key)
        if found is not None and not found.is_for(record):
            await self.end(key)
            found = None
        if found is None:
            task = asyncio.create_task(self._in_turn(record), name=f"build of {record.slug}")
            found = self._running[key] = _Build(record, self._clock(), task)
        await asyncio.wait({found.task}, timeout=PATIENCE_SECONDS)
        if not found.task.done():
            if found.awaited:
                found.awaited = False
                found.task.add_done_callback(lambda _: self._on_end(key))
            return found.started
        del self._running[key]
        return found.task.result()

    async def end(self, key: AppKey) -> None:
        """End an app's build: it is for another spec, or for a registration that ends."""
        found = self._running.pop(key, None)
        if found is not None:
            found.task.cancel()
            await asyncio.gather(found.task, return_exceptions=True)

    async def close(self) -> None:
        """Stop waiting for builds; MongoDB goes on with those that it has begun."""
        tasks = [build.task for build in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()

    async def _in_turn(self, record: AppRecord) -> Built:
        async with self._slots:
            return await self._build(record)
