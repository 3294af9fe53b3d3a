"""Stages that read another collection, and those that hold pipelines.

Each collection's name goes through the grant check and becomes its physical name; each read of it
begins with the scope of its owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mdb_engine.scoped.expressions import check_expression, check_variables
from mdb_engine.scoped.operators_stage import FACET_EXCLUDES
from mdb_engine.scoped.refusals import refused, shown
from mdb_engine.scoped.walk import Handler, Spot, Stage, Walk
from mdb_engine.scoped.walk_filters import check_filter
from mdb_engine.scoped.walk_shapes import options

__all__ = ["JOINS"]


def _lookup(walk: Walk, name: str, body: Any, spot: Spot) -> list[Stage]:
    """Rewrite ``$lookup``: the plain form gets a pipeline, so that the scope has a place in it."""
    allowed = "from localField foreignField let pipeline as"
    join = dict(options(body, name, allowed, spot.path))
    _field_names(join, name, "localField foreignField as", spot.path)
    if "as" not in join:
        raise refused(name, "it needs as", spot.path)
    if ("localField" in join) != ("foreignField" in join):
        raise refused(name, "localField and foreignField go together", spot.path)
    if "let" in join:
        check_variables(join["let"], f"{spot.path}.let")
    below = f"{spot.path}.pipeline"
    if "from" not in join:
        join["pipeline"] = walk.constants(join.get("pipeline"), below)
        return [{name: join}]
    if "pipeline" not in join and "localField" not in join:
        raise refused(name, "it needs localField and foreignField, or a pipeline", spot.path)
    source = walk.resolve(join["from"], name, f"{spot.path}.from")
    join["from"] = source.physical
    join["pipeline"] = walk.collection(join.get("pipeline", []), source, below)
    return [{name: join}]


def _graph_lookup(walk: Walk, name: str, body: Any, spot: Spot) -> list[Stage]:
    allowed = (
        "from startWith connectFromField connectToField as maxDepth depthField "
        "restrictSearchWithMatch"
    )
    join = dict(options(body, name, allowed, spot.path))
    for needed in ("from", "startWith", "connectFromField", "connectToField", "as"):
        if needed not in join:
            raise refused(name, f"it needs {needed}", spot.path)
    _field_names(join, name, "connectFromField connectToField as depthField", spot.path)
    check_expression(join["startWith"], f"{spot.path}.startWith")
    depth = join.get("maxDepth", 0)
    if isinstance(depth, bool) or not isinstance(depth, int | float):
        raise refused(name, "maxDepth is a number", f"{spot.path}.maxDepth")
    source = walk.resolve(join["from"], name, f"{spot.path}.from")
    restriction = join.get("restrictSearchWithMatch", {})
    check_filter(restriction, f"{spot.path}.restrictSearchWithMatch", text=False)
    join["from"] = source.physical
    join["restrictSearchWithMatch"] = walk.narrow(restriction, source)
    return [{name: join}]


def _union_with(walk: Walk, name: str, body: Any, spot: Spot) -> list[Stage]:
    if isinstance(body, str):
        source = walk.resolve(body, name, spot.path)
        scope: list[Stage] = walk.collection([], source, spot.path)
        return [{name: {"coll": source.physical, "pipeline": scope}}]
    union = options(body, name, "coll pipeline", spot.path)
    below = f"{spot.path}.pipeline"
    if "coll" not in union:
        return [{name: {"pipeline": walk.constants(union.get("pipeline"), below)}}]
    source = walk.resolve(union["coll"], name, f"{spot.path}.coll")
    scoped = walk.collection(union.get("pipeline", []), source, below)
    return [{name: {"coll": source.physical, "pipeline": scoped}}]


def _documents(_walk: Walk, name: str, body: Any, spot: Spot) -> list[Stage]:
    if not spot.constant:
        raise refused(
            name, "it begins a pipeline without a collection, in $lookup or $unionWith", spot.path
        )
    check_expression(body, spot.path)
    return [{name: body}]


def _facet(walk: Walk, name: str, body: Any, spot: Spot) -> list[Stage]:
    if not isinstance(body, dict) or not body:
        raise refused(name, "it needs a mapping of names to pipelines", spot.path)
    facets = {}
    for field, pipeline in body.items():
        below = f"{spot.path}.{shown(field)}"
        if field.startswith("$"):
            raise refused(field, "a facet's name does not begin with $", below)
        for index, stage in enumerate(pipeline if isinstance(pipeline, list) else []):
            for excluded in FACET_EXCLUDES & (stage.keys() if isinstance(stage, dict) else set()):
                raise refused(
                    excluded, f"it may not stand in {name}", f"{below}[{index}].{excluded}"
                )
        facets[field] = walk.fed(pipeline, below)
    return [{name: facets}]


def _fusion(walk: Walk, name: str, body: Any, spot: Spot) -> list[Stage]:
    """Rewrite ``$rankFusion`` and ``$scoreFusion``: each input reads the collection by itself."""
    if spot.source is None:
        raise refused(name, "it has to be the first stage", spot.path)
    fusion = dict(options(body, name, "input combination scoreDetails", spot.path))
    given = dict(
        options(fusion.get("input"), name, "pipelines normalization", f"{spot.path}.input")
    )
    below = f"{spot.path}.input.pipelines"
    pipelines = given.get("pipelines")
    if not isinstance(pipelines, dict) or not pipelines:
        raise refused(name, "it needs a mapping of names to pipelines", below)
    given["pipelines"] = {
        field: walk.collection(pipeline, spot.source, f"{below}.{shown(field)}")
        for field, pipeline in pipelines.items()
    }
    if "combination" in fusion:
        allowed = "weights method expression"
        combination = options(fusion["combination"], name, allowed, f"{spot.path}.combination")
        check_expression(combination, f"{spot.path}.combination")
    return [{name: {**fusion, "input": given}}]


def _field_names(body: dict[str, Any], name: str, fields: str, path: str) -> None:
    for field in fields.split():
        value = body.get(field, "name")
        if not isinstance(value, str) or not value or value.startswith("$"):
            raise refused(name, f"{field} is the name of a field", f"{path}.{field}")


JOINS: Mapping[str, Handler] = MappingProxyType(
    {
        "$documents": _documents,
        "$facet": _facet,
        "$graphLookup": _graph_lookup,
        "$lookup": _lookup,
        "$rankFusion": _fusion,
        "$scoreFusion": _fusion,
        "$unionWith": _union_with,
    }
)
"""What rewrites the stages that read other collections or hold pipelines."""
