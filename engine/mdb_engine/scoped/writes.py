"""The operations of a collection that write documents: the app's own, in its own collections."""
# ruff: noqa: A002, FBT001, FBT002, N803, PLR0913, PLR0917 - the parameters are the drivers', in their order

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Literal, Unpack

from pymongo.collation import Collation
from pymongo.results import (
    BulkWriteResult,
    DeleteResult,
    InsertManyResult,
    InsertOneResult,
    UpdateResult,
)

from mdb_engine.exceptions import OptionRefused
from mdb_engine.scoped.bulk import Request, scope_requests
from mdb_engine.scoped.context import Handle, Operation, Purpose
from mdb_engine.scoped.cursor import Document
from mdb_engine.scoped.options import (
    BulkOptions,
    CommonOptions,
    DeleteOptions,
    FindAndModifyOptions,
    FindAndReplaceOptions,
    FindAndUpdateOptions,
    InsertManyOptions,
    Keys,
    NoOptions,
    Projection,
    ReplaceOptions,
    UpdateManyOptions,
    UpdateOptions,
    takes,
)
from mdb_engine.scoped.reads import Filter
from mdb_engine.scoped.rewrite.filters import (
    exactly,
    is_by_id,
    scope_array_filters,
    scope_filter,
    scope_upsert_filter,
)
from mdb_engine.scoped.rewrite.refusals import Position
from mdb_engine.scoped.rewrite.updates import scope_update, stamp_document, stamp_replacement
from mdb_engine.scoped.rewrite.values import members
from mdb_engine.scoped.transaction import AnySession

__all__ = ["Update", "Writes"]

DOCUMENTS_AT_ONCE = 250
"""How many documents ``insert_many`` copies before other tasks may run: about a millisecond's."""

