from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.scoped_world import World
from support.waiting import wait_until_async

from mdb_engine.connection.pool import Connection
from mdb_engine.exceptions import InvalidToken, QueryRefused, ScopeDenied
from mdb_engine.scoped import ScopedChangeStream

DEADLINE = 20.0


async def take(stream: ScopedChangeStream, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(DEADLINE):
        return [await stream.next() for _ in range(count)]


async def test_a_stream_sees_what_the_scope_sees(world: World) -> None:
    world.raw.create_collection("stock_items")
    async with world.db("shop")["stock_items"].watch(max_await_time_ms=100) as stream:
        world.raw.stock_items.insert_one({"_id": 1, "app_id": "hr"})
        world.raw.stock_items.insert_one({"_id": 2})
        world.raw.hr_people.insert_one({"_id": 3, "app_id": "hr"})
        await world.db("stock").items.insert_one({"_id": 4})
        await world.db("stock").items.update_one({"_id": 4}, {"$set": {"n": 1}})
        await world.db("stock").items.delete_one({"_id": 4})

        changes = await take(stream, 3)

    assert [(c["operationType"], c["documentKey"]["_id"]) for c in changes] == [
        ("insert", 4),
        ("update", 4),
        ("delete", 4),
    ]
    assert not stream.alive
    with pytest.raises(StopAsyncIteration):
        await stream.next()


async def test_a_stream_is_filtered_and_resumed(world: World) -> None:
    orders = world.db("shop").orders
    await orders.insert_one({"_id": 0})
    pipeline: list[dict[str, Any]] = [
        {"$match": {"fullDocument.n": {"$gt": 1}}},
        {"$project": {"fullDocument": 1}},
    ]
    async with orders.watch(pipeline, full_document="updateLookup") as stream:
        await orders.insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": 2}])
        (change,) = await take(stream, 1)
        token = stream.resume_token
    await orders.insert_one({"_id": 3, "n": 3})

    assert change["fullDocument"] == {"_id": 2, "n": 2, "app_id": "shop"}
    async with orders.watch(pipeline, resume_after=token) as resumed:
        async with asyncio.timeout(DEADLINE):
            async for later in resumed:
                assert later["fullDocument"]["_id"] == 3
                break


async def test_what_a_stream_may_not_do_is_refused_when_it_is_made(world: World) -> None:
    db = world.db("shop")

    with pytest.raises(ScopeDenied):
        db["hr_people"].watch()
    with pytest.raises(QueryRefused, match=r"\$lookup"):
        db.orders.watch([{"$lookup": {"from": "hr_people", "as": "x", "pipeline": []}}])
    with pytest.raises(QueryRefused, match="not of documents"):
        db.orders.watch(show_expanded_events=True)  # type: ignore[call-arg]
    with pytest.raises(QueryRefused, match="no option session"):
        db.orders.watch(session=world.transaction())  # type: ignore[call-arg]
    with pytest.raises(QueryRefused, match="every app's changes"):
        db.watch  # noqa: B018 - asking is the test
    assert world.commands.names == []


async def test_a_revocation_ends_an_idle_stream(world: World) -> None:
    await world.db("shop").orders.insert_one({})
    async with world.db("shop").orders.watch(max_await_time_ms=50) as stream:
        assert await stream.try_next() is None
        world.revoked.add("shop")

        with pytest.raises(InvalidToken):
            await take(stream, 1)
        assert not stream.alive


async def test_a_change_that_comes_after_a_revocation_is_not_handed_out(world: World) -> None:
    await world.db("shop").orders.insert_one({"_id": 0})
    async with world.db("shop").orders.watch(max_await_time_ms=20_000) as stream:
        waiting = asyncio.create_task(stream.try_next())
        await wait_until_async(
            lambda: "getMore" in world.commands.names,
            deadline=DEADLINE,
            message="the stream waits at the server",
        )
        world.revoked.add("shop")
        world.raw.shop_orders.insert_one({"_id": 1, "app_id": "shop"})

        with pytest.raises(InvalidToken):
            await waiting
        assert not stream.alive


async def test_a_stream_goes_on_over_a_change_of_the_connection(world: World) -> None:
    orders = world.db("shop").orders
    await orders.insert_one({"_id": 0})
    old = world.current()
    async with orders.watch(max_await_time_ms=50) as stream:
        await orders.insert_one({"_id": 1})
        assert [c["documentKey"]["_id"] for c in await take(stream, 1)] == [1]

        client = world.driver.connect(world.mongo.uri)
        world.client, world.connection = client, Connection(client, client[world.mongo.name])
        await orders.insert_one({"_id": 2})
        seen = [c["documentKey"]["_id"] for c in await take(stream, 1)]
        while await stream.try_next() is not None or not old.idle:
            pass
        await world.driver.close(old.client)
        await orders.insert_one({"_id": 3})
        seen += [c["documentKey"]["_id"] for c in await take(stream, 1)]

    assert seen == [2, 3]
