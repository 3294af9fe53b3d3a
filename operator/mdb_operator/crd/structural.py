"""JSON schemas as pydantic writes them, turned into the structural schemas that a CRD demands.

The API server takes OpenAPI v3.0 without references, ``anyOf`` with null, ``const``, titles or
``additionalProperties: false`` (it prunes unknown fields instead, and refuses them where the client
asks for strict validation, as kubectl does). See "Specifying a structural schema" in the
Kubernetes documentation of custom resources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["structural", "walk"]

_KEPT = frozenset(
    {
        "type", "format", "description", "default", "enum", "pattern", "minLength", "maxLength",
        "minimum", "maximum", "minItems", "maxItems", "minProperties", "maxProperties", "required",
    }
)  # fmt: skip
"""Keywords that mean the same in both and are copied; what is not known here is an error."""

_DROPPED = frozenset({"title", "$defs", "additionalProperties", "discriminator", "examples"})
"""Keywords without a meaning for the API server."""


def structural(
    schema: Mapping[str, Any], definitions: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the structural schema that accepts what a pydantic JSON schema accepts.

    The schema is as ``model_json_schema(by_alias=True)`` returns it.

    Raises
    ------
    ValueError
        If the schema holds a keyword or a union that a structural schema cannot express, so that
        a constraint is never lost in silence.
    """
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    schema = _flatten(schema, definitions)
    result: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "properties":
            result["properties"] = {
                name: structural(part, definitions) for name, part in value.items()
            }
        elif keyword == "items":
            result["items"] = structural(value, definitions)
        elif keyword == "additionalProperties" and isinstance(value, Mapping):
            result["additionalProperties"] = structural(value, definitions)
        elif keyword == "const":
            result["enum"] = [value]
        elif keyword in _KEPT or keyword.startswith("x-kubernetes-"):
            if not (keyword == "default" and value is None):
                result[keyword] = value
        elif keyword not in _DROPPED:
            raise ValueError(f"a structural schema cannot express {keyword!r}: {value!r}")
    if "enum" in result and "type" not in result:
        result["type"] = "string"
    return result


def walk(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every node of a structural schema below the root with its dotted path."""
    for name, part in schema.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        yield below, part
        yield from walk(part, below)
    for keyword, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if keyword in schema:
            yield f"{path}{suffix}", schema[keyword]
            yield from walk(schema[keyword], f"{path}{suffix}")


def _flatten(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve a reference and an optional union, letting the nearer keywords win."""
    flat = dict(schema)
    while "$ref" in flat or "anyOf" in flat or "allOf" in flat:
        if "$ref" in flat:
            inner = definitions[flat.pop("$ref").rpartition("/")[2]]
        else:
            keyword = "anyOf" if "anyOf" in flat else "allOf"
            options = [part for part in flat.pop(keyword) if part.get("type") != "null"]
            if len(options) != 1:
                raise ValueError(f"a structural schema cannot express a union: {options!r}")
            inner = options[0]
        flat = {**inner, **flat}
    return flat
