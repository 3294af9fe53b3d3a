"""What a filter becomes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from bson.dbref import DBRef
from unit.engine.scoped.apps import ITEMS, LIMITS, ORDERS

from mdb_engine.exceptions import QueryRefused
from mdb_engine.scoped.rewrite.filters import (
    scope_array_filters,
    scope_filter,
    scope_projection,
    scope_upsert_filter,
)


@pytest.mark.parametrize("query", [None, {}])
def test_all_documents_means_all_of_the_owner(query: Any) -> None:
    assert scope_filter(query, ITEMS, LIMITS) == {"app_id": "stock"}


def test_scope_stands_first_and_beside_the_conditions() -> None:
    query = {"$text": {"$search": "tea"}, "price": {"$gt": 3}, "$or": [{"a": 1}, {"b": 2}]}
    scoped = scope_filter(query, ORDERS, LIMITS)
    assert list(scoped) == ["app_id", "$text", "price", "$or"]
    assert scoped == {"app_id": "shop", **query}


def test_condition_on_the_stamp_only_narrows() -> None:
    assert scope_filter({"app_id": "hr", "a": 1}, ORDERS, LIMITS) == {
        "app_id": "shop",
        "a": 1,
        "$and": [{"app_id": "hr"}],
    }
    assert scope_filter({"app_id": {"$ne": "shop"}, "$and": [{"a": 1}]}, ORDERS, LIMITS) == {
        "app_id": "shop",
        "$and": [{"a": 1}, {"app_id": {"$ne": "shop"}}],
    }
    assert scope_filter({"app_id": "shop", "a": 1}, ORDERS, LIMITS) == {"app_id": "shop", "a": 1}


def test_filter_of_the_caller_is_never_changed() -> None:
    inner = {"b": [1, 2]}
    query = {"a": inner, "app_id": "hr", "$and": [{"c": 1}]}
    scoped = scope_filter(query, ORDERS, LIMITS)
    assert query == {"a": {"b": [1, 2]}, "app_id": "hr", "$and": [{"c": 1}]}
    inner["b"].append(3)
    assert scoped["a"] == {"b": [1, 2]}


@pytest.mark.parametrize(
    "value",
    [
        1,
        None,
        "$where",
        re.compile("^a"),
        [{"$where": "data, not an operator, inside an array"}],
        {"b": {"$where": "data, as the first key is no operator"}},
        DBRef("items", 1),
    ],
)
def test_values_are_data(value: Any) -> None:
    scoped = scope_filter({"a": value}, ORDERS, LIMITS)
    expected = {"$ref": "items", "$id": 1} if isinstance(value, DBRef) else value
    assert scoped == {"app_id": "shop", "a": expected}


def test_upsert_filter_may_not_name_the_stamp_but_may_name_fields_like_it() -> None:
    query = {"a.app_id": 1, "app_ids": 2, "x": {"$elemMatch": {"app_id": 3}}}
    assert scope_upsert_filter(query, ORDERS, LIMITS) == {"app_id": "shop", **query}
    with pytest.raises(QueryRefused, match="app_id"):
        scope_upsert_filter({"app_id": "shop"}, ORDERS, LIMITS)


def test_array_filters_are_checked_and_copied() -> None:
    assert scope_array_filters(None, LIMITS) is None
    filters = [{"x.app_id": {"$gt": 1}}]
    assert scope_array_filters(filters, LIMITS) == filters
    with pytest.raises(QueryRefused, match="list"):
        scope_array_filters({"x": 1}, LIMITS)  # type: ignore[arg-type]


def test_projection_passes_flags_expressions_and_array_operators() -> None:
    projection = {
        "a": 1,
        "b": {"$slice": [0, 2]},
        "c": {"$elemMatch": {"x": {"$gt": 1}}},
        "d": {"$meta": "textScore"},
        "e": {"$toUpper": "$f"},
        "g.$": 1,
    }
    assert scope_projection(projection, LIMITS) == projection
