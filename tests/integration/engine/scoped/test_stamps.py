"""The stamp is compared exactly, whatever else an operation compares, and whoever wrote there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pymongo import DeleteMany, UpdateMany
from pymongo.collation import Collation
from pymongo.errors import OperationFailure
from support.scoped_world import World

from mdb_engine.exceptions import QueryRefused
from mdb_engine.scoped import ScopedDatabase

LOOSE: dict[str, Any] = {"collation": Collation("en", strength=1)}
"""By it ``shop``, ``SHOP`` and ``shóp`` are one."""

LOOK_ALIKES = [{"_id": stamp, "app_id": stamp, "n": 1} for stamp in ("SHOP", "Shop", "shóp")]

LOOKUP = {"from": "copies", "localField": "n", "foreignField": "n", "as": "found"}
GRAPH = {
    "from": "copies",
    "startWith": "$n",
    "connectFromField": "n",
    "connectToField": "n",
    "as": "found",
}

READS: dict[str, Callable[[ScopedDatabase], Awaitable[Any]]] = {
    "find": lambda db: db.orders.find({"n": 1}, **LOOSE).to_list(),
    "find, chained": lambda db: db.orders.find({}).collation(LOOSE["collation"]).to_list(),
    "clone": lambda db: db.orders.find({}, **LOOSE).clone().to_list(),
    "find_one": lambda db: db.orders.find_one({"_id": "Shop"}, **LOOSE),
    "distinct": lambda db: db.orders.distinct("_id", **LOOSE),
    "distinct of a cursor": lambda db: db.orders.find({}).distinct("_id", **LOOSE),
    "count_documents": lambda db: db.orders.count_documents({}, **LOOSE),
    "aggregate": lambda db: db.orders.aggregate([], **LOOSE).to_list(),
    "$match": lambda db: db.orders.aggregate([{"$match": {"n": 1}}], **LOOSE).to_list(),
    "$unionWith": lambda db: db.clicks.aggregate([{"$unionWith": "orders"}], **LOOSE).to_list(),
}

WRITES: dict[str, Callable[[ScopedDatabase], Awaitable[Any]]] = {
    "update_one": lambda db: db.orders.update_one({}, {"$set": {"x": 1}}, **LOOSE),
    "update_many": lambda db: db.orders.update_many({}, {"$set": {"x": 1}}, **LOOSE),
    "replace_one": lambda db: db.orders.replace_one({"n": 1}, {"x": 1}, **LOOSE),
    "delete_one": lambda db: db.orders.delete_one({}, **LOOSE),
    "delete_many": lambda db: db.orders.delete_many({"n": 1}, **LOOSE),
    "find_one_and_update": lambda db: db.orders.find_one_and_update(
        {}, {"$inc": {"n": 1}}, **LOOSE
    ),
    "find_one_and_replace": lambda db: db.orders.find_one_and_replace({}, {}, **LOOSE),
    "find_one_and_delete": lambda db: db.orders.find_one_and_delete({}, **LOOSE),
    "bulk_write": lambda db: db.orders.bulk_write(
        [UpdateMany({}, {"$set": {"x": 1}}, **LOOSE), DeleteMany({}, **LOOSE)]
    ),
}


@pytest.mark.parametrize("read", READS)
async def test_a_collation_shows_no_look_alikes(world: World, read: str) -> None:
    world.raw.shop_orders.insert_many(LOOK_ALIKES)
    world.raw.shop_clicks.insert_one({"app_id": "shop"})

    found = await READS[read](world.db("shop"))

    own = [one for one in found if one["app_id"] == "shop"] if read == "$unionWith" else found
    assert found == (own if read == "$unionWith" else type(found)() if found is not None else None)


@pytest.mark.parametrize("write", WRITES)
async def test_a_collation_changes_no_look_alikes(world: World, write: str) -> None:
    world.raw.shop_orders.insert_many(LOOK_ALIKES)

    await WRITES[write](world.db("shop"))

    assert list(world.raw.shop_orders.find(sort=[("$natural", 1)])) == LOOK_ALIKES


async def test_a_collation_still_finds_what_is_the_apps(world: World) -> None:
    db = world.db("shop")
    await db.orders.insert_one({"_id": 1, "name": "Tee"})
    assert (await db.orders.find_one({"name": "tee"}, **LOOSE) or {})["_id"] == 1
    await db.orders.update_one({"name": "kaffee"}, {"$set": {"n": 1}}, upsert=True, **LOOSE)
    assert {d["name"]: d["app_id"] for d in world.raw.shop_orders.find()} == {
        "Tee": "shop",
        "kaffee": "shop",
    }


@pytest.mark.parametrize("stage", [{"$lookup": LOOKUP}, {"$graphLookup": GRAPH}])
async def test_a_collation_joins_no_look_alikes(world: World, stage: dict[str, Any]) -> None:
    world.raw.shop_copies.insert_many(LOOK_ALIKES)
    db = world.db("shop")
    await db.orders.insert_one({"n": 1})

    (joined,) = await db.orders.aggregate([stage], **LOOSE).to_list()

    assert joined["found"] == []


async def test_a_collation_merges_into_no_look_alike(world: World) -> None:
    world.raw.shop_copies.insert_one(dict(LOOK_ALIKES[0]))
    db = world.db("shop")
    await db.orders.insert_one({"_id": "SHOP", "n": 2})

    with pytest.raises(OperationFailure):
        await db.orders.aggregate([{"$merge": "copies"}], **LOOSE).to_list()

    assert world.raw.shop_copies.find_one() == LOOK_ALIKES[0]


async def test_an_operator_beside_a_reference_is_refused(world: World) -> None:
    reference = {"$ref": "x", "$id": 1}
    orders = world.db("shop").orders
    await orders.insert_one({"_id": 1, "at": reference, "list": [reference]})

    for query in (
        {"list": {"$all": [{"$elemMatch": {"$where": "true"}, **reference}]}},
        {"list": {"$all": [{**reference, "$elemMatch": {"a": 1}}]}},
        {"list": {"$in": [{"$gt": 1, **reference}]}},
        {"at": {"$gt": 1, **reference}},
        {"at": {"$not": {"$gt": 1, **reference}}},
        {"list": {"$elemMatch": {"$where": "true", **reference}}},
    ):
        with pytest.raises(QueryRefused):
            await orders.find(query).to_list()
    for query in (
        {"at": reference},
        {"list": {"$all": [reference]}},
        {"list": {"$in": [reference]}},
    ):
        assert [found["_id"] for found in await orders.find(query).to_list()] == [1]


@pytest.mark.parametrize("options", [{}, {"full_document": "updateLookup"}, LOOSE], ids=str)
async def test_a_stream_tells_nothing_of_what_is_in_documents_of_another_stamp(
    world: World, options: dict[str, Any]
) -> None:
    raw = world.raw.shop_orders
    raw.insert_many([{"_id": "foreign", "app_id": "SHOP"}, {"_id": "own", "app_id": "shop"}])
    async with world.db("shop").orders.watch(**options) as stream:
        raw.update_one({"_id": "foreign"}, {"$set": {"secret": 1}})
        raw.update_one({"_id": "own"}, {"$set": {"n": 1}})
        async with asyncio.timeout(20):
            change = await stream.next()

    assert change["documentKey"] == {"_id": "own"}
    assert change["updateDescription"]["updatedFields"] == {"n": 1}
    assert ("fullDocument" in change) is ("full_document" in options)


async def test_an_update_of_a_document_that_is_gone_tells_no_more_than_its_deletion(
    world: World,
) -> None:
    raw = world.raw.shop_orders
    raw.insert_one({"_id": 1, "app_id": "hr"})
    async with world.db("shop").orders.watch() as stream:
        raw.update_one({"_id": 1}, {"$set": {"secret": 1}})
        raw.delete_one({"_id": 1})
        async with asyncio.timeout(20):
            changes = [await stream.next(), await stream.next()]

    assert [change["operationType"] for change in changes] == ["update", "delete"]
    assert "secret" not in str(changes)


async def test_where_mongodb_holds_the_stamp_a_stream_looks_nothing_up(world: World) -> None:
    world.add("shop", {"orders"}, stamped={"orders"})
    orders = world.db("shop").orders
    await orders.insert_one({"_id": 1})
    async with orders.watch() as stream:
        opened = world.commands.last["pipeline"]
        await orders.update_one({"_id": 1}, {"$set": {"n": 1}})
        await orders.delete_one({"_id": 1})
        async with asyncio.timeout(20):
            change = await stream.next()

    assert "fullDocument" not in opened[0]["$changeStream"]
    assert change["updateDescription"]["updatedFields"] == {"n": 1}
