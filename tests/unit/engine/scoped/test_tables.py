"""Every entry of every table is passed or refused as an independent list says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from unit.engine.scoped import expected_operators as expected
from unit.engine.scoped.apps import LIMITS, ORDERS, access

from mdb_engine.exceptions import QueryRefused
from mdb_engine.scoped.rewrite import operators, stages
from mdb_engine.scoped.rewrite.expressions import check_accumulators, check_expression
from mdb_engine.scoped.rewrite.filters import scope_filter
from mdb_engine.scoped.rewrite.operators import Rule, allow, refuse, table
from mdb_engine.scoped.rewrite.pipelines import (
    scope_change_stream_pipeline,
    scope_pipeline,
)
from mdb_engine.scoped.rewrite.stages import _no_handler
from mdb_engine.scoped.rewrite.updates import scope_update

TABLES: list[tuple[str, Mapping[str, Rule], list[str], list[str]]] = [
    ("stages", stages.STAGES, expected.STAGES_ALLOWED, expected.STAGES_REFUSED),
    (
        "change stream",
        stages.CHANGE_STREAM_STAGES,
        expected.CHANGE_STREAM_STAGES_ALLOWED,
        [],
    ),
    ("search", operators.SEARCH_OPERATORS, expected.SEARCH_ALLOWED, []),
    (
        "expressions",
        operators.EXPRESSIONS,
        expected.EXPRESSIONS_ALLOWED,
        expected.EXPRESSIONS_REFUSED,
    ),
    (
        "accumulators",
        operators.ACCUMULATORS,
        expected.ACCUMULATORS_ALLOWED,
        expected.JAVASCRIPT,
    ),
    (
        "window functions",
        operators.WINDOW_FUNCTIONS,
        expected.WINDOW_FUNCTIONS_ALLOWED,
        expected.JAVASCRIPT,
    ),
    (
        "variables",
        operators.VARIABLES,
        expected.VARIABLES_ALLOWED,
        expected.VARIABLES_REFUSED,
    ),
    (
        "filters",
        operators.FILTER_OPERATORS,
        expected.FILTERS_ALLOWED,
        expected.FILTERS_REFUSED,
    ),
    ("fields", operators.FIELD_OPERATORS, expected.FIELDS_ALLOWED, expected.FIELDS_REFUSED),
    (
        "updates",
        operators.UPDATE_OPERATORS,
        expected.UPDATES_ALLOWED,
        expected.UPDATES_REFUSED,
    ),
    ("update stages", stages.UPDATE_STAGES, expected.UPDATE_STAGES_ALLOWED, []),
]


@pytest.mark.parametrize(
    ("rules", "allowed", "refused"), [t[1:] for t in TABLES], ids=[t[0] for t in TABLES]
)
def test_table_says_what_the_manual_and_the_threat_model_say(
    rules: Mapping[str, Rule], allowed: list[str], refused: list[str]
) -> None:
    assert sorted(name for name, rule in rules.items() if rule.refused is None) == sorted(allowed)
    assert sorted(name for name, rule in rules.items() if rule.refused) == sorted(refused)
    assert all(rule.category for rule in rules.values())


def test_table_refuses_to_list_an_operator_twice() -> None:
    with pytest.raises(ValueError, match=r"\$a"):
        table(allow("one", "$a $b"), refuse("two", "$a", "no"))


def test_every_allowed_stage_has_a_handler_and_no_other() -> None:
    handled = {name for name, stage in stages.STAGES.items() if stage.handler is not _no_handler}
    assert handled == set(expected.STAGES_ALLOWED)


def refusal_of(call: Callable[[], Any]) -> QueryRefused:
    with pytest.raises(QueryRefused) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("name", expected.STAGES_REFUSED + expected.STAGES_UNKNOWN)
@pytest.mark.parametrize("depth", ["top", "facet", "lookup", "union"])
def test_stage_that_is_refused_or_unknown_is_refused_at_every_depth(name: str, depth: str) -> None:
    stage: dict[str, Any] = {name: {}}
    places: dict[str, tuple[list[Any], str]] = {
        "top": ([{"$limit": 1}, stage], "pipeline[1]"),
        "facet": ([{"$facet": {"a": [stage]}}], "pipeline[0].$facet.a[0]"),
        "lookup": (
            [{"$lookup": {"from": "items2", "as": "x", "pipeline": [stage]}}],
            "pipeline[0].$lookup.pipeline[0]",
        ),
        "union": (
            [{"$unionWith": {"coll": "clicks", "pipeline": [{"$facet": {"b": [stage]}}]}}],
            "pipeline[0].$unionWith.pipeline[0].$facet.b[0]",
        ),
    }
    stages, path = places[depth]
    error = refusal_of(lambda: scope_pipeline(stages, ORDERS, access(), LIMITS))
    assert error.path == f"{path}.{name}"
    assert f"{name} is refused" in str(error)


def test_every_allowed_expression_operator_passes_and_its_argument_is_walked() -> None:
    for name in expected.EXPRESSIONS_ALLOWED:
        argument: Any = ["$price", 2]
        hidden: Any = [{"deep": [{"$function": {"body": "", "args": [], "lang": "js"}}]}]
        if name == "$let":
            argument = {"vars": {"a": "$x"}, "in": "$$a"}
            hidden = {"vars": {"a": hidden}, "in": 1}
        elif name == "$meta":
            argument = "textScore"
        check_expression({name: argument}, "e")
        if name == "$literal":
            check_expression({name: hidden}, "e")  # data, which the server does not evaluate
            continue
        with pytest.raises(QueryRefused) as caught:
            check_expression({name: hidden}, "e")
        assert caught.value.path is not None
        assert caught.value.path.startswith(f"e.{name}")


@pytest.mark.parametrize("name", expected.EXPRESSIONS_REFUSED + expected.EXPRESSIONS_UNKNOWN)
def test_expression_operator_that_is_refused_or_unknown_is_refused_wherever_it_hides(
    name: str,
) -> None:
    error = refusal_of(
        lambda: scope_filter({"$or": [{"$expr": {"$cond": [1, {name: 1}, 2]}}]}, ORDERS, LIMITS)
    )
    assert error.path == f"filter.$or[0].$expr.$cond[1].{name}"
    assert f"{name} is refused" in str(error)


@pytest.mark.parametrize("name", expected.ACCUMULATORS_ALLOWED)
def test_accumulator_passes_and_its_argument_is_walked(name: str) -> None:
    check_accumulators({"total": {name: "$price"}}, "g")
    error = refusal_of(lambda: check_accumulators({"t": {name: [{"$function": 1}]}}, "g"))
    assert error.path == f"g.t.{name}[0].$function"


@pytest.mark.parametrize("name", expected.WINDOW_FUNCTIONS_ALLOWED)
def test_window_function_passes_and_its_argument_is_walked(name: str) -> None:
    def pipeline(argument: Any) -> list[dict[str, Any]]:
        output = {"t": {name: argument, "window": {"documents": ["unbounded", "current"]}}}
        return [{"$setWindowFields": {"sortBy": {"day": 1}, "output": output}}]

    stages = scope_pipeline(pipeline("$price"), ORDERS, access(), LIMITS)
    assert stages == [{"$match": {"app_id": "shop"}}, *pipeline("$price")]
    error = refusal_of(lambda: scope_pipeline(pipeline({"$where": 1}), ORDERS, access(), LIMITS))
    assert error.path == f"pipeline[0].$setWindowFields.output.t.{name}.$where"


@pytest.mark.parametrize("name", expected.JAVASCRIPT)
def test_javascript_is_no_accumulator_and_no_window_function(name: str) -> None:
    group: list[Any] = [{"$group": {"_id": None, "t": {name: {}}}}]
    window: list[Any] = [{"$setWindowFields": {"output": {"t": {name: {}}}}}]
    for given in (group, window):
        error = refusal_of(lambda given=given: scope_pipeline(given, ORDERS, access(), LIMITS))  # type: ignore[misc]
        assert str(error.path).endswith(f".t.{name}")


@pytest.mark.parametrize("name", expected.VARIABLES_ALLOWED)
def test_system_variable_passes_with_and_without_a_path(name: str) -> None:
    check_expression([f"$${name}", {"$add": [f"$${name}.a.b", 1]}], "e")


@pytest.mark.parametrize("name", [*expected.VARIABLES_REFUSED, "ENV", "Root", "_x", "1", ""])
def test_system_variable_that_is_refused_or_unknown_is_refused(name: str) -> None:
    error = refusal_of(lambda: check_expression({"$add": [f"$${name}.x"]}, "e"))
    assert error.path == f"e.$add[0].$${name}"


FILTER_SAMPLES: dict[str, Any] = {
    "$and": [{"a": 1}],
    "$or": [{"a": 1}],
    "$nor": [{"a": 1}],
    "$expr": {"$gt": ["$a", "$b"]},
    "$text": {"$search": "tea"},
    "$jsonSchema": {"required": ["a"]},
    "$comment": "why",
    "$sampleRate": 0.5,
    "$ref": "items",
    "$id": 1,
    "$db": "d",
}

FIELD_SAMPLES: dict[str, Any] = {
    "$all": [1, {"$elemMatch": {"a": 1}}],
    "$elemMatch": {"$gt": 1, "$lt": 3},
    "$in": [1, {"a": 1}],
    "$nin": [1],
    "$not": {"$gt": 1},
    "$geoWithin": {"$centerSphere": [[0, 0], 1]},
    "$geoIntersects": {"$geometry": {"type": "Point", "coordinates": [0, 0]}},
}


@pytest.mark.parametrize("name", expected.FILTERS_ALLOWED)
def test_query_operator_passes_beside_the_scope(name: str) -> None:
    query = {name: FILTER_SAMPLES[name]}
    assert scope_filter(query, ORDERS, LIMITS) == {"app_id": "shop", **query}


@pytest.mark.parametrize("name", expected.FIELDS_ALLOWED)
def test_field_operator_passes_beside_the_scope(name: str) -> None:
    query = {"a.b": {name: FIELD_SAMPLES.get(name, 1)}}
    assert scope_filter(query, ORDERS, LIMITS) == {"app_id": "shop", **query}


@pytest.mark.parametrize("name", [*expected.FILTERS_REFUSED, "$eq", "$x", "$_internalExprEq", "$"])
def test_query_operator_that_is_refused_or_unknown_is_refused(name: str) -> None:
    assert refusal_of(lambda: scope_filter({name: 1}, ORDERS, LIMITS)).path == f"filter.{name}"
    nested = {"$nor": [{"$and": [{"x": {"$elemMatch": {"y": 1, name: 1}}}]}]}
    error = refusal_of(lambda: scope_filter(nested, ORDERS, LIMITS))
    assert error.path == f"filter.$nor[0].$and[0].x.$elemMatch.{name}"


@pytest.mark.parametrize("name", [*expected.FIELDS_REFUSED, "$x", "$_internalExprEq", "$"])
def test_field_operator_that_is_refused_or_unknown_is_refused(name: str) -> None:
    error = refusal_of(lambda: scope_filter({"a": {"$not": {name: 1}}}, ORDERS, LIMITS))
    assert error.path == f"filter.a.$not.{name}"
    assert f"{name} is refused" in str(error)


UPDATE_SAMPLES: dict[str, Any] = {
    "$addToSet": {"tags": {"$each": ["a"]}},
    "$bit": {"flags": {"or": 4}},
    "$currentDate": {"at": {"$type": "date"}},
    "$pull": {"marks": {"$elemMatch": {"n": {"$gt": 1}}}},
    "$pullAll": {"marks": [1]},
    "$push": {"marks": {"$each": [1], "$slice": -3, "$sort": 1, "$position": 0}},
    "$rename": {"old": "new"},
}


@pytest.mark.parametrize("name", expected.UPDATES_ALLOWED)
def test_update_operator_passes_and_cannot_name_the_stamp(name: str) -> None:
    update = {name: UPDATE_SAMPLES.get(name, {"n": 1})}
    assert scope_update(update, ORDERS, LIMITS) == update
    for field in ("app_id", "app_id.x", "app_id.$[]", "app_id.0"):
        value = "x" if name == "$rename" else 1
        error = refusal_of(
            lambda field=field, value=value: scope_update({name: {field: value}}, ORDERS, LIMITS)  # type: ignore[misc]
        )
        assert error.path == f"update.{name}.{field}"


@pytest.mark.parametrize("name", [*expected.UPDATES_REFUSED, "$x", "$", "field"])
def test_update_operator_that_is_refused_or_unknown_is_refused(name: str) -> None:
    update = {"$set": {"a": 1}, name: {"b": 1}}
    error = refusal_of(lambda: scope_update(update, ORDERS, LIMITS))
    assert error.path == f"update.{name}"
    assert f"{name} is refused" in str(error)


@pytest.mark.parametrize("name", sorted({*expected.STAGES_ALLOWED, *expected.STAGES_REFUSED, "$x"}))
def test_update_pipeline_has_only_the_stages_of_an_update(name: str) -> None:
    body: Any = {"newRoot": "$a"} if name == "$replaceRoot" else {"a": "$b"}
    stage = {name: "a" if name == "$unset" else body}
    if name in expected.UPDATE_STAGES_ALLOWED:
        stamp = {"$set": {"app_id": {"$literal": "shop"}}}
        assert scope_update([stage], ORDERS, LIMITS) == [stage, stamp]
    else:
        error = refusal_of(lambda: scope_update([stage], ORDERS, LIMITS))
        assert error.path == f"update[0].{name}"


@pytest.mark.parametrize("name", sorted({*expected.STAGES_ALLOWED, *expected.STAGES_REFUSED, "$x"}))
def test_change_stream_has_only_the_stages_of_a_change_stream(name: str) -> None:
    samples: dict[str, Any] = {
        "$changeStreamSplitLargeEvent": {},
        "$redact": "$$KEEP",
        "$replaceRoot": {"newRoot": "$$ROOT"},
        "$unset": "a",
    }
    stage = {name: samples.get(name, {"a": 1})}
    if name in expected.CHANGE_STREAM_STAGES_ALLOWED:
        assert scope_change_stream_pipeline([stage], ORDERS, LIMITS)[-1] == stage
    else:
        error = refusal_of(lambda: scope_change_stream_pipeline([stage], ORDERS, LIMITS))
        assert error.path == f"pipeline[0].{name}"


@pytest.mark.parametrize("name", [*expected.SEARCH_ALLOWED, "function", "$where", "sort2"])
def test_search_operator_is_put_under_a_filter_or_refused(name: str) -> None:
    stage = {"$search": {"index": "i", name: {"query": "tea"}}}
    if name in expected.SEARCH_ALLOWED:
        scope = {"equals": {"path": "app_id", "value": "shop"}}
        compound = {"must": [{name: {"query": "tea"}}], "filter": [scope]}
        assert scope_pipeline([stage], ORDERS, access(), LIMITS) == [
            {"$search": {"index": "i", "compound": compound}},
            {"$match": {"app_id": "shop"}},
        ]
    else:
        error = refusal_of(lambda: scope_pipeline([stage], ORDERS, access(), LIMITS))
        assert error.path == f"pipeline[0].$search.{name}"
