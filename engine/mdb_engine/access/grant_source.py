"""Read grants from MongoDB with the rights that a pod has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import bson
import pymongo
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from mdb_engine.access.grant_cache import Row, Rows
from mdb_engine.access.rows import grant_from_document
from mdb_engine.connection.control import control_view, translated
from mdb_engine.connection.driver import Driver, RawCollection, RawDatabase
from mdb_engine.constants import GRANTS_COLLECTION
from mdb_engine.exceptions import GrantMalformed
from mdb_engine.models.naming import app_key

__all__ = ["MongoGrantSource", "read_grant"]

READ_SECONDS: Final = 10.0
"""How long a single row may take to read."""

SLUGS: Final[list[Mapping[str, Any]]] = [
    {"$sort": {"_id": 1}},
    {"$group": {"_id": None, "slugs": {"$push": {"_id": "$_id", "slug": "$slug"}}}},
]
"""The slugs of all apps as one document, so that one comparison shows that none has changed."""

AWARE: Final = CodecOptions[dict[str, Any]](tz_aware=True)
RAW: Final = CodecOptions(document_class=RawBSONDocument)


async def read_grant(database: RawDatabase, slug: str) -> Row | None:
    """Read the row of an app, or None if it has none.

    Raises
    ------
    DatabaseUnavailable
        If MongoDB does not answer, or refuses.
    """
    collection = control_view(database)[GRANTS_COLLECTION]
    with translated("read the grants"), pymongo.timeout(READ_SECONDS):
        document = await collection.find_one({"_id": app_key(slug)})
    return None if document is None else _row(document)


class MongoGrantSource:
    """The grants collection on whatever connection is current.

    What is read again and again is compared as the bytes that MongoDB sends, and parsed only where
    they differ: an epoch alone would not show a row that was written by hand, or restored.

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
        self._rows: dict[bytes, tuple[str, Row]] = {}
        self._slugs: tuple[bytes, Mapping[str, str]] = (b"", {})

    async def load(self, keys: Collection[str] | None, seconds: float) -> Rows:
        """Read the rows of the apps of these keys, or of all, within so many seconds.

        Raises
        ------
        DatabaseUnavailable
            If MongoDB does not answer, or refuses.
        """
        query: dict[str, Any] = {} if keys is None else {"_id": {"$in": sorted(keys)}}
        with translated("read the grants"), pymongo.timeout(seconds):
            documents = await self._collection().find(query).to_list(None)
        known = self._rows
        self._rows = {raw: known.get(raw) or _parsed(raw) for raw in _bytes_of(documents)}
        return dict(self._rows.values())

    async def slugs(self, seconds: float) -> Mapping[str, str]:
        """Read the slugs of all apps, by key, within so many seconds.

        Raises
        ------
        DatabaseUnavailable
            If MongoDB does not answer, or refuses.
        """
        with translated("read the apps' slugs"), pymongo.timeout(seconds):
            cursor = await self._driver.aggregate(self._collection(), SLUGS)
            documents = await cursor.to_list(None)
        raw = b"".join(_bytes_of(documents))
        if raw != self._slugs[0]:
            rows = bson.decode(raw)["slugs"] if raw else ()
            self._slugs = (raw, {str(row["_id"]): _slug(row) for row in rows})
        return self._slugs[1]

    def _collection(self) -> RawCollection:
        return control_view(self._database())[GRANTS_COLLECTION].with_options(codec_options=RAW)


def _bytes_of(documents: Collection[RawBSONDocument]) -> list[bytes]:
    return [bytes(document.raw) for document in documents]


def _parsed(raw: bytes) -> tuple[str, Row]:
    document = bson.decode(raw, AWARE)
    return str(document["_id"]), _row(document)


def _row(document: Mapping[str, Any]) -> Row:
    try:
        return grant_from_document(document)
    except GrantMalformed as error:
        return error


def _slug(row: Mapping[str, Any]) -> str:
    """Return an app's slug; of a damaged row its key, so that its names stay its own."""
    key, slug = row["_id"], row.get("slug")
    return slug if isinstance(slug, str) and app_key(slug) == key else str(key)
