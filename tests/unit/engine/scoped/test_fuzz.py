"""Whatever is given is rewritten into its scope or refused by the engine: there is no third way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from bson.code import Code
from bson.objectid import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.engine.scoped.apps import LIMITS, ORDERS, access
from unit.engine.scoped.independent_checker import STAMP, check_reading

from mdb_engine.exceptions import MdbEngineError
from mdb_engine.scoped.rewrite.expressions import scope_let
from mdb_engine.scoped.rewrite.filters import (
    scope_array_filters,
    scope_filter,
    scope_projection,
    scope_upsert_filter,
)
from mdb_engine.scoped.rewrite.indexes import scope_index
from mdb_engine.scoped.rewrite.operators import (
    EXPRESSIONS,
    FIELD_OPERATORS,
    FILTER_OPERATORS,
    UPDATE_OPERATORS,
)
from mdb_engine.scoped.rewrite.pipelines import scope_change_stream_pipeline, scope_pipeline
from mdb_engine.scoped.rewrite.stages import STAGES
from mdb_engine.scoped.rewrite.updates import scope_update, stamp_document, stamp_replacement

FUZZ = settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

FIELDS = ["a", "a.b", "app_id", "app_id.x", "_id", "", "a\0b", "from", "pipeline", "let", "as"]
COLLECTIONS = ["clicks", "stock_items", "hr_people", "_mdb_engine_grants", "system.js", "", "$cmd"]
STRINGS = ["$a", "$app_id", "$$ROOT", "$$USER_ROLES", "$$new", "shop", "hr", *COLLECTIONS]

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2**64)
    | st.floats()
    | st.sampled_from(STRINGS)
    | st.text(max_size=3)
    | st.just(Code("f"))
    | st.just(ObjectId())
    | st.just(object())
)
keys = st.sampled_from(
    sorted({*FIELDS, *EXPRESSIONS, *FIELD_OPERATORS, *FILTER_OPERATORS, *UPDATE_OPERATORS})
)
anything: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2),
    max_leaves=6,
)
expressions = st.sampled_from(["$a", 1, {"$add": ["$a", 1]}, {"a": "$$ROOT"}]) | anything
good: list[dict[str, Any]] = [{}, {"a": 1}, {"app_id": "hr"}, {"$or": [{"a": {"$gt": 1}}]}]
filters = st.sampled_from(good) | st.sampled_from(good) | anything
collections = st.sampled_from(["clicks", "stock_items"]) | st.sampled_from(COLLECTIONS) | anything


def options(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Make mappings that have some of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


def stages_of(pipelines: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Make stages that are nearly right, with anything in their holes."""
    joins = options(let=st.just({"v": "$a"}) | anything, localField=st.just("a"))
    whole = st.builds(
        lambda base, source, pipeline: {
            "$lookup": {"from": source, "as": "x", "pipeline": pipeline, **base}
        },
        joins,
        collections,
        pipelines,
    )
    plain = collections.map(
        lambda source: {
            "$lookup": {"from": source, "localField": "a", "foreignField": "b", "as": "x"}
        }
    )
    constant = pipelines.map(
        lambda rest: {
            "$lookup": {
                "as": "x",
                "pipeline": [{"$documents": []}, *(rest if isinstance(rest, list) else [])],
            }
        }
    )
    union = st.builds(
        lambda source, pipeline: {"$unionWith": {"coll": source, "pipeline": pipeline}},
        collections,
        pipelines,
    )
    graph = st.builds(
        lambda source, restriction: {
            "$graphLookup": {
                "from": source,
                "startWith": "$a",
                "connectFromField": "a",
                "connectToField": "b",
                "as": "x",
                "restrictSearchWithMatch": restriction,
            }
        },
        collections,
        filters,
    )
    matched = st.sampled_from(["merge", "replace", "fail", "keepExisting"]) | pipelines
    merge = st.builds(
        lambda into, when: {"$merge": {"into": into, "whenMatched": when}}, collections, matched
    )
    fusion = st.dictionaries(st.sampled_from(["x", "y"]), pipelines, max_size=2).map(
        lambda inputs: {"$rankFusion": {"input": {"pipelines": inputs}}}
    )
    return st.one_of(
        filters.map(lambda query: {"$match": query}),
        st.builds(lambda name, body: {name: body}, st.sampled_from(sorted(STAGES)), expressions),
        filters.map(
            lambda query: {"$geoNear": {"near": [0, 0], "distanceField": "d", "query": query}}
        ),
        filters.map(lambda query: {"$vectorSearch": {"index": "i", "filter": query}}),
        st.just({"$search": {"text": {"query": "a", "path": "b"}}}),
        st.dictionaries(st.sampled_from(["x", "y"]), pipelines, max_size=2).map(
            lambda facets: {"$facet": facets}
        ),
        collections.map(lambda into: {"$out": into}),
        whole,
        plain,
        constant,
        union,
        graph,
        merge,
        fusion,
    )


