"""The engine's own copy of a caller's input: plain, complete and measured.

Everything below this module works on that copy and sends that copy, so that what was checked is
what the server gets: a mapping that answers differently the second time, a raw BSON document with a
key twice or a string subclass cannot put anything between the check and the wire.

The drivers' encoder asks each value for an attribute ``_type_marker`` and believes it, so a date
whose class calls itself raw BSON is sent as whatever bytes it names: JavaScript, or a second
``from``. Therefore nothing is kept that could carry such an attribute.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from bson.binary import OLD_BINARY_SUBTYPE, Binary
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

__all__ = ["members", "plain_document", "plain_mapping", "plain_value"]

Value = TypeVar("Value")

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
"""Immutable values that are kept as they are, and their bytes in BSON.

Of these types exactly, none of whose instances takes a new attribute."""

_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)

_AROUND_NAME = 2

_REGEX_FLAGS = (re.IGNORECASE, re.LOCALE, re.MULTILINE, re.DOTALL, re.UNICODE, re.VERBOSE)
"""Flags of a regular expression, each of which is one letter in BSON."""


Trail = tuple["Trail", str | int] | None
"""Where a value stands below the root: cheap to make for each, written out only for an error."""


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

    def refused(self, what: str, reason: str, trail: Trail) -> QueryRefused:
        path = ""
        while trail is not None:
            trail, step = trail
            path = (f"[{step}]" if isinstance(step, int) else f".{shown(step)}") + path
        return refused(what, reason, self._root + path)

    def value(self, value: Any, trail: Trail, depth: int) -> Any:
        """Copy one value; see the module for what is kept."""
        kind = type(value)
        if kind in _FIXED_SIZES:
            self.spend(_FIXED_SIZES[kind])
            return value
        if isinstance(value, Code):
            reason = "it is JavaScript, and no JavaScript runs on a shared server"
            raise self.refused("Code", reason, trail)
        if isinstance(value, str):
            return self.text(value, trail)
        if isinstance(value, list | tuple):
            return self.sequence(value, trail, depth + 1)
        if isinstance(value, DBRef):
            return self.mapping(value.as_doc(), trail, depth + 1)
        if isinstance(value, int):
            return self.integer(value, trail)
        if isinstance(value, Mapping):
            return self.mapping(value, trail, depth + 1)
        return self.scalar(value, trail)

    def text(self, value: str, trail: Trail, around: int = 5) -> str:
        """Copy a string; a subclass becomes the string that it holds.

        Around a value stand its length and a NUL; around a name a NUL and the value's type.
        """
        text = str.__str__(value)
        try:
            self.spend(around + (len(text) if text.isascii() else len(text.encode())))
        except UnicodeEncodeError:
            raise self.refused("str", "it cannot be encoded as UTF-8", trail) from None
        return text

    def enter(self, depth: int) -> None:
        """Count a document or an array."""
        if depth > self._limits.max_depth:
            raise self._limits.exceeded(
                "max_depth", f"{shown(self._root)} is nested deeper than allowed", self._root
            )
        self.spend(5)

    def sequence(self, values: Iterable[Any], trail: Trail, depth: int) -> list[Any]:
        self.enter(depth)
        copied = []
        for index, item in enumerate(values):
            self.spend(2 + len(str(index)))  # its name, which is its index
            copied.append(self.value(item, (trail, index), depth))
        return copied

    def mapping(self, value: Mapping[Any, Any], trail: Trail, depth: int) -> dict[str, Any]:
        self.enter(depth)
        copied = {}
        for key, item in self.items(value, trail):
            if not isinstance(key, str):
                kind = type(key).__name__
                raise self.refused(f"a key of type {kind}", "field names are strings", trail)
            name = self.text(key, trail, _AROUND_NAME)
            if "\0" in name:
                raise self.refused("a key with a NUL byte", "BSON cannot hold it", trail)
            copied[name] = self.value(item, (trail, name), depth)
        return copied

    def items(self, value: Mapping[Any, Any], trail: Trail) -> Iterable[tuple[Any, Any]]:
        """Read a mapping once, as whatever it is: raw BSON is decoded here."""
        if type(value) is dict:
            return value.items()
        try:
            return [(key, value[key]) for key in value]
        except (InvalidBSON, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            reason = f"it cannot be read ({type(error).__name__})"
            raise self.refused(type(value).__name__, reason, trail) from error

    def integer(self, value: int, trail: Trail) -> int:
        number = int.__index__(value)
        if number in _INT32:
            self.spend(4)
        elif number in _INT64:
            self.spend(8)
        else:
            raise self.refused("int", "BSON integers have at most 64 bits", trail)
        return number

    def scalar(self, value: Any, trail: Trail) -> Any:
        """Copy a number, bytes or a regular expression, or refuse what BSON does not know."""
        if isinstance(value, float):
            self.spend(8)
            return float.__float__(value)
        if isinstance(value, bytes):
            content = _content(value)
            self.spend(5 + len(content))
            if not isinstance(value, Binary):
                return content
            if value.subtype == OLD_BINARY_SUBTYPE:  # which has its length twice
                self.spend(4)
            return Binary(content, value.subtype)
        if isinstance(value, Regex | re.Pattern):
            return self.pattern(value, trail)
        if isinstance(value, datetime | uuid.UUID | ObjectId):
            plain = _without_subclass(value)
            self.spend(_FIXED_SIZES[type(plain)])
            return plain
        reason = "it is not a BSON type; convert it before it is sent"
        raise self.refused(type(value).__name__, reason, trail)

    def pattern(self, value: Regex[Any] | re.Pattern[Any], trail: Trail) -> Any:
        """Copy a regular expression; one of the drivers' could be changed until it is sent."""
        source: str | bytes = value.pattern
        if isinstance(source, bytes):
            source = _content(source)
            self.spend(len(source))
            zero = b"\0" in source
        else:
            source = self.text(source, trail, 0)
            zero = "\0" in source
        self.spend(2 + sum(1 for flag in _REGEX_FLAGS if value.flags & flag))
        if zero:
            raise self.refused("a regular expression with a NUL", "BSON cannot hold it", trail)
        return value if isinstance(value, re.Pattern) else Regex(source, int(value.flags))


