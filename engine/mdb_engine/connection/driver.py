"""The one seam between this library and the two MongoDB drivers that it runs on.

PyMongo's own async client is the default. Motor, whose bug fixes ended on 14 May 2026, is there for
the apps that use it already (``driver="motor"``, and the extra of that name). Both offer the same
methods with the same arguments but for the few below, which differ in what is awaited. Nothing else
in the library may ask which driver it runs on.
"""

from __future__ import annotations

import abc
import asyncio
import importlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import pymongo
from pymongo import AsyncMongoClient

__all__ = [
    "Driver",
    "DriverName",
    "RawChangeStream",
    "RawCollection",
    "RawCursor",
    "RawDatabase",
    "RawSession",
    "get_driver",
]

DriverName = Literal["motor", "pymongo"]

CLOSE_SECONDS: Final = 1.0
"""How long closing a client tries to tell MongoDB which sessions have ended."""

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

    @abc.abstractmethod
    async def aggregate(self, source: Any, pipeline: Pipeline, **options: Any) -> RawCursor:
        """Run a pipeline on a collection or database; returns the driver's cursor."""

    @abc.abstractmethod
    async def begin(self, cursor: RawCursor) -> None:
        """Have the server asked, where the driver waits with it until the first document."""

    @abc.abstractmethod
    async def list_indexes(self, collection: Any, **options: Any) -> Any:
        """Return the driver's cursor over a collection's indexes."""

    @abc.abstractmethod
    async def watch(self, source: Any, pipeline: Pipeline, **options: Any) -> Any:
        """Open a change stream on a collection, database or client."""

    @abc.abstractmethod
    async def start_session(self, client: Any, **options: Any) -> Any:
        """Start a client session; it is ended by ``await session.end_session()``."""

    @abc.abstractmethod
    async def start_transaction(self, session: Any, **options: Any) -> None:
        """Begin a transaction on a session."""


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

    async def list_indexes(self, collection: Any, **options: Any) -> Any:
        return collection.list_indexes(**options)

    async def watch(self, source: Any, pipeline: Pipeline, **options: Any) -> Any:
        # Motor opens a stream at its first use, and would miss the events until then.
        return await source.watch(pipeline, **options).__aenter__()

    async def start_session(self, client: Any, **options: Any) -> Any:
        return await client.start_session(**options)

    async def start_transaction(self, session: Any, **options: Any) -> None:
        session.start_transaction(**options)


class _PyMongo(Driver):
    name = "pymongo"
    cancellable = True

    def connect(self, uri: str, **options: Any) -> Any:
        client = AsyncMongoClient[dict[str, Any]](uri, **options)
        self.bound_selection(client)
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

    async def list_indexes(self, collection: Any, **options: Any) -> Any:
        return await collection.list_indexes(**options)

    async def watch(self, source: Any, pipeline: Pipeline, **options: Any) -> Any:
        return await source.watch(pipeline, **options)

    async def start_session(self, client: Any, **options: Any) -> Any:
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
