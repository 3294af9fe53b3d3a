"""An index as ``manifest.json`` spells it: a type, keys as MongoDB's drivers take them, options.

Options may stand in the index itself, in snake_case, or below ``options``, as MongoDB spells them;
both spellings are in use. Each converts to the one `Index` of the spec.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from mdb_engine.models.base import Part, first_fault, misplaced
from mdb_engine.models.collections import Collation, SearchIndex
from mdb_engine.models.indexes import MAX_KEYS, Alternative, Condition, Index, IndexKey, Value

__all__ = ["ManagedIndex"]

KEY_PATTERN = r"^([^$.]+(\.[^$.]+)*(\.\$\*\*)?|\$\*\*)$"
"""A path into a document, or all fields below one: ``$**``."""

Direction = Literal[1, -1, "text", "2dsphere", "2d", "hashed"]
Key = tuple[Annotated[str, Field(max_length=256, pattern=KEY_PATTERN)], Direction]
IndexType = Literal[
    "regular",
    "ttl",
    "partial",
    "text",
    "geospatial",
    "hashed",
    "wildcard",
    "search",
    "vectorSearch",
]

_KINDS: dict[Any, Literal["Text", "2dsphere", "2d", "Hashed"]] = {
    "hashed": "Hashed",
    "text": "Text",
    "2dsphere": "2dsphere",
    "2d": "2d",
}
_COMPARISONS: dict[str, Literal["eq", "gt", "gte", "lt", "lte", "exists", "type", "in"]] = {
    "$in": "in",
    "$eq": "eq",
    "$gt": "gt",
    "$gte": "gte",
    "$lt": "lt",
    "$lte": "lte",
    "$exists": "exists",
    "$type": "type",
}


class IndexOptions(Part):
    """MongoDB's options of an index, as MongoDB spells them."""

    model_config = ConfigDict(alias_generator=None)

    unique: bool = Field(default=False, strict=True)
    sparse: bool = Field(default=False, strict=True)
    background: bool = Field(default=True, strict=True)
    """MongoDB ignores it since 4.2; manifests written before still have it."""
    expireAfterSeconds: int | None = Field(default=None, ge=0, strict=True)  # noqa: N815
    partialFilterExpression: dict[str, JsonValue] | None = None  # noqa: N815
    weights: dict[str, int] = Field(default_factory=dict)
    default_language: str | None = None


