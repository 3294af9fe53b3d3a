"""The values of options: how each one is checked and copied before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from bson.timestamp import Timestamp
from pymongo.collation import Collation

from mdb_engine.exceptions import (
    LimitExceeded,
    OptionRefused,
)
from mdb_engine.scoped.expressions import check_expression, scope_let
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.projections import scope_projection
from mdb_engine.scoped.refusals import shown
from mdb_engine.scoped.values import plain_mapping, plain_value
from mdb_engine.scoped.walk_shapes import check_sort

__all__ = ["READERS", "collation_document", "count", "field_name", "key_list"]

_LARGEST_COUNT = 2**31 - 1
"""The largest number that the server takes for ``batch_size``; far more than can be skipped."""


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


def field_name(value: Any, limits: Limits, path: str) -> str:
    """Check the name of a field that ``distinct`` is to look at; it may have dots."""
    name = plain_value(value, limits, path)
    if not isinstance(name, str) or not name or name.startswith("$") or "\0" in name:
        raise OptionRefused("distinct takes a field's name, without a leading $", path=path)
    return name


def _sort(value: Any, limits: Limits, path: str) -> dict[str, Any]:
    keys = dict(key_list(value, limits, path))
    check_sort(keys, path)
    return keys


def _hint(value: Any, limits: Limits, path: str) -> Any:
    # As a mapping, which all commands take: the drivers make one of pairs in some of them only.
    return (
        _text(value, limits, path)
        if isinstance(value, str)
        else dict(key_list(value, limits, path))
    )


def _bounds(value: Any, limits: Limits, path: str) -> dict[str, Any]:
    plain = plain_value(value, limits, path)
    if not isinstance(plain, list):
        raise OptionRefused(f"{path} has to be a list of (name, value)", path=path)
    return dict(_pair(item, f"{path}[{index}]") for index, item in enumerate(plain))


def collation_document(value: Any, limits: Limits, path: str) -> dict[str, Any]:
    """Copy a collation, given as the drivers' object or as a mapping."""
    document = value.document if isinstance(value, Collation) else value
    return plain_mapping(document, limits, path)


def _time(value: Any, limits: Limits, path: str) -> int:
    milliseconds = _number(value, limits, path)
    if not 0 < milliseconds <= limits.max_time_ms:
        raise LimitExceeded(
            f"{path} has to lie between 1 and the limit max_time_ms, {limits.max_time_ms}",
            path=path,
        )
    return milliseconds


def _number(value: Any, limits: Limits, path: str) -> int:
    number = plain_value(value, limits, path)
    if not isinstance(number, int) or isinstance(number, bool):
        raise OptionRefused(f"{path} has to be a whole number", path=path)
    return number


def count(value: Any, limits: Limits, path: str) -> int:
    """Check a number of documents."""
    number = _number(value, limits, path)
    if not 0 <= number <= _LARGEST_COUNT:
        raise OptionRefused(f"{path} has to lie between 0 and {_LARGEST_COUNT}", path=path)
    return number


def _flag(value: Any, _limits: Limits, path: str) -> bool:
    if not isinstance(value, bool):
        raise OptionRefused(f"{path} has to be True or False", path=path)
    return value


def _text(value: Any, limits: Limits, path: str) -> str:
    text = plain_value(value, limits, path)
    if not isinstance(text, str):
        raise OptionRefused(f"{path} has to be a string", path=path)
    return text


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


READERS: Mapping[str, Callable[[Any, Limits, str], Any]] = MappingProxyType(
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
