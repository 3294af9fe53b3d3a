"""End background tasks for certain, and where it does no harm."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["Rest", "end", "finish", "raise_if_cancelled"]

AGAIN_SECONDS: Final = 0.5
"""How long a task has to end before it is cancelled once more."""

PATIENCE_SECONDS: Final = 2.0
"""How long ending a task waits for it to rest; a call to MongoDB takes longer only if it hangs."""


def raise_if_cancelled() -> None:
    """End the running task if it was cancelled, also where that was swallowed, see `end`.

    What an endless loop calls before it waits, where its end is asked for once, as by an
    `asyncio.TaskGroup` or by ``asyncio.run`` when a program ends.

    Raises
    ------
    asyncio.CancelledError
        If it was.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Rest:
    """Where a task may be cancelled: while it waits, not while a driver opens a connection.

    PyMongo's async client loses the socket of a connection whose opening is cancelled.
    """

    def __init__(self) -> None:
        self._resting = asyncio.Event()

    @contextmanager
    def here(self) -> Iterator[None]:
        """Mark what is inside the block as such a place.

        Raises
        ------
        asyncio.CancelledError
            As `raise_if_cancelled`.
        """
        raise_if_cancelled()
        self._resting.set()
        try:
            yield
        finally:
            self._resting.clear()

    async def end(self, task: asyncio.Task[Any] | None) -> None:
        """End a task, when it rests or after a few seconds."""
        if task is None:
            return
        try:
            await self._until_it_rests(task)
        finally:
            await finish(end(task))

    async def _until_it_rests(self, task: asyncio.Task[Any]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                # Again, because it may have gone on before this coroutine was woken.
                while not (self._resting.is_set() or task.done()):
                    resting = asyncio.ensure_future(self._resting.wait())
                    try:
                        await asyncio.wait({resting, task}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        resting.cancel()


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks until they have ended; what they raise is dropped.

    Once is not enough: ``asyncio.wait_for``, which the drivers use, swallows a cancellation that
    arrives together with the result that it waited for (mended in Python 3.12,
    https://github.com/python/cpython/issues/86296), and an endless loop then goes on.
    """
    running = {task for task in tasks if task is not None}
    while running:
        for task in running:
            task.cancel()
        done, running = await asyncio.wait(running, timeout=AGAIN_SECONDS)
        for task in done:
            if not task.cancelled():
                task.exception()  # retrieved, so that asyncio does not report it


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Do to its end what must not be left half done; a cancellation meanwhile is raised after it.

    Parameters
    ----------
    work
        Something that ends by itself, soon.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not report it
        raise cancelled
    task.result()
