"""An index of a collection, as an MdbApp spells it and as MongoDB wants it.

Everything is typed, partial filters too: the API server then refuses a malformed index by itself,
and nothing free-form, which could hold an operator that MongoDB refuses later, gets that far.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from mdb_engine.models.base import Part

__all__ = ["Condition", "Index", "IndexKey"]

FIELD_PATTERN = r"^[^$.]+(\.[^$.]+)*$"
"""A path into a document: no operators, no empty steps."""

MAX_KEYS = 32
"""MongoDB's limit on the fields of a compound index."""

MAX_EXPIRE_SECONDS = 2**31 - 1
"""MongoDB's limit on ``expireAfterSeconds``."""

MAX_WEIGHT = 99_999
"""MongoDB's limit on a text index's weights."""

KeyKind = Literal["Ordered", "Text", "2dsphere", "2d"]
Operator = Literal["eq", "gt", "gte", "lt", "lte", "exists", "type"]


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
            "Ordered for equality, ranges and sorting; Text for words; 2dsphere or 2d for places."
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
    def direction(self) -> int | str:
        """The key's value in MongoDB's index specification."""
        return self.order if self.kind == "Ordered" else self.kind.lower()


class Condition(Part):
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
            "How it is compared: eq, gt, gte, lt, lte, exists (with booleanValue true) or type."
        ),
    )
    string_value: str | None = Field(
        default=None,
        max_length=256,
        description="The value to compare with, if it is a string; for type, a BSON type's name.",
    )
    number_value: float | None = Field(
        default=None,
        strict=True,
        ge=-(2**53),
        le=2**53,
        description="The value to compare with, if it is a number.",
    )
    boolean_value: bool | None = Field(
        default=None,
        strict=True,
        description="The value to compare with, if it is true or false.",
    )

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": (
                        "[has(self.stringValue), has(self.numberValue), has(self.booleanValue)]"
                        ".filter(given, given).size() == 1"
                    ),
                    "message": "exactly one of stringValue, numberValue, booleanValue is needed",
                }
            ]
        }
    )

    @model_validator(mode="after")
    def _hold_one_fitting_value(self) -> Self:
        values = (self.string_value, self.number_value, self.boolean_value)
        if sum(value is not None for value in values) != 1:
            raise ValueError("needs exactly one of string, number and boolean value")
        if self.operator == "exists" and self.boolean_value is not True:
            raise ValueError("MongoDB's partial indexes know exists only with true")
        if self.operator == "type" and self.string_value is None:
            raise ValueError("type needs the name of a BSON type")
        return self

    @property
    def value(self) -> str | float | bool:
        """The value to compare with, whole numbers as integers."""
        if self.string_value is not None:
            return self.string_value
        if self.boolean_value is not None:
            return self.boolean_value
        number = self.number_value or 0.0
        return int(number) if number.is_integer() else number


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

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        fields = [key.field for key in self.keys]
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
        return self.name or "_".join(f"{key.field}_{key.direction}" for key in self.keys)

    def document(self) -> dict[str, Any]:
        """Return the index specification for MongoDB's ``createIndexes``."""
        document: dict[str, Any] = {
            "key": {key.field: key.direction for key in self.keys},
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
        if self.is_text:
            document["weights"] = {k.field: k.weight for k in self.keys if k.kind == "Text"}
            document["default_language"] = self.default_language or "english"
        return document

    def _filter(self) -> dict[str, Any]:
        merged: dict[str, dict[str, Any]] = {}
        for condition in self.partial_filter:
            merged.setdefault(condition.field, {})[f"${condition.operator}"] = condition.value
        return dict(merged)
