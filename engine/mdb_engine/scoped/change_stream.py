"""Change streams: the changes of one collection, as far as the scope sees it.

A stream may run for days, so the token and the grants are checked again for as long as it does: at
least once in every wait for the server, whether or not anything changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any, Self

from pymongo.errors import PyMongoError

from mdb_engine.connection.driver import RawChangeStream
from mdb_engine.exceptions import MdbEngineError
from mdb_engine.scoped.cursor import RECHECK_SECONDS
from mdb_engine.scoped.errors import Translation
from mdb_engine.scoped.iteration import Document, Iteration
from mdb_engine.scoped.not_offered import STREAM_REFUSED
from mdb_engine.scoped.operation import Operation
from mdb_engine.scoped.transaction import sealed

__all__ = ["ScopedChangeStream"]

WAIT_MS = 1000
"""Milliseconds that the server waits for a change before it answers that there is none: the most
that a revocation can take to end an idle stream, beyond the time it takes to be known."""


class ScopedChangeStream(Iteration):
    """The changes of a collection; ``watch`` makes it.

    Parameters
    ----------
    operation
        The operation, admitted.
    pipeline
        The pipeline, scoped.
    options
        The options, checked.

    Notes
    -----
    It is opened by ``async with``, or where it is awaited as PyMongo's is, or else by the first
    change that is asked for; what happens before is not seen.

    Examples
    --------
    ::

        async with db.clicks.watch() as stream:
            async for change in stream:
                ...
    """

    __slots__ = (
        "__checked",
        "__client",
        "__closed",
        "__operation",
        "__options",
        "__pipeline",
        "__raw",
    )

    _refused = STREAM_REFUSED

    def __init__(
        self, operation: Operation, pipeline: list[Document], options: Mapping[str, Any]
    ) -> None:
        self.__operation = operation
        self.__pipeline = pipeline
        self.__options = {"max_await_time_ms": WAIT_MS, **options}
        self.__raw: Callable[[], RawChangeStream] | None = None
        self.__checked = time.monotonic()
        self.__closed = False
        self.__client = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.__operation.target.physical!r})"

    async def __aenter__(self) -> Self:
        await self.__ready()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    @property
    def alive(self) -> bool:
        """Whether there may be more changes."""
        return not self.__closed and (self.__raw is None or bool(self.__raw().alive))

    @property
    def resume_token(self) -> Document | None:
        """Where the stream is; pass it to ``watch`` as ``resume_after`` to go on from there."""
        if self.__raw is None:
            return None
        token = self.__raw().resume_token
        return None if token is None else dict(token)

    async def next(self) -> Document:
        """Wait for the next change and return it.

        Raises
        ------
        StopAsyncIteration
            If the stream was closed, or ended because the collection was dropped.
        """
        while self.alive:
            change = await self.try_next()
            if change is not None:
                return change
        raise StopAsyncIteration

    async def try_next(self) -> Document | None:
        """Return the next change, or None if there is none for ``max_await_time_ms``."""
        raw = await self.__ready()
        change: Document | None = await self.__operation.ask(raw.try_next, bounded=False)
        if change is not None:  # it may be from long after the check that the wait began with
            await self.__admit()
        return change

    async def close(self) -> None:
        """End the stream."""
        self.__closed = True
        if self.__raw is not None:
            raw = self.__raw()
            with Translation("close", self.__operation.seam.seconds):
                await raw.close()

    async def __ready(self) -> RawChangeStream:
        if time.monotonic() - self.__checked > RECHECK_SECONDS:
            await self.__recheck()
        if self.__raw is None:
            self.__raw = await self.__open()
        return self.__raw()

    async def __open(self) -> Callable[[], RawChangeStream]:
        operation = self.__operation
        collection, _ = operation.place(None)
        self.__client = id(collection.database.client)
        raw = await operation.send(
            lambda: operation.seam.driver.watch(collection, self.__pipeline, **self.__options),
            bounded=True,
        )
        return sealed(raw)

    async def __recheck(self) -> None:
        await self.__admit()
        if self.__raw is not None and self.__client != id(self.__operation.seam.database().client):
            await self.__move(self.__raw())

    async def __admit(self) -> None:
        try:
            self.__operation.recheck()
        except MdbEngineError:
            with suppress(MdbEngineError, PyMongoError):  # the denial is what has to be heard of
                await self.close()
            raise
        self.__checked = time.monotonic()

    async def __move(self, old: RawChangeStream) -> None:
        """Go on where the stream is on a new connection, because credentials were rotated."""
        token = self.resume_token
        if token is not None:
            for beginning in ("start_after", "start_at_operation_time"):
                self.__options.pop(beginning, None)
            self.__options["resume_after"] = token
        self.__raw = await self.__open()
        with suppress(PyMongoError):
            await old.close()
