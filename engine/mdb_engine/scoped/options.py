"""The options that each operation takes, as data: what is not listed is refused by name.

The types are what a type checker reads at the call, and their keys are the allow-list that is
checked at run time, so the two cannot differ. The names are the drivers', camelCase where the
drivers pass a keyword straight to the server's command.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypedDict

from bson.timestamp import Timestamp
from pymongo.collation import Collation

from mdb_engine.exceptions import OptionRefused
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.option_values import READERS
from mdb_engine.scoped.refusals import shown
from mdb_engine.scoped.transaction import Transaction

__all__ = [
    "REFUSED_OPTIONS",
    "AggregateOptions",
    "BulkOptions",
    "CommonOptions",
    "CountOptions",
    "DeleteOptions",
    "DistinctOptions",
    "EstimateOptions",
    "FindAndModifyOptions",
    "FindAndUpdateOptions",
    "FindOptions",
    "InsertManyOptions",
    "Keys",
    "ReplaceOptions",
    "UpdateManyOptions",
    "UpdateOptions",
    "WatchOptions",
    "accept",
    "unknown_option",
]

Keys = str | Sequence[str | tuple[str, Any]] | Mapping[str, Any]
"""Fields with a direction: ``"day"``, ``[("day", -1)]`` or ``{"day": -1}``."""

Projection = Mapping[str, Any] | Sequence[str]


class CommonOptions(TypedDict, total=False):
    """What every operation takes."""

    session: Transaction | None
    comment: Any


class FindOptions(CommonOptions, total=False):
    """Options of ``find`` and ``find_one``; a cursor's methods set the same."""

    allow_disk_use: bool | None
    batch_size: int
    collation: Collation | Mapping[str, Any] | None
    hint: Keys | None
    let: Mapping[str, Any] | None
    limit: int
    max: Sequence[tuple[str, Any]] | None
    max_time_ms: int | None
    min: Sequence[tuple[str, Any]] | None
    skip: int
    sort: Keys | None


class AggregateOptions(CommonOptions, total=False):
    """Options of ``aggregate``."""

    allowDiskUse: bool | None
    batchSize: int | None
    collation: Collation | Mapping[str, Any] | None
    hint: Keys | None
    let: Mapping[str, Any] | None
    maxTimeMS: int | None


class CountOptions(CommonOptions, total=False):
    """Options of ``count_documents``."""

    collation: Collation | Mapping[str, Any] | None
    hint: Keys | None
    limit: int
    maxTimeMS: int | None
    skip: int


class DistinctOptions(CommonOptions, total=False):
    """Options of ``distinct``."""

    collation: Collation | Mapping[str, Any] | None
    hint: Keys | None
    maxTimeMS: int | None


class EstimateOptions(CommonOptions, total=False):
    """Options of ``estimated_document_count``."""

    maxTimeMS: int | None


class InsertManyOptions(CommonOptions, total=False):
    """Options of ``insert_many``."""

    ordered: bool


class BulkOptions(CommonOptions, total=False):
    """Options of ``bulk_write``."""

    let: Mapping[str, Any] | None
    ordered: bool


class DeleteOptions(CommonOptions, total=False):
    """Options of ``delete_one`` and ``delete_many``."""

    collation: Collation | Mapping[str, Any] | None
    hint: Keys | None
    let: Mapping[str, Any] | None


class UpdateManyOptions(DeleteOptions, total=False):
    """Options of ``update_many``."""

    array_filters: Sequence[Mapping[str, Any]] | None
    upsert: bool


class UpdateOptions(UpdateManyOptions, total=False):
    """Options of ``update_one``; ``sort`` needs MongoDB 8."""

    sort: Keys | None


class ReplaceOptions(DeleteOptions, total=False):
    """Options of ``replace_one``; ``sort`` needs MongoDB 8."""

    sort: Keys | None
    upsert: bool


class FindAndModifyOptions(DeleteOptions, total=False):
    """Options of ``find_one_and_delete``."""

    maxTimeMS: int | None
    projection: Projection | None
    sort: Keys | None


class FindAndReplaceOptions(FindAndModifyOptions, total=False):
    """Options of ``find_one_and_replace``."""

    return_document: bool
    upsert: bool


class FindAndUpdateOptions(FindAndReplaceOptions, total=False):
    """Options of ``find_one_and_update``."""

    array_filters: Sequence[Mapping[str, Any]] | None


class WatchOptions(TypedDict, total=False):
    """Options of ``watch``, which cannot be part of a transaction."""

    batch_size: int | None
    collation: Collation | Mapping[str, Any] | None
    comment: Any
    full_document: str | None
    full_document_before_change: str | None
    max_await_time_ms: int | None
    resume_after: Mapping[str, Any] | None
    start_after: Mapping[str, Any] | None
    start_at_operation_time: Timestamp | None


_KEEP_VALIDATION = "a collection's validation is there to be kept"

REFUSED_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "allow_partial_results": "a result that silently lacks documents is no result",
        "bypassDocumentValidation": _KEEP_VALIDATION,
        "bypass_document_validation": _KEEP_VALIDATION,
        "cursor_type": "tailable and exhaust cursors hold a connection; use watch()",
        "encrypted_fields": "client-side field encryption is not set up by the engine",
        "explain": "use find(...).explain()",
        "max_scan": "MongoDB removed it; use max_time_ms",
        "modifiers": "MongoDB removed them; use the named options",
        "no_cursor_timeout": "a cursor that never ends holds the server's memory",
        "oplog_replay": "MongoDB ignores it",
        "return_key": "it would return index entries instead of documents",
        "session_id": "use session=tx",
        "show_expanded_events": "they tell of indexes and options, not of documents",
        "show_record_id": "it would return the server's internal ids",
        "snapshot": "MongoDB removed it; sort by _id",
        "timeseries": "the documents of a time series cannot be updated one by one",
        "viewOn": "a view could show another app's data; use aggregate",
    }
)
"""Options that the drivers know and the engine refuses, with the reason."""


def _asks_for_nothing(name: str, value: object) -> bool:
    """Say whether an option that is refused is given as what it is where it is not given."""
    if name not in REFUSED_OPTIONS:
        return False
    return value is None or value is False or (name == "cursor_type" and value == 0)


def accept(
    operation: str, given: Mapping[str, Any], allowed: type, limits: Limits
) -> dict[str, Any]:
    """Check an operation's options against its allow-list.

    Parameters
    ----------
    operation
        The operation's name, for the message.
    given
        The options; None stands for one that is not given.
    allowed
        One of the types above.
    limits
        The limits of size, depth and time.

    Returns
    -------
    dict
        The engine's own copies of the options that are not None.

    Raises
    ------
    OptionRefused
        If an option is unknown, of the wrong kind, or refused and asks for something.
    LimitExceeded
        If it is longer than the time limit.
    """
    names = allowed.__annotations__
    accepted: dict[str, Any] = {}
    for name, value in given.items():
        if name not in names:
            if _asks_for_nothing(name, value):
                continue
            raise unknown_option(operation, name, names)
        if value is not None:
            accepted[name] = READERS[name](value, limits, name)
    return accepted


def unknown_option(operation: str, name: str, names: Mapping[str, Any]) -> OptionRefused:
    """Make the error for an option that an operation does not take.

    Parameters
    ----------
    operation
        The operation's name.
    name
        The option.
    names
        The options that it takes.
    """
    if name in REFUSED_OPTIONS:
        return OptionRefused(f"{operation} refuses {name}: {REFUSED_OPTIONS[name]}", path=name)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(sorted(names))}"
    return OptionRefused(f"{operation} has no option {shown(name)}; {hint}", path=name)
