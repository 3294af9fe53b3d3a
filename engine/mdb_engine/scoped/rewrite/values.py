"""The engine's own copy of a caller's input: plain, complete and measured.

Everything below this module works on that copy and sends that copy, so that what was checked is
what the server gets: a mapping that answers differently the second time, a raw BSON document with a
key twice or a string subclass cannot put anything between the check and the wire.

The drivers' encoder asks each value for an attribute ``_type_marker`` and believes it, so a date
whose class calls itself raw BSON is sent as whatever bytes it names: JavaScript, or a second
``from``. Therefore nothing is kept that could carry such an attribute.

Nearly all inputs are made of dicts, lists and values of exactly the types that BSON knows, none of
which can lie or change. Those are copied in one pass (`_PlainCopy`) that knows nothing else, and
that costs less than BSON's own encoder and decoder would (2 against 4 microseconds for twenty
fields). What it does not know, or may not pass, goes to the copier that does (`_Copy`): it asks no
subclass, decodes raw BSON, and says where a value stands that it refuses.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

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
from mdb_engine.scoped.rewrite.refusals import Position, refused, shown, written

__all__ = [
    "ENOUGH_FLAT",
    "NO_CODECS",
    "Codecs",
    "flat_copy",
    "members",
    "plain_document",
    "plain_mapping",
    "plain_value",
]

Value = TypeVar("Value")


class Codecs(NamedTuple):
    """An app's own type codecs, which make of its types what BSON knows.

    Parameters
    ----------
    encoders
        By exact type.
    fallback
        For all other types that BSON does not know.
    """

    encoders: Mapping[type, Callable[[Any], Any]] = MappingProxyType({})
    fallback: Callable[[Any], Any] | None = None


NO_CODECS: Final = Codecs()

_FIXED_SIZES: Final[Mapping[type, int]] = {
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

_AROUND_NAME: Final = 2

_REGEX_FLAGS = (re.IGNORECASE, re.LOCALE, re.MULTILINE, re.DOTALL, re.UNICODE, re.VERBOSE)
"""Flags of a regular expression, each of which is one letter in BSON."""

_SCALARS: Final = float | bytes | Regex | re.Pattern | datetime | uuid.UUID | ObjectId
"""What `_Copy.scalar` knows."""

MOST_FLAT: Final = 16
"""Names of what `flat_copy` copies, at most."""

LONGEST_FLAT: Final = 1000
"""Characters (ASCII) of all names there, and of each value."""

ENOUGH_FLAT: Final = 5 + LONGEST_FLAT + MOST_FLAT * (2 + 5 + LONGEST_FLAT)
"""Bytes in BSON that this cannot exceed."""

_TEXT: Final = frozenset({str})

_ALWAYS_FLAT: Final = frozenset(_FIXED_SIZES)

_SMALLEST_INT32: Final = -(2**31)
_LARGEST_INT32: Final = 2**31 - 1
_SMALLEST_INT64: Final = -(2**63)
_LARGEST_INT64: Final = 2**63 - 1


class _NotPlainError(Exception):
    """Something is in an input that only `_Copy` knows, or it is larger or deeper than allowed."""


class _PlainCopy:
    """Copies what is made of exactly the common types, and counts its bytes as `_Copy` does.

    Parameters
    ----------
    left
        How many bytes there may be.
    """

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def mapping(self, value: dict[str, Any], depth: int) -> dict[str, Any]:  # noqa: C901, PLR0912 - a call for each value would cost more than the value
        """Copy a dict; its values are read from the copy, which nobody else can change."""
        if not depth:
            raise _NotPlainError
        copied = value.copy()
        names = "".join(copied)
        left = self.left - 5 - 2 * len(copied)
        left -= len(names) if names.isascii() else len(names.encode())
        if left < 0 or "\0" in names:
            raise _NotPlainError
        for name, item in copied.items():
            if type(name) is not str:  # before anything is looked up by it
                raise _NotPlainError
            kind = type(item)
            if kind is str:
                left -= 5 + (len(item) if item.isascii() else len(item.encode()))
            elif kind is int:
                if _SMALLEST_INT32 <= item <= _LARGEST_INT32:
                    left -= 4
                elif _SMALLEST_INT64 <= item <= _LARGEST_INT64:
                    left -= 8
                else:
                    raise _NotPlainError
            elif kind in _FIXED_SIZES:
                left -= _FIXED_SIZES[kind]
            elif kind is dict:
                self.left = left
                copied[name] = self.mapping(item, depth - 1)
                left = self.left
            elif kind is list:
                self.left = left
                copied[name] = self.sequence(item, depth - 1)
                left = self.left
            elif kind is bytes:
                left -= 5 + len(item)
            else:
                raise _NotPlainError
        self.left = left
        if left < 0:
            raise _NotPlainError
        return copied

    def sequence(self, value: list[Any], depth: int) -> list[Any]:  # noqa: C901, PLR0912 - as `mapping`
        """Copy a list."""
        if not depth:
            raise _NotPlainError
        copied = value.copy()
        left = self.left - 5 - 2 * len(copied) - _digits(len(copied))
        if left < 0:
            raise _NotPlainError
        for index, item in enumerate(copied):
            kind = type(item)
            if kind is str:
                left -= 5 + (len(item) if item.isascii() else len(item.encode()))
            elif kind is int:
                if _SMALLEST_INT32 <= item <= _LARGEST_INT32:
                    left -= 4
                elif _SMALLEST_INT64 <= item <= _LARGEST_INT64:
                    left -= 8
                else:
                    raise _NotPlainError
            elif kind in _FIXED_SIZES:
                left -= _FIXED_SIZES[kind]
            elif kind is dict:
                self.left = left
                copied[index] = self.mapping(item, depth - 1)
                left = self.left
            elif kind is list:
                self.left = left
                copied[index] = self.sequence(item, depth - 1)
                left = self.left
            elif kind is bytes:
                left -= 5 + len(item)
            else:
                raise _NotPlainError
        self.left = left
        if left < 0:
            raise _NotPlainError
        return copied


def _digits(length: int) -> int:
    """Return how many digits the indexes of an array of that length have, which are its names."""
    digits, base = length, 10
    while length > base:
        digits += length - base
        base *= 10
    return digits


class _Copy:
    """Copies one input and counts its bytes as it goes, so that it stops where a limit ends."""

    def __init__(
        self, limits: Limits, limit: str, path: Position, codecs: Codecs = NO_CODECS
    ) -> None:
        self._limits = limits
        self._limit = limit
        self._left: int = getattr(limits, limit)
        self._root = path
        self._codecs = codecs

    @property
    def _name(self) -> str:
        return shown(written(self._root))

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise self._limits.exceeded(
                self._limit,
                f"{shown(written(self._root))} is larger than allowed, in bytes",
                self._root,
            )

    def value(  # noqa: PLR0911 - a table of types
        self, value: Any, at: Position, depth: int, *, encoded: bool = False
    ) -> Any:
        """Copy one value; see the module for what is kept."""
        kind = type(value)
        if kind in _FIXED_SIZES:
            self.spend(_FIXED_SIZES[kind])
            return value
        if isinstance(value, Code):
            reason = "it is JavaScript, and no JavaScript runs on a shared server"
            raise refused("Code", reason, at)
        if not encoded and kind in self._codecs.encoders:
            return self.value(self._codecs.encoders[kind](value), at, depth, encoded=True)
        if isinstance(value, str):
            return self.text(value, at)
        if isinstance(value, list | tuple):
            return self.sequence(value, at, depth + 1)
        if isinstance(value, DBRef):
            return self.mapping(value.as_doc(), at, depth + 1)
        if isinstance(value, int):
            return self.integer(value, at)
        if isinstance(value, Mapping):
            return self.mapping(value, at, depth + 1)
        known = isinstance(value, _SCALARS)
        if not known and not encoded and self._codecs.fallback is not None:
            return self.value(self._codecs.fallback(value), at, depth, encoded=True)
        return self.scalar(value, at)

    def text(self, value: str, at: Position, around: int = 5) -> str:
        """Copy a string; a subclass becomes the string that it holds.

        Around a value stand its length and a NUL; around a name a NUL and the value's type.
        """
        text = str.__str__(value)
        try:
            self.spend(around + (len(text) if text.isascii() else len(text.encode())))
        except UnicodeEncodeError:
            raise refused("str", "it cannot be encoded as UTF-8", at) from None
        return text

    def enter(self, depth: int) -> None:
        """Count a document or an array."""
        if depth > self._limits.max_depth:
            raise self._limits.exceeded(
                "max_depth",
                f"{shown(written(self._root))} is nested deeper than allowed",
                self._root,
            )
        self.spend(5)

    def sequence(self, values: Iterable[Any], at: Position, depth: int) -> list[Any]:
        self.enter(depth)
        copied = []
        for index, item in enumerate(values):
            self.spend(2 + len(str(index)))  # its name, which is its index
            copied.append(self.value(item, (at, index), depth))
        return copied

    def mapping(self, value: Mapping[Any, Any], at: Position, depth: int) -> dict[str, Any]:
        self.enter(depth)
        copied = {}
        for key, item in self.items(value, at):
            if not isinstance(key, str):
                kind = type(key).__name__
                raise refused(f"a key of type {kind}", "field names are strings", at)
            name = self.text(key, at, _AROUND_NAME)
            if "\0" in name:
                raise refused("a key with a NUL byte", "BSON cannot hold it", at)
            copied[name] = self.value(item, (at, name), depth)
        return copied

    def items(self, value: Mapping[Any, Any], at: Position) -> Iterable[tuple[Any, Any]]:
        """Read a mapping once, as whatever it is: raw BSON is decoded here."""
        if type(value) is dict:
            return list(value.items())
        try:
            return [(key, value[key]) for key in value]
        except (InvalidBSON, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            reason = f"it cannot be read ({type(error).__name__})"
            raise refused(type(value).__name__, reason, at) from error

    def integer(self, value: int, at: Position) -> int:
        number = int.__index__(value)
        if _SMALLEST_INT32 <= number <= _LARGEST_INT32:
            self.spend(4)
        elif _SMALLEST_INT64 <= number <= _LARGEST_INT64:
            self.spend(8)
        else:
            raise refused("int", "BSON integers have at most 64 bits", at)
        return number

    def scalar(self, value: Any, at: Position) -> Any:
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
            return self.pattern(value, at)
        if isinstance(value, datetime | uuid.UUID | ObjectId):
            plain = _without_subclass(value)
            self.spend(_FIXED_SIZES[type(plain)])
            return plain
        reason = "it is not a BSON type; convert it before it is sent"
        raise refused(type(value).__name__, reason, at)

    def pattern(self, value: Regex[Any] | re.Pattern[Any], at: Position) -> Any:
        """Copy a regular expression; one of the drivers' could be changed until it is sent."""
        source: str | bytes = value.pattern
        if isinstance(source, bytes):
            source = _content(source)
            self.spend(len(source))
            zero = b"\0" in source
        else:
            source = self.text(source, at, 0)
            zero = "\0" in source
        self.spend(2 + sum(1 for flag in _REGEX_FLAGS if value.flags & flag))
        if zero:
            raise refused("a regular expression with a NUL", "BSON cannot hold it", at)
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