def _content(value: bytes) -> bytes:
    """Return the bytes of a subclass, without asking the subclass."""
    return bytes.__getitem__(value, slice(None))


def _without_subclass(value: datetime | uuid.UUID | ObjectId) -> Any:
    """Return the same value of the type itself."""
    if isinstance(value, datetime):
        return datetime.combine(datetime.date(value), datetime.timetz(value))
    if isinstance(value, uuid.UUID):
        return uuid.UUID(int=value.int)
    return ObjectId(_content(value.binary))


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
    return _Copy(limits, limit, path).value(value, None, 0)


def plain_mapping(value: Any, limits: Limits, path: str) -> dict[str, Any]:
    """Copy a filter or another description of a query, which has to be a mapping."""
    return _mapping(value, limits, path, "max_query_bytes")


def plain_document(value: Any, limits: Limits, path: str) -> dict[str, Any]:
    """Copy a document, which has to be a mapping."""
    return _mapping(value, limits, path, "max_document_bytes")


def members(values: Iterable[Value], path: str) -> Iterable[Value]:
    """Return what has to be a list or another iterable of several inputs, each checked later."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise refused(type(values).__name__, "a list is expected", path)
    return values


def _mapping(value: Any, limits: Limits, path: str, limit: str) -> dict[str, Any]:
    copied = plain_value(value, limits, path, limit=limit)
    if not isinstance(copied, dict):
        raise QueryRefused(f"{path} has to be a mapping, not {type(value).__name__}", path=path)
    return copied
