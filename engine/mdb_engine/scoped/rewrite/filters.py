"""Filters: what a reader or writer may match, narrowed to the documents of one app.

The scope is an equality on ``app_id`` at the top of the filter, so that an index that begins with
``app_id`` serves it and ``$text`` and ``$near`` stay where the server wants them. The walk through
a filter looks up every operator and enters every nested filter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bson.regex import Regex

from mdb_engine.access.model import Target
from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.rewrite.expressions import check_expression
from mdb_engine.scoped.rewrite.operators import FIELD_OPERATORS, FILTER_OPERATORS, known
from mdb_engine.scoped.rewrite.refusals import (
    Position,
    names_app_id,
    refuse_app_id,
    refused,
    written,
)
from mdb_engine.scoped.rewrite.values import (
    NO_CODECS,
    Codecs,
    flat_copy,
    plain_mapping,
    plain_value,
)

__all__ = [
    "check_condition",
    "check_filter",
    "check_pull",
    "exactly",
    "is_by_id",
    "narrow",
    "scope_array_filters",
    "scope_filter",
    "scope_projection",
    "scope_read_filter",
    "scope_upsert_filter",
]


def scope_filter(
    query: Mapping[str, Any] | None,
    target: Target,
    limits: Limits,
    *,
    path: Position = "filter",
    codecs: Codecs = NO_CODECS,
) -> dict[str, Any]:
    """Narrow a filter to the documents of the collection's owner.

    Parameters
    ----------
    query
        The caller's filter, None for all documents; it is never changed.
    target
        The collection.
    limits
        The limits of size and depth.
    path
        How errors name the filter.
    codecs
        The app's own type codecs.

    Returns
    -------
    dict
        A new filter that matches no document of another app.

    Raises
    ------
    QueryRefused
        If it holds JavaScript or an operator that is not on the list.
    LimitExceeded
        If it is too large or too deep.
    """
    return narrow(_checked(query, limits, path, codecs), target.owner)


def scope_read_filter(
    query: Mapping[str, Any] | None,
    target: Target,
    limits: Limits,
    *,
    path: Position = "filter",
    codecs: Codecs = NO_CODECS,
) -> dict[str, Any]:
    """Narrow a filter that documents are read by, unless there is nothing to narrow.

    Where MongoDB holds the app's own stamp in a collection, the predicate would only cost: the
    server finds no document by its ``_id`` alone any more, and no count by an index alone.

    Raises
    ------
    QueryRefused, LimitExceeded
        As `scope_filter`.
    """
    plain = _checked(query, limits, path, codecs)
    return plain if target.implied else narrow(plain, target.owner)


def scope_upsert_filter(
    query: Mapping[str, Any] | None,
    target: Target,
    limits: Limits,
    *,
    path: Position = "filter",
    codecs: Codecs = NO_CODECS,
) -> dict[str, Any]:
    """Narrow a filter whose equalities may become a new document.

    The server copies the equality on ``app_id`` into the document that it inserts, which stamps it;
    so the caller's filter may not name ``app_id`` a second time.

    Raises
    ------
    QueryRefused, LimitExceeded
        As `scope_filter`, and if the filter names ``app_id``.
    """
    plain = _checked(query, limits, path, codecs)
    for found in app_id_conditions(plain, path):
        refuse_app_id("app_id in an upsert's filter", APP_ID_FIELD, found)
    return narrow(plain, target.owner)


def _checked(
    query: Mapping[str, Any] | None, limits: Limits, path: Position, codecs: Codecs
) -> dict[str, Any]:
    if query is None:
        return {}
    flat = flat_copy(query, limits, _COMPARISONS)
    if flat is not None:
        return flat
    plain = plain_mapping(query, limits, path, codecs)
    check_filter(plain, path)
    return plain


def narrow(query: dict[str, Any], owner: str, *, collated: bool = False) -> dict[str, Any]:
    """Put the scope into a checked filter; a condition of the caller's own on it only narrows.

    Parameters
    ----------
    query
        The filter.
    owner
        Whose documents it may match.
    collated
        Whether strings are compared by a collation, which takes other stamps for the owner's: a
        regular expression knows none. The equality stays, for an index and for an upsert.
    """
    scope: Any = owner if not collated else {"$eq": owner, "$regex": rf"^{owner}\z"}
    if APP_ID_FIELD not in query:
        return {APP_ID_FIELD: scope, **query}
    rest = dict(query)
    own = {APP_ID_FIELD: rest.pop(APP_ID_FIELD)}
    if own[APP_ID_FIELD] == owner:
        return {APP_ID_FIELD: scope, **rest}
    rest["$and"] = [*rest.get("$and", []), own]
    return {APP_ID_FIELD: scope, **rest}


def is_by_id(query: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    """Say whether an operation is on one document at most, which the index on ``_id`` finds.

    Parameters
    ----------
    query
        The filter, checked.
    options
        The operation's options: another collation, or a hint, may need another index, or none.
    """
    if "_id" not in query or isinstance(query["_id"], _NO_VALUES):
        return False
    return not options or not options.keys() & {"collation", "hint", "sort", "skip", "min", "max"}


_COMPARISONS = frozenset({"$eq", "$gt", "$gte", "$lt", "$lte", "$ne"})
"""Operators that take any value."""

_NO_VALUES = (dict, list, Regex, re.Pattern)
"""What stands for other values than itself, or may."""


def exactly(query: dict[str, Any], target: Target, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scoped filter, exact also where the options of its operation have a collation."""
    if options.get("collation") is None:
        return query
    return {**query, **narrow({}, target.owner, collated=True)}


