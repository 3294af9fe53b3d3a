"""Collections, validators and indexes: looking at them, making, changing and dropping them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, Final

import pymongo
from pymongo.errors import ExecutionTimeout, OperationFailure

from mdb_engine.connection.control import translated
from mdb_engine.connection.driver import Driver, RawDatabase
from mdb_engine.constants import APP_ID_FIELD

__all__ = ["FoundCollection", "IndexRefusedError", "LayoutStore", "OptionsRefusedError"]

_NAMESPACE_NOT_FOUND: Final = 26
_INDEX_NOT_FOUND: Final = 27
_NAMESPACE_EXISTS: Final = 48
_UNBUILDABLE: Final = frozenset(
    {2, 67, 72, 85, 86, 171, 197, 359, 11000, 16755, 17262, 17264, 40415}
)
"""BadValue, CannotCreateIndex, InvalidOptions, IndexOptionsConflict, IndexKeySpecsConflict,
CannotIndexParallelArrays, InvalidIndexSpecificationOption, CannotConvertIndexToUnique,
DuplicateKey; a document that is no place, a language of a text index that is unknown, and a change
in place that came with a later MongoDB."""


_REFUSED: Final = frozenset({2, 9, 14, 52, 72, 121, 166, 10003, 4660800})
"""BadValue, FailedToParse, TypeMismatch, DollarPrefixedFieldName, InvalidOptions,
DocumentValidationFailure, CommandNotSupportedOnView, CannotGrowDocumentInCappedNamespace; what
cannot be used inside a validator."""

_INVALID: Final = 121

_LOCATIONS: Final = 15_000
"""From here on codes of MongoDB's say where in its sources it refused, of expressions above all."""

_NO_SEARCH: Final = frozenset({59, 115, 31082, 40324})
"""CommandNotFound, CommandNotSupported, SearchNotEnabled; an unknown stage."""

_STAMPED_AT_ONCE: Final = 1_000
"""Documents of a batch that is stamped: a few milliseconds, so that nobody waits for it."""


