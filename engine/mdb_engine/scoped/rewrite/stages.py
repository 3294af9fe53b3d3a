"""The stages of a pipeline: one table of what each is, and the walk that asks it.

A pipeline that reads a collection begins with the scope; one that is fed by another stage
(``$facet``) needs none, because what feeds it was in scope. Stages that read the collection
themselves are scoped in their own filter, ``$match`` among them: merged with the scope rather than
put behind it, it keeps ``$text`` in the first stage and lets one index serve both. Stages that read
another collection have its name resolved, and each read of it begins with the scope of its owner.
Stages that write do so into the app's own collections, stamped, changing nobody else's documents.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from mdb_engine.access.model import Access, Target
from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.exceptions import ScopeDenied
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.rewrite import bodies
from mdb_engine.scoped.rewrite.bodies import Body, options, refuse_stamping
from mdb_engine.scoped.rewrite.expressions import check_expression, check_variables
from mdb_engine.scoped.rewrite.filters import check_filter, narrow
from mdb_engine.scoped.rewrite.operators import SEARCH_OPERATORS, Rule, known
from mdb_engine.scoped.rewrite.refusals import Position, refused, resolving, written

__all__ = [
    "CHANGE_STREAM_STAGES",
    "STAGES",
    "UPDATE_STAGES",
    "Stage",
    "Walk",
    "check_stage_body",
    "check_update_stages",
    "stage_parts",
    "stamp_stage",
]

Document = dict[str, Any]
"""A stage as it is written: its name and its body."""


@dataclass(slots=True)
class Place:
    """Where a stage stands.

    Parameters
    ----------
    path
        Its full path, its name included.
    source
        The collection that this pipeline reads, if the stage is its first; else None.
    last
        Whether it ends the caller's own pipeline, where alone a write may stand.
    constant
        Whether it may be ``$documents``: the first stage of a pipeline without a collection.
    """

    path: Position
    source: Target | None = None
    last: bool = False
    constant: bool = False


@dataclass(slots=True)
class StageCount:
    """Counts the stages of one pipeline, nested ones included."""

    limits: Limits
    stages: int = 0

    def add(self, more: int, path: Position) -> None:
        """Count the stages of one more pipeline.

        Raises
        ------
        LimitExceeded
            If there are more than the limit allows.
        """
        self.stages += more
        if self.stages > self.limits.max_stages:
            raise self.limits.exceeded(
                "max_stages", f"the pipeline has {self.stages} stages or more", path
            )


@dataclass(slots=True)
class Walk:
    """One walk through one pipeline of one app.

    Parameters
    ----------
    access
        Resolves the names of other collections.
    limits
        The limits.
    writes
        Whether the caller's pipeline ends in a write.
    collated
        Whether it compares strings by a collation.
    count
        The stages seen so far.
    """

    access: Access
    limits: Limits
    writes: bool
    collated: bool = False
    count: StageCount = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.count = StageCount(self.limits)

    def collection(
        self, stages: Any, source: Target, path: Position, *, top: bool = False
    ) -> list[Document]:
        """Rewrite a pipeline that reads a collection, so that it sees one app's documents.

        Parameters
        ----------
        stages
            The pipeline, of plain values.
        source
            The collection.
        path
            Where it stands.
        top
            Whether it is the caller's own, which may end in a write.
        """
        checked = self._list(stages, path)
        rewritten = self._stages(checked, path, source=source, top=top)
        if source.implied or (checked and STAGES[next(iter(checked[0]))].scoped):
            return rewritten
        return [{"$match": self.narrow({}, source)}, *rewritten]

    def narrow(self, query: dict[str, Any], source: Target) -> dict[str, Any]:
        """Put the scope of a collection into a checked filter, where it is not implied."""
        if source.implied:
            return query
        return narrow(query, source.owner, collated=self.collated)

    def constants(self, stages: Any, path: Position) -> list[Document]:
        """Rewrite a pipeline that reads no collection: it begins with ``$documents``."""
        checked = self._list(stages, path)
        if not checked or "$documents" not in checked[0]:
            raise refused("pipeline", "without a collection it has to begin with $documents", path)
        return self._stages(checked, path, constant=True)

    def fed(self, stages: Any, path: Position) -> list[Document]:
        """Rewrite a pipeline whose documents come from the stage that holds it."""
        return self._stages(self._list(stages, path), path)

    def resolve(self, name: Any, operator: str, path: Position) -> Target:
        """Say which collection a name inside a pipeline means.

        Raises
        ------
        ScopeDenied
            If this app may not read it.
        QueryRefused
            If it is no string, or malformed.
        """
        if not isinstance(name, str):
            raise refused(
                operator, "a collection is given as a string, and only in this database", path
            )
        with resolving(path):
            return self.access.resolve(name)

    def _list(self, stages: Any, path: Position) -> list[Document]:
        if not isinstance(stages, list):
            raise refused("pipeline", "a pipeline is a list of stages", path)
        self.count.add(len(stages), path)
        for index, stage in enumerate(stages):
            stage_parts(stage, (path, index))
        return stages

    def _stages(
        self,
        stages: list[Document],
        path: Position,
        *,
        source: Target | None = None,
        top: bool = False,
        constant: bool = False,
    ) -> list[Document]:
        rewritten: list[Document] = []
        for index, stage in enumerate(stages):
            name, body = stage_parts(stage, (path, index))
            below = ((path, index), name)
            known(name, STAGES, "stage", below)
            place = Place(
                path=below,
                source=source if index == 0 else None,
                last=top and index == len(stages) - 1,
                constant=constant and index == 0,
            )
            rewritten += STAGES[name].handler(self, name, body, place)
        return rewritten


def stage_parts(stage: Any, path: Position) -> tuple[str, Any]:
    """Return the name and the body of a stage, which has to be a mapping with one key."""
    if not isinstance(stage, dict) or len(stage) != 1:
        raise refused(type(stage).__name__, "a stage is a mapping with one key", path)
    ((name, body),) = stage.items()
    return name, body


Handler = Callable[[Walk, str, Any, Place], list[Document]]
"""Rewrites one stage: the walk, the stage's name, its body and where it stands."""