pipelines = st.recursive(
    st.lists(stages_of(st.just([])), max_size=3),
    lambda inner: st.lists(stages_of(inner), max_size=3),
    max_leaves=4,
)


def attempt(call: Callable[[], Any], *inputs: Any) -> Any:
    """Call; return None for a refusal by the engine. Any other error is the test's failure."""
    before = copy.deepcopy(inputs, {id(value): value for value in _opaque(inputs)})
    try:
        return call()
    except MdbEngineError:
        return None
    finally:
        assert repr(inputs) == repr(before)


def _opaque(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [found for item in value.values() for found in _opaque(item)]
    if isinstance(value, list | tuple):
        return [found for item in value for found in _opaque(item)]
    return [value] if type(value) is object else []


@FUZZ
@given(pipelines | anything)
def test_pipeline_is_in_scope_or_refused(pipeline: Any) -> None:
    scoped = attempt(lambda: scope_pipeline(pipeline, ORDERS, access(), LIMITS), pipeline)
    if scoped is not None:
        check_reading(scoped, "shop_orders")


@FUZZ
@given(pipelines)
def test_a_rewritten_pipeline_can_be_rewritten_again_or_is_refused(pipeline: Any) -> None:
    scoped = attempt(lambda: scope_pipeline(pipeline, ORDERS, access(), LIMITS), pipeline)
    again = attempt(lambda: scope_pipeline(scoped, ORDERS, access(), LIMITS), scoped)
    if again is not None:
        check_reading(again, "shop_orders")


@FUZZ
@given(filters)
def test_filter_is_in_scope_or_refused(query: Any) -> None:
    scoped = attempt(lambda: scope_filter(query, ORDERS, LIMITS), query)
    assert scoped is None or scoped["app_id"] == "shop"
    upsert = attempt(lambda: scope_upsert_filter(query, ORDERS, LIMITS), query)
    assert upsert is None or repr(upsert).count("'app_id'") >= 1
    assert upsert is None or upsert["app_id"] == "shop"


@FUZZ
@given(
    st.dictionaries(st.sampled_from(sorted(UPDATE_OPERATORS)), anything, max_size=2)
    | pipelines
    | anything
)
def test_update_keeps_the_stamp_or_is_refused(update: Any) -> None:
    scoped = attempt(lambda: scope_update(update, ORDERS, LIMITS), update)
    if isinstance(scoped, list):
        assert scoped[-1] == STAMP
    elif scoped is not None:
        written = [field for fields in scoped.values() for field in fields]
        written += scoped.get("$rename", {}).values()
        assert not any(field.split(".")[0] == "app_id" for field in written)


@FUZZ
@given(anything | st.dictionaries(keys, anything, max_size=3))
def test_document_is_stamped_or_refused(document: Any) -> None:
    inserted = attempt(lambda: stamp_document(document, ORDERS, LIMITS), document)
    replaced = attempt(lambda: stamp_replacement(document, ORDERS, LIMITS), document)
    for stamped in (inserted, replaced):
        assert stamped is None or stamped["app_id"] == "shop"
    assert replaced is None or inserted is not None
    if inserted is not None:  # MongoDB takes a name that begins with $ where it inserts, alone
        assert (replaced is None) == any(name.startswith("$") for name in inserted)


@FUZZ
@given(pipelines | anything)
def test_change_stream_is_in_scope_or_refused(pipeline: Any) -> None:
    scoped = attempt(lambda: scope_change_stream_pipeline(pipeline, ORDERS, LIMITS), pipeline)
    assert scoped is None or "fullDocument.app_id" in str(scoped[0])


@FUZZ
@given(anything, anything)
def test_the_smaller_parts_are_checked_or_refused(value: Any, other: Any) -> None:
    attempt(lambda: scope_array_filters(value, LIMITS), value)
    attempt(lambda: scope_let(value, LIMITS), value)
    attempt(lambda: scope_projection(value, LIMITS), value)
    attempt(lambda: scope_index(value, other, ORDERS, LIMITS), value, other)
