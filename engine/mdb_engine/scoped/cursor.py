"""Cursors as Motor's: made without awaiting, chained, then iterated or collected.

Those of commands may be awaited as well, which PyMongo demands and Motor does not know.

Everything that can be refused is refused when the cursor is made or chained, not at the first
document. The server is asked at the first document, as with Motor; an ``aggregate`` that ends in
``$out`` or ``$merge`` therefore writes when it is first iterated.

A cursor outlives the check of the token that made it, so the token and the grants are checked again
while it runs: whoever was revoked gets no further batch. So they are for a change stream, which may
run for days: at least once in every wait for the server, whether or not anything changes.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, Unpack

from pymongo.errors import InvalidOperation, PyMongoError

from mdb_engine.connection.driver import (
    CLOSE_SECONDS,
    RawChangeStream,
    RawCollection,
    RawCursor,
    RawSession,
    time_limit,
)
from mdb_engine.connection.pool import Connection
from mdb_engine.exceptions import AttributeRefused, DatabaseUnavailable, MdbEngineError
from mdb_engine.scoped.context import Operation, Purpose
from mdb_engine.scoped.errors import translating
from mdb_engine.scoped.not_offered import CURSOR_REFUSED, STREAM_REFUSED, refusal
from mdb_engine.scoped.options import (
    DistinctOptions,
    FindOptions,
    Keys,
    accept,
    count,
    field_name,
)
from mdb_engine.scoped.rewrite.filters import exactly, scope_projection
from mdb_engine.scoped.transaction import AnySession

__all__ = [
    "Document",
    "ScopedChangeStream",
    "ScopedCommandCursor",
    "ScopedCursor",
    "ServerCursor",
]

Document = dict[str, Any]
"""A document as it comes from the server."""

RECHECK_SECONDS = 0.1
"""How long a running cursor relies on one check of the token. Far below ``grant_ttl``, so it adds
nothing to the time that a revocation takes, and far above the time that one document takes."""

CHUNK = 1000
"""Documents that ``to_list`` asks for at once, between two checks of the token."""

WAIT_MS = 1000
"""Milliseconds that the server waits for a change before it answers that there is none: the most
that a revocation can take to end an idle stream, beyond the time it takes to be known."""

Opener = Callable[[RawCollection, RawSession | None], Awaitable[RawCursor]]

Raw = tuple[RawCursor, Connection]
"""The driver's cursor, and the connection that it is on."""


