"""What all parts of a manifest have in common: frozen, strict about keys, two spellings."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from mdb_engine.exceptions import Fault, ManifestInvalid

__all__ = ["Location", "Part", "dotted", "first_fault", "misplaced", "parse"]

Location = tuple[str | int, ...]

ModelT = TypeVar("ModelT", bound=BaseModel)


class Part(BaseModel):
    """A part of a manifest, which code builds by the names of its fields.

    Its fields are snake_case in ``manifest.json`` and camelCase in an MdbApp.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_by_alias=True,
        validate_by_name=True,
    )


def parse(
    model: type[ModelT], data: Any, *, camel: bool, extra: Literal["forbid", "ignore"] = "forbid"
) -> ModelT:
    """Validate data in one of the two spellings, and only in that.

    Parameters
    ----------
    model
        What the data should be.
    data
        What was read from JSON or YAML.
    camel
        Whether keys are spelt in camelCase (an MdbApp) or in snake_case (``manifest.json``).
    extra
        What becomes of keys that the model does not know.

    Raises
    ------
    ManifestInvalid
        With all faults, each with its path in the spelling of the input.
    """
    try:
        return model.model_validate(data, extra=extra, by_alias=camel, by_name=not camel)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    deepest = [tuple(one["loc"]) for one in found]
    raise ManifestInvalid(
        [
            _fault(model, dict(one), camel=camel)
            for one in found
            # A list whose only item is malformed is called too short as well: that is noise.
            if one["type"] != "too_short" or not _is_above_another(tuple(one["loc"]), deepest)
        ]
    )


def misplaced(message: str, *path: str | int) -> PydanticCustomError:
    """Make the error of a rule across fields, to be raised by a validator.

    Parameters
    ----------
    message
        What is wrong; must hold no braces.
    path
        Where, below the model whose validator raises it, by the names of the fields.
    """
    return PydanticCustomError("rule", message, {"path": path})


def first_fault(error: ValidationError) -> tuple[str, Location]:
    """Return the message of a model's first error, and where it is."""
    found = error.errors(include_url=False, include_input=False)[0]
    below = found.get("ctx", {}).get("path", ())
    return found["msg"].removeprefix("Value error, "), (*found["loc"], *below)


def _is_above_another(location: Location, others: list[Location]) -> bool:
    return any(len(o) > len(location) and o[: len(location)] == location for o in others)


def _fault(model: type[BaseModel], found: dict[str, Any], *, camel: bool) -> Fault:
    location: Location = found["loc"]
    below = found.get("ctx", {}).get("path", ()) if found["type"] == "rule" else ()
    spelt = (to_camel(part) if camel and isinstance(part, str) else part for part in below)
    path = dotted((*location, *spelt))
    if found["type"] != "extra_forbidden":
        return Fault(path, found["msg"].removeprefix("Value error, "))
    known = sorted(_keys_at(model, location[:-1], camel=camel))
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return Fault(path, f"is not a known key; {hint}")


def dotted(location: Location) -> str:
    """Return a location as people write it: ``collections[0].name``."""
    path = ""
    for part in location:
        if part == "[key]":  # how pydantic says that it is a map's key that is wrong
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def _keys_at(model: type[BaseModel], location: Location, *, camel: bool) -> set[str]:
    """Return the keys that the object at a location may have."""
    models = {model}
    for part in location:
        models = {
            inner
            for outer in models
            for name, field in outer.model_fields.items()
            if part in (name, field.alias)
            for inner in _models_in(field.annotation)
        } or models  # an index into a list, or a map's key, stays with the list's or map's models
    return {
        (field.alias or name) if camel else name
        for found in models
        for name, field in found.model_fields.items()
    }


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)
