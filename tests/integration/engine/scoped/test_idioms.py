"""What is written for PyMongo's async client or for Motor works as it stands."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import bson
import pytest
from pymongo import CursorType, DeleteOne, ReplaceOne, UpdateOne
from support.scoped_world import World

from mdb_engine.exceptions import LimitExceeded, QueryRefused
from mdb_engine.scoped import Limits, ScopedDatabase

HINTS: list[Any] = ["n_1", [("n", 1)], {"n": 1}, ["n"]]

HINTED: dict[str, Callable[[ScopedDatabase, Any], Awaitable[Any]]] = {
    "find": lambda db, hint: db.orders.find({}, hint=hint).to_list(),
    "find, chained": lambda db, hint: db.orders.find({}).hint(hint).to_list(),
    "find_one": lambda db, hint: db.orders.find_one({}, hint=hint),
    "count_documents": lambda db, hint: db.orders.count_documents({}, hint=hint),
    "aggregate": lambda db, hint: db.orders.aggregate([], hint=hint).to_list(),
    "update_one": lambda db, hint: db.orders.update_one({}, {"$set": {"x": 1}}, hint=hint),
    "update_many": lambda db, hint: db.orders.update_many({}, {"$set": {"x": 1}}, hint=hint),
    "replace_one": lambda db, hint: db.orders.replace_one({}, {"n": 1}, hint=hint),
    "find_one_and_update": lambda db, hint: db.orders.find_one_and_update(
        {}, {"$set": {"x": 1}}, hint=hint
    ),
    "find_one_and_replace": lambda db, hint: db.orders.find_one_and_replace(
        {}, {"n": 1}, hint=hint
    ),
    "bulk_write": lambda db, hint: db.orders.bulk_write(
        [
            UpdateOne({}, {"$set": {"x": 1}}, hint=hint),
            ReplaceOne({}, {"n": 1}, hint=hint),
            DeleteOne({"n": 7}, hint=hint),
        ]
    ),
    "delete_one": lambda db, hint: db.orders.delete_one({}, hint=hint),
    "delete_many": lambda db, hint: db.orders.delete_many({}, hint=hint),
    "find_one_and_delete": lambda db, hint: db.orders.find_one_and_delete({}, hint=hint),
}


@pytest.mark.parametrize("operation", HINTED)
async def test_a_hint_is_taken_in_every_form(world: World, operation: str) -> None:
    db = world.db("shop")
    await db.orders.create_index("n")
    for hint in HINTS:
        await db.orders.insert_one({"n": 1})
        await HINTED[operation](db, hint)


async def test_a_hint_of_distinct_is_sent_as_an_index(world: World) -> None:
    orders = world.db("shop").orders
    for hint in HINTS[1:]:
        await asyncio.gather(orders.distinct("n", hint=hint), return_exceptions=True)
        assert world.commands.last["hint"] == {"n": 1}  # MongoDB knows it since 7.1


async def test_cursors_of_commands_and_streams_may_be_awaited(world: World) -> None:
    orders = world.db("shop").orders
    await orders.insert_many([{"_id": n} for n in range(3)])

    cursor = await orders.aggregate([{"$match": {"_id": {"$gt": 0}}}], batchSize=1)
    assert world.commands.names[-1] == "aggregate"
    assert [document["_id"] async for document in cursor] == [1, 2]
    assert [index["name"] for index in await (await orders.list_indexes()).to_list()] == ["_id_"]

    async with await orders.watch() as stream:
        await orders.insert_one({"_id": 9})
        async with asyncio.timeout(20):
            assert (await stream.next())["documentKey"]["_id"] == 9
    async with await orders.aggregate([]) as cursor:
        assert len(await cursor.to_list()) == 4


async def test_a_pipeline_that_writes_has_written_once_it_was_awaited(world: World) -> None:
    db = world.db("shop")
    await db.orders.insert_one({"_id": 1})

    await db.orders.aggregate([{"$out": "copies"}])

    assert await db.copies.count_documents({}) == 1
    with pytest.raises(TypeError):
        await db.orders.find({})  # type: ignore[misc]


async def test_a_document_that_was_read_may_be_set_as_it_is(world: World) -> None:
    orders = world.db("shop").orders
    await orders.insert_one({"_id": 1, "n": 1})
    document = await orders.find_one({})
    assert document is not None
    document["n"] = 2

    await orders.update_one({"_id": 1}, {"$set": document})
    await orders.find_one_and_update({"_id": 1}, {"$setOnInsert": document}, upsert=True)
    await orders.update_one({"_id": 2}, {"$setOnInsert": {**document, "_id": 2}}, upsert=True)
    await orders.bulk_write([UpdateOne({"_id": 1}, {"$set": {"app_id": "shop", "m": 3}})])
    await orders.update_one({"_id": 1}, [{"$set": {"app_id": "shop", "o": 4}}])
    await orders.update_one({"_id": 2}, [{"$replaceWith": {**document, "_id": 2, "n": 5}}])

    assert list(world.raw.shop_orders.find(sort=[("_id", 1)])) == [
        {"_id": 1, "n": 2, "app_id": "shop", "m": 3, "o": 4},
        {"_id": 2, "n": 5, "app_id": "shop"},
    ]
    foreign = [{"app_id": "hr"}, {"app_id": ["shop"]}, {"app_id": {"$literal": "shop"}}]
    for stamp in foreign:
        for update in ({"$set": stamp}, [{"$set": stamp}], [{"$replaceWith": stamp}]):
            with pytest.raises(QueryRefused, match="app_id"):
                await orders.update_one({}, update)


async def test_options_that_are_refused_may_say_that_nothing_is_asked_for(world: World) -> None:
    orders = world.db("shop").orders
    nothing: dict[str, Any] = {"bypass_document_validation": False}
    await orders.insert_one({"_id": 1}, **nothing)
    await orders.insert_many([{"_id": 2}], ordered=True, **nothing)
    await orders.update_one({"_id": 1}, {"$set": {"n": 1}}, **nothing)
    nothing = {"bypass_document_validation": None}
    await orders.bulk_write([UpdateOne({}, {"$set": {"n": 1}})], **nothing)
    nothing = {"bypassDocumentValidation": False}
    await orders.aggregate([], **nothing).to_list()
    nothing = {
        "allow_partial_results": False,
        "cursor_type": CursorType.NON_TAILABLE,
        "no_cursor_timeout": False,
        "show_record_id": False,
    }
    assert len(await orders.find({}, **nothing).to_list()) == 2
    asked: list[dict[str, Any]] = [
        {"no_cursor_timeout": True},
        {"cursor_type": CursorType.TAILABLE},
        {"return_key": 1},
        {"unknown": False},
    ]
    for asking in asked:
        with pytest.raises(QueryRefused, match=next(iter(asking))):
            orders.find({}, **asking)


async def test_a_call_that_is_not_awaited_does_nothing_and_python_says_so(world: World) -> None:
    orders = world.db("shop").orders
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        orders.insert_one({"_id": 1})  # type: ignore[unused-coroutine]
        await asyncio.to_thread(lambda: None)

    assert ["never awaited" in str(warning.message) for warning in caught] == [True]
    assert world.commands.names == []


@pytest.mark.long
async def test_a_document_of_the_servers_own_limit_can_be_stored(world: World) -> None:
    orders = world.db("shop").orders
    many = [True] * 1_200_000  # of small values, which take more room for their names
    rest = "x" * (Limits().max_document_bytes - len(bson.encode({"many": many})) - 100)
    await orders.insert_one({"_id": 1, "many": many, "rest": rest})
    assert await orders.count_documents({"_id": 1}) == 1


async def test_a_handle_has_the_limits_that_it_is_given(world: World) -> None:
    short = world.db("shop", limits=Limits(max_time_ms=50))
    await world.db("shop").orders.insert_one({"_id": 1})
    with pytest.raises(LimitExceeded, match="max_time_ms"):
        short.orders.find({}, max_time_ms=60)
    await (
        world.db("shop", limits=Limits(max_time_ms=3_600_000))
        .orders.find({}, max_time_ms=3_000_000)
        .to_list()
    )
    assert world.commands.last["maxTimeMS"] == 3_000_000
