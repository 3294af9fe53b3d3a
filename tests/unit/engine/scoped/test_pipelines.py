"""What a pipeline becomes, stage by stage."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from unit.engine.scoped.apps import ITEMS, LIMITS, ORDERS, access
from unit.engine.scoped.expected_operators import STAGES_ALLOWED

from mdb_engine.exceptions import LimitExceeded, QueryRefused, ScopeDenied
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.rewrite.pipelines import scope_change_stream_pipeline, scope_pipeline, writes

SHOP = {"$match": {"app_id": "shop"}}
STOCK = {"$match": {"app_id": "stock"}}
STAMP = {"$set": {"app_id": {"$literal": "shop"}}}
GUARD = {
    "$set": {
        "app_id": {
            "$cond": [
                {"$eq": ["$app_id", {"$literal": "shop"}]},
                "$app_id",
                {"$toInt": {"$concat": ["not a document of this app: ", {"$type": "$app_id"}]}},
            ]
        }
    }
}
NEW = {"new": "$$ROOT"}
GRAPH = {
    "from": "stock_items",
    "startWith": "$a",
    "connectFromField": "b",
    "connectToField": "c",
    "as": "x",
}
SEARCH_SCOPE = {"equals": {"path": "app_id", "value": "shop"}}
TEXT = {"text": {"query": "tea", "path": "name"}}
VECTOR = {"index": "v", "path": "p", "queryVector": [1.0], "numCandidates": 10, "limit": 2}


def lookup(**fields: Any) -> list[dict[str, Any]]:
    return [{"$lookup": {"as": "x", **fields}}]


def joined(**fields: Any) -> list[dict[str, Any]]:
    return [SHOP, *lookup(**fields)]


CASES: dict[str, tuple[list[Any], list[Any]]] = {
    "empty": ([], [SHOP]),
    "match": ([{"$match": {"a": 1}}], [{"$match": {"app_id": "shop", "a": 1}}]),
    "match text": (
        [{"$match": {"$text": {"$search": "tea"}}}, {"$sort": {"s": {"$meta": "textScore"}}}],
        [
            {"$match": {"app_id": "shop", "$text": {"$search": "tea"}}},
            {"$sort": {"s": {"$meta": "textScore"}}},
        ],
    ),
    "match of the stamp": (
        [{"$match": {"app_id": "hr"}}],
        [{"$match": {"app_id": "shop", "$and": [{"app_id": "hr"}]}}],
    ),
    "later match": (
        [{"$limit": 1}, {"$match": {"a": 1}}],
        [SHOP, {"$limit": 1}, {"$match": {"a": 1}}],
    ),
    "lookup plain": (
        lookup(**{"from": "clicks", "localField": "a", "foreignField": "b"}),
        joined(
            **{"from": "shop_clicks", "localField": "a", "foreignField": "b", "pipeline": [SHOP]}
        ),
    ),
    "lookup granted": (
        lookup(**{"from": "stock_items", "localField": "a", "foreignField": "app_id"}),
        joined(
            **{
                "from": "stock_items",
                "localField": "a",
                "foreignField": "app_id",
                "pipeline": [STOCK],
            }
        ),
    ),
    "lookup pipeline": (
        lookup(
            **{
                "from": "stock_items",
                "let": {"n": "$n"},
                "pipeline": [{"$match": {"$expr": {"$eq": ["$n", "$$n"]}}}, {"$limit": 1}],
            }
        ),
        joined(
            **{
                "from": "stock_items",
                "let": {"n": "$n"},
                "pipeline": [
                    {"$match": {"app_id": "stock", "$expr": {"$eq": ["$n", "$$n"]}}},
                    {"$limit": 1},
                ],
            }
        ),
    ),
    "lookup both": (
        lookup(
            **{
                "from": "clicks",
                "localField": "a",
                "foreignField": "b",
                "pipeline": [{"$project": {"c": 1}}],
            }
        ),
        joined(
            **{
                "from": "shop_clicks",
                "localField": "a",
                "foreignField": "b",
                "pipeline": [SHOP, {"$project": {"c": 1}}],
            }
        ),
    ),
    "lookup documents": (
        lookup(pipeline=[{"$documents": [{"a": 1}]}, {"$match": {"a": 1}}]),
        joined(pipeline=[{"$documents": [{"a": 1}]}, {"$match": {"a": 1}}]),
    ),
    "lookup in lookup": (
        lookup(
            **{
                "from": "clicks",
                "pipeline": lookup(**{"from": "stock_items", "pipeline": [{"$limit": 1}]}),
            }
        ),
        joined(
            **{
                "from": "shop_clicks",
                "pipeline": [
                    SHOP,
                    *lookup(**{"from": "stock_items", "pipeline": [STOCK, {"$limit": 1}]}),
                ],
            }
        ),
    ),
    "graphLookup": (
        [{"$graphLookup": GRAPH}],
        [SHOP, {"$graphLookup": {**GRAPH, "restrictSearchWithMatch": {"app_id": "stock"}}}],
    ),
    "graphLookup restricted": (
        [{"$graphLookup": {**GRAPH, "restrictSearchWithMatch": {"app_id": "hr", "d": 1}}}],
        [
            SHOP,
            {
                "$graphLookup": {
                    **GRAPH,
                    "restrictSearchWithMatch": {
                        "app_id": "stock",
                        "d": 1,
                        "$and": [{"app_id": "hr"}],
                    },
                }
            },
        ],
    ),
    "unionWith string": (
        [{"$unionWith": "clicks"}],
        [SHOP, {"$unionWith": {"coll": "shop_clicks", "pipeline": [SHOP]}}],
    ),
    "unionWith pipeline": (
        [{"$unionWith": {"coll": "stock_items", "pipeline": [{"$match": {"a": 1}}]}}],
        [
            SHOP,
            {
                "$unionWith": {
                    "coll": "stock_items",
                    "pipeline": [{"$match": {"app_id": "stock", "a": 1}}],
                }
            },
        ],
    ),
    "unionWith documents": (
        [{"$unionWith": {"pipeline": [{"$documents": [{"a": 1}]}]}}],
        [SHOP, {"$unionWith": {"pipeline": [{"$documents": [{"a": 1}]}]}}],
    ),
    "facet": (
        [{"$facet": {"n": [{"$count": "n"}], "x": lookup(**{"from": "clicks", "pipeline": []})}}],
        [
            SHOP,
            {
                "$facet": {
                    "n": [{"$count": "n"}],
                    "x": lookup(**{"from": "shop_clicks", "pipeline": [SHOP]}),
                }
            },
        ],
    ),
    "geoNear": (
        [{"$geoNear": {"near": [1, 2], "distanceField": "d", "query": {"a": 1}, "key": "at"}}],
        [
            {
                "$geoNear": {
                    "near": [1, 2],
                    "distanceField": "d",
                    "key": "at",
                    "query": {"app_id": "shop", "a": 1},
                }
            }
        ],
    ),
    "search compound": (
        [{"$search": {"index": "i", "compound": {"should": [TEXT]}, "count": {"type": "total"}}}],
        [
            {
                "$search": {
                    "index": "i",
                    "count": {"type": "total"},
                    "compound": {
                        "must": [{"compound": {"should": [TEXT]}}],
                        "filter": [SEARCH_SCOPE],
                    },
                }
            },
            SHOP,
        ],
    ),
    "search stored source": (
        [{"$search": {**TEXT, "returnStoredSource": True}}],
        [
            {
                "$search": {
                    "returnStoredSource": True,
                    "compound": {"must": [TEXT], "filter": [SEARCH_SCOPE]},
                }
            }
        ],
    ),
    "search facet": (
        [{"$search": {"facet": {"operator": TEXT, "facets": {"f": {"type": "string"}}}}}],
        [
            {
                "$search": {
                    "facet": {
                        "operator": {"compound": {"must": [TEXT], "filter": [SEARCH_SCOPE]}},
                        "facets": {"f": {"type": "string"}},
                    }
                }
            },
            SHOP,
        ],
    ),
    "searchMeta facet without operator": (
        [{"$searchMeta": {"facet": {"facets": {"f": {"type": "string"}}}}}],
        [
            {
                "$searchMeta": {
                    "facet": {
                        "operator": {"compound": {"filter": [SEARCH_SCOPE]}},
                        "facets": {"f": {"type": "string"}},
                    }
                }
            }
        ],
    ),
    "vectorSearch": (
        [{"$vectorSearch": VECTOR}],
        [{"$vectorSearch": {**VECTOR, "filter": {"app_id": {"$eq": "shop"}}}}, SHOP],
    ),
    "vectorSearch filtered": (
        [{"$vectorSearch": {**VECTOR, "filter": {"$or": [{"a": 1}]}}}],
        [
            {
                "$vectorSearch": {
                    **VECTOR,
                    "filter": {"$and": [{"app_id": {"$eq": "shop"}}, {"$or": [{"a": 1}]}]},
                }
            },
            SHOP,
        ],
    ),
    "rankFusion": (
        [
            {
                "$rankFusion": {
                    "input": {
                        "pipelines": {"v": [{"$vectorSearch": VECTOR}], "m": [{"$sort": {"a": 1}}]}
                    },
                    "combination": {"weights": {"v": 2}},
                }
            }
        ],
        [
            {
                "$rankFusion": {
                    "combination": {"weights": {"v": 2}},
                    "input": {
                        "pipelines": {
                            "v": [
                                {
                                    "$vectorSearch": {
                                        **VECTOR,
                                        "filter": {"app_id": {"$eq": "shop"}},
                                    }
                                },
                                SHOP,
                            ],
                            "m": [SHOP, {"$sort": {"a": 1}}],
                        }
                    },
                }
            }
        ],
    ),
    "scoreFusion": (
        [
            {
                "$scoreFusion": {
                    "input": {
                        "pipelines": {"s": [{"$match": {"a": 1}}, {"$score": {"score": "$b"}}]},
                        "normalization": "sigmoid",
                    },
                    "combination": {"method": "expression", "expression": {"$sum": ["$$s", 1]}},
                }
            }
        ],
        [
            {
                "$scoreFusion": {
                    "input": {
                        "pipelines": {
                            "s": [
                                {"$match": {"app_id": "shop", "a": 1}},
                                {"$score": {"score": "$b"}},
                            ]
                        },
                        "normalization": "sigmoid",
                    },
                    "combination": {"method": "expression", "expression": {"$sum": ["$$s", 1]}},
                }
            }
        ],
    ),
    "out": (
        [{"$match": {"a": 1}}, {"$out": "copies"}],
        [{"$match": {"app_id": "shop", "a": 1}}, STAMP, {"$out": "shop_copies"}],
    ),
    "merge string": (
        [{"$merge": "copies"}],
        [
            SHOP,
            STAMP,
            {
                "$merge": {
                    "into": "shop_copies",
                    "let": NEW,
                    "whenMatched": [
                        GUARD,
                        {"$replaceWith": {"$mergeObjects": ["$$ROOT", "$$new"]}},
                        STAMP,
                    ],
                }
            },
        ],
    ),
    "merge replace": (
        [{"$merge": {"into": "copies", "on": ["k"], "whenMatched": "replace"}}],
        [
            SHOP,
            STAMP,
            {
                "$merge": {
                    "into": "shop_copies",
                    "on": ["k"],
                    "let": NEW,
                    "whenMatched": [GUARD, {"$replaceWith": "$$new"}, STAMP],
                }
            },
        ],
    ),
    "merge keepExisting": (
        [
            {
                "$merge": {
                    "into": "copies",
                    "whenMatched": "keepExisting",
                    "whenNotMatched": "discard",
                }
            }
        ],
        [
            SHOP,
            STAMP,
            {
                "$merge": {
                    "into": "shop_copies",
                    "whenMatched": "keepExisting",
                    "whenNotMatched": "discard",
                }
            },
        ],
    ),
    "merge fail": (
        [{"$merge": {"into": "copies", "whenMatched": "fail"}}],
        [SHOP, STAMP, {"$merge": {"into": "shop_copies", "whenMatched": "fail"}}],
    ),
    "merge pipeline": (
        [
            {
                "$merge": {
                    "into": "copies",
                    "let": {"n": "$n"},
                    "whenMatched": [{"$set": {"n": {"$add": ["$n", "$$n", "$$new.m"]}}}],
                }
            }
        ],
        [
            SHOP,
            STAMP,
            {
                "$merge": {
                    "into": "shop_copies",
                    "let": {"n": "$n", **NEW},
                    "whenMatched": [
                        GUARD,
                        {"$set": {"n": {"$add": ["$n", "$$n", "$$new.m"]}}},
                        STAMP,
                    ],
                }
            },
        ],
    ),
}

PASSED: list[dict[str, Any]] = [
    {"$addFields": {"a.b": {"$add": ["$c", 1]}}},
    {
        "$bucket": {
            "groupBy": "$a",
            "boundaries": [0, 5],
            "default": "x",
            "output": {"n": {"$sum": 1}},
        }
    },
    {"$bucketAuto": {"groupBy": "$a", "buckets": 3, "granularity": "R5"}},
    {"$count": "n"},
    {"$densify": {"field": "a", "range": {"step": 1, "bounds": "full"}}},
    {"$fill": {"sortBy": {"a": 1}, "output": {"b": {"method": "linear"}, "c": {"value": 0}}}},
    {"$group": {"_id": {"a": "$a"}, "n": {"$topN": {"n": 2, "sortBy": {"b": 1}, "output": "$b"}}}},
    {"$limit": 5},
    {"$project": {"a": 1, "app_id": 1, "b": {"$toUpper": "$c"}, "d": {"e": 0}}},
    {"$project": {"app_id": 0}},
    {"$redact": {"$cond": [{"$eq": ["$a", 1]}, "$$DESCEND", "$$PRUNE"]}},
    {"$replaceRoot": {"newRoot": {"$mergeObjects": ["$$ROOT", {"x": 1}]}}},
    {"$replaceWith": "$a"},
    {"$sample": {"size": 3}},
    {"$score": {"score": {"$multiply": ["$a", 2]}, "normalization": "none"}},
    {"$set": {"a": "$$NOW"}},
    {
        "$setWindowFields": {
            "partitionBy": "$a",
            "sortBy": {"b": 1},
            "output": {"r": {"$rank": {}}, "s": {"$sum": "$c", "window": {"range": [-1, 1]}}},
        }
    },
    {"$skip": 5},
    {"$sort": {"a": 1, "b": -1}},
    {"$sortByCount": "$a"},
    {"$unset": ["a", "b.c"]},
    {"$unset": "a"},
    {"$unwind": "$a"},
    {"$unwind": {"path": "$a.b", "includeArrayIndex": "i", "preserveNullAndEmptyArrays": True}},
]


@pytest.mark.parametrize(("given", "expected"), CASES.values(), ids=CASES)
def test_pipeline_is_rewritten_into_its_scope(given: list[Any], expected: list[Any]) -> None:
    before = copy.deepcopy(given)
    assert scope_pipeline(given, ORDERS, access(), LIMITS) == expected
    assert given == before


@pytest.mark.parametrize("stage", PASSED, ids=[next(iter(stage)) for stage in PASSED])
def test_stage_that_reshapes_passes_behind_the_scope(stage: dict[str, Any]) -> None:
    assert scope_pipeline([stage], ORDERS, access(), LIMITS) == [SHOP, stage]


def test_cases_cover_every_allowed_stage() -> None:
    covered = {next(iter(stage)) for stage in PASSED}
    text = repr([given for given, _ in CASES.values()])
    covered |= {name for name in STAGES_ALLOWED if f"'{name}'" in text}
    assert covered >= set(STAGES_ALLOWED)


def test_pipeline_on_a_granted_collection_reads_as_its_owner_and_writes_as_its_reader() -> None:
    given: list[dict[str, Any]] = [{"$match": {"a": 1}}, {"$out": "copies"}]
    assert scope_pipeline(given, ITEMS, access(), LIMITS) == [
        {"$match": {"app_id": "stock", "a": 1}},
        STAMP,
        {"$out": "shop_copies"},
    ]


def test_handle_that_only_reads_cannot_write_by_a_pipeline() -> None:
    stages: list[dict[str, Any]] = [{"$out": "copies"}, {"$merge": "copies"}]
    for stage in stages:
        with pytest.raises(ScopeDenied, match="shop_copies"):
            scope_pipeline([stage], ORDERS, access(read_only=True), LIMITS)


def test_stages_are_counted_at_every_depth() -> None:
    union: list[Any] = [{"$unionWith": {"coll": "clicks", "pipeline": [{"$match": {}}] * 3}}]
    scope_pipeline(union, ORDERS, access(), Limits(max_stages=4))
    with pytest.raises(LimitExceeded) as caught:
        scope_pipeline(union, ORDERS, access(), Limits(max_stages=3))
    assert caught.value.path == "pipeline[0].$unionWith.pipeline"


def test_text_has_to_stand_in_the_first_stage() -> None:
    with pytest.raises(QueryRefused, match=r"\$text"):
        scope_pipeline(
            [{"$limit": 1}, {"$match": {"$text": {"$search": "a"}}}], ORDERS, access(), LIMITS
        )


def test_a_pipeline_that_writes_is_told_from_one_that_reads() -> None:
    reading: list[Any] = [[], [{"$match": {}}], [{"$out": "a"}, {"$match": {}}], None, [5]]
    assert not any(writes(pipeline) for pipeline in reading)
    assert writes([{"$out": "a"}])
    assert writes([{"$match": {}}, {"$merge": {}}])


def test_change_stream_sees_events_that_the_stamp_allows() -> None:
    held = dataclasses.replace(ITEMS, stamped=True)
    (scope, stage) = scope_change_stream_pipeline(
        [{"$match": {"operationType": "insert"}}], held, LIMITS
    )
    assert stage == {"$match": {"operationType": "insert"}}
    assert scope == {
        "$match": {
            "$or": [
                {"fullDocument.app_id": "stock"},
                {"operationType": {"$nin": ["insert", "replace"]}, "fullDocument": None},
            ],
            "fullDocumentBeforeChange.app_id": {"$in": ["stock", None]},
        }
    }


@pytest.mark.parametrize(
    "stage",
    [
        {"$set": {"app_id": None}},
        {"$addFields": {"app_id": None}},
        {"$replaceWith": {"app_id": None}},
        {"$replaceRoot": {"newRoot": {"app_id": None}}},
    ],
)
def test_null_is_no_stamp(stage: dict[str, Any]) -> None:
    with pytest.raises(QueryRefused, match="app_id"):
        scope_pipeline([stage, {"$out": "copies"}], ORDERS, access(), LIMITS)