Update = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""An update: operators, or the stages of a pipeline."""


class Writes(Handle):
    """Writing. Every document is stamped with the app's slug; no other app's is ever touched."""

    __slots__ = ()

    @takes(CommonOptions, after="document")
    async def insert_one(
        self,
        document: Mapping[str, Any],
        bypass_document_validation: Literal[False] | None = None,
        session: AnySession | None = None,
        comment: Any = None,
        **unknown: Unpack[NoOptions],
    ) -> InsertOneResult:
        """Insert a document.

        Parameters
        ----------
        document
            It gets an ``_id`` if it has none, as with the drivers. The engine's stamp goes into a
            copy; an ``app_id`` of the caller's does not count.

        Raises
        ------
        pymongo.errors.DuplicateKeyError
            If a unique index has its key already.
        ScopeDenied
            If the collection is another app's, or the handle is read only.
        LimitExceeded
            If the document is too large or too deep.
        """
        given = (bypass_document_validation, session, comment)
        with self._begin("insert_one", Purpose.WRITE) as operation:
            stamped = stamp_document(
                document, operation.target, operation.limits, codecs=operation.codecs
            )
            settings = self._options("insert_one", given, unknown)
        _return_id(document, stamped)
        inserted: InsertOneResult = await operation.run(
            "insert_one", stamped, by_id=True, **settings
        )
        return inserted

    @takes(InsertManyOptions, after="documents")
    async def insert_many(
        self,
        documents: Iterable[Mapping[str, Any]],
        ordered: bool = True,
        bypass_document_validation: Literal[False] | None = None,
        session: AnySession | None = None,
        comment: Any = None,
        **unknown: Unpack[NoOptions],
    ) -> InsertManyResult:
        """Insert documents.

        Parameters
        ----------
        documents
            As `insert_one`; at least one, at most ``max_bulk_operations``.

        Raises
        ------
        pymongo.errors.BulkWriteError
            If one of them could not be inserted.
        """
        given = (ordered, bypass_document_validation, session, comment)
        with self._begin("insert_many", Purpose.WRITE) as operation:
            stamped = await _stamp_all(documents, operation)
            settings = self._options("insert_many", given, unknown)
        inserted: InsertManyResult = await operation.run("insert_many", stamped, **settings)
        return inserted

    @takes(UpdateOptions, after="update")
    async def update_one(
        self,
        filter: Filter,
        update: Update,
        upsert: bool = False,
        bypass_document_validation: Literal[False] | None = None,
        collation: Collation | Mapping[str, Any] | None = None,
        array_filters: Sequence[Mapping[str, Any]] | None = None,
        hint: Keys | None = None,
        session: AnySession | None = None,
        let: Mapping[str, Any] | None = None,
        sort: Keys | None = None,
        comment: Any = None,
        **unknown: Unpack[NoOptions],
    ) -> UpdateResult:
        """Change one document that matches.

        Parameters
        ----------
        filter
            Which document.
        update
            Operators or a pipeline. It may not write ``app_id``.

        Raises
        ------
        QueryRefused
            If the filter, the update or an option is refused; the message has its path.
        """
        given = (
            upsert or None,
            bypass_document_validation,
            collation,
            array_filters,
            hint,
            session,
            let,
            sort,
            comment,
        )
        return await self._update("update_one", filter, update, given, unknown)

    @takes(UpdateManyOptions, after="update")
    async def update_many(
        self,
        filter: Filter,
        update: Update,
        upsert: bool = False,
        array_filters: Sequence[Mapping[str, Any]] | None = None,
        bypass_document_validation: Literal[False] | None = None,
        collation: Collation | Mapping[str, Any] | None = None,
        hint: Keys | None = None,
        session: AnySession | None = None,
        let: Mapping[str, Any] | None = None,
        comment: Any = None,
        **unknown: Unpack[NoOptions],
    ) -> UpdateResult:
        """Change all documents that match; as `update_one`."""
        given = (
            upsert or None,
            array_filters,
            bypass_document_validation,
            collation,
            hint,
            session,
            let,
            comment,
        )
        return await self._update("update_many", filter, update, given, unknown)

    @takes(ReplaceOptions, after="replacement")
    async def replace_one(
        self,
        filter: Filter,
        replacement: Mapping[str, Any],
        upsert: bool = False,
        bypass_document_validation: Literal[False] | None = None,
        collation: Collation | Mapping[str, Any] | None = None,
        hint: Keys | None = None,
        session: AnySession | None = None,
        let: Mapping[str, Any] | None = None,
        sort: Keys | None = None,
        comment: Any = None,
        **unknown: Unpack[NoOptions],
    ) -> UpdateResult:
        """Put another document in the place of one that matches.

        Parameters
        ----------
        filter
            Which document.
        replacement
            The new one, which is stamped as an inserted one is.
        """
        given = (
            upsert or None,
            bypass_document_validation,
            collation,
            hint,
            session,
            let,
            sort,
            comment,
        )
        with self._begin("replace_one", Purpose.WRITE) as operation:
            settings = self._options("replace_one", given, unknown)
            query = _write_filter(filter, operation, settings)
            stamped = stamp_replacement(
                replacement, operation.target, operation.limits, codecs=operation.codecs
            )
        replaced: UpdateResult = await operation.run(
            "replace_one", query, stamped, by_id=is_by_id(query, settings), **settings
        )
        return replaced

    @takes(DeleteOptions, after="filter")
    async def delete_one(
        self,
        filter: Filter,
        collation: Collation | Mapping[str, Any] | None = None,
        hint: Keys | None = None,
        session: AnySession | None = None,
        let: Mapping[str, Any] | None = None,
        comment: Any = None,
        **unknown: Unpack[NoOptions],
    ) -> DeleteResult:
        """Delete one document that matches.

        Parameters
        ----------
        filter
            Which document.
        """
        given = (collation, hint, session, let, comment)
        return await self._delete("delete_one", filter, given, unknown)

    @takes(DeleteOptions, after="filter")
    async def delete_many(
        self,
        filter: Filter,
        collation: Collation | Mapping[str, Any] | None = None,
        hint: Keys | None = None,
        session: AnySession | None = None,
        let: Mapping[str, Any] | None = None,
        comment: Any = None,
        **unknown: Unpack[NoOptions],
    ) -> DeleteResult:
        """Delete all documents that match; as `delete_one`."""
        given = (collation, hint, session, let, comment)
        return await self._delete("delete_many", filter, given, unknown)

    @takes(FindAndUpdateOptions, after="update")
    async def find_one_and_update(
        self,
        filter: Filter,
        update: Update,
        projection: Projection | None = None,
        sort: Keys | None = None,
        upsert: bool = False,
        return_document: bool = False,
        array_filters: Sequence[Mapping[str, Any]] | None = None,
        hint: Keys | None = None,
        session: AnySession | None = None,
        let: Mapping[str, Any] | None = None,
        comment: Any = None,
        *,
        collation: Collation | Mapping[str, Any] | None = None,
        maxTimeMS: int | None = None,
        **unknown: Unpack[NoOptions],
    ) -> Document | None:
        """Change one document and return it as it was, or as it is with ``return_document=True``.

        Parameters
        ----------
        filter, update
            As `update_one`.
        """
        given = (
            projection,
            sort,
            upsert or None,
            return_document or None,
            array_filters,
            hint,
            session,
            let,
            comment,
            collation,
            maxTimeMS,
        )
        with self._begin("find_one_and_update", Purpose.WRITE) as operation:
            settings = self._options("find_one_and_update", given, unknown)
            query = _write_filter(filter, operation, settings)
            changes = scope_update(
                update, operation.target, operation.limits, codecs=operation.codecs
            )
            _scope_array_filters(settings, operation)
        found: Document | None = await operation.run(
            "find_one_and_update", query, changes, by_id=is_by_id(query, settings), **settings
        )
        return found

    @takes(FindAndReplaceOptions, after="replacement")
    async def find_one_and_replace(
        self,
        filter: Filter,
        replacement: Mapping[str, Any],
        projection: Projection | None = None,
        sort: Keys | None = None,
        upsert: bool = False,
        return_document: bool = False,
        hint: Keys | None = None,
        session: AnySession | None = None,
        let: Mapping[str, Any] | None = None,
        comment: Any = None,
        *,
        collation: Collation | Mapping[str, Any] | None = None,
        maxTimeMS: int | None = None,
        **unknown: Unpack[NoOptions],
    ) -> Document | None:
        """Replace one document and return it as it was, or as it is with ``return_document=True``.

        Parameters
        ----------
        filter, replacement
            As `replace_one`.
        """
        given = (
            projection,
            sort,
            upsert or None,
            return_document or None,
            hint,
            session,
            let,
            comment,
            collation,
            maxTimeMS,
        )
        with self._begin("find_one_and_replace", Purpose.WRITE) as operation:
            settings = self._options("find_one_and_replace", given, unknown)
            query = _write_filter(filter, operation, settings)
            stamped = stamp_replacement(
                replacement, operation.target, operation.limits, codecs=operation.codecs
            )
        found: Document | None = await operation.run(
            "find_one_and_replace", query, stamped, by_id=is_by_id(query, settings), **settings
        )
        return found

    @takes(FindAndModifyOptions, after="filter")
    async def find_one_and_delete(
        self,
        filter: Filter,
        projection: Projection | None = None,
        sort: Keys | None = None,
        hint: Keys | None = None,
        session: AnySession | None = None,
        let: Mapping[str, Any] | None = None,
        comment: Any = None,
        *,
        collation: Collation | Mapping[str, Any] | None = None,
        maxTimeMS: int | None = None,
        **unknown: Unpack[NoOptions],
    ) -> Document | None:
        """Delete one document and return it.

        Parameters
        ----------
        filter
            Which document.
        """
        given = (projection, sort, hint, session, let, comment, collation, maxTimeMS)
        with self._begin("find_one_and_delete", Purpose.WRITE) as operation:
            settings = self._options("find_one_and_delete", given, unknown)
            query = _write_filter(filter, operation, settings)
        found: Document | None = await operation.run(
            "find_one_and_delete", query, by_id=is_by_id(query, settings), **settings
        )
        return found

    @takes(BulkOptions, after="requests")
    async def bulk_write(
        self,
        requests: Iterable[Request],
        ordered: bool = True,
        bypass_document_validation: Literal[False] | None = None,
        session: AnySession | None = None,
        comment: Any = None,
        let: Mapping[str, Any] | None = None,
        **unknown: Unpack[NoOptions],
    ) -> BulkWriteResult:
        """Send several writes at once.

        Parameters
        ----------
        requests
            The drivers' ``InsertOne``, ``UpdateOne``, ``UpdateMany``, ``ReplaceOne``,
            ``DeleteOne`` and ``DeleteMany``; each is scoped as its single operation is.

        Raises
        ------
        pymongo.errors.BulkWriteError
            If one of them failed.
        QueryRefused
            If one of them is refused; then none is sent.
        """
        given = (ordered, bypass_document_validation, session, comment, let)
        with self._begin("bulk_write", Purpose.WRITE) as operation:
            scoped = scope_requests(
                requests, operation.target, operation.limits, codecs=operation.codecs
            )
            settings = self._options("bulk_write", given, unknown)
        written: BulkWriteResult = await operation.run("bulk_write", scoped, **settings)
        return written

    async def _update(
        self,
        name: str,
        filter: Filter,
        update: Update,
        given: tuple[Any, ...],
        unknown: Mapping[str, Any],
    ) -> UpdateResult:
        with self._begin(name, Purpose.WRITE) as operation:
            settings = self._options(name, given, unknown)
            query = _write_filter(filter, operation, settings)
            changes = scope_update(
                update, operation.target, operation.limits, codecs=operation.codecs
            )
            _scope_array_filters(settings, operation)
        updated: UpdateResult = await operation.run(
            name, query, changes, by_id=is_by_id(query, settings), **settings
        )
        return updated

    async def _delete(
        self, name: str, filter: Filter, given: tuple[Any, ...], unknown: Mapping[str, Any]
    ) -> DeleteResult:
        with self._begin(name, Purpose.WRITE) as operation:
            settings = self._options(name, given, unknown)
            query = _write_filter(filter, operation, settings)
        deleted: DeleteResult = await operation.run(
            name, query, by_id=is_by_id(query, settings), **settings
        )
        return deleted


def _write_filter(
    filter: Filter, operation: Operation, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Scope the filter of a write, which has to be given: forgotten is not the same as all."""
    if filter is None:
        raise OptionRefused(
            f"{operation.name} needs a filter; {{}} for all documents", path="filter"
        )
    scope = scope_upsert_filter if settings.get("upsert") else scope_filter
    query = scope(filter, operation.target, operation.limits, codecs=operation.codecs)
    return exactly(query, operation.target, settings) if settings else query


