"""The stamp is compared exactly, whatever else an operation compares, and whoever wrote there."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pymongo import DeleteMany, UpdateMany
from pymongo.collation import Collation
from pymongo.errors import OperationFailure, WriteError
from support.scoped_world import World

from mdb_engine.core.stamp import stamped_validator
from mdb_engine.exceptions import QueryRefused, ScopeDenied
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


# Where MongoDB holds the stamp, reading one's own documents needs no predicate on it.

STAMPS: list[Any] = [
    *("shop", "SHOP", "shóp", "hr", "", None, 0, True, [], {}, ["shop"], ["hr"], ["shop", "hr"]),
    *([["shop"]], {"shop": 1}, ["SHOP"], [None], re.compile("^shop$"), {"$literal": "shop"}),
]
"""What somebody may try as a stamp; besides, there is none at all."""


async def held(world: World, **options: Any) -> Any:
    """Make a collection as the registry does, and let the grants say so."""
    validator = stamped_validator("shop", {}, collated="collation" in options)
    world.raw.create_collection("shop_orders", validator=validator, **options)
    world.add("shop", {"orders", "clicks", "copies"}, {"stock"}, stamped={"orders"})
    return world.raw.shop_orders


@pytest.mark.parametrize("options", [{}, LOOSE], ids=["simple", "collated"])
async def test_every_document_that_mongodb_lets_in_is_one_that_the_predicate_matches(
    world: World, options: dict[str, Any]
) -> None:
    raw = await held(world, **options)
    for number, stamp in enumerate([*STAMPS, ...]):
        document = {"_id": number} if stamp is ... else {"_id": number, "app_id": stamp}
        with contextlib.suppress(WriteError):
            raw.insert_one(document)
        with contextlib.suppress(WriteError):
            change = {"$unset": {"app_id": 1}} if stamp is ... else {"$set": {"app_id": stamp}}
            raw.update_one({"_id": number}, change)
        with contextlib.suppress(WriteError):
            raw.replace_one({"_id": number}, document, upsert=True)

    let_in = {found["_id"] for found in raw.find({})}
    matched = {found["_id"] for found in raw.find({"app_id": "shop"})}
    assert let_in == matched
    assert {found["_id"] for found in await world.db("shop").orders.find({}).to_list()} == matched
    assert [STAMPS[number] for number in sorted(let_in)] == [
        stamp
        for stamp in STAMPS
        if stamp == "shop" or (isinstance(stamp, list) and "shop" in stamp)
    ]


async def test_reading_ones_own_asks_for_no_stamp_where_mongodb_holds_it(world: World) -> None:
    await held(world)
    orders, commands = world.db("shop").orders, world.commands
    await orders.insert_many([{"_id": n, "n": n} for n in range(20)])
    await orders.create_index("n")

    assert await orders.find_one({"_id": 3}) == {"_id": 3, "n": 3, "app_id": "shop"}
    assert commands.last["filter"] == {"_id": 3}
    plan = await orders.find({"_id": 3}).explain()
    assert "IDHACK" in str(plan["queryPlanner"]["winningPlan"])
    assert await orders.count_documents({"n": {"$lt": 5}}) == 5
    assert commands.last["pipeline"][0] == {"$match": {"n": {"$lt": 5}}}
    plan = world.raw.command("explain", {"count": "shop_orders", "query": {"n": {"$lt": 5}}})
    assert "FETCH" not in str(plan["queryPlanner"]["winningPlan"])
    assert await orders.estimated_document_count() == 20
    assert commands.names[-1] == "count"
    assert len(await orders.aggregate([{"$match": {"n": 1}}, {"$limit": 5}]).to_list()) == 1
    assert commands.last["pipeline"] == [{"$match": {"n": 1}}, {"$limit": 5}]
    assert len(await orders.aggregate([]).to_list()) == 20
    assert await orders.distinct("n", {"n": 1}) == [1]
    async with world.transaction() as tx:
        assert await orders.estimated_document_count(session=tx) == 20


async def test_a_predicate_stands_wherever_mongodb_does_not_hold_the_stamp(world: World) -> None:
    raw = await held(world)
    world.add("stock", {"items"}, {"shop"}, stamped={"items"})
    raw.insert_one({"_id": 1, "app_id": "shop"})
    shop, commands = world.db("shop"), world.commands

    await world.db("stock")["shop_orders"].find_one({})  # another app's, though it is held
    assert commands.last["filter"] == {"app_id": "shop"}
    await shop.clicks.find_one({})  # declared, and not held (yet)
    assert commands.last["filter"] == {"app_id": "shop"}
    await shop.orders.update_one({"_id": 1}, {"$set": {"n": 1}})  # a write
    assert commands.last["updates"][0]["q"] == {"app_id": "shop", "_id": 1}
    await shop.orders.delete_one({"_id": 2})
    assert commands.last["deletes"][0]["q"] == {"app_id": "shop", "_id": 2}
    await shop.orders.find_one({"app_id": "hr"})  # a condition of one's own stays
    assert commands.last["filter"] == {"app_id": "hr"}
    await shop.orders.find_one({}, **LOOSE)
    assert commands.last["filter"]["app_id"]["$eq"] == "shop"
    await shop.clicks.aggregate([{"$unionWith": "orders"}, {"$unionWith": "stock_items"}]).to_list()
    own, foreign = commands.last["pipeline"][1:]
    assert own["$unionWith"]["pipeline"] == []
    assert foreign["$unionWith"]["pipeline"] == [{"$match": {"app_id": "stock"}}]

    cursor = shop.orders.find({}).batch_size(1)
    await cursor.next()
    world.add("shop", {"orders"}, {"stock"})  # the validator stands no more
    await asyncio.sleep(0.11)
    with pytest.raises(ScopeDenied, match="start the operation again"):
        await cursor.to_list()
    await shop.orders.find_one({})
    assert commands.last["filter"] == {"app_id": "shop"}