class _RefusedError(Exception):
    """MongoDB refuses a change.

    Parameters
    ----------
    reason
        MongoDB's name of the error.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OptionsRefusedError(_RefusedError):
    """MongoDB does not take what a collection is to be made with."""


class IndexRefusedError(_RefusedError):
    """The data, or another index of the collection, does not allow an index."""


@dataclass(frozen=True, slots=True)
class FoundCollection:
    """A collection that there is.

    Parameters
    ----------
    type
        ``collection``, ``view`` or ``timeseries``.
    validator
        Its validator; empty where it has none.
    enforced
        Whether the validator holds for every write: level ``strict``, action ``error``.
    collated
        Whether it compares strings by a collation, and so takes different ones for equal.
    options
        What it was made with.
    """

    type: str
    validator: Mapping[str, Any] = field(repr=False)
    enforced: bool
    collated: bool
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


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

    async def collections(self, names: Collection[str]) -> dict[str, FoundCollection]:
        """Return those of these collections that there are.

        Names are asked for exactly: MongoDB then looks these up instead of walking all.
        """
        if not names:
            return {}
        with translated("list the collections"):
            found = await self._listed({"name": {"$in": sorted(names)}})
        return {one["name"]: _found(one) for one in found}

    async def names(self, prefix: str) -> set[str]:
        """Return the names of all collections that begin with a prefix."""
        with translated("list the collections"):
            found = await self._listed({"name": {"$regex": f"^{re.escape(prefix)}"}}, nameOnly=True)
        return {one["name"] for one in found}

    async def create(
        self,
        physical: str,
        validator: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> bool:
        """Create a collection; False if there is one of that name already.

        Raises
        ------
        OptionsRefusedError
            If MongoDB does not take the validator or the options.
        """
        rule = {"validator": validator, "validationLevel": "strict", "validationAction": "error"}
        command = {"create": physical, **(options or {}), **(rule if validator else {})}
        with translated(f"create the collection {physical!r}"):
            try:
                await self._database.command(command)
            except OperationFailure as error:
                _raise_if_refused(error)
                if error.code != _NAMESPACE_EXISTS:
                    raise
                return False
        return True

    async def modify(self, physical: str, change: Mapping[str, Any]) -> None:
        """Change what a collection was made with.

        Raises
        ------
        OptionsRefusedError
            If MongoDB does not allow it.
        """
        with translated(f"change the collection {physical!r}"):
            try:
                await self._database.command({"collMod": physical, **change})
            except OperationFailure as error:
                _raise_if_refused(error)
                raise

    async def rename(self, source: str, target: str) -> bool:
        """Rename a collection within the database; False if there is one of the new name."""
        name = self._database.name
        command = {"renameCollection": f"{name}.{source}", "to": f"{name}.{target}"}
        with translated(f"rename the collection {source!r}"):
            try:
                await self._database.client.admin.command(command)
            except OperationFailure as error:
                if error.code != _NAMESPACE_EXISTS:
                    raise
                return False
        return True

    async def drop_if_empty(self, physical: str) -> bool:
        """Drop a collection if it is empty, whoever writes to it at the same time.

        MongoDB cannot drop on a condition. Under another name nobody writes to it any more, and one
        that turns out to hold something gets its name back.
        """
        away = f"_mdb_engine_empty_{physical}"
        for name in await self.collections([away]):  # of a run that was interrupted
            if not await self.is_empty([name]):
                return await self.rename(name, physical) and False
            await self.drop(name)
        if physical not in await self.collections([physical]):
            return True
        if not await self.rename(physical, away):
            return False
        if await self.is_empty([away]):
            await self.drop(away)
            return True
        await self.rename(away, physical)
        return False

    async def stamp(
        self, physical: str, slug: str, tell: Callable[[int, int], Any] = lambda _done, _of: None
    ) -> None:
        """Give every document without a stamp one, in batches.

        Parameters
        ----------
        physical
            The collection.
        slug
            The stamp.
        tell
            Told after each batch how many were stamped, and about how many there are.

        Raises
        ------
        OptionsRefusedError
            If the collection's validator does not let one pass.
        """
        collection, missing = self._database[physical], {APP_ID_FIELD: {"$exists": False}}
        with translated(f"stamp the documents of {physical!r}"):
            about = await collection.estimated_document_count()
            done = 0
            batch: list[Any] = []

            async def write() -> None:
                nonlocal done
                try:
                    await collection.update_many(
                        {"_id": {"$in": batch}, **missing}, {"$set": {APP_ID_FIELD: slug}}
                    )
                except OperationFailure as error:
                    _raise_if_refused(error)
                    raise
                done += len(batch)
                batch.clear()
                tell(done, max(about, done))

            async for document in collection.find(missing, {"_id": 1}):
                batch.append(document["_id"])
                if len(batch) >= _STAMPED_AT_ONCE:
                    await write()
            if batch:
                await write()

    async def validate(self, physical: str, validator: Mapping[str, Any]) -> None:
        """Give a collection its validator, which holds for every write from then on.

        Raises
        ------
        OptionsRefusedError
            If MongoDB does not take it.
        """
        command = {
            "collMod": physical,
            "validator": validator,
            "validationLevel": "strict",
            "validationAction": "error",
        }
        with translated(f"put the validator of {physical!r}"):
            try:
                await self._database.command(command)
            except OperationFailure as error:
                _raise_if_refused(error)
                raise

    async def holds_other_stamps(
        self, physical: str, slug: str, *, missing: bool, seconds: float
    ) -> bool | None:
        """Say whether a collection holds documents that are not stamped with a slug.

        Parameters
        ----------
        physical
            The collection.
        slug
            The stamp that is expected.
        missing
            Whether documents without any stamp count.
        seconds
            For how long MongoDB may look; an index on ``app_id`` makes it quick.

        Returns
        -------
        bool or None
            None if it is not known, because that takes longer.
        """
        condition = {"$ne": slug} if missing else {"$exists": True, "$ne": slug}
        with translated(f"look through {physical!r}"):
            try:
                found = await self._database[physical].find_one(
                    {APP_ID_FIELD: condition},
                    {"_id": 1},
                    collation={"locale": "simple"},
                    max_time_ms=int(seconds * 1000),
                )
            except ExecutionTimeout:
                return None
        return found is not None

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

    async def create_index(
        self, physical: str, wanted: Mapping[str, Any], seconds: float | None = None
    ) -> None:
        """Build an index; one of the same name and definition that is being built is waited for.

        Parameters
        ----------
        physical
            The collection, which is made where there is none.
        wanted
            The index's specification.
        seconds
            For how long it may take, instead of the connection's own limits.

        Raises
        ------
        IndexRefusedError
            If the data or another index of the collection does not allow it.
        """
        command = {"createIndexes": physical, "indexes": [dict(wanted)]}
        await self._index_command(f"build the index {wanted['name']!r}", physical, command, seconds)

    async def modify_index(
        self,
        physical: str,
        former: Mapping[str, Any],
        wanted: Mapping[str, Any],
        seconds: float | None = None,
    ) -> None:
        """Change in place when an index expires documents, or that it is unique.

        Raises
        ------
        IndexRefusedError
            If the data does not allow it; the index is then what it was.
        """
        name = former["name"]
        action = f"change the index {name!r}"

        async def modify(**change: Any) -> None:
            command = {"collMod": physical, "index": {"name": name, **change}}
            await self._index_command(action, physical, command, seconds)

        expiry = wanted.get("expireAfterSeconds")
        if former.get("expireAfterSeconds") != expiry:
            await modify(expireAfterSeconds=expiry)
        if former.get("unique", False) == wanted.get("unique", False):
            if former.get("prepareUnique") and not wanted.get("unique"):
                await modify(prepareUnique=False)
            return
        await modify(prepareUnique=True)
        try:
            await modify(unique=True)
        except IndexRefusedError:
            await modify(prepareUnique=False)
            raise

    async def search_indexes(self, physical: str) -> dict[str, Mapping[str, Any]] | None:
        """Return a collection's search indexes by name; None where the server has none at all."""
        with translated(f"list the search indexes of {physical!r}"):
            try:
                cursor = self._database[physical].aggregate([{"$listSearchIndexes": {}}])
                found = [one async for one in (await cursor if isawaitable(cursor) else cursor)]
            except OperationFailure as error:
                if error.code not in _NO_SEARCH:
                    raise
                return None
        return {one["name"]: one for one in found}

    async def create_search_index(self, physical: str, wanted: Mapping[str, Any]) -> None:
        """Have a search index built, which goes on after this.

        Raises
        ------
        OptionsRefusedError
            If MongoDB does not take its definition.
        """
        await self._search_command(
            physical, {"createSearchIndexes": physical, "indexes": [dict(wanted)]}
        )

    async def update_search_index(self, physical: str, wanted: Mapping[str, Any]) -> None:
        """Have a search index built anew, beside which the former one answers meanwhile.

        Raises
        ------
        OptionsRefusedError
            As `create_search_index`.
        """
        definition = wanted["definition"]
        command = {"updateSearchIndex": physical, "name": wanted["name"], "definition": definition}
        await self._search_command(physical, command)

    async def _search_command(self, physical: str, command: Mapping[str, Any]) -> None:
        with translated(f"build a search index of {physical!r}"):
            try:
                await self._database.command(command)
            except OperationFailure as error:
                _raise_if_refused(error)
                raise

    async def drop_index(self, physical: str, name: str) -> None:
        """Drop an index, if it is there."""
        with translated(f"drop the index {name!r} of {physical!r}"):
            try:
                await self._database.command({"dropIndexes": physical, "index": name})
            except OperationFailure as error:
                if error.code not in {_NAMESPACE_NOT_FOUND, _INDEX_NOT_FOUND}:
                    raise

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

    async def _index_command(
        self, action: str, physical: str, command: Mapping[str, Any], seconds: float | None
    ) -> None:
        limit = nullcontext() if seconds is None else pymongo.timeout(seconds)
        with translated(f"{action} of {physical!r}"), limit:
            try:
                await self._database.command(command)
            except OperationFailure as error:
                if error.code not in _UNBUILDABLE:
                    raise
                raise IndexRefusedError((error.details or {}).get("codeName", "refused")) from None

    async def _listed(self, query: Mapping[str, Any], **options: Any) -> list[Mapping[str, Any]]:
        cursor = await self._database.list_collections(filter=query, **options)
        return [one async for one in cursor]


def _raise_if_refused(error: OperationFailure) -> None:
    code = error.code or 0
    if code in _REFUSED or (
        code >= _LOCATIONS and not error.has_error_label("RetryableWriteError")
    ):
        name = (error.details or {}).get("codeName")  # which the answer to a write does not have
        raise OptionsRefusedError(
            name or ("DocumentValidationFailure" if code == _INVALID else f"Location{code}")
        ) from None


def _found(listed: Mapping[str, Any]) -> FoundCollection:
    options = listed.get("options", {})
    level, action = options.get("validationLevel"), options.get("validationAction")
    return FoundCollection(
        type=listed.get("type", "collection"),
        validator=options.get("validator", {}),
        enforced=level in {None, "strict"} and action in {None, "error"},
        collated=options.get("collation", {}).get("locale", "simple") != "simple",
        options=options,
    )
