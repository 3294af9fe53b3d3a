"""The bodies of stages that only reshape what reaches them.

They need no scope of their own: what reaches them was in scope. Their expressions are walked, and
where the result is written somewhere they may not touch the stamp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.scoped.rewrite.expressions import (
    check_accumulators,
    check_expression,
    check_operator,
)
from mdb_engine.scoped.rewrite.operators import WINDOW_FUNCTIONS
from mdb_engine.scoped.rewrite.refusals import Position, refuse_app_id, refused

__all__ = [
    "Body",
    "bucket",
    "bucket_auto",
    "check_sort",
    "expressions",
    "fields",
    "fill",
    "group",
    "number",
    "options",
    "refuse_stamping",
    "replace_root",
    "sample",
    "text",
    "unset",
    "unwind",
    "window_fields",
]

Body = Callable[[Any, Position], None]
"""Checks the body of one stage, or raises why it is refused."""


def options(body: Any, name: str, allowed: str, path: Position) -> dict[str, Any]:
    """Check that a stage's body is a mapping of known options.

    Parameters
    ----------
    body
        The stage's value.
    name
        The stage.
    allowed
        The names of its options, separated by spaces.
    path
        Where it stands.

    Raises
    ------
    QueryRefused
        If it is no mapping, or has an option that is not among them.
    """
    if not isinstance(body, dict):
        raise refused(name, f"it needs a mapping of {', '.join(allowed.split())}", path)
    names = allowed.split()
    for option in body:
        if option not in names:
            raise refused(option, f"{name} has only {', '.join(names)}", (path, option))
    return body


def refuse_stamping(
    name: str, body: Any, path: Position, *, writes: bool, stamp: str | None = None
) -> None:
    """Refuse a stage that names the stamp as something to set or to drop.

    Parameters
    ----------
    name, body, path
        The stage.
    writes
        Whether the pipeline writes documents: then the stamp may not be left out of a projection
        either, and may not be a field of a replacement.
    stamp
        What the stamp is set to anyway, which a stage may say as well.
    """
    if name in {"$set", "$addFields", "$project"} and isinstance(body, dict):
        for field, value in body.items():
            is_stamp = field == APP_ID_FIELD and stamp is not None and value == stamp
            if is_stamp and name != "$project":
                continue  # as it was read, and is
            shows = name == "$project" and _is_flag(value) and (not writes or bool(value))
            if not shows:
                refuse_app_id(name, field, (path, field))
    elif name == "$unset":
        for field in body if isinstance(body, list) else [body]:
            if isinstance(field, str):
                refuse_app_id(name, field, path)
    elif writes and name in {"$replaceWith", "$replaceRoot"}:
        root = body.get("newRoot") if name == "$replaceRoot" and isinstance(body, dict) else body
        given = root if isinstance(root, dict) else {}
        if APP_ID_FIELD in given and (stamp is None or given[APP_ID_FIELD] != stamp):
            refuse_app_id(name, APP_ID_FIELD, (path, APP_ID_FIELD))


def check_sort(body: Any, path: Position) -> None:
    """Check a sort specification: directions, or ``{$meta: keyword}``."""
    if not isinstance(body, dict) or not body:
        raise refused("sort", "it needs a mapping of fields and directions", path)
    for field, direction in body.items():
        below = (path, field)
        if field.startswith("$") and field != "$natural":
            raise refused(field, "it is no field's name", below)
        if isinstance(direction, dict):
            if direction.keys() != {"$meta"}:
                raise refused("sort", "a field's direction is 1, -1 or {$meta: keyword}", below)
            check_expression(direction, below)
        elif isinstance(direction, bool) or direction not in (1, -1):
            raise refused("sort", "a field's direction is 1, -1 or {$meta: keyword}", below)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def fields(name: str) -> Body:
    """Return the check of a mapping of fields to expressions."""

    def check(body: Any, path: Position) -> None:
        if not isinstance(body, dict) or not body:
            raise refused(name, "it needs a mapping of fields", path)
        for field, value in body.items():
            below = (path, field)
            if field.startswith("$"):
                raise refused(field, "it is no field's name", below)
            check_expression(value, below)

    return check


def text(name: str) -> Body:
    """Return the check of a field's name."""

    def check(body: Any, path: Position) -> None:
        if not isinstance(body, str) or not body or body.startswith("$"):
            raise refused(name, "it needs the name of a field", path)

    return check


