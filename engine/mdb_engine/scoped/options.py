"""The options that each operation takes, as data: what is not listed is refused by name.

The types are what a type checker reads at the call, and their keys are the allow-list that is
checked at run time, so the two cannot differ. The names are the drivers', camelCase where the
drivers pass a keyword straight to the server's command. Each value is checked and copied before it
is sent.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypedDict, TypeVar

from bson.timestamp import Timestamp
from pymongo.collation import Collation

from mdb_engine.exceptions import LimitExceeded, OptionRefused
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.rewrite.bodies import check_sort
from mdb_engine.scoped.rewrite.expressions import check_expression, scope_let
from mdb_engine.scoped.rewrite.filters import scope_projection
from mdb_engine.scoped.rewrite.refusals import Position, shown, written
from mdb_engine.scoped.rewrite.values import plain_mapping, plain_value
from mdb_engine.scoped.transaction import AnySession

__all__ = [
    "PARAMETERS",
    "REFUSED_OPTIONS",
    "AggregateOptions",
    "BulkOptions",
    "CommonOptions",
    "CountOptions",
    "DeleteOptions",
    "DistinctOptions",
    "EstimateOptions",
    "FindAndModifyOptions",
    "FindAndReplaceOptions",
    "FindAndUpdateOptions",
    "FindOptions",
    "IndexOptions",
    "InsertManyOptions",
    "Keys",
    "NoOptions",
    "Projection",
    "ReplaceOptions",
    "UpdateManyOptions",
    "UpdateOptions",
    "WatchOptions",
    "accept",
    "collation_document",
    "count",
    "field_name",
    "key_list",
    "takes",
    "unknown_option",
]

Method = TypeVar("Method", bound=Callable[..., Any])

Keys = str | Sequence[str | tuple[str, Any]] | Mapping[str, Any]
"""Fields with a direction: ``"day"``, ``[("day", -1)]`` or ``{"day": -1}``."""

Projection = Mapping[str, Any] | Sequence[str]
"""The fields that a query returns: a mapping, or a list of names."""


class NoOptions(TypedDict):
    """What a method takes besides its parameters: nothing. What is given is refused by name."""


class CommonOptions(TypedDict, total=False):
    """What every operation takes."""

    session: AnySession | None
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


IndexOptions = TypedDict(
    "IndexOptions",
    {
        "2dsphereIndexVersion": int,
        "background": bool,
        "bits": int,
        "collation": Collation | Mapping[str, Any] | None,
        "default_language": str,
        "expireAfterSeconds": int,
        "hidden": bool,
        "language_override": str,
        "max": float,
        "min": float,
        "name": str,
        "partialFilterExpression": Mapping[str, Any],
        "sparse": bool,
        "textIndexVersion": int,
        "unique": bool,
        "weights": Mapping[str, int],
        "wildcardProjection": Mapping[str, Any],
    },
    total=False,
)
"""Options of ``create_index``, by their names in MongoDB."""


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


class Parameters(NamedTuple):
    """The parameters of a method that are options.

    Parameters
    ----------
    allowed
        The type whose keys are the options that it takes; the other parameters are refused.
    names
        Their names, in the method's order.
    nothing
        What they are where none is given.
    """

    allowed: type
    names: tuple[str, ...]
    nothing: tuple[None, ...]


PARAMETERS: Final[dict[str, Parameters]] = {}
"""By method, as `takes` noted them."""


def takes(allowed: type, *, after: str) -> Callable[[Method], Method]:
    """Note which parameters of a method are options, so that it need not name them again.

    Parameters
    ----------
    allowed
        One of the types above.
    after
        The last parameter that is none. The last of all, ``**unknown``, is none either.
    """

    def note(method: Method) -> Method:
        parameters = tuple(inspect.signature(method).parameters)
        names = parameters[parameters.index(after) + 1 : -1]
        PARAMETERS[method.__name__] = Parameters(allowed, names, (None,) * len(names))
        return method

    return note


def _asks_for_nothing(name: str, value: object) -> bool:
    """Say whether an option that is refused is given as what it is where it is not given."""
    if name not in REFUSED_OPTIONS:
        return False
    return value is None or value is False or (name == "cursor_type" and value == 0)


def _is_nothing(name: str, value: object) -> bool:
    """Say whether an option is given as what the drivers take for not given."""
    kind = type(value)
    if kind is int:
        return value == 0 and name in _NO_TIME
    return name == "sort" and kind in _EMPTY and not value


_EMPTY: Final = frozenset({dict, list, tuple})
_NO_TIME: Final = frozenset({"max_await_time_ms", "max_time_ms", "maxTimeMS"})


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
        if name in names:
            if value is not None and not _is_nothing(name, value):
                accepted[name] = READERS[name](value, limits, name)
        elif not _asks_for_nothing(name, value):
            raise unknown_option(operation, name, names)
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


_LARGEST_COUNT = 2**31 - 1
"""The largest number that the server takes for ``batch_size``; far more than can be skipped."""


def key_list(value: Any, limits: Limits, path: Position) -> list[tuple[str, Any]]:
    """Bring fields with a direction into one form; a direction may be ``{"$meta": ...}``."""
    plain = plain_value(value, limits, path)
    if isinstance(plain, str):
        plain = [plain]
    items = list(plain.items()) if isinstance(plain, dict) else plain
    if not isinstance(items, list) or not items:
        raise _wrong_value("has to name at least one field", path)
    return [_key(item, (path, index)) for index, item in enumerate(items)]


def _wrong_value(what: str, path: Position) -> OptionRefused:
    where = written(path)
    return OptionRefused(f"{where} {what}", path=where)


def _key(item: Any, path: Position) -> tuple[str, Any]:
    name, direction = (item, 1) if isinstance(item, str) else _pair(item, path)
    if isinstance(direction, dict):
        check_expression(direction, (path, name))
    return name, direction


def _pair(item: Any, path: Position) -> tuple[str, Any]:
    match item:
        case [str(name), direction]:
            return name, direction
        case _:
            raise OptionRefused(
                f"{written(path)} has to be a field's name or (name, direction)", path=written(path)
            )


def field_name(value: Any, limits: Limits, path: Position) -> str:
    """Check the name of a field that ``distinct`` is to look at; it may have dots."""
    name = plain_value(value, limits, path)
    if not isinstance(name, str) or not name or name.startswith("$") or "\0" in name:
        raise OptionRefused(
            "distinct takes a field's name, without a leading $", path=written(path)
        )
    return name


def _sort(value: Any, limits: Limits, path: Position) -> dict[str, Any]:
    keys = dict(key_list(value, limits, path))
    check_sort(keys, path)
    return keys


def _hint(value: Any, limits: Limits, path: Position) -> Any:
    # As a mapping, which all commands take: the drivers make one of pairs in some of them only.
    return (
        _text(value, limits, path)
        if isinstance(value, str)
        else dict(key_list(value, limits, path))
    )


def _bounds(value: Any, limits: Limits, path: Position) -> dict[str, Any]:
    plain = plain_value(value, limits, path)
    if not isinstance(plain, list):
        raise OptionRefused(
            f"{written(path)} has to be a list of (name, value)", path=written(path)
        )
    return dict(_pair(item, (path, index)) for index, item in enumerate(plain))


def collation_document(value: Any, limits: Limits, path: Position) -> dict[str, Any]:
    """Copy a collation, given as the drivers' object or as a mapping."""
    document = value.document if isinstance(value, Collation) else value
    return plain_mapping(document, limits, path)


