"""Pipeline stages: which are passed, scoped, walked into or refused, and where each may stand."""

from __future__ import annotations

from mdb_engine.scoped.operators import allow, refuse, table

__all__ = ["CHANGE_STREAM_STAGES", "FACET_EXCLUDES", "FIRST_ONLY", "SEARCH_OPERATORS", "STAGES"]

STAGES = table(
    # Passed after their expressions were walked: they see only what the stages before them let out.
    allow("passed", "$addFields $bucket $bucketAuto $count $densify $fill $group $limit"),
    allow("passed", "$match $project $redact $replaceRoot $replaceWith $sample $set"),
    allow("passed", "$setWindowFields $skip $sort $sortByCount $unset $unwind"),
    allow("passed", "$score", since="8.2"),
    # Scoped in their own filter: they have to be first, so no $match can stand before them.
    allow("scoped", "$geoNear"),
    allow("search", "$search $searchMeta $vectorSearch"),
    # Walked into: they hold pipelines.
    allow("nested", "$facet"),
    allow("nested", "$rankFusion", since="8.0"),
    allow("nested", "$scoreFusion", since="8.2"),
    # They read other collections: each name is resolved, each read is scoped.
    allow("join", "$graphLookup $lookup $unionWith"),
    allow("constant", "$documents"),
    # They write: own collections only, stamped.
    allow("write", "$merge $out"),
    refuse("javascript", "$where $function $accumulator", "no JavaScript runs on a shared server"),
    refuse(
        "statistics",
        "$collStats $indexStats $planCacheStats $queryStats $operationMetrics",
        "it shows the server's inner state across apps; use count_documents() or list_indexes()",
    ),
    refuse(
        "sessions",
        "$currentOp $listCachedAndActiveUsers $listLocalSessions $listSessions",
        "it shows what other apps are doing on the server",
    ),
    refuse(
        "administration",
        "$listSampledQueries $querySettings $shardedDataDistribution $listCatalog "
        "$listClusterCatalog $backupCursor $backupCursorExtend $setQuerySettings $queue",
        "it is an administrator's stage, and reaches beyond one collection",
    ),
    refuse("search", "$listSearchIndexes", "use list_search_indexes() of the collection"),
    refuse(
        "change stream",
        "$changeStream $changeStreamSplitLargeEvent",
        "use watch() of the collection, which scopes it",
    ),
    refuse("internal", "$mergeCursors $exchange $setVariableFromSubPipeline", "it is internal"),
)
"""Every stage that the engine knows."""

FIRST_ONLY = frozenset(
    {"$geoNear", "$search", "$searchMeta", "$vectorSearch", "$rankFusion", "$scoreFusion"}
)
"""Stages that read the collection themselves, so that the server wants them first."""

FACET_EXCLUDES = FIRST_ONLY | {"$facet", "$out", "$merge", "$documents"}
"""Stages that the server refuses inside ``$facet``."""

CHANGE_STREAM_STAGES = table(
    allow("fields", "$addFields $project $set $unset"),
    allow("filter", "$match $redact"),
    allow("root", "$replaceRoot $replaceWith"),
    allow("split", "$changeStreamSplitLargeEvent", since="6.0.9"),
)
"""The stages of a change stream: the server's own list."""

SEARCH_OPERATORS = table(
    allow("text", "autocomplete moreLikeThis phrase queryString regex text wildcard span term"),
    allow("value", "equals exists in near range"),
    allow("geospatial", "geoShape geoWithin"),
    allow("compound", "compound embeddedDocument hasAncestor hasRoot"),
    allow("vector", "knnBeta vectorSearch"),
)
"""Operators of Atlas Search and ``mongot``: all of them read the one index of the collection."""
