"""What a collection is made with, beside its indexes, as an MdbApp and a manifest spell it.

What has no bounded shape (a validator, the definition of a search index) is text in an MdbApp: the
API server prunes what a schema does not list, and a pruned validator would let everything through.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.models.base import Part, misplaced

__all__ = [
    "Adoption",
    "Capped",
    "Collation",
    "CollectionOptions",
    "JsonObject",
    "SearchIndex",
    "TimeSeries",
    "options_document",
]

MAX_JSON = 16_384
"""Characters of a validator: far more than one has that a person can read."""

MAX_JSON_DEPTH = 100
"""MongoDB takes a query of this depth, and a document of twice as much."""

MAX_BYTES = 2**50
"""MongoDB's limit on the size of a capped collection."""

_PLAIN_FIELD: Final = r"^[^$.\x00][^.\x00]*$"


def _is_object(text: str) -> str:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    if not isinstance(found, dict) or not found:
        raise ValueError("must be a JSON object that is not empty")
    if _depth(found) > MAX_JSON_DEPTH:
        raise ValueError(f"is nested more than {MAX_JSON_DEPTH} deep")
    if not all(map(_fits, _parts(found))):
        raise ValueError(
            "is no document that MongoDB can hold: a number of more than 64 bits, a name with NUL, "
            "or half a character"
        )
    return text


def _levels(value: Any) -> Iterator[list[Any]]:
    """Yield a value, then what is in it, the names included, then what is in that."""
    level = [value]
    while level:
        yield level
        level = [
            below
            for one in level
            if isinstance(one, dict | list)
            for below in ((*one.keys(), *one.values()) if isinstance(one, dict) else one)
        ]


def _depth(value: Any) -> int:
    return sum(1 for _ in _levels(value))


def _parts(value: Any) -> Iterator[Any]:
    return (one for level in _levels(value) for one in level)


def _fits(one: Any) -> bool:
    if isinstance(one, dict):
        return not any("\0" in name for name in one)
    if isinstance(one, str):
        return not any("\ud800" <= character <= "\udfff" for character in one)
    return not isinstance(one, int) or -(2**63) <= one < 2**63


JsonObject = Annotated[str, Field(max_length=MAX_JSON), AfterValidator(_is_object)]


class Adoption(Part):
    """A collection that was there before the app."""

    source: str = Field(
        alias="from",
        min_length=1,
        max_length=120,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        description=(
            "The name of a collection of the same database. Its documents are stamped with the "
            "app's slug, and it is renamed to this app's collection; nobody else may use it."
        ),
    )


class Capped(Part):
    """A collection of a fixed size, in which the newest documents replace the oldest."""

    size_bytes: int = Field(
        ge=4096,
        le=MAX_BYTES,
        strict=True,
        description="Its size in bytes. It can be raised later, and not be lowered.",
    )
    max_documents: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        strict=True,
        description="How many documents it holds at most, if they fit into sizeBytes.",
    )


class TimeSeries(Part):
    """A collection of measurements, which MongoDB keeps in buckets by time."""

    time_field: str = Field(
        min_length=1,
        max_length=256,
        pattern=_PLAIN_FIELD,
        description="The field with the time of a measurement. It cannot be changed later.",
    )
    meta_field: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        pattern=_PLAIN_FIELD,
        description="The field that says what was measured. It cannot be changed later.",
    )
    granularity: Literal["seconds", "minutes", "hours"] = Field(
        default="seconds",
        description="How far measurements lie apart. It can become coarser later.",
    )
    expire_after_seconds: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        strict=True,
        description="Delete measurements this many seconds after their time.",
    )

    @model_validator(mode="after")
    def _keep_the_stamp_apart(self) -> Self:
        if APP_ID_FIELD in (self.time_field, self.meta_field):
            raise ValueError(f"{APP_ID_FIELD} is the engine's own")
        return self