def stamp_stage(owner: str) -> dict[str, Any]:
    """Make the stage that stamps what leaves a pipeline with its owner."""
    return {"$set": {APP_ID_FIELD: {"$literal": owner}}}


def check_update_stages(stages: list[Any], path: Position, owner: str) -> None:
    """Walk the stages of an update or of ``$merge.whenMatched``, after which comes the stamp."""
    for index, stage in enumerate(stages):
        name, body = stage_parts(stage, (path, index))
        below = ((path, index), name)
        known(name, UPDATE_STAGES, "stage of an update", below)
        refuse_stamping(name, body, below, writes=True, stamp=owner)
        check_stage_body(name, body, below)


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


def _first(name: str, place: Place) -> Target:
    if place.source is None:
        raise refused(name, "it has to be the first stage", place.path)
    return place.source


def _match(walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    check_filter(body, place.path, text=place.source is not None)
    return [{name: body if place.source is None else walk.narrow(body, place.source)}]


def _geo_near(walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    source = _first(name, place)
    allowed = (
        "near distanceField distanceMultiplier includeLocs key maxDistance minDistance query "
        "spherical"
    )
    stage = dict(options(body, name, allowed, place.path))
    query = stage.pop("query", {})
    check_filter(query, (place.path, "query"), text=False)
    check_expression(stage, place.path)
    return [{name: {**stage, "query": walk.narrow(query, source)}}]


def _vector_search(walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    source = _first(name, place)
    allowed = (
        "exact explainOptions filter index limit model numCandidates path query queryVector "
        "returnStoredSource"
    )
    stage = dict(options(body, name, allowed, place.path))
    scope: dict[str, Any] = {APP_ID_FIELD: {"$eq": source.owner}}
    if "filter" in stage:
        check_filter(stage["filter"], (place.path, "filter"), text=False)
        scope = {"$and": [scope, stage["filter"]]}
    return [{name: {**stage, "filter": scope}}, *_rematch(walk, source, stage)]


def _search(walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    source = _first(name, place)
    stage = _scoped_search(body, name, source, place.path)
    return [{name: stage}, *_rematch(walk, source, stage)]


def _search_meta(_walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    return [{name: _scoped_search(body, name, _first(name, place), place.path)}]


def _scoped_search(body: Any, name: str, source: Target, path: Position) -> Document:
    """Put the caller's search operator under a ``compound`` that filters by the stamp.

    As ``must`` it scores as it did alone. The index has to map ``app_id`` as a ``token``.
    """
    if not isinstance(body, dict):
        raise refused(name, "it needs a mapping", path)
    if "returnScope" in body:
        reason = "it returns parts of documents, which have no stamp"
        raise refused("returnScope", reason, (path, "returnScope"))
    kept = {key: value for key, value in body.items() if key in _SEARCH_OPTIONS}
    rest = {key: value for key, value in body.items() if key not in _SEARCH_OPTIONS}
    if rest.keys() == {"facet"}:
        facet = dict(options(rest["facet"], "facet", "operator facets", (path, "facet")))
        inner = facet.pop("operator", None)
        scoped = _compound(inner, name, source, ((path, "facet"), "operator"))
        return {**kept, "facet": {**facet, "operator": scoped}}
    return {**kept, **_compound(rest, name, source, path)}


def _compound(operator: Any, name: str, source: Target, path: Position) -> Document:
    scope = {"equals": {"path": APP_ID_FIELD, "value": source.owner}}
    if operator is None:
        return {"compound": {"filter": [scope]}}
    if not isinstance(operator, dict) or len(operator) != 1:
        raise refused(name, "it needs one search operator", path)
    used = next(iter(operator))
    known(used, SEARCH_OPERATORS, "search operator", (path, used))
    return {"compound": {"must": [operator], "filter": [scope]}}


def _rematch(walk: Walk, source: Target, stage: Document) -> list[Document]:
    """Match the stamp of what a search found, unless the index's own copy may lack it."""
    if stage.get("returnStoredSource"):
        return []
    return [] if source.implied else [{"$match": walk.narrow({}, source)}]


def _lookup(walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    """Rewrite ``$lookup``: the plain form gets a pipeline, so that the scope has a place in it."""
    allowed = "from localField foreignField let pipeline as"
    join = dict(options(body, name, allowed, place.path))
    _field_names(join, name, "localField foreignField as", place.path)
    if "as" not in join:
        raise refused(name, "it needs as", place.path)
    if ("localField" in join) != ("foreignField" in join):
        raise refused(name, "localField and foreignField go together", place.path)
    if "let" in join:
        check_variables(join["let"], (place.path, "let"))
    below = (place.path, "pipeline")
    if "from" not in join:
        join["pipeline"] = walk.constants(join.get("pipeline"), below)
        return [{name: join}]
    if "pipeline" not in join and "localField" not in join:
        raise refused(name, "it needs localField and foreignField, or a pipeline", place.path)
    source = walk.resolve(join["from"], name, (place.path, "from"))
    join["from"] = source.physical
    join["pipeline"] = walk.collection(join.get("pipeline", []), source, below)
    return [{name: join}]


def _graph_lookup(walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    allowed = (
        "from startWith connectFromField connectToField as maxDepth depthField "
        "restrictSearchWithMatch"
    )
    join = dict(options(body, name, allowed, place.path))
    for needed in ("from", "startWith", "connectFromField", "connectToField", "as"):
        if needed not in join:
            raise refused(name, f"it needs {needed}", place.path)
    _field_names(join, name, "connectFromField connectToField as depthField", place.path)
    check_expression(join["startWith"], (place.path, "startWith"))
    depth = join.get("maxDepth", 0)
    if isinstance(depth, bool) or not isinstance(depth, int | float):
        raise refused(name, "maxDepth is a number", (place.path, "maxDepth"))
    source = walk.resolve(join["from"], name, (place.path, "from"))
    restriction = join.get("restrictSearchWithMatch", {})
    check_filter(restriction, (place.path, "restrictSearchWithMatch"), text=False)
    join["from"] = source.physical
    join["restrictSearchWithMatch"] = walk.narrow(restriction, source)
    return [{name: join}]


def _union_with(walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    if isinstance(body, str):
        source = walk.resolve(body, name, place.path)
        scope: list[Document] = walk.collection([], source, place.path)
        return [{name: {"coll": source.physical, "pipeline": scope}}]
    union = options(body, name, "coll pipeline", place.path)
    below = (place.path, "pipeline")
    if "coll" not in union:
        return [{name: {"pipeline": walk.constants(union.get("pipeline"), below)}}]
    source = walk.resolve(union["coll"], name, (place.path, "coll"))
    scoped = walk.collection(union.get("pipeline", []), source, below)
    return [{name: {"coll": source.physical, "pipeline": scoped}}]


def _documents(_walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    if not place.constant:
        raise refused(
            name, "it begins a pipeline without a collection, in $lookup or $unionWith", place.path
        )
    check_expression(body, place.path)
    return [{name: body}]


def _facet(walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    if not isinstance(body, dict) or not body:
        raise refused(name, "it needs a mapping of names to pipelines", place.path)
    facets = {}
    for field, pipeline in body.items():
        below = (place.path, field)
        if field.startswith("$"):
            raise refused(field, "a facet's name does not begin with $", below)
        for index, stage in enumerate(pipeline if isinstance(pipeline, list) else []):
            for inner in stage if isinstance(stage, dict) else ():
                if inner in STAGES and not STAGES[inner].in_facet:
                    raise refused(inner, f"it may not stand in {name}", ((below, index), inner))
        facets[field] = walk.fed(pipeline, below)
    return [{name: facets}]


def _fusion(walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    """Rewrite ``$rankFusion`` and ``$scoreFusion``: each input reads the collection by itself."""
    if place.source is None:
        raise refused(name, "it has to be the first stage", place.path)
    fusion = dict(options(body, name, "input combination scoreDetails", place.path))
    given = dict(
        options(fusion.get("input"), name, "pipelines normalization", (place.path, "input"))
    )
    below = ((place.path, "input"), "pipelines")
    pipelines = given.get("pipelines")
    if not isinstance(pipelines, dict) or not pipelines:
        raise refused(name, "it needs a mapping of names to pipelines", below)
    given["pipelines"] = {
        field: walk.collection(pipeline, place.source, (below, field))
        for field, pipeline in pipelines.items()
    }
    if "combination" in fusion:
        allowed = "weights method expression"
        combination = options(fusion["combination"], name, allowed, (place.path, "combination"))
        check_expression(combination, (place.path, "combination"))
    return [{name: {**fusion, "input": given}}]


def _field_names(body: dict[str, Any], name: str, fields: str, path: Position) -> None:
    for field in fields.split():
        value = body.get(field, "name")
        if not isinstance(value, str) or not value or value.startswith("$"):
            raise refused(name, f"{field} is the name of a field", (path, field))


_REPLACE: list[Document] = [{"$replaceWith": "$$new"}]
_MERGE: list[Document] = [{"$replaceWith": {"$mergeObjects": ["$$ROOT", "$$new"]}}]
_UNMATCHED = frozenset({"insert", "discard", "fail"})


def _out(walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    target = _writable(walk, name, body, place, place.path)
    return [stamp_stage(target.owner), {name: target.physical}]


def _merge(walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    given = {"into": body} if isinstance(body, str) else body
    stage = dict(options(given, name, "into on let whenMatched whenNotMatched", place.path))
    if "into" not in stage:
        raise refused(name, "it needs into", place.path)
    target = _writable(walk, name, stage["into"], place, (place.path, "into"))
    if "on" in stage:
        _check_on(stage["on"], (place.path, "on"))
    unmatched = stage.get("whenNotMatched", "insert")
    if not isinstance(unmatched, str) or unmatched not in _UNMATCHED:
        raise refused(name, "it has to be insert, discard or fail", (place.path, "whenNotMatched"))
    stage["into"] = target.physical
    _scope_matched(walk, stage, target, place)
    return [stamp_stage(target.owner), {name: stage}]


def _scope_matched(walk: Walk, stage: Document, target: Target, place: Place) -> None:
    """Rewrite what ``$merge`` does with a document that is there already.

    All forms that change it become a pipeline, which is guarded and stamped.
    """
    matched = stage.get("whenMatched", "merge")
    path = (place.path, "whenMatched")
    variables = stage.get("let", {})
    check_variables(variables, (place.path, "let"))
    if isinstance(matched, list):
        walk.count.add(len(matched), path)
        check_update_stages(matched, path, target.owner)
        if variables.get("new", "$$ROOT") != "$$ROOT":
            raise refused("$merge", "new is the server's variable", ((place.path, "let"), "new"))
        body = matched
    elif variables:
        raise refused("$merge", "let needs whenMatched as a pipeline", (place.path, "let"))
    elif matched in ("fail", "keepExisting"):
        return
    elif matched in ("merge", "replace"):
        body = _MERGE if matched == "merge" else _REPLACE
    else:
        raise refused(
            "$merge", "it has to be replace, merge, keepExisting, fail or a pipeline", path
        )
    stage["let"] = {**variables, "new": "$$ROOT"}
    stage["whenMatched"] = [
        _guard(target.owner, collated=walk.collated),
        *body,
        stamp_stage(target.owner),
    ]


def _guard(owner: str, *, collated: bool) -> Document:
    """Make the stage that stops a merge which matched a document that is not the owner's.

    A collection holds only its owner's documents unless somebody wrote past the engine. A stage has
    no way to raise an error but to compute what cannot be: here, a number from a sentence.
    """
    sentence = {"$concat": ["not a document of this app: ", {"$type": f"${APP_ID_FIELD}"}]}
    mine: Document = {"$eq": [f"${APP_ID_FIELD}", {"$literal": owner}]}
    if collated:  # then $eq takes other stamps for the owner's, and bytes are compared instead
        stamp = {"$convert": {"input": f"${APP_ID_FIELD}", "to": "string", "onError": ""}}
        mine = {"$and": [mine, {"$regexMatch": {"input": stamp, "regex": rf"^{owner}\z"}}]}
    return {"$set": {APP_ID_FIELD: {"$cond": [mine, f"${APP_ID_FIELD}", {"$toInt": sentence}]}}}


def _writable(walk: Walk, name: str, into: Any, place: Place, path: Position) -> Target:
    if not place.last:
        raise refused(name, "it has to be the last stage of the outer pipeline", place.path)
    target = walk.resolve(into, name, path)
    if not target.writable:
        raise ScopeDenied(
            f"{name} into {target.physical} is denied: an app writes only into its own "
            f"collections, with a handle that may write",
            path=written(path),
        )
    return target


def _check_on(fields: Any, path: Position) -> None:
    names = fields if isinstance(fields, list) else [fields]
    if not names or not all(isinstance(name, str) and name[:1] not in ("", "$") for name in names):
        raise refused("$merge", "on is the name of a field, or a list of names", path)


def _reshape(walk: Walk, name: str, body: Any, place: Place) -> list[Document]:
    refuse_stamping(name, body, place.path, writes=walk.writes)
    check_stage_body(name, body, place.path)
    return [{name: body}]


def check_stage_body(name: str, body: Any, path: Position) -> None:
    """Check the body of a stage that only reshapes."""
    STAGES[name].body(body, path)


def _no_handler(_walk: Walk, name: str, _body: Any, place: Place) -> list[Document]:
    raise refused(name, "it is not on the list of allowed stages", place.path)


def _no_body(_body: Any, path: Position) -> None:
    raise refused("stage", "it does more than reshape", path)


@dataclass(frozen=True, slots=True)
class Stage(Rule):
    """One stage: what becomes of it, and where it may stand.

    Parameters
    ----------
    handler
        What rewrites it in a pipeline.
    body
        What checks its body, where it only reshapes.
    scoped
        Whether it is scoped in its own filter, so that no ``$match`` need stand before it.
    in_facet
        Whether the server lets it stand inside ``$facet``.
    in_update
        Whether it may stand in the pipeline of an update, and in ``$merge.whenMatched``.
    in_change_stream
        Whether it may stand in the pipeline of a change stream.
    """

    handler: Handler = _no_handler
    body: Body = _no_body
    scoped: bool = False
    in_facet: bool = True
    in_update: bool = False
    in_change_stream: bool = False


def _reshaping(
    body: Body, *, since: str | None = None, update: bool = False, change_stream: bool = False
) -> Stage:
    """Make the entry of a stage that sees only what the stages before it let out."""
    return Stage(
        "passed",
        since=since,
        handler=_reshape,
        body=body,
        in_update=update,
        in_change_stream=update or change_stream,
    )


def _source(category: str, handler: Handler, *, since: str | None = None) -> Stage:
    """Make the entry of a stage that reads the collection itself, and so has to be the first."""
    return Stage(category, since=since, handler=handler, scoped=True, in_facet=False)


def _refuse(category: str, names: str, reason: str) -> dict[str, Stage]:
    return dict.fromkeys(names.split(), Stage(category, refused=reason))


STAGES: Final[Mapping[str, Stage]] = MappingProxyType(
    {
        "$addFields": _reshaping(bodies.fields("$addFields"), update=True),
        "$bucket": _reshaping(bodies.bucket),
        "$bucketAuto": _reshaping(bodies.bucket_auto),
        "$count": _reshaping(bodies.text("$count")),
        "$densify": _reshaping(bodies.expressions("$densify", "field partitionByFields range")),
        "$documents": Stage("constant", handler=_documents, in_facet=False),
        "$facet": Stage("nested", handler=_facet, in_facet=False),
        "$fill": _reshaping(bodies.fill),
        "$geoNear": _source("scoped", _geo_near),
        "$graphLookup": Stage("join", handler=_graph_lookup),
        "$group": _reshaping(bodies.group),
        "$limit": _reshaping(bodies.number("$limit")),
        "$lookup": Stage("join", handler=_lookup),
        "$match": Stage("passed", handler=_match, scoped=True, in_change_stream=True),
        "$merge": Stage("write", handler=_merge, in_facet=False),
        "$out": Stage("write", handler=_out, in_facet=False),
        "$project": _reshaping(bodies.fields("$project"), update=True),
        "$rankFusion": _source("nested", _fusion, since="8.0"),
        "$redact": _reshaping(check_expression, change_stream=True),
        "$replaceRoot": _reshaping(bodies.replace_root, update=True),
        "$replaceWith": _reshaping(check_expression, update=True),
        "$sample": _reshaping(bodies.sample),
        "$score": _reshaping(
            bodies.expressions("$score", "score normalization weight scoreDetails"), since="8.2"
        ),
        "$scoreFusion": _source("nested", _fusion, since="8.2"),
        "$search": _source("search", _search),
        "$searchMeta": _source("search", _search_meta),
        "$set": _reshaping(bodies.fields("$set"), update=True),
        "$setWindowFields": _reshaping(bodies.window_fields),
        "$skip": _reshaping(bodies.number("$skip")),
        "$sort": _reshaping(bodies.check_sort),
        "$sortByCount": _reshaping(check_expression),
        "$unionWith": Stage("join", handler=_union_with),
        "$unset": _reshaping(bodies.unset, update=True),
        "$unwind": _reshaping(bodies.unwind),
        "$vectorSearch": _source("search", _vector_search),
        **_refuse(
            "javascript",
            "$where $function $accumulator",
            "no JavaScript runs on a shared server",
        ),
        **_refuse(
            "statistics",
            "$collStats $indexStats $planCacheStats $queryStats $operationMetrics",
            "it shows the server's inner state across apps; use count_documents() or "
            "list_indexes()",
        ),
        **_refuse(
            "sessions",
            "$currentOp $listCachedAndActiveUsers $listLocalSessions $listSessions",
            "it shows what other apps are doing on the server",
        ),
        **_refuse(
            "administration",
            "$listSampledQueries $querySettings $shardedDataDistribution $listCatalog "
            "$listClusterCatalog $backupCursor $backupCursorExtend $setQuerySettings $queue",
            "it is an administrator's stage, and reaches beyond one collection",
        ),
        **_refuse("search", "$listSearchIndexes", "use list_search_indexes() of the collection"),
        **_refuse(
            "change stream", "$changeStream", "use watch() of the collection, which scopes it"
        ),
        "$changeStreamSplitLargeEvent": Stage(
            "change stream",
            since="6.0.9",
            refused="use watch() of the collection, which scopes it",
            in_change_stream=True,
        ),
        **_refuse(
            "internal", "$mergeCursors $exchange $setVariableFromSubPipeline", "it is internal"
        ),
    }
)
"""Every stage that the engine knows, up to MongoDB 8. What it does not name is refused."""

UPDATE_STAGES: Final[Mapping[str, Rule]] = MappingProxyType(
    {name: stage for name, stage in STAGES.items() if stage.in_update}
)
"""The stages of an update pipeline and of ``$merge.whenMatched``: the server's own list."""

CHANGE_STREAM_STAGES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        name: Rule(stage.category, since=stage.since)
        for name, stage in STAGES.items()
        if stage.in_change_stream
    }
)
"""The stages of a change stream: the server's own list."""
