"""A queue of keys: one run at a time for each, a bound on all, retries that grow.

What controller-runtime calls a work queue. kopf has none for level-based work: its change handlers
keep their progress and the last seen spec in annotations of the object (two writes for each change,
and exception texts among them), a failed event handler is dropped, and limiting its workers makes
a sleeping retry hold its slot. Here a key waits in memory, several wake-ups of one key become one run,
a wake-up during a run becomes one more run, and a restart simply looks at everything again.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

__all__ = ["Again", "WorkQueue"]

K = TypeVar("K", bound=Hashable)

FIRST_RETRY_SECONDS = 0.5
"""Delay after the first failure; it doubles with each further one."""

LAST_RETRY_SECONDS = 30.0
"""The longest delay, so that an app recovers within half a minute of what it waited for."""

JITTER = 0.2
"""Part of a retry's delay that is random, so that many apps do not come back in one instant."""


@dataclass(frozen=True, slots=True)
class Again:
    """When a key wants to be looked at next.

    Parameters
    ----------
    seconds
        Delay until then, or None for no time of its own (an event will wake it up).
    failed
        Whether this run failed: the delay then grows with each failure in a row and ``seconds``
        bounds it from above.
    """

    seconds: float | None = None
    failed: bool = False


@dataclass(slots=True)
class _Entry:
    due: float | None = None
    running: bool = False
    failures: int = 0
    serial: int = field(default=-1)


class WorkQueue(Generic[K]):
    """Runs a function for keys, each key serially and at most ``workers`` at once.

    Parameters
    ----------
    process
        What to do for a key. An exception that it lets through counts as a failure.
    workers
        The most runs at once: the bound on concurrent work for MongoDB and the API server.
    """

    def __init__(self, process: Callable[[K], Awaitable[Again]], *, workers: int) -> None:
        self._process = process
        self._slots = asyncio.Semaphore(workers)
        self._entries: dict[K, _Entry] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._serial = itertools.count()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._logger = structlog.get_logger("mdb_operator.queue")

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: K, delay: float = 0.0) -> None:
        """Ask for a run after ``delay`` seconds, or at the time already planned if that is sooner."""
        entry = self._entries.setdefault(key, _Entry())
        due = asyncio.get_running_loop().time() + delay
        if entry.due is not None and entry.due <= due:
            return
        entry.due = due
        entry.serial = next(self._serial)
        heapq.heappush(self._heap, (due, entry.serial, key))
        self._changed.set()

    def forget(self, key: K) -> None:
        """Drop what is planned for a key that no longer exists; a run in progress ends normally."""
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.due = None
        entry.serial = -1
        if not entry.running:
            del self._entries[key]

    async def run(self) -> None:
        """Work until cancelled; runs in progress are then cancelled too."""
        try:
            while True:
                await self._slots.acquire()
                try:
                    key = await self._next()
                except BaseException:
                    self._slots.release()
                    raise
                task = asyncio.create_task(self._run_one(key), name=f"reconcile {key}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _next(self) -> K:
        """Wait for the earliest key that is due and not running."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            timeout = None
            while self._heap:
                due, serial, key = self._heap[0]
                entry = self._entries.get(key)
                if entry is None or entry.serial != serial or entry.running:
                    heapq.heappop(self._heap)  # superseded, forgotten, or put back after its run
                    continue
                timeout = due - loop.time()
                if timeout > 0:
                    break
                heapq.heappop(self._heap)
                entry.due = None
                entry.serial = -1
                entry.running = True
                return key
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _run_one(self, key: K) -> None:
        entry = self._entries[key]
        again = Again(failed=True)
        try:
            again = await self._process(key)
        except Exception:
            self._logger.exception("A reconcile failed", key=str(key))
        finally:
            self._slots.release()
            entry.running = False
        entry.failures = entry.failures + 1 if again.failed else 0
        wanted, entry.due = entry.due, None
        entry.serial = -1
        if wanted is not None:
            self.add(key, max(0.0, wanted - asyncio.get_running_loop().time()))
        delay = _backoff(entry.failures, again.seconds) if again.failed else again.seconds
        if delay is not None:
            self.add(key, delay)
        elif entry.due is None:
            del self._entries[key]


def _backoff(failures: int, limit: float | None) -> float:
    longest = LAST_RETRY_SECONDS if limit is None else min(limit, LAST_RETRY_SECONDS)
    delay = min(longest, FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 16))
    return delay * (1 - JITTER * random.random())  # noqa: S311 - spreads load, guards nothing