def number(name: str) -> Body:
    """Return the check of a number."""

    def check(body: Any, path: Position) -> None:
        if isinstance(body, bool) or not isinstance(body, int | float):
            raise refused(name, "it needs a number", path)

    return check


def unset(body: Any, path: Position) -> None:
    """Check a field's name, or a list of them."""
    names = body if isinstance(body, list) else [body]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise refused("$unset", "it needs the name of a field, or a list of names", path)
    for name in names:
        if name.startswith("$"):
            raise refused("$unset", "a field's name does not begin with $", path)


def replace_root(body: Any, path: Position) -> None:
    """Check ``newRoot``."""
    given = options(body, "$replaceRoot", "newRoot", path)
    if "newRoot" not in given:
        raise refused("$replaceRoot", "it needs newRoot", path)
    check_expression(given["newRoot"], (path, "newRoot"))


def unwind(body: Any, path: Position) -> None:
    """Check a field's path, alone or with its options."""
    if isinstance(body, dict):
        given = options(body, "$unwind", "path includeArrayIndex preserveNullAndEmptyArrays", path)
        body = given.get("path")
    if not isinstance(body, str) or not body.startswith("$") or body.startswith("$$"):
        raise refused("$unwind", "it needs a field's path that begins with $", path)


def sample(body: Any, path: Position) -> None:
    """Check a sample's size."""
    number("$sample.size")(options(body, "$sample", "size", path).get("size"), (path, "size"))


def group(body: Any, path: Position) -> None:
    """Check ``_id`` and accumulators."""
    if not isinstance(body, dict) or "_id" not in body:
        raise refused("$group", "it needs a mapping with _id", path)
    check_expression(body["_id"], (path, "_id"))
    check_accumulators({key: value for key, value in body.items() if key != "_id"}, path)


def bucket(body: Any, path: Position) -> None:
    """Check boundaries and accumulators."""
    _buckets(options(body, "$bucket", "groupBy boundaries default output", path), path)


def bucket_auto(body: Any, path: Position) -> None:
    """Check a number of buckets and accumulators."""
    _buckets(options(body, "$bucketAuto", "groupBy buckets output granularity", path), path)


def _buckets(given: dict[str, Any], path: Position) -> None:
    for option, value in given.items():
        if option == "output":
            check_accumulators(value, (path, "output"))
        else:
            check_expression(value, (path, option))


def expressions(name: str, allowed: str) -> Body:
    """Check a body of options each of which is an expression, or data that reads as one."""

    def check(body: Any, path: Position) -> None:
        for option, value in options(body, name, allowed, path).items():
            check_expression(value, (path, option))

    return check


def fill(body: Any, path: Position) -> None:
    """Check what gaps are filled with."""
    given = options(body, "$fill", "partitionBy partitionByFields sortBy output", path)
    for option in given.keys() & {"partitionBy", "partitionByFields"}:
        check_expression(given[option], (path, option))
    if "sortBy" in given:
        check_sort(given["sortBy"], (path, "sortBy"))
    for field, value in options_of_fields(given.get("output"), "$fill", (path, "output")):
        below = ((path, "output"), field)
        check_expression(options(value, "$fill", "value method", below), below)


def window_fields(body: Any, path: Position) -> None:
    """Check window functions and their windows."""
    given = options(body, "$setWindowFields", "partitionBy sortBy output", path)
    if "partitionBy" in given:
        check_expression(given["partitionBy"], (path, "partitionBy"))
    if "sortBy" in given:
        check_sort(given["sortBy"], (path, "sortBy"))
    for field, value in options_of_fields(given.get("output"), "$setWindowFields", path):
        below = ((path, "output"), field)
        if not isinstance(value, dict):
            raise refused("$setWindowFields", "a field needs a window function", below)
        function = {key: item for key, item in value.items() if key != "window"}
        name, argument = check_operator(function, WINDOW_FUNCTIONS, "window function", below)
        check_expression(argument, (below, name))
        check_expression(
            options(value.get("window", {}), name, "documents range unit", (below, "window")),
            (below, "window"),
        )


def options_of_fields(output: Any, name: str, path: Position) -> list[tuple[str, Any]]:
    """Return the fields of a stage's ``output``, which has to be a mapping."""
    if not isinstance(output, dict):
        raise refused(name, "it needs a mapping as output", path)
    return list(output.items())
