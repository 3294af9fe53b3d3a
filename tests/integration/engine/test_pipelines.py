"""Pipelines and updates that are allowed give the right results on a real server.

Each collection also holds a document with another app's stamp, put there past the engine: so what
is scoped by the rewriting, and not by the choice of the collection alone, shows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError, OperationFailure
from support.mongo import Database
from support.scoped_world import World, connected_world

from mdb_engine.connection.driver import DriverName

Documents = list[dict[str, Any]]

ORDERS: Documents = [
    {"_id": 1, "item": "tea", "n": 2, "at": [0, 0], "day": 1},
    {"_id": 2, "item": "rum", "n": 5, "at": [0, 1], "day": 2},
    {"_id": 3, "item": "tea", "n": 4, "at": [1, 1], "day": 4},
]
ITEMS: Documents = [
    {"_id": "tea", "price": 3, "part_of": "drinks"},
    {"_id": "rum", "price": 9, "part_of": "drinks"},
    {"_id": "drinks", "price": 0, "part_of": None},
]
FOREIGN = {"_id": "foreign", "item": "tea", "n": 100, "at": [0, 0], "day": 9, "part_of": "drinks"}


@pytest.fixture(params=["motor", "pymongo"])
async def world(request: pytest.FixtureRequest, mongo: Database) -> AsyncIterator[World]:
    name: DriverName = request.param
    made = connected_world(name, mongo)
    raw = made.raw
    raw.shop_orders.insert_many([{**order, "app_id": "shop"} for order in ORDERS])
    raw.stock_items.insert_many([{**item, "app_id": "stock"} for item in ITEMS])
    for collection in ("shop_orders", "stock_items"):
        raw[collection].insert_one({**FOREIGN, "app_id": "hr"})
    yield made
    await made.driver.close(made.client)


async def run(world: World, *stages: dict[str, Any], collection: str = "orders") -> Any:
    result: Documents = await world.db("shop")[collection].aggregate(list(stages)).to_list(None)
    return result


def ids(documents: Documents) -> list[Any]:
    return sorted((document["_id"] for document in documents), key=str)


PRICE = {"$project": {"_id": 0, "price": 1}}
SORT = {"$sort": {"_id": 1}}
CASES: dict[str, tuple[list[dict[str, Any]], Any]] = {
    "count": ([{"$count": "n"}], [{"n": 3}]),
    "group": (
        [{"$group": {"_id": "$item", "n": {"$sum": "$n"}}}, SORT],
        [{"_id": "rum", "n": 5}, {"_id": "tea", "n": 6}],
    ),
    "text": (
        [{"$match": {"$text": {"$search": "tea"}}}, {"$project": {"_id": 1}}, SORT],
        [{"_id": 1}, {"_id": 3}],
    ),
    "geoNear": (
        [
            {
                "$geoNear": {
                    "near": [0, 0],
                    "distanceField": "d",
                    "key": "at",
                    "query": {"n": {"$gt": 1}},
                }
            },
            {"$project": {"d": 1}},
            {"$limit": 2},
        ],
        [{"_id": 1, "d": 0.0}, {"_id": 2, "d": 1.0}],
    ),
    "lookup by fields": (
        [
            {
                "$lookup": {
                    "from": "stock_items",
                    "localField": "item",
                    "foreignField": "_id",
                    "as": "i",
                }
            },
            {"$project": {"i.price": 1}},
            SORT,
        ],
        [
            {"_id": 1, "i": [{"price": 3}]},
            {"_id": 2, "i": [{"price": 9}]},
            {"_id": 3, "i": [{"price": 3}]},
        ],
    ),
    "lookup by fields cannot reach a foreign stamp": (
        [
            {"$limit": 1},
            {
                "$lookup": {
                    "from": "stock_items",
                    "localField": "nothing",
                    "foreignField": "nothing",
                    "as": "i",
                }
            },
            {"$project": {"_id": 0, "n": {"$size": "$i"}}},
        ],
        [{"n": 3}],
    ),
    "lookup by pipeline": (
        [
            {"$match": {"_id": 2}},
            {
                "$lookup": {
                    "from": "stock_items",
                    "let": {"item": "$item"},
                    "pipeline": [{"$match": {"$expr": {"$eq": ["$_id", "$$item"]}}}, PRICE],
                    "as": "i",
                }
            },
            {"$project": {"i": 1}},
        ],
        [{"_id": 2, "i": [{"price": 9}]}],
    ),
    "lookup by both": (
        [
            {"$match": {"_id": 1}},
            {
                "$lookup": {
                    "from": "stock_items",
                    "localField": "item",
                    "foreignField": "_id",
                    "pipeline": [PRICE],
                    "as": "i",
                }
            },
            {"$project": {"i": 1}},
        ],
        [{"_id": 1, "i": [{"price": 3}]}],
    ),
    "lookup in constants": (
        [
            {"$match": {"_id": 1}},
            {
                "$lookup": {
                    "pipeline": [{"$documents": [{"k": 1}, {"k": 2}]}, {"$match": {"k": 2}}],
                    "as": "k",
                }
            },
            {"$project": {"k": 1}},
        ],
        [{"_id": 1, "k": [{"k": 2}]}],
    ),
    "graphLookup": (
        [
            {"$match": {"_id": 1}},
            {
                "$graphLookup": {
                    "from": "stock_items",
                    "startWith": "drinks",
                    "connectFromField": "_id",
                    "connectToField": "part_of",
                    "as": "parts",
                }
            },
            {"$project": {"n": {"$size": "$parts"}}},
        ],
        [{"_id": 1, "n": 2}],
    ),
    "unionWith": (
        [
            {"$unionWith": "stock_items"},
            {"$unionWith": {"coll": "orders", "pipeline": [{"$match": {"n": {"$gt": 3}}}]}},
            {"$count": "n"},
        ],
        [{"n": 8}],
    ),
    "facet": (
        [
            {
                "$facet": {
                    "n": [{"$count": "n"}],
                    "items": [{"$unionWith": "stock_items"}, {"$count": "n"}],
                }
            }
        ],
        [{"n": [{"n": 3}], "items": [{"n": 6}]}],
    ),
    "bucket": (
        [{"$bucket": {"groupBy": "$n", "boundaries": [0, 3, 10]}}],
        [{"_id": 0, "count": 1}, {"_id": 3, "count": 2}],
    ),
    "densify and fill": (
        [
            {"$densify": {"field": "day", "range": {"step": 1, "bounds": "full"}}},
            {"$fill": {"sortBy": {"day": 1}, "output": {"n": {"method": "linear"}}}},
            {"$match": {"day": 3}},
            {"$project": {"_id": 0, "n": 1}},
        ],
        [{"n": 4.5}],
    ),
    "window": (
        [
            {
                "$setWindowFields": {
                    "sortBy": {"n": -1},
                    "output": {
                        "rank": {"$rank": {}},
                        "sum": {"$sum": "$n", "window": {"documents": ["unbounded", "current"]}},
                    },
                }
            },
            {"$project": {"rank": 1, "sum": 1}},
        ],
        [
            {"_id": 2, "rank": 1, "sum": 5},
            {"_id": 3, "rank": 2, "sum": 9},
            {"_id": 1, "rank": 3, "sum": 11},
        ],
    ),
    "reshaping": (
        [
            {"$set": {"twice": {"$multiply": ["$n", 2]}}},
            {"$unset": ["at", "item"]},
            {"$redact": {"$cond": [{"$gt": ["$n", 2]}, "$$KEEP", "$$PRUNE"]}},
            {"$replaceWith": {"t": "$twice"}},
            {"$sort": {"t": 1}},
            {"$skip": 1},
        ],
        [{"t": 10}],
    ),
    "unwind": ([{"$match": {"_id": 3}}, {"$unwind": "$at"}, {"$count": "n"}], [{"n": 2}]),
    "sortByCount": (
        [{"$sortByCount": "$item"}],
        [{"_id": "tea", "count": 2}, {"_id": "rum", "count": 1}],
    ),
    "condition on the stamp narrows": ([{"$match": {"app_id": "hr"}}], []),
    "or with a foreign stamp": (
        [{"$match": {"$or": [{"app_id": "hr"}, {"_id": 1}]}}, {"$project": {"_id": 1}}],
        [{"_id": 1}],
    ),
}


async def test_pipelines_give_what_the_scope_holds(world: World) -> None:
    world.raw.shop_orders.create_indexes(
        [IndexModel([("at", "2d")]), IndexModel([("item", "text")])]
    )
    results = {name: await run(world, *stages) for name, (stages, _) in CASES.items()}
    assert results == {name: expected for name, (_, expected) in CASES.items()}


async def test_sample_and_a_granted_source_stay_in_their_scopes(world: World) -> None:
    assert ids(await run(world, {"$sample": {"size": 50}})) == [1, 2, 3]
    assert ids(await run(world, collection="stock_items")) == ["drinks", "rum", "tea"]


async def test_scoped_match_uses_an_index_that_begins_with_the_stamp(world: World) -> None:
    world.raw.shop_orders.create_index([("app_id", 1), ("n", 1)], name="by_n")
    await run(world, {"$match": {"n": {"$gt": 3}}})
    sent = world.commands.last
    explained = world.raw.command(
        "explain", {key: sent[key] for key in ("aggregate", "pipeline", "cursor")}
    )
    assert "'indexName': 'by_n'" in str(explained)


async def test_scoped_join_uses_an_index_of_the_joined_collection(world: World) -> None:
    world.raw.stock_items.create_index("part_of", name="by_whole")
    join = {"from": "stock_items", "localField": "item", "foreignField": "part_of", "as": "x"}
    await run(world, {"$lookup": join})
    sent = world.commands.last
    command = {key: sent[key] for key in ("aggregate", "pipeline", "cursor")}
    explained = world.raw.command("explain", command, verbosity="executionStats")
    assert "by_whole" in str(explained["stages"][-1]["indexesUsed"])


async def test_out_writes_a_stamped_copy(world: World) -> None:
    await run(world, {"$unionWith": "stock_items"}, {"$project": {"n": 1}}, {"$out": "copies"})
    copies = list(world.raw.shop_copies.find())
    assert ids(copies) == ids([*ORDERS, *ITEMS])
    assert {copy["app_id"] for copy in copies} == {"shop"}


MERGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "replace": ("replace", {"_id": 1, "app_id": "shop", "n": 2}),
    "merge": ("merge", {"_id": 1, "app_id": "shop", "n": 2, "kept": True}),
    "keepExisting": ("keepExisting", {"_id": 1, "app_id": "shop", "n": 0, "kept": True}),
    "pipeline": (
        [{"$set": {"n": {"$add": ["$$new.n", 10]}}}],
        {"_id": 1, "app_id": "shop", "n": 12, "kept": True},
    ),
    "forging": (
        [{"$replaceWith": {"$mergeObjects": ["$$new", {"app_id": "hr", "x": 1}]}}],
        {"_id": 1, "app_id": "shop", "n": 2, "x": 1},
    ),
}


async def test_merge_stamps_in_every_form(world: World) -> None:
    for name, (matched, expected) in MERGES.items():
        world.raw.shop_copies.drop()
        world.raw.shop_copies.insert_one({"_id": 1, "app_id": "shop", "n": 0, "kept": True})
        merge = {"into": "copies", "whenMatched": matched}
        await run(world, {"$project": {"n": 1, "_id": 1}}, {"$merge": merge})
        copies = list(world.raw.shop_copies.find().sort("_id"))
        assert copies[0] == expected, name
        assert [(copy["_id"], copy["app_id"]) for copy in copies] == [
            (1, "shop"),
            (2, "shop"),
            (3, "shop"),
        ], name


async def test_merge_on_a_unique_field_and_with_variables(world: World) -> None:
    world.raw.shop_copies.create_index("n", unique=True)
    world.raw.shop_copies.insert_one({"_id": "old", "app_id": "shop", "n": 5})
    merge = {
        "into": "copies",
        "on": "n",
        "let": {"item": "$item"},
        "whenMatched": [{"$set": {"item": "$$item"}}],
        "whenNotMatched": "discard",
    }
    await run(world, {"$project": {"_id": 0}}, {"$merge": merge})
    assert list(world.raw.shop_copies.find()) == [
        {"_id": "old", "app_id": "shop", "n": 5, "item": "rum"}
    ]


async def test_merge_never_changes_a_document_with_another_stamp(world: World) -> None:
    foreign = {"_id": 1, "app_id": "hr", "n": 0}
    world.raw.shop_copies.insert_one(foreign)
    forms: list[Any] = ["replace", "merge", [{"$set": {"n": 1}}]]
    for matched in forms:
        merge = {"into": "copies", "whenMatched": matched}
        with pytest.raises(OperationFailure, match="not a document of this app"):
            await run(world, {"$match": {"_id": 1}}, {"$merge": merge})
    await run(world, {"$merge": {"into": "copies", "whenMatched": "keepExisting"}})
    assert world.raw.shop_copies.find_one({"_id": 1}) == foreign


FORGERIES: list[list[dict[str, Any]]] = [
    [{"$replaceWith": {"$mergeObjects": ["$$ROOT", {"app_id": "hr"}]}}],
    [{"$replaceWith": {"$setField": {"field": "app_id", "input": "$$ROOT", "value": "hr"}}}],
    [{"$replaceWith": {"$arrayToObject": [[["_id", "$_id"], ["app_id", "hr"]]]}}],
    [{"$replaceWith": {"$unsetField": {"field": "app_id", "input": "$$ROOT"}}}],
    [{"$replaceRoot": {"newRoot": {"_id": "$_id"}}}],
    [{"$project": {"n": 1}}],
]


async def test_update_pipelines_cannot_compute_the_stamp(world: World) -> None:
    orders = world.db("shop").orders
    for stages in FORGERIES:
        await orders.update_many({}, stages)
        stamps = {order["_id"]: order.get("app_id") for order in world.raw.shop_orders.find()}
        assert stamps == {1: "shop", 2: "shop", 3: "shop", "foreign": "hr"}
    assert world.raw.shop_orders.find_one({"_id": "foreign"}) == {**FOREIGN, "app_id": "hr"}


async def test_upserts_are_stamped_and_do_not_reach_foreign_documents(world: World) -> None:
    copies = world.db("shop").copies
    updates: list[Any] = [
        {"$set": {"a": 1}},
        {"$setOnInsert": {"a": 1}},
        [{"$set": {"a": 1}}],
        {"$inc": {"a": 1}},
    ]
    for number, update in enumerate(updates):
        await copies.update_one({"k": number, "$or": [{"b": 1}]}, update, upsert=True)
    await copies.replace_one({"k": 9}, {"k": 9, "app_id": "hr"}, upsert=True)
    await copies.find_one_and_update({"k": 10}, {"$set": {"a": 1}}, upsert=True)
    await copies.find_one_and_replace({"k": 11}, {"k": 11}, upsert=True)
    found = list(world.raw.shop_copies.find())
    assert sorted(copy["k"] for copy in found) == [0, 1, 2, 3, 9, 10, 11]
    assert {copy["app_id"] for copy in found} == {"shop"}
    with pytest.raises(DuplicateKeyError):
        await world.db("shop").orders.update_one(
            {"_id": "foreign"}, {"$set": {"n": 1}}, upsert=True
        )
    assert world.raw.shop_orders.find_one({"_id": "foreign"}) == {**FOREIGN, "app_id": "hr"}