def _scope_array_filters(settings: dict[str, Any], operation: Operation) -> None:
    if "array_filters" in settings:
        settings["array_filters"] = scope_array_filters(settings["array_filters"], operation.limits)


async def _stamp_all(
    documents: Iterable[Mapping[str, Any]], operation: Operation
) -> list[dict[str, Any]]:
    """Stamp documents, and let other tasks run now and then; the app is then admitted again."""
    limits, target, codecs = operation.limits, operation.target, operation.codecs
    given = members(documents, "documents")
    stamped = []
    for index, document in enumerate(tuple(given) if isinstance(given, list) else given):
        path: Position = ("documents", index)
        if index >= limits.max_bulk_operations:
            raise limits.exceeded("max_bulk_operations", "insert_many has more documents", path)
        if index % DOCUMENTS_AT_ONCE == DOCUMENTS_AT_ONCE - 1:
            await asyncio.sleep(0)
        one = stamp_document(document, target, limits, path=path, codecs=codecs)
        _return_id(document, one)
        stamped.append(one)
    if not stamped:
        raise OptionRefused("documents has to hold at least one document", path="documents")
    if len(stamped) >= DOCUMENTS_AT_ONCE:
        operation.recheck()
    return stamped


def _return_id(document: Mapping[str, Any], stamped: Mapping[str, Any]) -> None:
    """Let the caller's document have the ``_id`` that was made for it, as the drivers do."""
    if (type(document) is dict or isinstance(document, MutableMapping)) and "_id" not in document:
        document["_id"] = stamped["_id"]
