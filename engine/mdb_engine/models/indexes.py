"""An index of a collection, as an MdbApp spells it and as MongoDB wants it.

Everything is typed, partial filters too: the API server then refuses a malformed index by itself,
and nothing free-form, which could hold an operator that MongoDB refuses later, gets that far.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from mdb_engine.models.base import Part
from mdb_engine.models.collections import Collation

__all__ = ["Alternative", "Condition", "Index", "IndexKey", "Value"]

FIELD_PATTERN = r"^[^$.\x00]+(\.[^$.\x00]+)*$"
"""A path into a document: no operators, no empty steps, and no NUL, which ends a name in BSON."""

DATE_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?Z$"
"""A time in UTC, no finer than MongoDB's milliseconds."""

_GIVEN = ", ".join(
    f"has(self.{name}Value)" for name in ("string", "number", "boolean", "date", "null")
)

MAX_KEYS = 32
"""MongoDB's limit on the fields of a compound index."""

MAX_EXPIRE_SECONDS = 2**31 - 1
"""MongoDB's limit on ``expireAfterSeconds``."""

MAX_WEIGHT = 99_999
"""MongoDB's limit on a text index's weights."""

KeyKind = Literal["Ordered", "Text", "2dsphere", "2d", "Hashed", "Wildcard"]
Operator = Literal["eq", "gt", "gte", "lt", "lte", "exists", "type", "in"]


class IndexKey(Part):
    """One field of an index."""

    field: str = Field(
        min_length=1,
        max_length=256,
        pattern=FIELD_PATTERN,
        description="The path of the field in the document, with dots into embedded documents.",
    )
    order: Literal[1, -1] = Field(
        default=1,
        description="1 for ascending, -1 for descending; only for a field of kind Ordered.",
    )
    kind: KeyKind = Field(
        default="Ordered",
        description=(
            "Ordered for equality, ranges and sorting; Text for words; 2dsphere or 2d for places; "
            "Hashed for equality alone; Wildcard for all fields below this one, or all where field "
            "is *."
        ),
    )
    weight: int = Field(
        default=1,
        ge=1,
        le=MAX_WEIGHT,
        strict=True,
        description="How much a match in this field counts against others; only for kind Text.",
    )

    @model_validator(mode="after")
    def _refuse_what_would_be_ignored(self) -> Self:
        if self.kind != "Ordered" and self.order != 1:
            raise ValueError(f"order applies to the kind Ordered, not {self.kind}")
        if self.kind != "Text" and self.weight != 1:
            raise ValueError(f"weight applies to the kind Text, not {self.kind}")
        return self

    @property
    def path(self) -> str:
        """The key's name in MongoDB's index specification."""
        if self.kind != "Wildcard":
            return self.field
        return "$**" if self.field == "*" else f"{self.field}.$**"

    @property
    def direction(self) -> int | str:
        """The key's value in MongoDB's index specification."""
        return self.order if self.kind in ("Ordered", "Wildcard") else self.kind.lower()