class Collation(Part):
    """How strings are compared and sorted."""

    locale: str = Field(
        min_length=2,
        max_length=32,
        pattern=r"^[A-Za-z][A-Za-z0-9_@=;-]*$",
        description="The language, such as en, de or de@collation=phonebook; simple for bytes.",
    )
    strength: Annotated[int, Field(ge=1, le=5, strict=True)] | None = Field(
        default=None,
        description="What counts: 1 letters alone, 2 accents as well, 3 (the default) case too.",
    )
    case_level: bool | None = Field(
        default=None, strict=True, description="Whether case counts at strength 1 and 2."
    )
    numeric_ordering: bool | None = Field(
        default=None,
        strict=True,
        description="Whether digits are compared as numbers: 2 before 10.",
    )

    def document(self) -> dict[str, Any]:
        """Return it as MongoDB's commands take it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class SearchIndex(Part):
    """An index for ``$search`` or ``$vectorSearch``."""

    name: str = Field(
        min_length=1,
        max_length=96,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="The index's name, which queries use.",
    )
    type: Literal["search", "vectorSearch"] = Field(
        default="search", description="What it is for: search for words, vectorSearch for vectors."
    )
    definition: JsonObject = Field(
        description="Its definition, as JSON; app_id is put into it, which the engine filters by."
    )

    @model_validator(mode="after")
    def _has_room_for_the_stamp(self) -> Self:
        try:
            self.document()
        except (AttributeError, TypeError):
            what = "fields is" if self.type == "vectorSearch" else "mappings and its fields are"
            kind = "a list of objects" if self.type == "vectorSearch" else "objects"
            raise misplaced(f"{what} not {kind}", "definition") from None
        return self

    def document(self) -> dict[str, Any]:
        """Return it as ``createSearchIndexes`` takes it, with the stamp in it."""
        found: dict[str, Any] = json.loads(self.definition)
        if self.type == "vectorSearch":
            fields = [one for one in found.get("fields", []) if one.get("path") != APP_ID_FIELD]
            found = {**found, "fields": [*fields, {"type": "filter", "path": APP_ID_FIELD}]}
        else:
            mappings = found.get("mappings", {})
            by_name = {**mappings.get("fields", {}), APP_ID_FIELD: {"type": "token"}}
            found = {**found, "mappings": {**mappings, "fields": by_name}}
        return {"name": self.name, "type": self.type, "definition": found}


class CollectionOptions(Part):
    """What an MdbApp and a manifest say of a collection in the same words."""

    pre_images: bool | None = Field(
        default=None,
        strict=True,
        description=(
            "Whether MongoDB keeps documents as they were before a change, for change streams. "
            "Absent: as it is."
        ),
    )
    capped: Capped | None = Field(
        default=None,
        description="A fixed size. A collection that is there already cannot become capped.",
    )
    time_series: TimeSeries | None = Field(
        default=None,
        description=(
            "Measurements by time. A collection that is there already cannot become one, and "
            "MongoDB itself does not hold the stamp in it: only the library does."
        ),
    )
    collation: Collation | None = Field(
        default=None,
        description="How strings are compared; of a collection that is there it cannot be changed.",
    )

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if self.time_series is not None:
            against = ("capped", "pre_images", "validator", "adopt")
            if beside := [name for name in against if getattr(self, name, None) is not None]:
                raise ValueError(f"a time series takes no {', '.join(beside)}")
        return self


def options_document(options: CollectionOptions) -> Mapping[str, Any]:
    """Return what ``create`` is told of a collection, but for its validator."""
    document: dict[str, Any] = {}
    if options.capped is not None:
        document |= {"capped": True, "size": options.capped.size_bytes}
        if options.capped.max_documents is not None:
            document["max"] = options.capped.max_documents
    if options.time_series is not None:
        series = options.time_series
        document["timeseries"] = {"timeField": series.time_field, "granularity": series.granularity}
        if series.meta_field is not None:
            document["timeseries"]["metaField"] = series.meta_field
        if series.expire_after_seconds is not None:
            document["expireAfterSeconds"] = series.expire_after_seconds
    if options.collation is not None:
        document["collation"] = options.collation.document()
    if options.pre_images:
        document["changeStreamPreAndPostImages"] = {"enabled": True}
    return document
