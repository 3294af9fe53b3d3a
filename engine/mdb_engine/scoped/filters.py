"""Filters: what a reader or writer may match, narrowed to the documents of one app.

The scope is an equality on ``app_id`` at the top of the filter, so that an index that begins with
``app_id`` serves it and ``$text`` and ``$near`` stay where the server wants them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mdb_engine.access.model import Target
from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.refusals import refuse_app_id, refused
from mdb_engine.scoped.values import plain_mapping, plain_value
from mdb_engine.scoped.walk_filters import app_id_conditions, check_filter

__all__ = ["exactly", "narrow", "scope_array_filters", "scope_filter", "scope_upsert_filter"]


def scope_filter(
    query: Mapping[str, Any] | None, target: Target, limits: Limits, *, path: str = "filter"
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
    plain = plain_mapping({} if query is None else query, limits, path)
    check_filter(plain, path)
    return narrow(plain, target.owner)


def scope_upsert_filter(
    query: Mapping[str, Any] | None, target: Target, limits: Limits, *, path: str = "filter"
) -> dict[str, Any]:
    """Narrow a filter whose equalities may become a new document.

    The server copies the equality on ``app_id`` into the document that it inserts, which stamps it;
    so the caller's filter may not name ``app_id`` a second time.

    Raises
    ------
    QueryRefused, LimitExceeded
        As `scope_filter`, and if the filter names ``app_id``.
    """
    plain = plain_mapping({} if query is None else query, limits, path)
    check_filter(plain, path)
    for found in app_id_conditions(plain, path):
        refuse_app_id("app_id in an upsert's filter", APP_ID_FIELD, found)
    return narrow(plain, target.owner)


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
    rest = dict(query)
    if APP_ID_FIELD not in rest:
        return {APP_ID_FIELD: scope, **rest}
    own = {APP_ID_FIELD: rest.pop(APP_ID_FIELD)}
    if own[APP_ID_FIELD] == owner:
        return {APP_ID_FIELD: scope, **rest}
    rest["$and"] = [*rest.get("$and", []), own]
    return {APP_ID_FIELD: scope, **rest}


def exactly(query: dict[str, Any], target: Target, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scoped filter, exact also where the options of its operation have a collation."""
    if options.get("collation") is None:
        return query
    return {**query, **narrow({}, target.owner, collated=True)}


def scope_array_filters(
    filters: Sequence[Mapping[str, Any]] | None, limits: Limits, *, path: str = "array_filters"
) -> list[dict[str, Any]] | None:
    """Copy and check the filters of ``$[name]``; they select elements, not documents."""
    if filters is None:
        return None
    plain = plain_value(filters, limits, path)
    if not isinstance(plain, list):
        raise refused(path, "it has to be a list of filters", path)
    for index, item in enumerate(plain):
        check_filter(item, f"{path}[{index}]", text=False)
    return plain