def flat_copy(
    value: Any, limits: Limits, operators: frozenset[str] = frozenset()
) -> dict[str, Any] | None:
    """Copy a dict of a few scalars, none of whose names has a ``$``; return None for any other.

    In such a filter or update there is nothing to look up and nothing to walk through, nor can it
    break a limit. It is what most operations on one document are made of.

    Parameters
    ----------
    value
        What the caller gave.
    limits
        The limits of size; where they are smaller than what may come of this, nothing does.
    operators
        What a name may have in the place of a scalar: a dict of these, of a scalar each.
    """
    if type(value) is not dict or limits.max_query_bytes < ENOUGH_FLAT:
        return None
    copied = value.copy()
    names = "".join(copied) if _TEXT.issuperset(map(type, copied)) else "$"
    if len(names) > LONGEST_FLAT or not names.isascii() or "$" in names or "\0" in names:
        return None
    scalars = [*copied.values()]
    kinds = set(map(type, scalars))
    if dict in kinds and operators:
        scalars, kinds = _below(copied, operators)
    if len(scalars) > MOST_FLAT:
        return None
    return copied if kinds <= _ALWAYS_FLAT or all(map(_is_flat, scalars)) else None


def _below(copied: dict[str, Any], operators: frozenset[str]) -> tuple[list[Any], set[type]]:
    """Copy the dicts of operators in a copy; return all scalars, and their types."""
    scalars: list[Any] = []
    for name, item in copied.items():
        inner = item.copy() if type(item) is dict else None
        if inner and _TEXT.issuperset(map(type, inner)) and operators.issuperset(inner):
            copied[name] = inner
            scalars += inner.values()
        else:
            scalars.append(item)
    return scalars, set(map(type, scalars))


