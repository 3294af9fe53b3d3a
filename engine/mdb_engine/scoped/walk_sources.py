"""Stages that read the collection themselves, and so have to be scoped in their own filter.

``$match`` is among them: merged with the scope rather than put behind it, it keeps ``$text`` in the
first stage and lets one index serve both.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mdb_engine.access.model import Target
from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.scoped.expressions import check_expression
from mdb_engine.scoped.operators import known
from mdb_engine.scoped.operators_stage import SEARCH_OPERATORS
from mdb_engine.scoped.refusals import refused, shown
from mdb_engine.scoped.walk import Handler, Spot, Stage, Walk
from mdb_engine.scoped.walk_filters import check_filter
from mdb_engine.scoped.walk_shapes import options

__all__ = ["SOURCES"]

_SEARCH_OPTIONS = frozenset(
    {
        "concurrent",
        "count",
        "highlight",
        "index",
        "returnStoredSource",
        "scoreDetails",
        "searchAfter",
        "searchBefore",
        "sort",
        "tracking",
    }
)
"""What stands beside the operator of ``$search``."""


def _first(name: str, spot: Spot) -> Target:
    if spot.source is None:
        raise refused(name, "it has to be the first stage", spot.path)
    return spot.source


def _match(walk: Walk, name: str, body: Any, spot: Spot) -> list[Stage]:
    check_filter(body, spot.path, text=spot.source is not None)
    return [{name: body if spot.source is None else walk.narrow(body, spot.source)}]


def _geo_near(walk: Walk, name: str, body: Any, spot: Spot) -> list[Stage]:
    source = _first(name, spot)
    allowed = (
        "near distanceField distanceMultiplier includeLocs key maxDistance minDistance query "
        "spherical"
    )
    stage = dict(options(body, name, allowed, spot.path))
    query = stage.pop("query", {})
    check_filter(query, f"{spot.path}.query", text=False)
    check_expression(stage, spot.path)
    return [{name: {**stage, "query": walk.narrow(query, source)}}]


def _vector_search(walk: Walk, name: str, body: Any, spot: Spot) -> list[Stage]:
    source = _first(name, spot)
    allowed = (
        "exact explainOptions filter index limit model numCandidates path query queryVector "
        "returnStoredSource"
    )
    stage = dict(options(body, name, allowed, spot.path))
    scope: dict[str, Any] = {APP_ID_FIELD: {"$eq": source.owner}}
    if "filter" in stage:
        check_filter(stage["filter"], f"{spot.path}.filter", text=False)
        scope = {"$and": [scope, stage["filter"]]}
    return [{name: {**stage, "filter": scope}}, *_rematch(walk, source, stage)]


def _search(walk: Walk, name: str, body: Any, spot: Spot) -> list[Stage]:
    source = _first(name, spot)
    stage = _scoped_search(body, name, source, spot.path)
    return [{name: stage}, *_rematch(walk, source, stage)]


def _search_meta(_walk: Walk, name: str, body: Any, spot: Spot) -> list[Stage]:
    return [{name: _scoped_search(body, name, _first(name, spot), spot.path)}]


def _scoped_search(body: Any, name: str, source: Target, path: str) -> Stage:
    """Put the caller's search operator under a ``compound`` that filters by the stamp.

    As ``must`` it scores as it did alone. The index has to map ``app_id`` as a ``token``.
    """
    if not isinstance(body, dict):
        raise refused(name, "it needs a mapping", path)
    if "returnScope" in body:
        reason = "it returns parts of documents, which have no stamp"
        raise refused("returnScope", reason, f"{path}.returnScope")
    kept = {key: value for key, value in body.items() if key in _SEARCH_OPTIONS}
    rest = {key: value for key, value in body.items() if key not in _SEARCH_OPTIONS}
    if rest.keys() == {"facet"}:
        facet = dict(options(rest["facet"], "facet", "operator facets", f"{path}.facet"))
        inner = facet.pop("operator", None)
        scoped = _compound(inner, name, source, f"{path}.facet.operator")
        return {**kept, "facet": {**facet, "operator": scoped}}
    return {**kept, **_compound(rest, name, source, path)}


def _compound(operator: Any, name: str, source: Target, path: str) -> Stage:
    scope = {"equals": {"path": APP_ID_FIELD, "value": source.owner}}
    if operator is None:
        return {"compound": {"filter": [scope]}}
    if not isinstance(operator, dict) or len(operator) != 1:
        raise refused(name, "it needs one search operator", path)
    used = next(iter(operator))
    known(used, SEARCH_OPERATORS, "search operator", f"{path}.{shown(used)}")
    return {"compound": {"must": [operator], "filter": [scope]}}


def _rematch(walk: Walk, source: Target, stage: Stage) -> list[Stage]:
    """Match the stamp of what a search found, unless the index's own copy may lack it."""
    if stage.get("returnStoredSource"):
        return []
    return [{"$match": walk.narrow({}, source)}]


SOURCES: Mapping[str, Handler] = MappingProxyType(
    {
        "$geoNear": _geo_near,
        "$match": _match,
        "$search": _search,
        "$searchMeta": _search_meta,
        "$vectorSearch": _vector_search,
    }
)
"""What rewrites the stages that are scoped in their own filter."""