class Iteration(abc.ABC):
    """Something that returns documents one by one, over a connection of this process."""

    __slots__ = ("__weakref__",)

    _refused: ClassVar[Mapping[str, str]]
    """What the drivers' objects offer and this one refuses."""

    def __reduce_ex__(self, protocol: object) -> Any:
        kind = type(self).__name__
        raise TypeError(f"a {kind} belongs to this process and can be neither copied nor pickled")

    if not TYPE_CHECKING:  # a type checker is to say so as well

        def __getattr__(self, name: str) -> Any:
            raise AttributeRefused(refusal(type(self).__name__, name, self._refused))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Document:
        return await self.next()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @abc.abstractmethod
    async def next(self) -> Document:
        """Return the next document; raise `StopAsyncIteration` if there is none."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Let the server forget it."""


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
        As in `Operation.send`.
    """

    __slots__ = (
        "_bounded",
        "_closed",
        "_following",
        "_opener",
        "_operation",
        "_raw",
        "_recheck_at",
        "_retrieved",
        "_session",
    )

    _refused = CURSOR_REFUSED

    def __init__(
        self,
        operation: Operation,
        opener: Opener,
        session: AnySession | None = None,
        *,
        bounded: bool = False,
    ) -> None:
        self._bounded = bounded
        self._operation = operation
        self._opener = opener
        self._session = session
        # Behind calls, as they lead to the driver: its cursor, and that cursor's next document.
        self._raw: Callable[[], Raw] | None = None
        self._following: Callable[[], Awaitable[Document]] | None = None
        self._recheck_at = monotonic() + RECHECK_SECONDS
        self._closed = False
        self._retrieved = 0

    def __repr__(self) -> str:
        target = self._operation.target
        return f"{type(self).__name__}({self._operation.name} on {target.physical!r})"

    @property
    def alive(self) -> bool:
        """Whether there may be more documents."""
        return not self._closed and (self._raw is None or bool(self._raw()[0].alive))

    @property
    def cursor_id(self) -> int | None:
        """The server's id of the cursor; None before the first document, 0 when it is exhausted."""
        return None if self._raw is None else self._raw()[0].cursor_id

    @property
    def retrieved(self) -> int:
        """How many documents it has returned so far."""
        return self._retrieved

    @property
    def session(self) -> AnySession | None:
        """The transaction that it is part of."""
        return self._session

    async def next(self) -> Document:
        """Return the next document.

        Raises
        ------
        StopAsyncIteration
            If there is none.
        """
        return await self.__anext__()

    async def __anext__(self) -> Document:
        following = self._following
        if following is None or monotonic() > self._recheck_at:
            following = await self._begun()
        try:
            document = await following()
        except BaseException as error:  # noqa: BLE001 - raised again, or another
            self._ended(error)
        self._retrieved += 1
        return document

    async def try_next(self) -> Document | None:
        """Return the next document, or None if there is none."""
        try:
            return await self.__anext__()
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
        limits = self._operation.limits
        if length is not None:
            count(length, limits, "length")
        most = limits.max_result_documents + 1 if length is None else length
        documents: list[Document] = []
        while len(documents) < most and self.alive:
            documents += await self._batch(min(CHUNK, most - len(documents)))
            if len(documents) > limits.max_result_documents:
                await self.close()
                raise limits.exceeded(
                    "max_result_documents",
                    f"{self._operation.name} finds more documents",
                    "to_list",
                )
        self._retrieved += len(documents)
        return documents

    async def close(self) -> None:
        """Let the server forget the cursor; it returns nothing any more."""
        self._closed = True
        if self._raw is not None:
            raw, connection = self._raw()
            self._raw = self._following = None
            try:
                await _close(raw, self._operation.context.seconds)
            finally:
                connection.holders.discard(self)

    def _rewind(self) -> None:
        """Forget what was read; for `ScopedCursor.rewind`."""
        if self._raw is not None:
            self._raw()[1].holders.discard(self)
        self._raw = self._following = None
        self._closed = False
        self._retrieved = 0

    async def _opened(self) -> Self:
        """Ask the server, if it was not asked yet; for `ScopedCommandCursor`."""
        if self.alive:
            raw, connection = (await self._ready())()
            driver = self._operation.context.driver
            await self._ask(lambda: driver.begin(raw), connection)
        return self

    async def _batch(self, wanted: int) -> list[Document]:
        held = self._raw
        if held is None or monotonic() > self._recheck_at:
            held = await self._ready()
        raw, connection = held()
        documents: list[Document] = await self._ask(lambda: raw.to_list(wanted), connection)
        if not raw.alive:
            connection.holders.discard(self)
        return documents

    async def _ask(self, call: Callable[[], Awaitable[Any]], connection: Connection) -> Any:
        """Await what a call to the driver returns; record it only if MongoDB denies it."""
        began = monotonic()
        try:
            if self._bounded:
                with time_limit(self._operation.context.seconds):
                    return await call()
            return await self._operation.answered(call, connection)
        except BaseException as error:  # noqa: BLE001 - as above
            if self._raw is not None:
                self._raw()[1].holders.discard(self)
            self._operation.denied(error, began)

    async def _begun(self) -> Callable[[], Awaitable[Document]]:
        """Return what awaits the next document, for an app that is still admitted."""
        raw, connection = (await self._ready())()
        following = self._following
        if following is None:
            buffered = self._operation.context.driver.buffered

            # A bound method would show whose it is.
            def following() -> Awaitable[Document]:
                return raw.next() if buffered(raw) else self._ask(raw.next, connection)

            self._following = following
        return following

    def _ended(self, error: BaseException) -> NoReturn:
        """Raise what asking for the next document has ended in: there is none, or an error."""
        if self._raw is not None:
            self._raw()[1].holders.discard(self)
        self._operation.denied(error, self._recheck_at - RECHECK_SECONDS)

    async def _ready(self) -> Callable[[], Raw]:
        """Return the driver's cursor, made if need be, for an app that is still admitted."""
        if self._closed:
            raise StopAsyncIteration
        if monotonic() > self._recheck_at:
            await self._recheck()
        if self._raw is None:
            operation = self._operation
            collection, connection, session = operation.place(self._session)
            raw = await operation.send(
                lambda: self._opener(collection, session), connection, bounded=self._bounded
            )
            self._raw = lambda: (raw, connection)
            connection.holders.add(self)
        return self._raw

    async def _recheck(self) -> None:
        try:
            self._operation.recheck()
        except MdbEngineError:
            with suppress(MdbEngineError, PyMongoError):  # the denial is what has to be heard of
                await self.close()
            raise
        self._recheck_at = monotonic() + RECHECK_SECONDS


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

    __slots__ = ("_projection", "_query", "_settings")

    def __init__(
        self,
        operation: Operation,
        query: Document,
        projection: Document | list[str] | None,
        settings: Mapping[str, Any],
    ) -> None:
        self._settings = dict(settings)
        self._query = query
        self._projection = projection
        super().__init__(operation, self._find, self._settings.pop("session", None))

    def sort(self, key_or_list: Keys, direction: int | str | Mapping[str, Any] = 1) -> Self:
        """Sort by one field and direction, or by a list of (field, direction)."""
        keys = [(key_or_list, direction)] if isinstance(key_or_list, str) else key_or_list
        return self._set(sort=keys)

    def limit(self, limit: int) -> Self:
        """Return at most so many documents; 0 for all."""
        return self._set(limit=limit)

    def skip(self, skip: int) -> Self:
        """Leave out so many documents."""
        return self._set(skip=skip)

    def projection(self, projection: Mapping[str, Any] | Sequence[str] | None) -> Self:
        """Return only some fields."""
        self._check_unread()
        self._projection = self._checked_projection(projection)
        return self

    def batch_size(self, batch_size: int) -> Self:
        """Fetch so many documents from the server at once."""
        return self._set(batch_size=batch_size)

    def hint(self, index: Keys | None) -> Self:
        """Use this index; None for the server's own choice."""
        return self._set(hint=index)

    def max_time_ms(self, max_time_ms: int | None) -> Self:
        """Stop after so many milliseconds, at most the engine's limit; None for that limit."""
        limit = self._operation.limits.max_time_ms
        return self._set(max_time_ms=limit if max_time_ms is None else max_time_ms)

    def collation(self, collation: Any) -> Self:
        """Compare strings by a `pymongo.collation.Collation`."""
        return self._set(collation=collation)

    def comment(self, comment: Any) -> Self:
        """Attach a comment, which the server's log and profiler show."""
        return self._set(comment=comment)

    def allow_disk_use(self, allow_disk_use: bool) -> Self:  # noqa: FBT001 - as the drivers'
        """Let the server sort on disk."""
        return self._set(allow_disk_use=allow_disk_use)

    def min(self, spec: Sequence[tuple[str, Any]]) -> Self:
        """Begin at these values of the hinted index."""
        return self._set(min=spec)

    def max(self, spec: Sequence[tuple[str, Any]]) -> Self:
        """End before these values of the hinted index."""
        return self._set(max=spec)

    def clone(self) -> ScopedCursor:
        """Return a new cursor of the same query and options, not yet read.

        Raises
        ------
        MdbEngineError
            If the query could not be made now: the token and the grants are checked again.
        """
        with self._operation.again("find", Purpose.READ) as operation:
            settings = {**self._settings, "session": self._session}
        return ScopedCursor(operation, self._query, self._projection, settings)

    def rewind(self) -> Self:
        """Start over; the driver closes what is left on the server."""
        self._rewind()
        return self

    async def distinct(self, key: str, **options: Unpack[DistinctOptions]) -> list[Any]:
        """Return the distinct values of a field among the documents that the query matches."""
        with self._operation.again("distinct", Purpose.READ) as operation:
            limits = operation.limits
            field = field_name(key, limits, "key")
            given = accept("distinct", options, DistinctOptions, limits)
            query = exactly(self._query, operation.target, given)
            given.setdefault("session", self._session)
        found: list[Any] = await operation.run("distinct", field, query, **given)
        return found

    async def explain(self) -> Document:
        """Return the server's plan of the query, for the app's own collections only.

        What tells of the server instead of the query is left out.
        """
        with self._operation.again("explain", Purpose.OWN) as operation:
            collection, connection, session = operation.place(self._session)
        raw = await self._find(collection, session)
        plan: Document = await operation.send(raw.explain, connection, bounded=True)
        return {key: value for key, value in plan.items() if key not in _ABOUT_THE_SERVER}

    async def _find(self, collection: RawCollection, session: RawSession | None) -> RawCursor:
        operation, settings = self._operation, self._settings
        query = exactly(self._query, operation.target, settings)
        if "max_time_ms" not in settings:
            settings = {"max_time_ms": operation.limits.max_time_ms, **settings}
        if session is not None:
            settings = {**settings, "session": session}
        return collection.find(query, self._projection, **settings)

    def _set(self, **options: Any) -> Self:
        self._check_unread()
        accepted = accept("find", options, FindOptions, self._operation.limits)
        for name in options:
            self._settings.pop(name, None)
        self._settings.update(accepted)
        return self

    def _checked_projection(self, projection: Any) -> Any:
        limits = self._operation.limits
        return None if projection is None else scope_projection(projection, limits)

    def _check_unread(self) -> None:
        if self.cursor_id is not None or not self.alive:
            raise InvalidOperation("the cursor was read already; chain before the first document")


