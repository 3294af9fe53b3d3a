"""Cursors as Motor's: made without awaiting, chained, then iterated or collected.

Those of commands may be awaited as well, which PyMongo demands and Motor does not know.

Everything that can be refused is refused when the cursor is made or chained, not at the first
document. The server is asked at the first document, as with Motor; an ``aggregate`` that ends in
``$out`` or ``$merge`` therefore writes when it is first iterated.

A cursor outlives the check of the token that made it, so the token and the grants are checked again
while it runs: whoever was revoked gets no further batch.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Self, Unpack

from pymongo.errors import InvalidOperation, PyMongoError

from mdb_engine.connection.driver import RawCollection, RawCursor, RawSession
from mdb_engine.exceptions import MdbEngineError
from mdb_engine.scoped.errors import Translation
from mdb_engine.scoped.filters import exactly
from mdb_engine.scoped.iteration import Document, Iteration
from mdb_engine.scoped.not_offered import CURSOR_REFUSED
from mdb_engine.scoped.operation import Operation, Purpose
from mdb_engine.scoped.option_values import count, field_name
from mdb_engine.scoped.options import (
    DistinctOptions,
    FindOptions,
    Keys,
    accept,
)
from mdb_engine.scoped.projections import scope_projection
from mdb_engine.scoped.transaction import Transaction, sealed

__all__ = ["Document", "ScopedCommandCursor", "ScopedCursor", "ServerCursor"]

RECHECK_SECONDS = 0.1
"""How long a running cursor relies on one check of the token. Far below ``grant_ttl``, so it adds
nothing to the time that a revocation takes, and far above the time that one document takes."""

CHUNK = 1000
"""Documents that ``to_list`` asks for at once, between two checks of the token."""

Opener = Callable[[RawCollection, RawSession | None], Awaitable[RawCursor]]


class ServerCursor(Iteration):
    """What the cursors have in common: iterated with ``async for`` or collected with `to_list`.

    Parameters
    ----------
    operation
        The operation, admitted and rewritten.
    opener
        Asks the driver for its cursor.
    session
        The transaction that it is part of.
    bounded
        As in `Operation.ask`.
    """

    __slots__ = (
        "__bounded",
        "__checked",
        "__closed",
        "__opener",
        "__operation",
        "__raw",
        "__retrieved",
        "__session",
    )

    _refused = CURSOR_REFUSED

    def __init__(
        self,
        operation: Operation,
        opener: Opener,
        session: Transaction | None = None,
        *,
        bounded: bool = False,
    ) -> None:
        self.__bounded = bounded
        self.__operation = operation
        self.__opener = opener
        self.__session = session
        self.__raw: Callable[[], RawCursor] | None = None
        self.__checked = time.monotonic()
        self.__closed = False
        self.__retrieved = 0

    def __repr__(self) -> str:
        target = self.__operation.target
        return f"{type(self).__name__}({self.__operation.name} on {target.physical!r})"

    @property
    def alive(self) -> bool:
        """Whether there may be more documents."""
        return not self.__closed and (self.__raw is None or bool(self.__raw().alive))

    @property
    def cursor_id(self) -> int | None:
        """The server's id of the cursor; None before the first document, 0 when it is exhausted."""
        return None if self.__raw is None else self.__raw().cursor_id

    @property
    def retrieved(self) -> int:
        """How many documents it has returned so far."""
        return self.__retrieved

    @property
    def session(self) -> Transaction | None:
        """The transaction that it is part of."""
        return self.__session

    async def next(self) -> Document:
        """Return the next document.

        Raises
        ------
        StopAsyncIteration
            If there is none.
        """
        if not self.alive:
            raise StopAsyncIteration
        raw = await self.__ready()
        document: Document = await self.__operation.ask(raw.next, bounded=self.__bounded)
        self.__retrieved += 1
        return document

    async def try_next(self) -> Document | None:
        """Return the next document, or None if there is none."""
        try:
            return await self.next()
        except StopAsyncIteration:
            return None

    async def to_list(self, length: int | None = None) -> list[Document]:
        """Collect documents.

        Parameters
        ----------
        length
            How many at most; None for all.

        Raises
        ------
        LimitExceeded
            If there are more than ``max_result_documents``: iterate, or set a ``limit``.
        """
        limits = self.__operation.seam.limits
        if length is not None:
            count(length, limits, "length")
        most = limits.max_result_documents + 1 if length is None else length
        documents: list[Document] = []
        while len(documents) < most and self.alive:
            raw = await self.__ready()
            wanted = min(CHUNK, most - len(documents))
            documents += await self.__operation.ask(
                partial(raw.to_list, wanted), bounded=self.__bounded
            )
            if len(documents) > limits.max_result_documents:
                await self.close()
                raise limits.exceeded(
                    "max_result_documents",
                    f"{self.__operation.name} finds more documents",
                    "to_list",
                )
        self.__retrieved += len(documents)
        return documents

    async def close(self) -> None:
        """Let the server forget the cursor; it returns nothing any more."""
        self.__closed = True
        if self.__raw is not None:
            raw, self.__raw = self.__raw(), None
            with Translation("close", self.__operation.seam.seconds):
                await raw.close()

    def _rewind(self) -> None:
        """Forget what was read; for `ScopedCursor.rewind`."""
        self.__raw = None
        self.__closed = False
        self.__retrieved = 0

    async def _opened(self) -> Self:
        """Ask the server, if it was not asked yet; for `ScopedCommandCursor`."""
        if not self.alive:
            return self
        raw = await self.__ready()
        driver = self.__operation.seam.driver
        await self.__operation.ask(lambda: driver.begin(raw), bounded=self.__bounded)
        return self

    async def __ready(self) -> RawCursor:
        """Return the driver's cursor, made if need be, for an app that is still admitted."""
        if time.monotonic() - self.__checked > RECHECK_SECONDS:
            await self.__recheck()
        if self.__raw is None:
            operation = self.__operation
            collection, session = operation.place(self.__session)
            raw = await operation.send(
                lambda: self.__opener(collection, session), bounded=self.__bounded
            )
            self.__raw = sealed(raw)
        return self.__raw()

    async def __recheck(self) -> None:
        try:
            self.__operation.recheck()
        except MdbEngineError:
            with suppress(MdbEngineError, PyMongoError):  # the denial is what has to be heard of
                await self.close()
            raise
        self.__checked = time.monotonic()


