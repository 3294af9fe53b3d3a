"""Which collections and indexes exist, and which should: creating, comparing, dropping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bson import json_util
from pymongo.errors import CollectionInvalid, DuplicateKeyError, OperationFailure

from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.driver import Driver, RawDatabase
from mdb_engine.exceptions import CollectionTaken
from mdb_engine.storage.base import translated

__all__ = ["LayoutStore"]

_COMPARED = {
    "key": {},
    "unique": False,
    "sparse": False,
    "expireAfterSeconds": None,
    "partialFilterExpression": {},
    "weights": {},
    "default_language": None,
}
"""The parts of an index that make it what it is, with what MongoDB leaves out meaning."""

_NAMESPACE_NOT_FOUND = 26
_UNBUILDABLE = frozenset({2, 67, 72, 85, 86, 171, 197, 11000, 16755, 17262, 17264})
"""BadValue, CannotCreateIndex, InvalidOptions, IndexOptionsConflict, IndexKeySpecsConflict,
CannotIndexParallelArrays, InvalidIndexSpecificationOption, DuplicateKey; a document that is no
place, and a text index's language that MongoDB does not know."""


class LayoutStore:
    """Changes the layout of one database.

    Parameters
    ----------
    database
        The driver's database.
    driver
        The driver that it is of.
    """

    def __init__(self, database: RawDatabase, driver: Driver) -> None:
        self._database = database
        self._driver = driver

    async def collections(self, prefix: str = "") -> set[str]:
        """Return the names of all collections that begin with a prefix."""
        with translated("list the collections"):
            names = await self._database.list_collection_names()
        return {name for name in names if name.startswith(prefix)}

    async def create(self, physical: str) -> None:
        """Create a collection, if there is none of that name."""
        with translated(f"create the collection {physical!r}"):
            try:
                await self._database.create_collection(physical)
            except CollectionInvalid:
                return  # somebody else was faster
            except OperationFailure as error:
                if (error.details or {}).get("codeName") != "NamespaceExists":
                    raise

    async def indexes(self, physical: str) -> dict[str, Mapping[str, Any]]:
        """Return a collection's indexes by name; none where there is no collection."""
        with translated(f"list the indexes of {physical!r}"):
            try:
                cursor = await self._driver.list_indexes(self._database[physical])
                found = [index async for index in cursor]
            except OperationFailure as error:
                if error.code != _NAMESPACE_NOT_FOUND:
                    raise
                found = []
        return {index["name"]: index for index in found}

    async def create_index(self, physical: str, wanted: Mapping[str, Any]) -> None:
        """Build an index, and the collection with it where there is none.

        Raises
        ------
        CollectionTaken
            If the data or another index of the collection does not allow it.
        """
        name = wanted["name"]
        with translated(f"build the index {name!r} of {physical!r}"):
            try:
                await self._database.command({"createIndexes": physical, "indexes": [dict(wanted)]})
            except (DuplicateKeyError, OperationFailure) as error:
                if error.code not in _UNBUILDABLE:
                    raise
                reason = (error.details or {}).get("codeName", "refused")
                raise CollectionTaken(
                    f"Index {name!r} cannot be built on {physical!r}: {reason}. Change the index, "
                    "or the data or the index of other name that stands against it"
                ) from None

    async def drop_index(self, physical: str, name: str) -> None:
        """Drop an index, if it is there."""
        with translated(f"drop the index {name!r} of {physical!r}"):
            try:
                await self._database.command({"dropIndexes": physical, "index": name})
            except OperationFailure as error:
                if error.code not in {_NAMESPACE_NOT_FOUND, 27}:  # 27: IndexNotFound
                    raise

    async def ensure_index(
        self,
        physical: str,
        wanted: Mapping[str, Any],
        existing: Mapping[str, Mapping[str, Any]],
    ) -> bool:
        """Build an index that is missing, rebuild one that is another; True if it did."""
        found = existing.get(wanted["name"])
        if found is not None and _canonical(found) == _canonical(wanted):
            return False
        if found is not None:
            await self.drop_index(physical, wanted["name"])
        await self.create_index(physical, wanted)
        return True

    async def is_empty(self, physical: Iterable[str]) -> bool:
        """Say whether none of these collections holds a document."""
        for name in physical:
            with translated(f"look into the collection {name!r}"):
                if await self._database[name].find_one({}, {"_id": 1}) is not None:
                    return False
        return True

    async def drop(self, physical: str) -> None:
        """Drop a collection and what is in it."""
        with translated(f"drop the collection {physical!r}"):
            await self._database.drop_collection(physical)

    async def remove_documents(self, physical: str, slug: str) -> None:
        """Remove an app's documents from a collection that it did not declare."""
        with translated(f"remove the documents of app {slug!r} from {physical!r}"):
            await self._database[physical].delete_many({APP_ID_FIELD: slug})


def _canonical(index: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of an index that make it what it is, whether asked for or listed."""
    parts = {name: index.get(name, absent) for name, absent in _COMPARED.items()}
    weights = dict(parts["weights"])
    if weights:
        # MongoDB lists all text fields as one key, and their names among the weights alone.
        keys = [k for k in parts["key"].items() if k[0] not in {*weights, "_fts", "_ftsx"}]
    else:
        keys = list(parts["key"].items())
        parts["default_language"] = None
    # Keys are in order; and a direction may come back as a float of the same value.
    parts["key"] = [(name, int(d) if isinstance(d, float) else d) for name, d in keys]
    parts["weights"] = {name: int(weight) for name, weight in weights.items()}
    # As text, because to Python 1 and True are equal.
    parts["partialFilterExpression"] = json_util.dumps(
        parts["partialFilterExpression"], sort_keys=True
    )
    parts["unique"], parts["sparse"] = bool(parts["unique"]), bool(parts["sparse"])
    return parts