_ABOUT_THE_SERVER = frozenset(
    {"$clusterTime", "command", "ok", "operationTime", "serverInfo", "serverParameters"}
)
"""Parts of an explanation that name hosts, versions and settings."""


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

    __slots__ = ("_checked", "_closed", "_operation", "_options", "_pipeline", "_raw")

    _refused = STREAM_REFUSED

    def __init__(
        self, operation: Operation, pipeline: list[Document], options: Mapping[str, Any]
    ) -> None:
        self._operation = operation
        self._pipeline = pipeline
        self._options = {"max_await_time_ms": WAIT_MS, **options}
        self._raw: Callable[[], tuple[RawChangeStream, Connection]] | None = None
        self._checked = monotonic()
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._operation.target.physical!r})"

    async def __aenter__(self) -> Self:
        await self._ready()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    @property
    def alive(self) -> bool:
        """Whether there may be more changes."""
        return not self._closed and (self._raw is None or bool(self._raw()[0].alive))

    @property
    def resume_token(self) -> Document | None:
        """Where the stream is; pass it to ``watch`` as ``resume_after`` to go on from there."""
        if self._raw is None:
            return None
        token = self._raw()[0].resume_token
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
        raw, connection = await self._ready()
        began = monotonic()
        try:
            change: Document | None = await self._operation.answered(raw.try_next, connection)
        except DatabaseUnavailable:  # as where the driver goes on after a connection that broke
            await self._move(raw, connection)
            return None
        except BaseException as error:  # noqa: BLE001 - as above
            self._operation.denied(error, began)
        if change is not None:  # it may be from long after the check that the wait began with
            await self._admit()
        return change

    async def close(self) -> None:
        """End the stream."""
        self._closed = True
        if self._raw is not None:
            raw, connection = self._raw()
            try:
                await _close(raw, self._operation.context.seconds)
            finally:
                connection.holders.discard(self)

    async def _ready(self) -> tuple[RawChangeStream, Connection]:
        if monotonic() - self._checked > RECHECK_SECONDS:
            await self._recheck()
        if self._raw is None:
            await self._open()
        return self._raw()  # type: ignore[misc] # it was opened just now

    async def _open(self) -> None:
        operation = self._operation
        collection, connection, _ = operation.place(None)
        raw = await operation.send(
            lambda: operation.context.driver.watch(collection, self._pipeline, **self._options),
            connection,
            bounded=True,
        )
        self._raw = lambda: (raw, connection)
        connection.holders.add(self)

    async def _recheck(self) -> None:
        await self._admit()
        if self._raw is None:
            return
        raw, connection = self._raw()
        if connection is not self._operation.context.source()():
            await self._move(raw, connection)

    async def _admit(self) -> None:
        try:
            self._operation.recheck()
        except MdbEngineError:
            with suppress(MdbEngineError, PyMongoError):  # the denial is what has to be heard of
                await self.close()
            raise
        self._checked = monotonic()

    async def _move(self, old: RawChangeStream, connection: Connection) -> None:
        """Go on where the stream is on a new connection: credentials were rotated, or it hangs."""
        token = self.resume_token
        if token is not None:
            for beginning in ("start_after", "start_at_operation_time"):
                self._options.pop(beginning, None)
            self._options["resume_after"] = token
        await self._open()
        if self._raw is not None and self._raw()[1] is not connection:
            connection.holders.discard(self)
        with suppress(PyMongoError), time_limit(CLOSE_SECONDS):
            await old.close()


async def _close(raw: RawCursor | RawChangeStream, seconds: float) -> None:
    """Tell MongoDB that nothing more is read; for as long as an operation may take."""
    with translating("close", seconds), time_limit(seconds):
        await raw.close()
