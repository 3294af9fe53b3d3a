"""Read grants, and their changes, from MongoDB with the rights that a pod has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import pymongo
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from mdb_engine.access.grant_cache import Change, Row, Rows, WatchUnsupportedError
from mdb_engine.access.rows import grant_from_document
from mdb_engine.connection.control import control_view, translated
from mdb_engine.connection.driver import Driver, RawChangeStream, RawDatabase
from mdb_engine.constants import GRANTS_COLLECTION
from mdb_engine.exceptions import DatabaseUnavailable, GrantMalformed

__all__ = ["MongoGrantSource", "read_grants"]

READ_SECONDS: Final = 10.0
"""How long one reading of the grants may take; a thousand apps take a few milliseconds."""

NO_STREAM: Final = {
    13: "this user may not open a change stream",
    40573: "MongoDB runs without a replica set",
}
"""The codes (Unauthorized, Location40573) that mean that there is no change stream to be had."""

ROW_CHANGES: Final = frozenset({"insert", "update", "replace", "delete"})
"""The events that are about one row; any other ends the stream."""


async def read_grants(
    database: RawDatabase, keys: Collection[str] | None, seconds: float = READ_SECONDS
) -> Rows:
    """Read the rows of the apps of these keys, or of all, within so many seconds.

    Raises
    ------
    DatabaseUnavailable
        If MongoDB does not answer, or refuses.
    """
    query: dict[str, Any] = {} if keys is None else {"_id": {"$in": sorted(keys)}}
    collection = control_view(database)[GRANTS_COLLECTION]
    with translated("read the grants"), pymongo.timeout(seconds):
        documents = await collection.find(query).to_list(None)
    return {str(document["_id"]): _row(document) for document in documents}


def _row(document: Mapping[str, Any]) -> Row:
    try:
        return grant_from_document(document)
    except GrantMalformed as error:
        return error


class MongoGrantSource:
    """The grants collection on whatever connection is current.

    Parameters
    ----------
    database
        Returns the raw database.
    driver
        The driver that it is of.
    """

    def __init__(self, database: Callable[[], RawDatabase], driver: Driver) -> None:
        self._database = database
        self._driver = driver

    async def load(self, keys: Collection[str] | None, seconds: float) -> Rows:
        """Read the rows of the apps of these keys, or of all, within so many seconds."""
        return await read_grants(self._database(), keys, seconds)

    @asynccontextmanager
    async def changes(self, wait: float) -> AsyncIterator[_Feed]:
        """Open a change stream whose ``next`` waits at most that many seconds.

        Raises
        ------
        WatchUnsupportedError
            If there can be none.
        """
        view = control_view(self._database()).with_options(read_concern=ReadConcern("majority"))
        try:
            stream = await self._driver.watch(
                view[GRANTS_COLLECTION],
                [],
                full_document="updateLookup",
                max_await_time_ms=max(1, int(wait * 1000)),
            )
        except OperationFailure as error:
            if error.code in NO_STREAM:
                raise WatchUnsupportedError(NO_STREAM[error.code]) from None
            raise
        try:
            yield _Feed(stream)
        finally:
            # Shielded, so that a cancelled wait does not leave the cursor open on the server.
            await asyncio.shield(stream.close())


class _Feed:
    def __init__(self, stream: RawChangeStream) -> None:
        self._stream = stream

    async def next(self) -> Change | None:
        """Return the next change, or None if there was none for the time that was agreed on."""
        with translated("follow the grants"):
            event = await self._stream.try_next()
        if event is None:
            if not self._stream.alive:
                raise DatabaseUnavailable("the change stream on the grants has ended")
            return None
        if event["operationType"] not in ROW_CHANGES:
            raise DatabaseUnavailable("the grants collection was dropped or renamed")
        row = event.get("fullDocument")
        return Change(str(event["documentKey"]["_id"]), _row(row) if row else None)