class ScopedCommandCursor(ServerCursor):
    """The documents that a command returns: those of ``aggregate``, or a collection's indexes.

    Made by `ScopedCollection`, and read once. It may be awaited, as PyMongo's is: the server is
    asked then, and a pipeline that writes has written.
    """

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._opened().__await__()


class ScopedCursor(ServerCursor):
    """The documents that ``find`` returns. Its methods chain until the first document is read.

    Parameters
    ----------
    operation
        The operation, admitted.
    query
        The filter, scoped.
    projection
        The projection, checked.
    settings
        The options, checked.

    Examples
    --------
    ::

        async for click in db.clicks.find({"page": "/"}).sort("at", -1).limit(10):
            ...
    """

    __slots__ = ("__operation", "__projection", "__query", "__session", "__settings")

    def __init__(
        self,
        operation: Operation,
        query: Document,
        projection: Document | list[str] | None,
        settings: Mapping[str, Any],
    ) -> None:
        self.__settings = {"max_time_ms": operation.seam.limits.max_time_ms, **settings}
        self.__session: Transaction | None = self.__settings.pop("session", None)
        self.__operation = operation
        self.__query = query
        self.__projection = projection
        super().__init__(operation, self.__find, self.__session)

    def sort(self, key_or_list: Keys, direction: int | str | Mapping[str, Any] = 1) -> Self:
        """Sort by one field and direction, or by a list of (field, direction)."""
        keys = [(key_or_list, direction)] if isinstance(key_or_list, str) else key_or_list
        return self.__set(sort=keys)

    def limit(self, limit: int) -> Self:
        """Return at most so many documents; 0 for all."""
        return self.__set(limit=limit)

    def skip(self, skip: int) -> Self:
        """Leave out so many documents."""
        return self.__set(skip=skip)

    def projection(self, projection: Mapping[str, Any] | Sequence[str] | None) -> Self:
        """Return only some fields."""
        self.__check_unread()
        self.__projection = self.__checked_projection(projection)
        return self

    def batch_size(self, batch_size: int) -> Self:
        """Fetch so many documents from the server at once."""
        return self.__set(batch_size=batch_size)

    def hint(self, index: Keys | None) -> Self:
        """Use this index; None for the server's own choice."""
        return self.__set(hint=index)

    def max_time_ms(self, max_time_ms: int | None) -> Self:
        """Stop after so many milliseconds, at most the engine's limit; None for that limit."""
        limit = self.__operation.seam.limits.max_time_ms
        return self.__set(max_time_ms=limit if max_time_ms is None else max_time_ms)

    def collation(self, collation: Any) -> Self:
        """Compare strings by a `pymongo.collation.Collation`."""
        return self.__set(collation=collation)

    def comment(self, comment: Any) -> Self:
        """Attach a comment, which the server's log and profiler show."""
        return self.__set(comment=comment)

    def allow_disk_use(self, allow_disk_use: bool) -> Self:  # noqa: FBT001 - as the drivers'
        """Let the server sort on disk."""
        return self.__set(allow_disk_use=allow_disk_use)

    def min(self, spec: Sequence[tuple[str, Any]]) -> Self:
        """Begin at these values of the hinted index."""
        return self.__set(min=spec)

    def max(self, spec: Sequence[tuple[str, Any]]) -> Self:
        """End before these values of the hinted index."""
        return self.__set(max=spec)

    def clone(self) -> ScopedCursor:
        """Return a new cursor of the same query and options, not yet read.

        Raises
        ------
        MdbEngineError
            If the query could not be made now: the token and the grants are checked again.
        """
        with self.__operation.again("find", Purpose.READ) as operation:
            settings = {**self.__settings, "session": self.__session}
        return ScopedCursor(operation, self.__query, self.__projection, settings)

    def rewind(self) -> Self:
        """Start over; the driver closes what is left on the server."""
        self._rewind()
        return self

    async def distinct(self, key: str, **options: Unpack[DistinctOptions]) -> list[Any]:
        """Return the distinct values of a field among the documents that the query matches."""
        with self.__operation.again("distinct", Purpose.READ) as operation:
            limits = operation.seam.limits
            field = field_name(key, limits, "key")
            given = accept("distinct", options, DistinctOptions, limits)
            query = exactly(self.__query, operation.target, given)
            given.setdefault("session", self.__session)
        found: list[Any] = await operation.run("distinct", field, query, **given)
        return found

    async def explain(self) -> Document:
        """Return the server's plan of the query, for the app's own collections only.

        What tells of the server instead of the query is left out.
        """
        with self.__operation.again("explain", Purpose.OWN) as operation:
            collection, session = operation.place(self.__session)
        raw = await self.__find(collection, session)
        plan: Document = await operation.send(raw.explain, bounded=True)
        return {key: value for key, value in plan.items() if key not in _ABOUT_THE_SERVER}

    async def __find(self, collection: RawCollection, session: RawSession | None) -> RawCursor:
        settings = dict(self.__settings)
        query = exactly(self.__query, self.__operation.target, settings)
        if session is not None:
            settings["session"] = session
        return collection.find(query, self.__projection, **settings)

    def __set(self, **options: Any) -> Self:
        self.__check_unread()
        accepted = accept("find", options, FindOptions, self.__operation.seam.limits)
        for name in options:
            self.__settings.pop(name, None)
        self.__settings.update(accepted)
        return self

    def __checked_projection(self, projection: Any) -> Any:
        limits = self.__operation.seam.limits
        return None if projection is None else scope_projection(projection, limits)

    def __check_unread(self) -> None:
        if self.cursor_id is not None or not self.alive:
            raise InvalidOperation("the cursor was read already; chain before the first document")


_ABOUT_THE_SERVER = frozenset(
    {"$clusterTime", "command", "ok", "operationTime", "serverInfo", "serverParameters"}
)
"""Parts of an explanation that name hosts, versions and settings."""