class ManagedIndex(Part):
    """One index of ``managed_indexes``."""

    type: IndexType = Field(default="regular", description="What kind of index it is.")
    name: str | None = Field(default=None, description="Its name.")
    keys: tuple[Key, ...] = Field(
        default=(), max_length=MAX_KEYS, description="A mapping, or a list of pairs."
    )
    unique: bool = Field(default=False, strict=True, description="Whether values are unique.")
    sparse: bool = Field(default=False, strict=True, description="Whether gaps are left out.")
    expire_after_seconds: int | None = Field(
        default=None, ge=0, strict=True, description="When documents end; for the type ttl."
    )
    partial_filter_expression: dict[str, JsonValue] | None = Field(
        default=None, description="Which documents it holds; for the type partial."
    )
    weights: dict[str, int] = Field(
        default_factory=dict, description="Weights of fields; for the type text."
    )
    default_language: str | None = Field(default=None, description="For the type text.")
    collation: Collation | None = Field(default=None, description="How strings are compared.")
    definition: dict[str, JsonValue] | None = Field(
        default=None, description="For the types search and vectorSearch."
    )
    options: IndexOptions | None = Field(default=None, description="The same, nested.")

    @field_validator("keys", mode="before")
    @classmethod
    def _accept_a_mapping(cls, value: Any) -> Any:
        return tuple(value.items()) if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _is_what_its_type_says(self) -> Self:
        if self.is_search:
            if self.keys or not self.definition or not self.name:
                raise misplaced(f"the type {self.type} needs name and definition, and no keys")
            return self
        if self.definition is not None:
            raise misplaced("definition is for the types search and vectorSearch", "definition")
        if not self.keys:
            raise misplaced("is required and must hold a field", "keys")
        try:
            index = self.to_index()
        except ValidationError as error:
            message, path = first_fault(error)
            raise misplaced(message, *path) from None
        kinds = {key.kind for key in index.keys}
        needs: dict[str, tuple[bool, str]] = {
            "ttl": (index.expire_after_seconds is not None, "expire_after_seconds"),
            "partial": (bool(index.partial_filter), "partial_filter_expression"),
            "text": (index.is_text, "a key that is 'text'"),
            "hashed": ("Hashed" in kinds, "a key with the value 'hashed'"),
            "wildcard": ("Wildcard" in kinds, "a key that is '$**' or ends in '.$**'"),
            "geospatial": (
                bool(kinds & {"2dsphere", "2d"}),
                "a key with the value '2dsphere' or '2d'",
            ),
        }
        fits, needed = needs.get(self.type, (True, ""))
        if not fits:
            raise misplaced(f"the type {self.type} needs {needed}", "type")
        return self

    @classmethod
    def from_index(cls, index: Index) -> ManagedIndex:
        """Return the manifest's spelling of an index of a spec."""
        document = index.document()
        kinds = {key.kind for key in index.keys}
        found: IndexType = "regular"
        if index.is_text:
            found = "text"
        elif kinds & {"2dsphere", "2d"}:
            found = "geospatial"
        elif kinds & {"Hashed", "Wildcard"}:
            found = "hashed" if "Hashed" in kinds else "wildcard"
        elif index.expire_after_seconds is not None:
            found = "ttl"
        elif index.partial_filter:
            found = "partial"
        return cls(
            type=found,
            name=index.name,
            keys=tuple(document["key"].items()),
            unique=index.unique,
            sparse=index.sparse,
            expire_after_seconds=index.expire_after_seconds,
            partial_filter_expression=_as_json(document.get("partialFilterExpression")),
            collation=index.collation,
            weights={key.field: key.weight for key in index.keys if key.weight != 1},
            default_language=index.default_language,
        )

    def to_index(self) -> Index:
        """Return the index as the spec of an MdbApp has it."""
        options = self.options or IndexOptions()
        weights = self.weights or options.weights
        if strays := sorted(set(weights) - {field for field, kind in self.keys if kind == "text"}):
            raise misplaced(f"weighs {', '.join(strays)}, which is no text key", "weights")
        expiry = self.expire_after_seconds
        conditions = self.partial_filter_expression or options.partialFilterExpression or {}
        return Index(
            name=self.name,
            keys=tuple(_key(field, kind, weights) for field, kind in self.keys),
            unique=self.unique or options.unique,
            sparse=self.sparse or options.sparse,
            expire_after_seconds=options.expireAfterSeconds if expiry is None else expiry,
            partial_filter=tuple(_conditions(conditions)),
            default_language=self.default_language or options.default_language,
            collation=self.collation,
        )

    @classmethod
    def from_search_index(cls, index: SearchIndex) -> ManagedIndex:
        """Return the manifest's spelling of a search index of a spec."""
        return cls(type=index.type, name=index.name, definition=json.loads(index.definition))

    @property
    def is_search(self) -> bool:
        """Whether it is for ``$search`` or ``$vectorSearch``."""
        return self.type in ("search", "vectorSearch")

    def to_search_index(self) -> SearchIndex:
        """Return the search index as the spec of an MdbApp has it."""
        kind: Literal["search", "vectorSearch"] = (
            "search" if self.type == "search" else "vectorSearch"
        )
        return SearchIndex(
            name=self.name or "", type=kind, definition=json.dumps(self.definition, sort_keys=True)
        )


def _key(field: str, direction: Direction, weights: Mapping[str, int]) -> IndexKey:
    if field.endswith("$**"):
        return IndexKey(field=field.removesuffix("$**").rstrip(".") or "*", kind="Wildcard")
    if direction in (1, -1):
        return IndexKey(field=field, order=1 if direction == 1 else -1)
    return IndexKey(field=field, kind=_KINDS[direction], weight=weights.get(field, 1))


def _conditions(expression: Mapping[str, Any]) -> Iterator[Condition]:
    """Flatten a partial filter into conditions that all must hold."""
    for field, wanted in expression.items():
        if field == "$and" and isinstance(wanted, list):
            for part in wanted:
                yield from _conditions(part if isinstance(part, Mapping) else {"$and": part})
            continue
        plain = not isinstance(wanted, Mapping) or list(wanted) == ["$date"]
        comparisons = {"$eq": wanted} if plain else wanted
        for operator, value in comparisons.items():
            if field.startswith("$") or operator not in _COMPARISONS:
                unknown = field if field.startswith("$") else operator
                raise misplaced(
                    f"{unknown} cannot stand in it; known are $and, {', '.join(_COMPARISONS)}",
                    "partial_filter_expression",
                )
            yield _condition(field, operator, value)


def _condition(field: str, operator: str, value: Any) -> Condition:
    known = _COMPARISONS[operator]
    if known == "in":
        found = [Value.fields_of(one) for one in value] if isinstance(value, list) else []
        if found and None not in found:
            values = tuple(Alternative(**one) for one in found if one is not None)
            return Condition(field=field, operator=known, values=values)
    elif (fields := Value.fields_of(value)) is not None:
        return Condition(field=field, operator=known, **fields)
    raise misplaced(
        f"{field} is compared with neither a string, a number, a boolean, null nor a $date",
        "partial_filter_expression",
    )


def _as_json(value: Any) -> Any:
    """Return an expression with times as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _as_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    if isinstance(value, datetime):
        text = value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
        return {"$date": f"{text.removesuffix('.000')}Z"}
    return value
