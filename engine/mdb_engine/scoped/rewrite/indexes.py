"""Indexes: which keys and options an app may give those of its own collections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdb_engine.access.model import Target
from mdb_engine.exceptions import ScopeDenied
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.rewrite.filters import check_filter
from mdb_engine.scoped.rewrite.refusals import Position, refused
from mdb_engine.scoped.rewrite.values import plain_mapping, plain_value

__all__ = ["INDEX_OPTIONS", "require_own", "scope_index"]

INDEX_OPTIONS: Mapping[str, str] = {
    "2dsphereIndexVersion": "geospatial",
    "background": "ignored by the server since 4.2",
    "bits": "geospatial",
    "collation": "comparison",
    "default_language": "text",
    "expireAfterSeconds": "ttl",
    "hidden": "planning",
    "language_override": "text",
    "max": "geospatial",
    "min": "geospatial",
    "name": "name",
    "partialFilterExpression": "partial",
    "sparse": "sparse",
    "textIndexVersion": "text",
    "unique": "unique",
    "weights": "text",
    "wildcardProjection": "wildcard",
}
"""The options that an index may have, and what each is for."""

_KINDS = frozenset({"text", "2d", "2dsphere", "hashed"})


def require_own(target: Target, operation: str) -> None:
    """Let an operation go on only on the app's own collection, with a handle that may write.

    Raises
    ------
    ScopeDenied
        If the collection is another app's, or the handle was narrowed to reading.
    """
    if not target.writable:
        raise ScopeDenied(
            f"{operation} on {target.physical} is denied: an app writes only its own collections, "
            f"with a handle that may write"
        )


def scope_index(
    keys: Any,
    options: Mapping[str, Any],
    target: Target,
    limits: Limits,
    *,
    path: Position = "index",
) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
    """Copy and check an index's keys and options.

    Parameters
    ----------
    keys
        A field's name, or a list of names and pairs, or a mapping, as the drivers take them.
    options
        The options by their names in MongoDB.
    target
        The collection, which has to be the app's own.
    limits
        The limits of size and depth.
    path
        How errors name the index.

    Returns
    -------
    tuple
        The keys as pairs, and the options.

    Raises
    ------
    ScopeDenied
        If the collection is not the app's own.
    QueryRefused
        If a key or an option is not one that an app may give.
    """
    require_own(target, "an index")
    plain = plain_mapping(options, limits, path)
    for name, value in plain.items():
        below = (path, name)
        if name not in INDEX_OPTIONS:
            raise refused(name, "it is not on the list of index options", below)
        if name == "partialFilterExpression":
            check_filter(value, below, text=False)
    return _pairs(plain_value(keys, limits, (path, "key")), (path, "key")), plain


def _pairs(keys: Any, path: Position) -> list[tuple[str, Any]]:
    if isinstance(keys, str):
        keys = [keys]
    items = list(keys.items()) if isinstance(keys, dict) else keys
    if not isinstance(items, list) or not items:
        raise refused("index", "it needs at least one field", path)
    return [_pair(item, path) for item in items]


def _pair(item: Any, path: Position) -> tuple[str, Any]:
    match item:
        case str(field):
            direction: Any = 1
        case [str(field), direction]:
            pass
        case _:
            raise refused("index", "a key is a field's name, or a pair of it and a direction", path)
    below = (path, field)
    if not field or any(part.startswith("$") and part != "$**" for part in field.split(".")):
        raise refused(field, "it is no field's name", below)
    if isinstance(direction, str):
        if direction not in _KINDS:
            raise refused(direction, f"an index is one of {', '.join(sorted(_KINDS))}", below)
    elif isinstance(direction, bool) or not isinstance(direction, int | float) or direction == 0:
        raise refused("index", "a direction is 1 or -1", below)
    return field, direction
