"""The options that each operation takes, as data: what is not listed is refused by name.

The types are what a type checker reads at the call, and their keys are the allow-list that is
checked at run time, so the two cannot differ. The names are the drivers', camelCase where the
drivers pass a keyword straight to the server's command.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypedDict

from bson.timestamp import Timestamp
from pymongo.collation import Collation

from mdb_engine.exceptions import LimitExceeded
from mdb_engine.scoped.errors import OptionRefused
from mdb_engine.scoped.expressions import check_expression, scope_let
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.projections import scope_projection
from mdb_engine.scoped.refusals import shown
from mdb_engine.scoped.transaction import Transaction
from mdb_engine.scoped.values import plain_mapping, plain_value

__all__ = [
    "REFUSED_OPTIONS",
    "AggregateOptions",
    "BulkOptions",
    "CommonOptions",
    "CountOptions",
    "DeleteOptions",
    "DistinctOptions",
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
    "key_list",
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


REFUSED_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "allow_partial_results": "a result that silently lacks documents is no result",
        "bypass_document_validation": "a collection's validation is there to be kept",
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
    }
)
"""Options that the drivers know and the engine refuses, with the reason."""


def key_list(value: Any, limits: Limits, path: str) -> list[tuple[str, Any]]:
    """Bring fields with a direction into one form; a direction may be ``{"$meta": ...}``."""
    plain = plain_value(value, limits, path)
    if isinstance(plain, str):
        plain = [plain]
    items = list(plain.items()) if isinstance(plain, dict) else plain
    if not isinstance(items, list) or not items:
        raise OptionRefused(f"{path} has to name at least one field", path=path)
    return [_key(item, f"{path}[{index}]") for index, item in enumerate(items)]


def _key(item: Any, path: str) -> tuple[str, Any]:
    name, direction = (item, 1) if isinstance(item, str) else _pair(item, path)
    if isinstance(direction, dict):
        check_expression(direction, f"{path}.{shown(name)}")
    return name, direction


def _pair(item: Any, path: str) -> tuple[str, Any]:
    match item:
        case [str(name), direction]:
            return name, direction
        case _:
            raise OptionRefused(f"{path} has to be a field's name or (name, direction)", path=path)


def _hint(value: Any, limits: Limits, path: str) -> Any:
    return value if type(value) is str else key_list(value, limits, path)


def _bounds(value: Any, limits: Limits, path: str) -> dict[str, Any]:
    plain = plain_value(value, limits, path)
    if not isinstance(plain, list):
        raise OptionRefused(f"{path} has to be a list of (name, value)", path=path)
    return dict(_pair(item, f"{path}[{index}]") for index, item in enumerate(plain))


def _collation(value: Any, limits: Limits, path: str) -> Any:
    return value.document if type(value) is Collation else plain_mapping(value, limits, path)


def _time(value: Any, limits: Limits, path: str) -> int:
    milliseconds = _count(value, limits, path)
    if not 0 < milliseconds <= limits.max_time_ms:
        raise LimitExceeded(
            f"{path} has to lie between 1 and the limit max_time_ms, {limits.max_time_ms}",
            path=path,
        )
    return milliseconds


def _count(value: Any, _limits: Limits, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise OptionRefused(f"{path} has to be a whole number", path=path)
    return int(value)


def _flag(value: Any, _limits: Limits, path: str) -> bool:
    if not isinstance(value, bool):
        raise OptionRefused(f"{path} has to be True or False", path=path)
    return value


def _text(value: Any, _limits: Limits, path: str) -> str:
    if type(value) is not str:
        raise OptionRefused(f"{path} has to be a string", path=path)
    return value


def _timestamp(value: Any, _limits: Limits, path: str) -> Timestamp:
    if type(value) is not Timestamp:
        raise OptionRefused(f"{path} has to be a bson.timestamp.Timestamp", path=path)
    return value


def _let(value: Any, limits: Limits, path: str) -> dict[str, Any]:
    return scope_let(value, limits, path=path)


def _projection(value: Any, limits: Limits, path: str) -> Any:
    return scope_projection(value, limits, path=path)


def _as_given(value: Any, _limits: Limits, _path: str) -> Any:
    return value


_READERS: Mapping[str, Callable[[Any, Limits, str], Any]] = {
    "allow_disk_use": _flag,
    "allowDiskUse": _flag,
    "array_filters": _as_given,  # checked together with the update that it belongs to
    "batch_size": _count,
    "batchSize": _count,
    "collation": _collation,
    "comment": plain_value,
    "full_document": _text,
    "full_document_before_change": _text,
    "hint": _hint,
    "let": _let,
    "limit": _count,
    "max": _bounds,
    "max_await_time_ms": _time,
    "max_time_ms": _time,
    "maxTimeMS": _time,
    "min": _bounds,
    "ordered": _flag,
    "projection": _projection,
    "resume_after": plain_mapping,
    "return_document": _flag,
    "session": _as_given,  # checked where the operation finds its place
    "skip": _count,
    "sort": key_list,
    "start_after": plain_mapping,
    "start_at_operation_time": _timestamp,
    "upsert": _flag,
}
"""How the value of an option is checked and copied."""


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
        If an option is unknown, refused, or of the wrong kind.
    LimitExceeded
        If it is longer than the time limit.
    """
    names = allowed.__annotations__
    accepted: dict[str, Any] = {}
    for name, value in given.items():
        if name not in names:
            raise _unknown(operation, name, names)
        if value is not None:
            accepted[name] = _READERS[name](value, limits, name)
    return accepted


def _unknown(operation: str, name: str, names: Mapping[str, Any]) -> OptionRefused:
    if name in REFUSED_OPTIONS:
        return OptionRefused(f"{operation} refuses {name}: {REFUSED_OPTIONS[name]}", path=name)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(sorted(names))}"
    return OptionRefused(f"{operation} has no option {shown(name)}; {hint}", path=name)