class Value(Part):
    """A value to compare with: exactly one of its fields is given."""

    string_value: str | None = Field(
        default=None, max_length=256, description="The value, if it is a string."
    )
    number_value: float | None = Field(
        default=None,
        strict=True,
        ge=-(2**53),
        le=2**53,
        description="The value, if it is a number.",
    )
    boolean_value: bool | None = Field(
        default=None, strict=True, description="The value, if it is true or false."
    )
    date_value: str | None = Field(
        default=None,
        max_length=30,
        pattern=DATE_PATTERN,
        description="The value, if it is a time: 2026-01-31T12:00:00Z, in UTC.",
    )
    null_value: bool | None = Field(
        default=None,
        strict=True,
        description="Only true: the value is null, or the field is missing.",
        json_schema_extra={"enum": [True]},
    )

    @field_validator("date_value")
    @classmethod
    def _is_in_the_calendar(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                datetime.fromisoformat(value)
            except ValueError:
                raise ValueError("is no time that there is") from None
        return value

    @field_validator("null_value")
    @classmethod
    def _is_null_or_another(cls, value: bool | None) -> bool | None:  # noqa: FBT001 - a field's
        if value is False:
            raise ValueError("is true or absent")
        return value

    @property
    def given(self) -> int:
        """How many of its fields are given."""
        return sum(getattr(self, name) is not None for name in Value.model_fields)

    @property
    def value(self) -> str | float | bool | datetime | None:
        """The value to compare with, whole numbers as integers."""
        if self.date_value is not None:
            return datetime.fromisoformat(self.date_value)
        if self.string_value is not None:
            return self.string_value
        if self.number_value is not None:
            return int(self.number_value) if self.number_value.is_integer() else self.number_value
        return self.boolean_value

    @classmethod
    def fields_of(cls, value: Any) -> dict[str, Any] | None:
        """Return the field that holds a value as JSON has it; None where no field can."""
        if value is None:
            return {"null_value": True}
        if isinstance(value, bool):
            return {"boolean_value": value}
        if isinstance(value, int | float):
            return {"number_value": float(value)}
        if isinstance(value, str):
            return {"string_value": value}
        if isinstance(value, Mapping) and list(value) == ["$date"]:
            return {"date_value": value["$date"]}
        return None


class Alternative(Value):
    """One of the values that a field may have."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    @model_validator(mode="after")
    def _hold_one_value(self) -> Self:
        if self.given != 1:
            raise ValueError("needs exactly one value")
        return self


class Condition(Value):
    """One condition on the documents that a partial index holds."""

    field: str = Field(
        min_length=1,
        max_length=256,
        pattern=FIELD_PATTERN,
        description="The path of the field that is compared.",
    )
    operator: Operator = Field(
        default="eq",
        description=(
            "How it is compared: eq, gt, gte, lt, lte, in (with values), exists (with booleanValue "
            "true) or type (with stringValue, the name of a BSON type)."
        ),
    )
    values: tuple[Alternative, ...] = Field(
        default=(),
        max_length=16,
        description="The values of which the field has one; only for in.",
    )

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": (f"[{_GIVEN}, has(self.values)].filter(given, given).size() == 1"),
                    "message": (
                        "exactly one of stringValue, numberValue, booleanValue, dateValue, "
                        "nullValue and values is needed"
                    ),
                },
                {
                    "rule": ("has(self.values) == (has(self.operator) && self.operator == 'in')"),
                    "message": "values is for the operator in, which needs it",
                },
            ]
        }
    )

    @model_validator(mode="after")
    def _hold_one_fitting_value(self) -> Self:
        if bool(self.values) != (self.operator == "in"):
            raise ValueError("values is for the operator in, which needs it")
        if self.given + bool(self.values) != 1:
            raise ValueError("needs exactly one of string, number and boolean value, or another")
        if self.operator == "exists" and self.boolean_value is not True:
            raise ValueError("MongoDB's partial indexes know exists only with true")
        if self.operator == "type" and self.string_value is None:
            raise ValueError("type needs the name of a BSON type")
        if self.null_value and self.operator != "eq":
            raise ValueError("null is compared with eq alone")
        return self

    @property
    def operand(self) -> Any:
        """What stands behind the operator in MongoDB's expression."""
        return [one.value for one in self.values] if self.operator == "in" else self.value


class Index(Part):
    """One index of a collection."""

    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=96,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="The index's name; by default made of its fields, as MongoDB does.",
    )
    keys: tuple[IndexKey, ...] = Field(
        min_length=1,
        max_length=MAX_KEYS,
        description="The fields of the index, in order.",
    )
    unique: bool = Field(
        default=False,
        strict=True,
        description="Whether two documents may not have the same values.",
    )
    sparse: bool = Field(
        default=False,
        strict=True,
        description="Whether documents without the fields are left out.",
    )
    expire_after_seconds: int | None = Field(
        default=None,
        ge=0,
        le=MAX_EXPIRE_SECONDS,
        strict=True,
        description="Delete documents this many seconds after the date in the index's only field.",
    )
    partial_filter: tuple[Condition, ...] = Field(
        default=(),
        max_length=16,
        description="Index only the documents that meet all of these conditions.",
    )
    default_language: str | None = Field(
        default=None,
        max_length=32,
        pattern=r"^[a-z_]+$",
        description="The language of a text index, for stems and stop words; MongoDB's is english.",
    )
    collation: Collation | None = Field(
        default=None,
        description="How strings are compared; by default as in the collection.",
    )

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        fields = [key.field for key in self.keys]
        kinds = [key.kind for key in self.keys]
        if "Wildcard" in kinds and len(kinds) != 1:
            raise ValueError("a wildcard stands alone")
        if "Wildcard" in kinds and self.sparse:
            raise ValueError("a wildcard index is sparse by itself")
        if kinds.count("Hashed") > 1:
            raise ValueError("has two hashed fields; MongoDB allows one")
        if self.collation is not None and not {*kinds} <= {
            "Ordered",
            "Hashed",
            "2dsphere",
            "Wildcard",
        }:
            raise ValueError("an index of words or flat places takes no collation")
        if len(set(fields)) != len(fields):
            raise ValueError("names a field twice")
        if self.expire_after_seconds is not None and (
            len(self.keys) != 1 or self.keys[0].kind != "Ordered"
        ):
            raise ValueError("an index that expires documents has exactly one, ordered field")
        if self.sparse and self.partial_filter:
            raise ValueError("is either sparse or partial")
        if self.unique and any(key.kind != "Ordered" for key in self.keys):
            raise ValueError("only ordered fields can be unique")
        if self.default_language and not self.is_text:
            raise ValueError("only a text index has a language")
        return self

    @property
    def is_text(self) -> bool:
        """Whether it is a text index."""
        return any(key.kind == "Text" for key in self.keys)

    @property
    def effective_name(self) -> str:
        """Its name, given or made of its fields as MongoDB does."""
        return self.name or "_".join(f"{key.path}_{key.direction}" for key in self.keys)

    def document(self, collation: Collation | None = None) -> dict[str, Any]:
        """Return the index specification for MongoDB's ``createIndexes``.

        Parameters
        ----------
        collation
            The collection's, which MongoDB gives an index that has none of its own.
        """
        document: dict[str, Any] = {
            "key": {key.path: key.direction for key in self.keys},
            "name": self.effective_name,
        }
        if self.unique:
            document["unique"] = True
        if self.sparse:
            document["sparse"] = True
        if self.expire_after_seconds is not None:
            document["expireAfterSeconds"] = self.expire_after_seconds
        if self.partial_filter:
            document["partialFilterExpression"] = self._filter()
        if self.collation is not None:
            document["collation"] = self.collation.document()
        elif collation is not None:
            plain = any(key.kind in ("Text", "2d") for key in self.keys)
            document["collation"] = {"locale": "simple"} if plain else collation.document()
        if self.is_text:
            document["weights"] = {k.field: k.weight for k in self.keys if k.kind == "Text"}
            document["default_language"] = self.default_language or "english"
        return document

    def _filter(self) -> dict[str, Any]:
        merged: dict[str, dict[str, Any]] = {}
        for condition in self.partial_filter:
            merged.setdefault(condition.field, {})[f"${condition.operator}"] = condition.operand
        return dict(merged)
