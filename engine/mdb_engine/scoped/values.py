"""The engine's own copy of a caller's input: plain, complete and measured.

Everything below this module works on that copy and sends that copy, so that what was checked is
what the server gets: a mapping that answers differently the second time, a raw BSON document with a
key twice or a string subclass cannot put anything between the check and the wire.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.errors import InvalidBSON
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp

from mdb_engine.exceptions import QueryRefused
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.refusals import refused, shown

__all__ = ["plain_document", "plain_mapping", "plain_value"]

_FIXED_SIZES: Mapping[type, int] = {
    type(None): 0,
    bool: 1,
    float: 8,
    Int64: 8,
    datetime: 8,
    DatetimeMS: 8,
    Timestamp: 8,
    ObjectId: 12,
    Decimal128: 16,
    uuid.UUID: 21,
    MinKey: 0,
    MaxKey: 0,
}
"""Immutable values that are kept as they are, and their bytes in BSON."""

_INT64 = range(-(2**63), 2**63)


class _Copy:
    """Copies one input and counts its bytes as it goes, so that it stops where a limit ends."""

    def __init__(self, limits: Limits, limit: str, path: str) -> None:
        self._limits = limits
        self._limit = limit
        self._left: int = getattr(limits, limit)
        self._root = path

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise self._limits.exceeded(
                self._limit, f"{shown(self._root)} is larger than allowed, in bytes", self._root
            )

    def value(self, value: Any, path: str, depth: int) -> Any:
        """Copy one value; see the module for what is kept."""
        if type(value) in _FIXED_SIZES:
            self.spend(_FIXED_SIZES[type(value)])
            return value
        if isinstance(value, Code):
            raise refused(
                "Code", "it is JavaScript, and no JavaScript runs on a shared server", path
            )
        if isinstance(value, str):
            return self.text(value, path)
        if isinstance(value, Mapping | DBRef | list | tuple):
            return self.container(value, path, depth + 1)
        return self.scalar(value, path)

    def text(self, value: str, path: str) -> str:
        """Copy a string; a subclass becomes the string that it holds."""
        text = str.__str__(value)
        try:
            self.spend(5 + len(text.encode()))
        except UnicodeEncodeError:
            raise refused("str", "it cannot be encoded as UTF-8", path) from None
        return text

    def container(self, value: Any, path: str, depth: int) -> Any:
        if depth > self._limits.max_depth:
            raise self._limits.exceeded(
                "max_depth", f"{shown(self._root)} is nested deeper than allowed", self._root
            )
        self.spend(5)
        if isinstance(value, DBRef):
            value = value.as_doc()
        if isinstance(value, Mapping):
            return self.mapping(value, path, depth)
        copied = []
        for index, item in enumerate(value):
            self.spend(4)
            copied.append(self.value(item, f"{path}[{index}]", depth))
        return copied

    def mapping(self, value: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
        copied = {}
        for key, item in _items(value, path):
            if not isinstance(key, str):
                raise refused(
                    f"a key of type {type(key).__name__}", "field names are strings", path
                )
            name = self.text(key, path)
            if "\0" in name:
                raise refused("a key with a NUL byte", "BSON cannot hold it", path)
            copied[name] = self.value(item, f"{path}.{shown(name)}", depth)
        return copied

    def scalar(self, value: Any, path: str) -> Any:
        """Copy a number, bytes or a regular expression, or refuse what BSON does not know."""
        if isinstance(value, int):
            self.spend(8)
            number = int.__index__(value)
            if number not in _INT64:
                raise refused("int", "BSON integers have at most 64 bits", path)
            return value if isinstance(value, Int64) else number
        if isinstance(value, float):
            self.spend(8)
            return float.__float__(value)
        if isinstance(value, bytes):
            self.spend(5 + len(value))
            return value if isinstance(value, Binary) else bytes(value)
        if isinstance(value, Regex | re.Pattern):
            return self.pattern(value, path)
        if isinstance(value, datetime | uuid.UUID | ObjectId):
            self.spend(21)
            return value
        raise refused(
            type(value).__name__, "it is not a BSON type; convert it before it is sent", path
        )

    def pattern(self, value: Regex[Any] | re.Pattern[Any], path: str) -> Any:
        source = value.pattern
        if isinstance(source, bytes):
            self.spend(2 + len(source))
            zero = b"\0" in source
        else:
            zero = "\0" in self.text(source, path)
        if zero:
            raise refused("a regular expression with a NUL byte", "BSON cannot hold it", path)
        return value


def _items(value: Mapping[Any, Any], path: str) -> Iterable[tuple[Any, Any]]:
    """Read a mapping once, as whatever it is: raw BSON is decoded here."""
    try:
        return [(key, value[key]) for key in value]
    except (InvalidBSON, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise refused(
            type(value).__name__, f"it cannot be read ({type(error).__name__})", path
        ) from error


def plain_value(value: Any, limits: Limits, path: str, *, limit: str = "max_query_bytes") -> Any:
    """Copy an input of any shape.

    Parameters
    ----------
    value
        What the caller gave; it is never changed.
    limits
        The limits; depth is always checked.
    path
        How errors name the input.
    limit
        The limit of its size.

    Raises
    ------
    QueryRefused
        If it holds JavaScript, a key that is no string, or what BSON cannot hold.
    LimitExceeded
        If it is too large or too deep.
    """
    return _Copy(limits, limit, path).value(value, path, 0)


def plain_mapping(value: Any, limits: Limits, path: str) -> dict[str, Any]:
    """Copy a filter or another description of a query, which has to be a mapping."""
    return _mapping(value, limits, path, "max_query_bytes")


def plain_document(value: Any, limits: Limits, path: str) -> dict[str, Any]:
    """Copy a document, which has to be a mapping."""
    return _mapping(value, limits, path, "max_document_bytes")


def _mapping(value: Any, limits: Limits, path: str, limit: str) -> dict[str, Any]:
    copied = plain_value(value, limits, path, limit=limit)
    if not isinstance(copied, dict):
        raise QueryRefused(f"{path} has to be a mapping, not {type(value).__name__}", path=path)
    return copied