def scope_array_filters(
    filters: Sequence[Mapping[str, Any]] | None, limits: Limits, *, path: Position = "array_filters"
) -> list[dict[str, Any]] | None:
    """Copy and check the filters of ``$[name]``; they select elements, not documents."""
    if filters is None:
        return None
    plain = plain_value(filters, limits, path)
    if not isinstance(plain, list):
        raise refused(written(path), "it has to be a list of filters", path)
    for index, item in enumerate(plain):
        check_filter(item, (path, index), text=False)
    return plain


_DBREF_KEYS = frozenset({"$ref", "$id", "$db"})
"""What a reference to a document is made of: data, though it looks like operators."""

_LOGICAL = frozenset({"$and", "$or", "$nor"})


def check_filter(query: Any, path: Position, *, text: bool = True) -> None:
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
        if not key.startswith("$"):
            if isinstance(value, dict):
                check_condition(value, (path, key))
            continue
        below = (path, key)
        known(key, FILTER_OPERATORS, "query operator", below)
        if key in _LOGICAL:
            _check_all(value, key, below, text=text)
        elif key == "$expr":
            check_expression(value, below)
        elif key in _DBREF_KEYS:
            check_condition(value, below)
        elif key == "$text" and not text:
            raise refused("$text", "it has to stand in the first stage", below)


def check_condition(condition: Any, path: Position) -> None:
    """Walk what stands below a field name: a value, or operators on it."""
    if _holds_operators(condition):
        _check_operators(condition, path)


def _check_operators(operators: dict[str, Any], path: Position) -> None:
    for name, argument in operators.items():
        below = (path, name)
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


def check_pull(condition: Any, path: Position) -> None:
    """Walk the condition of ``$pull``: operators on the elements, or a filter of their fields."""
    if isinstance(condition, dict):
        _check_element_filter(condition, path)


def app_id_conditions(query: dict[str, Any], path: Position) -> Iterator[Position]:
    """Yield the paths at which a checked filter names the stamp of the document itself."""
    for key, value in query.items():
        below = (path, key)
        if key in _LOGICAL:
            for index, item in enumerate(value):
                yield from app_id_conditions(item, (below, index))
        elif names_app_id(key):
            yield below


def _check_all(filters: Any, name: str, path: Position, *, text: bool) -> None:
    if not isinstance(filters, list) or not filters:
        raise refused(name, "it needs a list of at least one filter", path)
    for index, item in enumerate(filters):
        check_filter(item, (path, index), text=text)


def _check_element(argument: Any, path: Position) -> None:
    if not isinstance(argument, dict):
        raise refused("$elemMatch", "it needs a mapping", path)
    _check_element_filter(argument, path)


def _check_element_filter(condition: dict[str, Any], path: Position) -> None:
    """Walk what selects elements of an array: operators on them, or a filter of their fields."""
    first = next(iter(condition), "")
    if first == "$not" or (first in FIELD_OPERATORS and first not in FILTER_OPERATORS):
        _check_operators(condition, path)
    else:
        check_filter(condition, path, text=False)


def _check_not(argument: Any, path: Position) -> None:
    if isinstance(argument, dict):
        if not _holds_operators(argument):
            raise refused("$not", "it needs operators or a regular expression", path)
        _check_operators(argument, path)


def _check_members(members: Any, name: str, path: Position) -> None:
    if not isinstance(members, list):
        raise refused(name, "it needs a list", path)
    for index, item in enumerate(members):
        below = (path, index)
        if not _holds_operators(item):
            continue
        if name == "$all" and item.keys() == {"$elemMatch"}:
            _check_operators(item, below)
        else:
            found = next(key for key in item if key.startswith("$"))
            raise refused(found, f"no operator may stand in {name}", (below, found))


def scope_projection(
    projection: Mapping[str, Any] | Sequence[str], limits: Limits, *, path: Position = "projection"
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
        below = (path, field)
        _check_field(field, below)
        _check(value, below)
    return plain


def _check_field(field: str, path: Position) -> None:
    if field.startswith("$"):
        raise refused(field, "it is no field's name", path)


def _check(value: Any, path: Position) -> None:
    if isinstance(value, dict) and value.keys() == {"$elemMatch"}:
        check_filter(value["$elemMatch"], (path, "$elemMatch"), text=False)
    else:
        check_expression(value, path)
