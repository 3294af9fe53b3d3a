"""Documents of MongoDB as JSON, in one form wherever they come from.

pydantic and FastAPI do not know BSON. Both can be taught per type, and are, when the library is
imported: pydantic looks for two attributes of a class. What cannot be taught that way is changed in
the document (`plain`): bytes that are no text, and dates without an offset. MongoDB's are UTC, and
JavaScript would take them for local time.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Annotated, Any, Final, Literal

from bson import (
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)
from bson.errors import InvalidBSON, InvalidId
from pydantic import WithJsonSchema
from pydantic_core import SchemaSerializer, core_schema, to_json

__all__ = ["CONVERTERS", "TEXTS", "PyObjectId", "as_json", "plain"]

Converter = Callable[[Any], Any]


def plain(value: Any, converters: Mapping[type[Any], Converter] | None = None) -> Any:
    """Return a value with all that JSON lacks converted in it.

    It is the first thing that happens to every document that an app returns, so what needs no
    change costs one look at its type.

    Parameters
    ----------
    value
        A document, or what else an app returns.
    converters
        `CONVERTERS`, which leaves dates as dates, or `TEXTS`.
    """
    return _converted(value, converters or CONVERTERS)


def _converted(value: Any, converters: Mapping[type[Any], Converter]) -> Any:
    """Return the value itself where nothing in it changes: most of a document is not copied."""
    kind = type(value)
    if kind in _SAME:
        return value
    if isinstance(value, dict):
        return _converted_dict(value, converters)
    if kind is list:
        if _SAME.issuperset(map(type, value)):
            return value
        return [item if type(item) in _SAME else _converted(item, converters) for item in value]
    if kind is tuple:
        return tuple(_converted(item, converters) for item in value)
    converter = converters.get(kind)
    return value if converter is None else converter(value)


def _converted_dict(
    value: dict[Any, Any], converters: Mapping[type[Any], Converter]
) -> dict[str, Any]:
    found = value if type(value) is dict else dict(value)
    if not _TEXT_ALONE.issuperset(map(type, found)):
        found = {str(key): item for key, item in found.items()}
    for key, item in found.items():
        if type(item) not in _SAME:
            new = _converted(item, converters)
            if new is not item:
                if found is value:
                    found = found.copy()
                found[key] = new
    return found


def as_json(value: Any) -> bytes:
    """Return a value as JSON in UTF-8; what is not a number is written as null.

    Raises
    ------
    PydanticSerializationError
        If there is something in it that is neither BSON nor known to pydantic.
    """
    # What pydantic was taught per type it writes faster than Python converts it.
    if not _holds_only(value, _WRITTEN):
        value = plain(value)
    return to_json(value, inf_nan_mode="null", fallback=_mapping)


def _holds_only(value: Any, kinds: frozenset[type[Any]]) -> bool:
    """Say whether a value is made of dicts with text for keys, lists, and values of some types.

    It looks at one level after the other, as whole levels pass through C; a date has an offset.
    """
    level = [value]
    for _ in range(_DEEPEST):
        found = set(map(type, level))
        if not found <= kinds:
            return False
        if datetime in found and any(
            item.tzinfo is None for item in level if type(item) is datetime
        ):
            return False
        dicts = [item for item in level if type(item) is dict] if dict in found else []
        if not _TEXT_ALONE.issuperset(map(type, chain.from_iterable(dicts))):
            return False
        below = list(chain.from_iterable(map(dict.values, dicts)))
        if list in found:
            below += chain.from_iterable([item for item in level if type(item) is list])
        if not below:
            return True
        level = below
    return False


def _mapping(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(dict(value))
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def _aware(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _date_text(value: datetime) -> str:
    """Return a date as pydantic writes it (RFC 3339)."""
    text = _aware(value).isoformat()
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def _bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _binary(value: Binary) -> str:
    return str(value.as_uuid(value.subtype)) if value.subtype in {3, 4} else _bytes(value)


def _milliseconds(value: DatetimeMS) -> datetime | int:
    try:
        return _aware(value.as_datetime())
    except (InvalidBSON, OverflowError, ValueError):  # a year that Python has no date for
        return int(value)


_SAME: Final[frozenset[type[Any]]] = frozenset({str, int, float, bool, type(None)})
"""Types that are left as they are without another look; most of a document."""

_WRITTEN: Final[frozenset[type[Any]]] = _SAME | {dict, list, datetime, ObjectId, Decimal128}
"""Types that pydantic writes as they are to be, once it was taught."""

_DEEPEST: Final = 200
"""Levels that are looked at; twice what MongoDB stores."""

_TEXT_ALONE: Final = frozenset({str})

CONVERTERS: Final[Mapping[type[Any], Converter]] = {
    ObjectId: str,
    Decimal128: str,
    Binary: _binary,
    Timestamp: lambda value: value.as_datetime(),
    DatetimeMS: _milliseconds,
    Regex: lambda value: value.pattern,
    Code: str,
    DBRef: lambda value: {"collection": value.collection, "id": plain(value.id)},
    MinKey: lambda _: None,
    MaxKey: lambda _: None,
    datetime: _aware,
    bytes: _bytes,
}
"""How each type that JSON or Python lacks is written; a Decimal128 as text, to stay exact."""


TEXTS: Final[Mapping[type[Any], Converter]] = {
    **CONVERTERS,
    Timestamp: lambda value: _date_text(value.as_datetime()),
    DatetimeMS: lambda value: plain(_milliseconds(value), TEXTS),
    datetime: _date_text,
}
"""The same with dates as text, for what no pydantic comes after."""


_FIELDS: Final = (ObjectId, Decimal128)
"""Types that may be fields of models."""


def _teach_pydantic() -> None:
    """Let BSON's types be written wherever pydantic writes, and two of them be fields of models.

    Sources: "Custom types" and "Serialization" in pydantic's documentation; pydantic writes an
    instance of any class by the class's ``__pydantic_serializer__``, if it has one.
    """
    for kind, convert in CONVERTERS.items():
        if kind not in (datetime, bytes):
            # The two that may be fields stay what they are where a model is dumped to be stored.
            when: Literal["always", "json"] = "json" if kind in _FIELDS else "always"
            written = core_schema.plain_serializer_function_ser_schema(convert, when_used=when)
            setattr(  # noqa: B010 - the class's author did not foresee it
                kind,
                "__pydantic_serializer__",
                SchemaSerializer(core_schema.any_schema(serialization=written)),
            )
    for kind in _FIELDS:
        setattr(kind, "__get_pydantic_core_schema__", classmethod(_field_schema))  # noqa: B010


def _field_schema(kind: type[Any], _source: Any, _handler: Any) -> core_schema.CoreSchema:
    """Return the schema of a field: an instance, or the text of one; written as text."""

    def parsed(text: str) -> Any:
        try:
            return kind(text)
        except (InvalidId, ArithmeticError):
            raise ValueError(f"is no {kind.__name__}") from None

    text = core_schema.no_info_after_validator_function(parsed, core_schema.str_schema())
    return core_schema.json_or_python_schema(
        json_schema=text,
        python_schema=core_schema.union_schema([core_schema.is_instance_schema(kind), text]),
        serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json"),
    )


_teach_pydantic()

PyObjectId = Annotated[
    ObjectId,
    WithJsonSchema(
        {"type": "string", "pattern": "^[0-9a-fA-F]{24}$", "examples": ["65f0c0ffee00112233445566"]}
    ),
]
"""An ``ObjectId`` of models, parameters and answers, which OpenAPI describes as the text it is."""
