"""The operations of a collection that read documents."""
# ruff: noqa: A002, N803, PLR0913, PLR0917 - the parameters are the drivers', in their order

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack

from bson.timestamp import Timestamp
from pymongo.collation import Collation

from mdb_engine.connection.driver import RawCollection, RawCursor, RawSession
from mdb_engine.scoped.context import Handle, Purpose
from mdb_engine.scoped.cursor import Document, ScopedChangeStream, ScopedCommandCursor, ScopedCursor
from mdb_engine.scoped.options import (
    AggregateOptions,
    CountOptions,
    DistinctOptions,
    EstimateOptions,
    FindOptions,
    Keys,
    NoOptions,
    Projection,
    WatchOptions,
    field_name,
    takes,
)
from mdb_engine.scoped.rewrite.filters import exactly, is_by_id, scope_projection, scope_read_filter
from mdb_engine.scoped.rewrite.pipelines import scope_change_stream_pipeline
from mdb_engine.scoped.transaction import AnySession

__all__ = ["Filter", "Pipeline", "Reads"]

Filter = Mapping[str, Any]
"""A query's filter."""

Pipeline = Sequence[Mapping[str, Any]]
"""The stages of an aggregation."""


class Reads(Handle):
    """Reading: the app's own documents, and those of apps that granted it."""

    __slots__ = ()

    @takes(FindOptions, after="projection")
    def find(
        self,
        filter: Filter | None = None,
        projection: Projection | None = None,
        skip: int | None = None,
        limit: int | None = None,
        no_cursor_timeout: Literal[False] | None = None,
        cursor_type: Literal[0] | None = None,
        sort: Keys | None = None,
        allow_partial_results: Literal[False] | None = None,
        oplog_replay: Literal[False] | None = None,
        batch_size: int | None = None,
        collation: Collation | Mapping[str, Any] | None = None,
        hint: Keys | None = None,
        max_scan: None = None,
        max_time_ms: int | None = None,
        max: Sequence[tuple[str, Any]] | None = None,
        min: Sequence[tuple[str, Any]] | None = None,
        *,
        comment: Any = None,
        session: AnySession | None = None,
        allow_disk_use: bool | None = None,
        let: Mapping[str, Any] | None = None,
        **unknown: Unpack[NoOptions],
    ) -> ScopedCursor:
        """Return a cursor over the documents that match; nothing is awaited to make it.

        Parameters
        ----------
        filter
            Which documents; None for all that the scope holds.
        projection
            Which fields: a mapping, or a list of names.

        Raises
        ------
        ScopeDenied
            If the app may not read the collection.
        QueryRefused
            If the filter, the projection or an option is refused.
        LimitExceeded
            If one of them is too large or too deep.
        """
        given = (
            skip,
            limit,
            no_cursor_timeout,
            cursor_type,
            sort,
            allow_partial_results,
            oplog_replay,
            batch_size,
            collation,
            hint,
            max_scan,
            max_time_ms,
            max,
            min,
            comment,
            session,
            allow_disk_use,
            let,
        )
        with self._begin("find", Purpose.READ) as operation:
            limits, target = operation.limits, operation.target
            query = scope_read_filter(filter, target, limits, codecs=operation.codecs)
            fields = None if projection is None else scope_projection(projection, limits)
            settings = self._options("find", given, unknown)
        return ScopedCursor(operation, query, fields, settings)

    @takes(FindOptions, after="projection")
    async def find_one(
        self,
        filter: Filter | Any | None = None,
        projection: Projection | None = None,
        skip: int | None = None,
        limit: int | None = None,
        no_cursor_timeout: Literal[False] | None = None,
        cursor_type: Literal[0] | None = None,
        sort: Keys | None = None,
        allow_partial_results: Literal[False] | None = None,
        oplog_replay: Literal[False] | None = None,
        batch_size: int | None = None,
        collation: Collation | Mapping[str, Any] | None = None,
        hint: Keys | None = None,
        max_scan: None = None,
        max_time_ms: int | None = None,
        max: Sequence[tuple[str, Any]] | None = None,
        min: Sequence[tuple[str, Any]] | None = None,
        *,
        comment: Any = None,
        session: AnySession | None = None,
        allow_disk_use: bool | None = None,
        let: Mapping[str, Any] | None = None,
        **unknown: Unpack[NoOptions],
    ) -> Document | None:
        """Return one document that matches, or None.

        Parameters
        ----------
        filter
            Which document; a value that is not a mapping is taken for its ``_id``.
        projection
            Which fields.
        """
        given = (
            skip,
            limit,
            no_cursor_timeout,
            cursor_type,
            sort,
            allow_partial_results,
            oplog_replay,
            batch_size,
            collation,
            hint,
            max_scan,
            max_time_ms,
            max,
            min,
            comment,
            session,
            allow_disk_use,
            let,
        )
        with self._begin("find_one", Purpose.READ) as operation:
            limits = operation.limits
            wanted = filter
            if type(filter) is not dict and filter is not None and not isinstance(filter, Mapping):
                wanted = {"_id": filter}
            query = scope_read_filter(wanted, operation.target, limits, codecs=operation.codecs)
            fields = None if projection is None else scope_projection(projection, limits)
            settings = self._options("find_one", given, unknown)
            if settings:
                settings.pop("limit", None)
                query = exactly(query, operation.target, settings)
        found: Document | None = await operation.run(
            "find_one", query, fields, by_id=is_by_id(query, settings), **settings
        )
        return found

    @takes(AggregateOptions, after="pipeline")
    def aggregate(
        self,
        pipeline: Pipeline,
        session: AnySession | None = None,
        let: Mapping[str, Any] | None = None,
        comment: Any = None,
        *,
        allowDiskUse: bool | None = None,
        batchSize: int | None = None,
        collation: Collation | Mapping[str, Any] | None = None,
        hint: Keys | None = None,
        maxTimeMS: int | None = None,
        **unknown: Unpack[NoOptions],
    ) -> ScopedCommandCursor:
        """Return a cursor over what a pipeline makes of the documents in scope.

        Parameters
        ----------
        pipeline
            The stages. Collections that it names are read as this app may read them; ``$out`` and
            ``$merge`` write into the app's own collections, at the first document or ``to_list``.

        Raises
        ------
        ScopeDenied
            If it names a collection that the app may not read, or writes into another app's.
        QueryRefused
            If a stage, an operator or an option is refused; the message has its path.
        LimitExceeded
            If it is too large, too deep or too long.
        """
        given = (session, let, comment, allowDiskUse, batchSize, collation, hint, maxTimeMS)
        with self._begin("aggregate", Purpose.READ) as operation:
            context = operation.context
            settings = {
                "maxTimeMS": context.limits.max_time_ms,
                **self._options("aggregate", given, unknown),
            }
            stages = operation.pipeline(pipeline, collated="collation" in settings)
            transaction = settings.pop("session", None)

        async def start(collection: RawCollection, session: RawSession | None) -> RawCursor:
            if session is not None:
                return await context.driver.aggregate(
                    collection, stages, session=session, **settings
                )
            return await context.driver.aggregate(collection, stages, **settings)

        return ScopedCommandCursor(operation, start, transaction)

    @takes(CountOptions, after="filter")
    async def count_documents(
        self,
        filter: Filter,
        session: AnySession | None = None,
        comment: Any = None,
        *,
        collation: Collation | Mapping[str, Any] | None = None,
        hint: Keys | None = None,
        limit: int | None = None,
        maxTimeMS: int | None = None,
        skip: int | None = None,
        **unknown: Unpack[NoOptions],
    ) -> int:
        """Count the documents that match.

        Parameters
        ----------
        filter
            Which documents.
        """
        given = (session, comment, collation, hint, limit, maxTimeMS, skip)
        with self._begin("count_documents", Purpose.READ) as operation:
            query = scope_read_filter(
                filter, operation.target, operation.limits, codecs=operation.codecs
            )
            settings = self._options("count_documents", given, unknown)
            if settings:
                query = exactly(query, operation.target, settings)
        counted: int = await operation.run("count_documents", query, **settings)
        return counted

    @takes(EstimateOptions, after="self")
    async def estimated_document_count(
        self,
        comment: Any = None,
        *,
        maxTimeMS: int | None = None,
        session: AnySession | None = None,
        **unknown: Unpack[NoOptions],
    ) -> int:
        """Count the documents in scope.

        Notes
        -----
        The server's own estimate counts all documents of the collection. It is used where MongoDB
        holds the stamp in a collection of the app's own, so that there are no others; elsewhere,
        and in a transaction, this is exact, and as slow as ``count_documents({})``.
        """
        given = (comment, maxTimeMS, session)
        with self._begin("estimated_document_count", Purpose.READ) as operation:
            settings = self._options("estimated_document_count", given, unknown)
            query = scope_read_filter(None, operation.target, operation.limits)
        if operation.target.implied and "session" not in settings:
            counted: int = await operation.run("estimated_document_count", **settings)
        else:
            counted = await operation.run("count_documents", query, **settings)
        return counted

    @takes(DistinctOptions, after="filter")
    async def distinct(
        self,
        key: str,
        filter: Filter | None = None,
        session: AnySession | None = None,
        comment: Any = None,
        hint: Keys | None = None,
        *,
        collation: Collation | Mapping[str, Any] | None = None,
        maxTimeMS: int | None = None,
        **unknown: Unpack[NoOptions],
    ) -> list[Any]:
        """Return the distinct values of a field.

        Parameters
        ----------
        key
            The field.
        filter
            Of which documents; None for all that the scope holds.
        """
        given = (session, comment, hint, collation, maxTimeMS)
        with self._begin("distinct", Purpose.READ) as operation:
            limits = operation.limits
            field = field_name(key, limits, "key")
            query = scope_read_filter(filter, operation.target, limits, codecs=operation.codecs)
            settings = self._options("distinct", given, unknown)
            if settings:
                query = exactly(query, operation.target, settings)
        found: list[Any] = await operation.run("distinct", field, query, **settings)
        return found

    @takes(WatchOptions, after="pipeline")
    def watch(
        self,
        pipeline: Pipeline | None = None,
        full_document: str | None = None,
        resume_after: Mapping[str, Any] | None = None,
        max_await_time_ms: int | None = None,
        batch_size: int | None = None,
        collation: Collation | Mapping[str, Any] | None = None,
        start_at_operation_time: Timestamp | None = None,
        *,
        start_after: Mapping[str, Any] | None = None,
        comment: Any = None,
        full_document_before_change: str | None = None,
        **unknown: Unpack[NoOptions],
    ) -> ScopedChangeStream:
        """Return a stream of the collection's changes; nothing is awaited to make it.

        Parameters
        ----------
        pipeline
            Stages that select and shape the events.

        Raises
        ------
        ScopeDenied
            If the app may not read the collection.
        QueryRefused
            If a stage or an option is refused.
        """
        given = (
            full_document,
            resume_after,
            max_await_time_ms,
            batch_size,
            collation,
            start_at_operation_time,
            start_after,
            comment,
            full_document_before_change,
        )
        with self._begin("watch", Purpose.READ) as operation:
            limits = operation.limits
            settings = self._options("watch", given, unknown)
            asked = settings.get("full_document", "default") != "default"
            stages = scope_change_stream_pipeline(
                pipeline,
                operation.target,
                limits,
                collated="collation" in settings,
                full_document=asked,
                codecs=operation.codecs,
            )
            if not asked and not operation.target.stamped:
                settings["full_document"] = "updateLookup"
        return ScopedChangeStream(operation, stages, settings)
