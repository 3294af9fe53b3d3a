"""How a collection is read and written: codec, concerns and preference, made anew.

The drivers put into a command what these objects say of themselves, and a subclass may say
anything; so what is kept is a new object of the driver's own class with the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypedDict

from bson.codec_options import CodecOptions
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import (
    Nearest,
    Primary,
    PrimaryPreferred,
    Secondary,
    SecondaryPreferred,
    _ServerMode,
)
from pymongo.write_concern import WriteConcern

from mdb_engine.exceptions import LimitExceeded, OptionRefused
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.rewrite.refusals import shown
from mdb_engine.scoped.rewrite.values import plain_mapping

__all__ = [
    "NO_OPTIONS",
    "CollectionOptions",
    "Concerns",
    "TransactionOptions",
    "merge_options",
    "transaction_options",
]

NO_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType({})


class CollectionOptions(TypedDict, total=False):
    """How a collection is read and written, as the drivers' ``with_options`` takes it."""

    codec_options: CodecOptions[Any] | None
    read_concern: ReadConcern | None
    read_preference: _ServerMode | None
    write_concern: WriteConcern | None


class Concerns:
    """Shows how documents are read and written, by the drivers' names."""

    __slots__ = ()

    @property
    def codec_options(self) -> CodecOptions[Any]:
        """How documents are decoded."""
        options: CodecOptions[Any] = self._setting("codec_options")
        return options

    @property
    def read_concern(self) -> ReadConcern:
        """How far a read document has to be replicated."""
        concern: ReadConcern = self._setting("read_concern")
        return concern

    @property
    def read_preference(self) -> _ServerMode:
        """Which members of the replica set may be read."""
        preference: _ServerMode = self._setting("read_preference")
        return preference

    @property
    def write_concern(self) -> WriteConcern:
        """How far a write has to be replicated."""
        concern: WriteConcern = self._setting("write_concern")
        return concern

    def _setting(self, name: str) -> Any:
        """Return what holds, by the name of one of `CollectionOptions`."""
        raise NotImplementedError


def merge_options(
    before: Mapping[str, Any], options: Mapping[str, Any], limits: Limits
) -> Mapping[str, Any]:
    """Put options of ``with_options`` over those that hold already.

    Raises
    ------
    OptionRefused
        If one is unknown or of the wrong kind, or documents would not be decoded as dicts.
    """
    if not options:
        return before
    merged = dict(before)
    for name, value in options.items():
        make = _MAKERS.get(name)
        if make is None:
            raise OptionRefused(
                f"with_options has no option {shown(name)}; it takes {', '.join(_MAKERS)}",
                path=name,
            )
        if value is not None:
            merged[name] = make(value, limits)
    return MappingProxyType(merged)


def _codec(value: Any, _limits: Limits) -> CodecOptions[Any]:
    if type(value) is not CodecOptions:  # an immutable tuple, which says only what it holds
        raise _wrong("codec_options", CodecOptions)
    if value.document_class is not dict:
        raise OptionRefused("documents of a scoped collection are dicts", path="codec_options")
    return value


def _read_concern(value: Any, limits: Limits) -> ReadConcern:
    if type(value) is not ReadConcern:
        raise _wrong("read_concern", ReadConcern)
    return ReadConcern(plain_mapping(value.document, limits, "read_concern").get("level"))


def _write_concern(value: Any, limits: Limits) -> WriteConcern:
    if type(value) is not WriteConcern:
        raise _wrong("write_concern", WriteConcern)
    given = plain_mapping(value.document, limits, "write_concern")
    return WriteConcern(given.get("w"), given.get("wtimeout"), given.get("j"), given.get("fsync"))


def _read_preference(value: Any, limits: Limits) -> _ServerMode:
    given = plain_mapping(getattr(value, "document", {}), limits, "read_preference")
    tags, staleness = given.get("tags"), given.get("maxStalenessSeconds", -1)
    match value:
        case Primary():
            return Primary()
        case PrimaryPreferred():
            return PrimaryPreferred(tags, staleness)
        case Secondary():
            return Secondary(tags, staleness)
        case SecondaryPreferred():
            return SecondaryPreferred(tags, staleness)
        case Nearest():
            return Nearest(tags, staleness)
    raise OptionRefused(
        "read_preference has to be one of pymongo.ReadPreference, or made with a class of "
        "pymongo.read_preferences",
        path="read_preference",
    )


def _wrong(name: str, kind: type) -> OptionRefused:
    return OptionRefused(f"{name} has to be a {kind.__name__}", path=name)


_MAKERS: Mapping[str, Callable[[Any, Limits], Any]] = MappingProxyType(
    {
        "codec_options": _codec,
        "read_concern": _read_concern,
        "read_preference": _read_preference,
        "write_concern": _write_concern,
    }
)


class TransactionOptions(TypedDict, total=False):
    """How a transaction reads and commits, as the drivers' ``start_transaction`` takes it."""

    read_concern: ReadConcern | None
    write_concern: WriteConcern | None
    read_preference: _ServerMode | None
    max_commit_time_ms: int | None


def transaction_options(options: Mapping[str, Any], limits: Limits, method: str) -> dict[str, Any]:
    """Check and copy the options of a transaction; what is None is left out.

    Parameters
    ----------
    options
        See `TransactionOptions`.
    limits
        ``max_commit_time_ms`` keeps its ``max_time_ms``.
    method
        What takes them, for the message.

    Raises
    ------
    OptionRefused
        If one is unknown or of the wrong kind.
    LimitExceeded
        If the commit may take longer than the time limit.
    """
    checked: dict[str, Any] = {}
    for name, value in options.items():
        if name not in TransactionOptions.__annotations__:
            raise OptionRefused(
                f"{method} has no option {shown(name)}; it takes "
                f"{', '.join(TransactionOptions.__annotations__)}",
                path=name,
            )
        if value is None:
            continue
        if name == "max_commit_time_ms":
            if type(value) is not int or value < 0:
                raise OptionRefused("max_commit_time_ms is a number of milliseconds", path=name)
            if value > limits.max_time_ms:
                raise LimitExceeded(
                    f"max_commit_time_ms may be up to the limit max_time_ms, {limits.max_time_ms}",
                    path=name,
                )
            checked[name] = value or limits.max_time_ms
        else:
            checked[name] = _MAKERS[name](value, limits)
    return checked
