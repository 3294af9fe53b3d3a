"""Projections of a query: since MongoDB 4.4 they may hold expressions, so they are walked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mdb_engine.scoped.expressions import check_expression
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.refusals import refused, shown
from mdb_engine.scoped.values import plain_value
from mdb_engine.scoped.walk_filters import check_filter

__all__ = ["scope_projection"]


def scope_projection(
    projection: Mapping[str, Any] | Sequence[str], limits: Limits, *, path: str = "projection"
) -> dict[str, Any] | list[str]:
    """Copy and check a projection.

    Parameters
    ----------
    projection
        A mapping of fields to 1, 0 or an expression, or a list of fields.
    limits
        The limits of size and depth.
    path
        How errors name it.

    Raises
    ------
    QueryRefused
        If it holds an operator that is not on the list.
    LimitExceeded
        If it is too large or too deep.
    """
    plain = plain_value(projection, limits, path)
    if isinstance(plain, list):
        for item in plain:
            if not isinstance(item, str):
                raise refused(type(item).__name__, "a list of fields holds only names", path)
            _check_field(item, path)
        return plain
    if not isinstance(plain, dict):
        raise refused(type(projection).__name__, "it has to be a mapping or a list of fields", path)
    for field, value in plain.items():
        below = f"{path}.{shown(field)}"
        _check_field(field, below)
        _check(value, below)
    return plain


def _check_field(field: str, path: str) -> None:
    if field.startswith("$"):
        raise refused(field, "it is no field's name", path)


def _check(value: Any, path: str) -> None:
    if isinstance(value, dict) and value.keys() == {"$elemMatch"}:
        check_filter(value["$elemMatch"], f"{path}.$elemMatch", text=False)
    else:
        check_expression(value, path)
