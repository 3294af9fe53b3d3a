"""The smaller parts of a query: what is shown, in which order, by which index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mdb_engine.scoped.expressions import check_expression
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.refusals import refused, shown
from mdb_engine.scoped.values import plain_value
from mdb_engine.scoped.walk_filters import check_filter
from mdb_engine.scoped.walk_shapes import check_sort

__all__ = ["scope_hint", "scope_key", "scope_projection", "scope_sort"]


def scope_projection(
    projection: Mapping[str, Any] | Iterable[str] | None,
    limits: Limits,
    *,
    path: str = "projection",
) -> dict[str, Any] | None:
    """Copy and check the projection of ``find``, whose values may be expressions.

    Raises
    ------
    QueryRefused
        If it holds an operator that is refused or unknown.
    """
    if projection is None:
        return None
    if isinstance(projection, set | frozenset):
        projection = sorted(projection)
    plain = plain_value(projection, limits, path)
    if isinstance(plain, list):
        if not all(isinstance(name, str) for name in plain):
            raise refused(path, "a list of a projection holds names of fields", path)
        plain = dict.fromkeys(plain, 1) or {"_id": 1}
    if not isinstance(plain, dict):
        raise refused(path, "it has to be a mapping, or a list of names", path)
    for field, value in plain.items():
        below = f"{path}.{shown(field)}"
        if field.startswith("$"):
            raise refused(field, "it is no field's name", below)
        if isinstance(value, dict) and value.keys() == {"$elemMatch"}:
            check_filter({field: value}, path, text=False)
        else:
            check_expression(value, below)
    return plain


def scope_sort(sort: Any, limits: Limits, *, path: str = "sort") -> list[tuple[str, Any]]:
    """Copy and check a sort order: a name, a mapping, or a list of names and pairs.

    Raises
    ------
    QueryRefused
        If it is none of these.
    """
    pairs = _pairs(plain_value(sort, limits, path), path)
    check_sort(dict(pairs), path)
    return pairs


def scope_hint(
    hint: Any, limits: Limits, *, path: str = "hint"
) -> str | list[tuple[str, Any]] | None:
    """Copy and check a hint: an index's name or its keys. It chooses a plan, never documents.

    Raises
    ------
    QueryRefused
        If it is neither.
    """
    plain = plain_value(hint, limits, path)
    return plain if plain is None or isinstance(plain, str) else _pairs(plain, path)


def scope_key(key: Any, limits: Limits, *, path: str = "key") -> str:
    """Copy and check the field's name that ``distinct`` is asked for.

    Raises
    ------
    QueryRefused
        If it is no field's name.
    """
    plain = plain_value(key, limits, path)
    if not isinstance(plain, str) or plain[:1] in ("", "$") or "\0" in plain:
        raise refused("distinct", "it needs the name of a field", path)
    return plain


def _pairs(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, str):
        return [(value, 1)]
    items = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(items, list) or not items:
        raise refused(path, "it needs at least one field", path)
    if len(items) == 2 and isinstance(items[0], str) and not isinstance(items[1], str | list):  # noqa: PLR2004
        items = [items]
    return [_pair(item, path) for item in items]


def _pair(item: Any, path: str) -> tuple[str, Any]:
    if isinstance(item, str):
        return item, 1
    if isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str):  # noqa: PLR2004
        return item[0], item[1]
    raise refused(path, "it needs names of fields, each with a direction", path)
