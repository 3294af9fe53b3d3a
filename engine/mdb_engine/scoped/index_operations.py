"""The operations on a collection's indexes, which only its owner has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from pymongo import IndexModel
from pymongo.operations import SearchIndexModel

from mdb_engine.connection.driver import RawCollection, RawCursor, RawSession
from mdb_engine.exceptions import OptionRefused
from mdb_engine.scoped.context import Handle, Operation, Purpose
from mdb_engine.scoped.cursor import ScopedCommandCursor
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.options import (
    CommonOptions,
    IndexOptions,
    Keys,
    collation_document,
    key_list,
)
from mdb_engine.scoped.rewrite.indexes import scope_index
from mdb_engine.scoped.rewrite.values import members, plain_mapping, plain_value
from mdb_engine.scoped.transaction import AnySession

__all__ = ["IndexOperations"]

SearchModel = Mapping[str, Any] | SearchIndexModel
"""A search index: ``{"name": ..., "type": ..., "definition": {...}}``."""


class IndexOperations(Handle):
    """Indexes of the app's own collections. The manifest's come back when they are dropped."""

    __slots__ = ()

    async def create_index(
        self,
        keys: Keys,
        session: AnySession | None = None,
        comment: Any = None,
        **options: Unpack[IndexOptions],
    ) -> str:
        """Make an index; nothing happens if there is an equal one.

        Parameters
        ----------
        keys
            The fields, with a direction or ``text``, ``2dsphere``, ``hashed``.
        session, comment
            As in every operation.
        **options
            The options of an index by their names in MongoDB, such as ``unique`` or
            ``expireAfterSeconds``; see `IndexOptions`.

        Returns
        -------
        str
            Its name.
        """
        common = {"session": session, "comment": comment}
        with self._begin("create_index", Purpose.WRITE) as operation:
            settings = self._common("create_index", common)
            pairs, index = _scope_index(keys, options, operation, "index")
        name: str = await operation.run("create_index", pairs, **index, **settings)
        return name

    async def create_indexes(
        self, indexes: Sequence[IndexModel], **options: Unpack[CommonOptions]
    ) -> list[str]:
        """Make several indexes; as `create_index`.

        Parameters
        ----------
        indexes
            `pymongo.IndexModel` objects.
        **options
            See `CommonOptions`.

        Returns
        -------
        list
            Their names.
        """
        with self._begin("create_indexes", Purpose.WRITE) as operation:
            settings = self._common("create_indexes", options)
            models = [
                _scope_model(model, operation, f"indexes[{position}]")
                for position, model in enumerate(members(indexes, "indexes"))
            ]
            if not models:
                raise OptionRefused("indexes has to hold at least one index", path="indexes")
        names: list[str] = await operation.run("create_indexes", models, **settings)
        return names

    async def drop_index(self, index_or_name: Keys, **options: Unpack[CommonOptions]) -> None:
        """Drop an index.

        Parameters
        ----------
        index_or_name
            Its name, or its fields with their directions.
        **options
            See `CommonOptions`.
        """
        with self._begin("drop_index", Purpose.WRITE) as operation:
            settings = self._common("drop_index", options)
            limits = operation.limits
            index = plain_value(index_or_name, limits, "index_or_name")
            if not isinstance(index, str):
                index = key_list(index, limits, "index_or_name")
        await operation.run("drop_index", index, **settings)

    async def drop_indexes(self, **options: Unpack[CommonOptions]) -> None:
        """Drop all indexes but the one on ``_id``."""
        with self._begin("drop_indexes", Purpose.WRITE) as operation:
            settings = self._common("drop_indexes", options)
        await operation.run("drop_indexes", **settings)

    def list_indexes(self, **options: Unpack[CommonOptions]) -> ScopedCommandCursor:
        """Return a cursor over the descriptions of the indexes."""
        with self._begin("list_indexes", Purpose.OWN) as operation:
            settings = self._common("list_indexes", options)
            transaction = settings.pop("session", None)

        async def start(collection: RawCollection, session: RawSession | None) -> RawCursor:
            if session is not None:
                settings["session"] = session
            return await operation.context.driver.list_indexes(collection, **settings)

        return ScopedCommandCursor(operation, start, transaction, bounded=True)

    async def index_information(self, **options: Unpack[CommonOptions]) -> dict[str, Any]:
        """Return the indexes' descriptions by name."""
        with self._begin("index_information", Purpose.OWN) as operation:
            settings = self._common("index_information", options)
        return dict(await operation.run("index_information", **settings))

    async def create_search_index(
        self, model: SearchModel, **options: Unpack[CommonOptions]
    ) -> str:
        """Make a search index, where the server has search.

        Parameters
        ----------
        model
            Its definition.
        **options
            See `CommonOptions`.

        Returns
        -------
        str
            Its name.
        """
        return (await self._create_search("create_search_index", [model], options))[0]

    async def create_search_indexes(
        self, models: Sequence[SearchModel], **options: Unpack[CommonOptions]
    ) -> list[str]:
        """Make several search indexes; as `create_search_index`."""
        return await self._create_search("create_search_indexes", models, options)

    async def update_search_index(
        self, name: str, definition: Mapping[str, Any], **options: Unpack[CommonOptions]
    ) -> None:
        """Give a search index another definition."""
        with self._begin("update_search_index", Purpose.WRITE) as operation:
            settings = self._common("update_search_index", options)
            plain = plain_mapping(definition, operation.limits, "definition")
        await operation.run("update_search_index", _name(name), plain, **settings)

    async def drop_search_index(self, name: str, **options: Unpack[CommonOptions]) -> None:
        """Drop a search index."""
        with self._begin("drop_search_index", Purpose.WRITE) as operation:
            settings = self._common("drop_search_index", options)
        await operation.run("drop_search_index", _name(name), **settings)

    def list_search_indexes(
        self, name: str | None = None, **options: Unpack[CommonOptions]
    ) -> ScopedCommandCursor:
        """Return a cursor over the descriptions of the search indexes, or of one of them."""
        with self._begin("list_search_indexes", Purpose.OWN) as operation:
            settings = self._common("list_search_indexes", options)
            transaction = settings.pop("session", None)
            stages = [{"$listSearchIndexes": {} if name is None else {"name": _name(name)}}]

        async def start(collection: RawCollection, session: RawSession | None) -> RawCursor:
            if session is not None:
                settings["session"] = session
            return await operation.context.driver.aggregate(collection, stages, **settings)

        return ScopedCommandCursor(operation, start, transaction, bounded=True)

    async def _create_search(
        self, name: str, models: Sequence[SearchModel], options: Mapping[str, Any]
    ) -> list[str]:
        with self._begin(name, Purpose.WRITE) as operation:
            settings = self._common(name, options)
            made = [
                _search_model(model, operation.limits, f"models[{position}]")
                for position, model in enumerate(members(models, "models"))
            ]
            if not made:
                raise OptionRefused("models has to hold at least one index", path="models")
        names: list[str] = await operation.run("create_search_indexes", made, **settings)
        return names


def _name(name: object) -> str:
    if type(name) is not str:
        raise OptionRefused("an index's name is a string", path="name")
    return name


def _search_model(model: SearchModel, limits: Limits, path: str) -> SearchIndexModel:
    document = model.document if isinstance(model, SearchIndexModel) else model
    plain = plain_mapping(document, limits, path)
    if "definition" not in plain or plain.keys() - {"definition", "name", "type"}:
        raise OptionRefused(f"{path} needs definition, and may have name and type", path=path)
    return SearchIndexModel(**plain)


def _scope_index(
    keys: Any, options: Mapping[str, Any], operation: Operation, path: str
) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
    given = dict(options)
    limits = operation.limits
    if given.get("collation") is not None:
        given["collation"] = collation_document(given["collation"], limits, f"{path}.collation")
    return scope_index(keys, given, operation.target, limits, path=path)


def _scope_model(model: object, operation: Operation, path: str) -> IndexModel:
    if type(model) is not IndexModel:
        raise OptionRefused(f"{path} has to be a pymongo.IndexModel", path=path)
    document = dict(model.document)
    keys = document.pop("key")
    pairs, options = _scope_index(keys, document, operation, path)
    return IndexModel(pairs, **options)
