"""The one seam between this library and the two MongoDB drivers that it runs on.

PyMongo's own async client is the default. Motor, whose bug fixes ended on 14 May 2026, is there for
the apps that use it already (``driver="motor"``, and the extra of that name). Both offer the same
methods with the same arguments but for the few below, which differ in what is awaited. Nothing else
in the library may ask which driver it runs on.
"""

from __future__ import annotations

import abc
import asyncio
import functools
import importlib
import inspect
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final, Literal

import pymongo
from pymongo import AsyncMongoClient, _csot

__all__ = [
    "CLOSE_SECONDS",
    "TRANSACTION_OPTIONS",
    "Driver",
    "DriverName",
    "RawChangeStream",
    "RawCollection",
    "RawCursor",
    "RawDatabase",
    "RawSession",
    "get_driver",
    "time_limit",
]

DriverName = Literal["motor", "pymongo"]

CLOSE_SECONDS: Final = 1.0
"""How long closing tries to tell MongoDB: which sessions have ended, which stream is not read."""

TRANSACTION_OPTIONS: Final[tuple[Any, Any]] = (
    importlib.import_module("pymongo.asynchronous.client_session").TransactionOptions,
    importlib.import_module("pymongo.client_session").TransactionOptions,
)
"""PyMongo's classes of that name: one for each of its clients, in newer releases the same."""

_NO_TIME_LEFT: Final = 0.001
"""Seconds that stand for none, as 0 stands for no limit."""

Pipeline = Sequence[Mapping[str, Any]]

RawDatabase = Any
"""A driver's database. Motor ships no types, so the names below document and do not check."""

RawCollection = Any
"""A driver's collection."""

RawCursor = Any
"""A driver's cursor, of a query or of a command."""

RawChangeStream = Any
"""A driver's change stream."""

RawSession = Any
"""A driver's client session."""


_deadline: ContextVar[float | None] = ContextVar("mdb_engine_deadline", default=None)
"""When the time of the operation under way has run out, if it is the engine that limits it."""


class time_limit(AbstractContextManager[None]):  # noqa: N801 - as `contextlib.suppress`
    """Let the driver keep a time limit, and tell the server of it, for a ``with`` block.

    ``pymongo.timeout`` alone has the driver repeat what failed for as long as there is time, where
    it repeats it once without; `Driver.retry_once` sees to it that it is once here as well. Where
    the app has a ``pymongo.timeout`` of its own around its call, it has asked for the former.

    Parameters
    ----------
    seconds
        The limit.
    """

    __slots__ = ("_seconds", "_timeout", "_token")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        theirs = _csot.get_timeout() is not None
        deadline = None if theirs else time.monotonic() + self._seconds
        self._token: Token[float | None] = _deadline.set(deadline)
        self._timeout = pymongo.timeout(self._seconds)
        self._timeout.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timeout.__exit__(kind, error, trace)
        _deadline.reset(self._token)


