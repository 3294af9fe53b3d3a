"""The walk through a filter: every operator is looked up, every nested filter is entered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mdb_engine.scoped.expressions import check_expression
from mdb_engine.scoped.operators import known
from mdb_engine.scoped.operators_query import FIELD_OPERATORS, FILTER_OPERATORS
from mdb_engine.scoped.refusals import names_app_id, refused, shown

__all__ = ["app_id_conditions", "check_condition", "check_filter", "check_pull"]

_DBREF_KEYS = frozenset({"$ref", "$id", "$db"})
"""What a reference to a document is made of: data, though it looks like operators."""

_LOGICAL = frozenset({"$and", "$or", "$nor"})


def check_filter(query: Any, path: str, *, text: bool = True) -> None:
    """Walk a filter of plain values.

    Parameters
    ----------
    query
        The filter.
    path
        Where it stands.
    text
        Whether ``$text`` may stand in it: the server wants it in the first ``$match``.

    Raises
    ------
    QueryRefused
        If it holds an operator that is refused, unknown or misplaced.
    """
    if not isinstance(query, dict):
        raise refused(type(query).__name__, "a filter is a mapping", path)
    for key, value in query.items():
        below = f"{path}.{shown(key)}"
        if not key.startswith("$"):
            check_condition(value, below)
            continue
        known(key, FILTER_OPERATORS, "query operator", below)
        if key in _LOGICAL:
            _check_all(value, key, below, text=text)
        elif key == "$expr":
            check_expression(value, below)
        elif key in _DBREF_KEYS:
            check_condition(value, below)
        elif key == "$text" and not text:
            raise refused("$text", "it has to stand in the first stage", below)


def check_condition(condition: Any, path: str) -> None:
    """Walk what stands below a field name: a value, or operators on it."""
    if _holds_operators(condition):
        _check_operators(condition, path)


def _check_operators(operators: dict[str, Any], path: str) -> None:
    for name, argument in operators.items():
        below = f"{path}.{shown(name)}"
        known(name, FIELD_OPERATORS, "query operator", below)
        if name == "$elemMatch":
            _check_element(argument, below)
        elif name == "$not":
            _check_not(argument, below)
        elif name in {"$in", "$nin", "$all"}:
            _check_members(argument, name, below)


def _holds_operators(value: Any) -> bool:
    """Say whether a value is a mapping of operators, as the server tells it from data.

    A reference to a document (``$ref``, ``$id``) is data, unless an operator stands beside it: what
    the server makes of that depends on the place. A mapping that mixes operators and fields counts
    as operators, so that it is refused rather than guessed at.
    """
    if not isinstance(value, dict):
        return False
    names = {key for key in value if key.startswith("$")}
    return bool(names) and not {"$ref", "$id"} <= names <= _DBREF_KEYS


def check_pull(condition: Any, path: str) -> None:
    """Walk the condition of ``$pull``: operators on the elements, or a filter of their fields."""
    if isinstance(condition, dict):
        _check_element_filter(condition, path)


def app_id_conditions(query: dict[str, Any], path: str) -> Iterator[str]:
    """Yield the paths at which a checked filter names the stamp of the document itself."""
    for key, value in query.items():
        below = f"{path}.{shown(key)}"
        if key in _LOGICAL:
            for index, item in enumerate(value):
                yield from app_id_conditions(item, f"{below}[{index}]")
        elif names_app_id(key):
            yield below


def _check_all(filters: Any, name: str, path: str, *, text: bool) -> None:
    if not isinstance(filters, list) or not filters:
        raise refused(name, "it needs a list of at least one filter", path)
    for index, item in enumerate(filters):
        check_filter(item, f"{path}[{index}]", text=text)


def _check_element(argument: Any, path: str) -> None:
    if not isinstance(argument, dict):
        raise refused("$elemMatch", "it needs a mapping", path)
    _check_element_filter(argument, path)


def _check_element_filter(condition: dict[str, Any], path: str) -> None:
    """Walk what selects elements of an array: operators on them, or a filter of their fields."""
    first = next(iter(condition), "")
    if first == "$not" or (first in FIELD_OPERATORS and first not in FILTER_OPERATORS):
        _check_operators(condition, path)
    else:
        check_filter(condition, path, text=False)


def _check_not(argument: Any, path: str) -> None:
    if isinstance(argument, dict):
        if not _holds_operators(argument):
            raise refused("$not", "it needs operators or a regular expression", path)
        _check_operators(argument, path)


def _check_members(members: Any, name: str, path: str) -> None:
    if not isinstance(members, list):
        raise refused(name, "it needs a list", path)
    for index, item in enumerate(members):
        below = f"{path}[{index}]"
        if not _holds_operators(item):
            continue
        if name == "$all" and item.keys() == {"$elemMatch"}:
            _check_operators(item, below)
        else:
            found = next(key for key in item if key.startswith("$"))
            raise refused(found, f"no operator may stand in {name}", f"{below}.{shown(found)}")