def _time(value: Any, limits: Limits, path: Position) -> int:
    milliseconds = _number(value, limits, path)
    if not 0 < milliseconds <= limits.max_time_ms:
        raise LimitExceeded(
            f"{written(path)} has to lie between 1 and the limit max_time_ms, {limits.max_time_ms}",
            path=written(path),
        )
    return milliseconds


def _number(value: Any, limits: Limits, path: Position) -> int:
    if type(value) is int and abs(value) <= _LARGEST_COUNT:
        return value
    number = plain_value(value, limits, path)
    if not isinstance(number, int) or isinstance(number, bool):
        raise _wrong_value("has to be a whole number", path)
    return number


def count(value: Any, limits: Limits, path: Position) -> int:
    """Check a number of documents."""
    number = _number(value, limits, path)
    if not 0 <= number <= _LARGEST_COUNT:
        raise OptionRefused(
            f"{written(path)} has to lie between 0 and {_LARGEST_COUNT}", path=written(path)
        )
    return number


def _flag(value: Any, _limits: Limits, path: Position) -> bool:
    if not isinstance(value, bool):
        raise _wrong_value("has to be True or False", path)
    return value


def _text(value: Any, limits: Limits, path: Position) -> str:
    text = plain_value(value, limits, path)
    if not isinstance(text, str):
        raise _wrong_value("has to be a string", path)
    return text


def _timestamp(value: Any, _limits: Limits, path: Position) -> Timestamp:
    if type(value) is not Timestamp:
        raise OptionRefused(
            f"{written(path)} has to be a bson.timestamp.Timestamp", path=written(path)
        )
    return value


def _let(value: Any, limits: Limits, path: Position) -> dict[str, Any]:
    return scope_let(value, limits, path=path)


def _projection(value: Any, limits: Limits, path: Position) -> Any:
    return scope_projection(value, limits, path=path)


def _as_given(value: Any, _limits: Limits, _path: Position) -> Any:
    return value


READERS: Mapping[str, Callable[[Any, Limits, Position], Any]] = MappingProxyType(
    {
        "allow_disk_use": _flag,
        "allowDiskUse": _flag,
        "array_filters": _as_given,  # checked together with the update that it belongs to
        "batch_size": count,
        "batchSize": count,
        "collation": collation_document,
        "comment": plain_value,
        "full_document": _text,
        "full_document_before_change": _text,
        "hint": _hint,
        "let": _let,
        "limit": _number,  # a negative one asks for a single batch
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
        "skip": count,
        "sort": _sort,
        "start_after": plain_mapping,
        "start_at_operation_time": _timestamp,
        "upsert": _flag,
    }
)
"""How the value of an option is checked and copied."""