class Driver(abc.ABC):
    """What differs between the drivers, under one signature each."""

    name: DriverName

    cancellable: bool
    """Whether cancelling the task that awaits an operation ends it. Motor's goes on in a thread."""

    @abc.abstractmethod
    def connect(self, uri: str, **options: Any) -> Any:
        """Make a client; it connects lazily, on its first operation."""

    @abc.abstractmethod
    async def close(self, client: Any) -> None:
        """Close a client and every socket of it, within ``CLOSE_SECONDS`` if MongoDB is gone."""

    @abc.abstractmethod
    def delegate(self, client: Any) -> Any:
        """Return PyMongo's client, which does the work under either driver's."""

    def bound_selection(self, client: Any) -> None:
        """Let no operation of a client look for a server longer than the client may.

        PyMongo looks for one for as long as ``pymongo.timeout`` gives the whole operation, although
        the lesser of that and ``serverSelectionTimeoutMS`` is what is specified
        (https://github.com/mongodb/specifications, client-side-operations-timeout, "Server
        Selection"). So without this, some operations would say after 5 s that MongoDB is gone, and
        others after 30 s.
        """
        topology = self.delegate(client)._topology  # noqa: SLF001 - there is no public way
        if topology is None:  # of a mongodb+srv URI, before the first operation has resolved it
            return
        longest: float = topology.get_server_selection_timeout()
        remaining = topology.get_server_selection_timeout
        topology.get_server_selection_timeout = lambda: min(remaining(), longest)

    def retry_once(self, client: Any) -> None:
        """Let a client repeat an operation under a `time_limit` as often as one without: once.

        The driver decides how often when it begins the operation, and keeps the limit when it sends
        a command of it. So the limit is put away for the former and taken out for the latter.
        """
        delegate = self.delegate(client)
        retry = delegate._retry_internal  # noqa: SLF001 - there is no public way
        limited = _limited_async if inspect.iscoroutinefunction(retry) else _limited
        delegate._retry_internal = functools.partial(limited, retry)  # noqa: SLF001 - as above

    @abc.abstractmethod
    async def aggregate(self, source: Any, pipeline: Pipeline, **options: Any) -> RawCursor:
        """Run a pipeline on a collection or database; returns the driver's cursor."""

    @abc.abstractmethod
    async def begin(self, cursor: RawCursor) -> None:
        """Have the server asked, where the driver waits with it until the first document."""

    @abc.abstractmethod
    def buffered(self, cursor: RawCursor) -> bool:
        """Say whether a cursor has a document that the server need not be asked for."""

    @abc.abstractmethod
    async def list_indexes(self, collection: Any, **options: Any) -> Any:
        """Return the driver's cursor over a collection's indexes."""

    @abc.abstractmethod
    async def watch(self, source: Any, pipeline: Pipeline, **options: Any) -> Any:
        """Open a change stream on a collection, database or client."""

    @abc.abstractmethod
    def start_session(
        self,
        client: Any,
        *,
        default_transaction_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Start a client session; it is ended by ``await session.end_session()``."""

    @abc.abstractmethod
    async def start_transaction(self, session: Any, **options: Any) -> None:
        """Begin a transaction on a session."""


async def _limited_async(retry: Any, func: Any, *arguments: Any, **options: Any) -> Any:
    """Begin an operation without its time limit, and send its commands within it."""
    deadline = _deadline.get()
    if deadline is None:
        return await retry(func, *arguments, **options)

    async def attempt(*given: Any) -> Any:
        with pymongo.timeout(max(deadline - time.monotonic(), _NO_TIME_LEFT)):
            return await func(*given)

    with pymongo.timeout(None):
        return await retry(attempt, *arguments, **options)


def _limited(retry: Any, func: Any, *arguments: Any, **options: Any) -> Any:
    """Do the same for the synchronous client, which is below Motor's."""
    deadline = _deadline.get()
    if deadline is None:
        return retry(func, *arguments, **options)

    def attempt(*given: Any) -> Any:
        with pymongo.timeout(max(deadline - time.monotonic(), _NO_TIME_LEFT)):
            return func(*given)

    with pymongo.timeout(None):
        return retry(attempt, *arguments, **options)


class _Motor(Driver):
    name = "motor"
    cancellable = False

    def __init__(self) -> None:
        try:
            self._motor = importlib.import_module("motor.motor_asyncio")
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                "the driver motor is asked for, but not installed: install mdbapp-engine[motor], "
                "or use the driver pymongo (MDB_DRIVER)",
                name="motor",
            ) from None

    def connect(self, uri: str, **options: Any) -> Any:
        client = self._motor.AsyncIOMotorClient(uri, **options)
        self.bound_selection(client)
        self.retry_once(client)
        return client

    async def close(self, client: Any) -> None:
        with pymongo.timeout(CLOSE_SECONDS):
            await asyncio.to_thread(client.delegate.close)  # it tells MongoDB, and waits for that

    def delegate(self, client: Any) -> Any:
        return client.delegate

    async def aggregate(self, source: Any, pipeline: Pipeline, **options: Any) -> Any:
        return source.aggregate(pipeline, **options)

    async def begin(self, cursor: RawCursor) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a release that will not come
            first_batch = cursor.fetch_next
        await first_batch

    def buffered(self, cursor: RawCursor) -> bool:
        return bool(cursor._data())  # noqa: SLF001 - there is no public way

    async def list_indexes(self, collection: Any, **options: Any) -> Any:
        return collection.list_indexes(**options)

    async def watch(self, source: Any, pipeline: Pipeline, **options: Any) -> Any:
        # Motor opens a stream at its first use, and would miss the events until then.
        return await source.watch(pipeline, **options).__aenter__()

    def start_session(
        self,
        client: Any,
        *,
        default_transaction_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        if default_transaction_options is not None:
            defaults = TRANSACTION_OPTIONS[1](**default_transaction_options)
            options["default_transaction_options"] = defaults
        return self._motor.AsyncIOMotorClientSession(
            client.delegate.start_session(**options), client
        )

    async def start_transaction(self, session: Any, **options: Any) -> None:
        session.start_transaction(**options)


class _PyMongo(Driver):
    name = "pymongo"
    cancellable = True

    def connect(self, uri: str, **options: Any) -> Any:
        client = AsyncMongoClient[dict[str, Any]](uri, **options)
        self.bound_selection(client)
        self.retry_once(client)
        return client

    async def close(self, client: Any) -> None:
        with pymongo.timeout(CLOSE_SECONDS):
            await client.close()

    def delegate(self, client: Any) -> Any:
        return client

    async def aggregate(self, source: Any, pipeline: Pipeline, **options: Any) -> Any:
        return await source.aggregate(pipeline, **options)

    async def begin(self, cursor: RawCursor) -> None:
        """Do nothing: `aggregate` asked already."""

    def buffered(self, cursor: RawCursor) -> bool:
        return bool(cursor._data)  # noqa: SLF001 - there is no public way

    async def list_indexes(self, collection: Any, **options: Any) -> Any:
        return await collection.list_indexes(**options)

    async def watch(self, source: Any, pipeline: Pipeline, **options: Any) -> Any:
        return await source.watch(pipeline, **options)

    def start_session(
        self,
        client: Any,
        *,
        default_transaction_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        if default_transaction_options is not None:
            defaults = TRANSACTION_OPTIONS[0](**default_transaction_options)
            options["default_transaction_options"] = defaults
        return client.start_session(**options)

    async def start_transaction(self, session: Any, **options: Any) -> None:
        await session.start_transaction(**options)


def get_driver(name: DriverName) -> Driver:
    """Return the driver of that name.

    Raises
    ------
    ValueError
        If there is no driver of that name.
    ModuleNotFoundError
        If it is not installed.
    """
    if name == "motor":
        return _Motor()
    if name == "pymongo":
        return _PyMongo()
    raise ValueError(f"driver must be 'motor' or 'pymongo', not {name!r}")
