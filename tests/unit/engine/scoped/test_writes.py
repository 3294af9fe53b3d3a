"""What documents, updates and indexes become."""

from __future__ import annotations

from typing import Any

import pytest
from bson.objectid import ObjectId
from unit.engine.scoped.apps import ITEMS, LIMITS, ORDERS

from mdb_engine.access.model import Target
from mdb_engine.exceptions import LimitExceeded, QueryRefused, ScopeDenied
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.rewrite.indexes import scope_index
from mdb_engine.scoped.rewrite.updates import scope_update, stamp_document, stamp_replacement

STAMP = {"$set": {"app_id": {"$literal": "shop"}}}


def test_inserted_document_gets_an_id_and_the_stamp_whatever_it_claims() -> None:
    document = {"a": 1, "app_id": "hr"}
    stamped = stamp_document(document, ORDERS, LIMITS)
    assert isinstance(stamped.pop("_id"), ObjectId)
    assert stamped == {"a": 1, "app_id": "shop"}
    assert document == {"a": 1, "app_id": "hr"}


def test_id_of_the_caller_is_kept_and_a_replacement_gets_none() -> None:
    assert stamp_document({"_id": 5}, ORDERS, LIMITS) == {"_id": 5, "app_id": "shop"}
    assert stamp_document({"_id": None}, ORDERS, LIMITS) == {"_id": None, "app_id": "shop"}
    assert stamp_replacement({"a": 1}, ORDERS, LIMITS) == {"a": 1, "app_id": "shop"}


def test_nested_fields_are_the_callers_own() -> None:
    document = {"_id": 1, "sub": {"app_id": "x", "$set": 1}, "app_ids": 2}
    assert stamp_document(document, ORDERS, LIMITS) == {**document, "app_id": "shop"}


@pytest.mark.parametrize(
    "update",
    [
        {"$set": {"a.app_id": 1, "app_ids": 2, "b": {"app_id": 3, "$where": 4}}},
        {"$push": {"a": {"$each": [{"app_id": 1}], "$sort": {"n": 1}}}},
        {"$pull": {"a": {"app_id": "x", "n": {"$in": [1]}}}},
        {"$pull": {"a": {"$gte": 5}}},
        {"$pull": {"a": 5}},
        {"$set": {"a.$[e].n": 1}},
        {"$set": {"a.$": 1, "b.$[].c": 2}},
    ],
)
def test_update_of_other_fields_passes_unchanged(update: dict[str, Any]) -> None:
    assert scope_update(update, ORDERS, LIMITS) == update


@pytest.mark.parametrize(
    "stage",
    [
        {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"app_id": "hr"}]}},
        {"$replaceWith": {"$arrayToObject": [[["app_id", "hr"]]]}},
        {"$replaceWith": {"$setField": {"field": "app_id", "input": "$$ROOT", "value": "hr"}}},
        {"$replaceWith": {"$unsetField": {"field": "app_id", "input": "$$ROOT"}}},
        {"$replaceRoot": {"newRoot": "$sub"}},
        {"$project": {"a": 1}},
    ],
)
def test_update_pipeline_ends_with_the_stamp_whatever_it_computes(stage: dict[str, Any]) -> None:
    stages = [stage, {"$set": {"a": 1}}]
    assert scope_update(stages, ORDERS, LIMITS) == [*stages, STAMP]
    assert len(stages) == 2


def test_update_pipeline_keeps_the_limit_of_stages() -> None:
    with pytest.raises(LimitExceeded, match="max_stages"):
        scope_update([{"$set": {"a": 1}}] * 3, ORDERS, Limits(max_stages=2))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("a", [("a", 1)]),
        ([("a", -1), ("b.c", 1)], [("a", -1), ("b.c", 1)]),
        (["a", ("b", -1)], [("a", 1), ("b", -1)]),
        ({"a": "text"}, [("a", "text")]),
        ([("place", "2dsphere")], [("place", "2dsphere")]),
        ([("$**", 1)], [("$**", 1)]),
        ([("a.$**", 1)], [("a.$**", 1)]),
        ([("a", "hashed")], [("a", "hashed")]),
    ],
)
def test_index_keys_come_out_as_pairs(keys: Any, expected: Any) -> None:
    assert scope_index(keys, {}, ORDERS, LIMITS) == (expected, {})


def test_index_options_pass_where_they_are_known() -> None:
    options = {
        "name": "n",
        "unique": True,
        "expireAfterSeconds": 60,
        "partialFilterExpression": {"a": {"$exists": True}},
        "collation": {"locale": "de"},
        "wildcardProjection": {"a": 1},
        "weights": {"a": 2},
    }
    assert scope_index("a", options, ORDERS, LIMITS) == ([("a", 1)], options)


@pytest.mark.parametrize(
    "keys", [[], "", 5, [5], [("a",)], [("a", True)], [("a", 0)], ["a.$x"], [("a", "geoHaystack")]]
)
def test_index_key_that_is_none_is_refused(keys: Any) -> None:
    with pytest.raises(QueryRefused):
        scope_index(keys, {}, ORDERS, LIMITS)


@pytest.mark.parametrize(
    "target", [ITEMS, Target(physical="shop_orders", owner="shop", writable=False)]
)
def test_index_on_what_is_not_writable_is_denied(target: Target) -> None:
    with pytest.raises(ScopeDenied, match=target.physical):
        scope_index("a", {}, target, LIMITS)