def _is_flat(item: Any) -> bool:
    kind = type(item)
    if kind is int:
        return bool(_SMALLEST_INT64 <= item <= _LARGEST_INT64)
    if kind is str:
        return len(item) <= LONGEST_FLAT and bool(item.isascii())
    return kind in _ALWAYS_FLAT


def plain_value(
    value: Any,
    limits: Limits,
    path: Position,
    *,
    limit: str = "max_query_bytes",
    codecs: Codecs = NO_CODECS,
) -> Any:
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
    codecs
        The app's own type codecs.

    Raises
    ------
    QueryRefused
        If it holds JavaScript, a key that is no string, or what BSON cannot hold.
    LimitExceeded
        If it is too large or too deep.
    """
    kind = type(value)
    if kind is dict:
        copied = _plain_dict(value, getattr(limits, limit), limits.max_depth)
        if copied is not None:
            return copied
    elif kind is list:
        with suppress(_NotPlainError, TypeError, UnicodeEncodeError):
            return _PlainCopy(getattr(limits, limit)).sequence(value, limits.max_depth)
    elif kind in _FIXED_SIZES:
        return value
    # Here it is said what it is, and where.
    return _Copy(limits, limit, path, codecs).value(value, path, 0)


def plain_mapping(
    value: Any, limits: Limits, path: Position, codecs: Codecs = NO_CODECS
) -> dict[str, Any]:
    """Copy a filter or another description of a query, which has to be a mapping."""
    copied = _plain_dict(value, limits.max_query_bytes, limits.max_depth)
    if copied is not None:
        return copied
    return _mapping(value, limits, path, "max_query_bytes", codecs)


def plain_document(
    value: Any, limits: Limits, path: Position, codecs: Codecs = NO_CODECS
) -> dict[str, Any]:
    """Copy a document, which has to be a mapping."""
    copied = _plain_dict(value, limits.max_document_bytes, limits.max_depth)
    if copied is not None:
        return copied
    return _mapping(value, limits, path, "max_document_bytes", codecs)


def _plain_dict(value: Any, size: int, depth: int) -> dict[str, Any] | None:
    """Copy a dict that is made of exactly the common types, or return None."""
    if type(value) is not dict:
        return None
    try:
        return _PlainCopy(size).mapping(value, depth)
    except (_NotPlainError, TypeError, UnicodeEncodeError):
        return None


def members(values: Iterable[Value], path: Position) -> Iterable[Value]:
    """Return what has to be a list or another iterable of several inputs, each checked later."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise refused(type(values).__name__, "a list is expected", path)
    return values


def _mapping(
    value: Any, limits: Limits, path: Position, limit: str, codecs: Codecs
) -> dict[str, Any]:
    copied = _Copy(limits, limit, path, codecs).value(value, path, 0)
    if not isinstance(copied, dict):
        raise QueryRefused(
            f"{written(path)} has to be a mapping, not {type(value).__name__}", path=written(path)
        )
    return copied
