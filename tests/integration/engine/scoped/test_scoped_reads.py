from __future__ import annotations

import enum
from typing import Any

import pytest
from pymongo.errors import InvalidOperation
from support.scoped_world import World
from support.waiting import wait_until_async

from mdb_engine.exceptions import InvalidToken, LimitExceeded, QueryRefused, ScopeDenied
from mdb_engine.scoped import Limits, ScopedDatabase
from mdb_engine.scoped.cursor import RECHECK_SECONDS


@pytest.fixture
def filled(world: World) -> World:
    world.raw.shop_orders.insert_many(
        [{"_id": n, "app_id": "shop", "n": n, "day": n % 2} for n in range(5)]
        + [{"_id": "foreign", "app_id": "hr", "n": 99, "day": 9}, {"_id": "bare", "n": 98}]
    )
    world.raw.stock_items.insert_many([{"_id": n, "app_id": "stock", "order": n} for n in range(3)])
    world.raw.hr_people.insert_one({"_id": "ann", "app_id": "hr", "order": 1})
    return world


async def ids(cursor: Any) -> list[Any]:
    return [document["_id"] for document in await cursor.to_list()]


async def test_find_sees_only_documents_with_the_owners_stamp(filled: World) -> None:
    db = filled.db("shop")

    assert sorted(await ids(db.orders.find())) == [0, 1, 2, 3, 4]
    assert await ids(db.orders.find({"_id": {"$in": ["foreign", "bare"]}})) == []
    assert await ids(db.orders.find({"$or": [{"n": 99}, {"n": 3}]})) == [3]


async def test_three_spellings_of_another_apps_collection_read_the_same(filled: World) -> None:
    db = filled.db("shop")

    for items in (db["stock_items"], db.app("stock").items, db.app("stock")["items"]):
        assert await ids(items.find().sort("_id")) == [0, 1, 2]
        assert items.full_name == f"{filled.mongo.name}.stock_items"


async def test_a_cursor_chains_as_motors(filled: World) -> None:
    cursor = filled.db("shop").orders.find({"n": {"$lt": 5}}, {"n": 1, "_id": 0})
    chained = (
        cursor.sort([("day", -1), ("n", 1)])
        .skip(1)
        .limit(3)
        .batch_size(2)
        .hint("_id_")
        .comment("chained")
        .max_time_ms(5000)
        .collation({"locale": "en"})
        .allow_disk_use(allow_disk_use=False)
    )

    assert chained is cursor
    assert [document async for document in cursor] == [{"n": 3}, {"n": 0}, {"n": 2}]
    assert not cursor.alive
    assert cursor.retrieved == 3
    sent = filled.commands.started_events[0].command
    assert {"comment": "chained", "hint": "_id_", "skip": 1, "limit": 3}.items() <= sent.items()
    with pytest.raises(InvalidOperation):
        cursor.limit(1)


async def test_a_cursor_can_be_cloned_rewound_and_left(filled: World) -> None:
    cursor = filled.db("shop").orders.find().sort("n", -1).batch_size(2)

    assert (await cursor.next())["n"] == 4
    assert (await cursor.clone().next())["n"] == 4
    assert [d["n"] for d in await cursor.to_list(2)] == [3, 2]
    assert [d["n"] for d in await cursor.rewind().to_list(1)] == [4]
    async with cursor:
        assert cursor.cursor_id
    assert not cursor.alive
    assert await cursor.to_list() == []
    with pytest.raises(StopAsyncIteration):
        await cursor.next()


async def test_min_and_max_bound_a_hinted_index(filled: World) -> None:
    await filled.db("shop").orders.create_index("n")
    cursor = filled.db("shop").orders.find(projection=["n"])

    assert await ids(cursor.hint([("n", 1)]).min([("n", 1)]).max([("n", 3)])) == [1, 2]


async def test_a_cursor_tells_distinct_values_and_its_plan(filled: World) -> None:
    db = filled.db("shop")

    assert sorted(await db.orders.find({"n": {"$gt": 1}}).distinct("n")) == [2, 3, 4]
    plan = await db.orders.find({"n": 1}).explain()
    assert "queryPlanner" in plan
    assert "serverInfo" not in plan
    with pytest.raises(ScopeDenied):
        await db["stock_items"].find().explain()


async def test_single_reads(filled: World) -> None:
    orders = filled.db("shop").orders

    assert await orders.find_one({"n": 2}, {"day": 1}) == {"_id": 2, "day": 0}
    assert (await orders.find_one(3) or {})["n"] == 3
    assert await orders.find_one("foreign") is None
    assert (await orders.find_one(sort=[("n", -1)]) or {})["n"] == 4
    assert await orders.count_documents({}) == 5
    assert await orders.count_documents({"day": 0}, limit=2) == 2
    assert await orders.estimated_document_count() == 5
    assert sorted(await orders.distinct("day")) == [0, 1]
    assert await orders.distinct("n", {"day": 1}) == [1, 3]


async def test_aggregate_sees_the_scope_in_every_collection_it_names(filled: World) -> None:
    lookup = {"from": "stock_items", "localField": "n", "foreignField": "order", "as": "items"}
    cursor = filled.db("shop").orders.aggregate(
        [{"$lookup": lookup}, {"$match": {"items": {"$ne": []}}}, {"$sort": {"n": 1}}],
        allowDiskUse=True,
        batchSize=1,
    )

    assert await ids(cursor) == [0, 1, 2]
    assert ("stock_items", "stock") in {(e.collection, e.owner) for e in filled.events}


async def test_out_writes_an_own_collection_when_it_is_iterated(filled: World) -> None:
    db = filled.db("shop")
    cursor = db.orders.aggregate([{"$match": {"n": {"$lt": 2}}}, {"$out": "copies"}])
    assert filled.raw.shop_copies.count_documents({}) == 0

    assert await cursor.to_list() == []

    assert await db.copies.count_documents({}) == 2


async def test_a_collection_without_a_grant_is_denied_and_recorded(filled: World) -> None:
    db = filled.db("shop")

    for people in (db["hr_people"], db.app("hr").people):
        with pytest.raises(ScopeDenied, match="may not read app 'hr'"):
            people.find({})
        with pytest.raises(ScopeDenied):
            await people.find_one({})
        with pytest.raises(ScopeDenied):
            people.watch()
    with pytest.raises(ScopeDenied):
        db.orders.aggregate([{"$unionWith": "hr_people"}])

    assert filled.commands.names == []
    assert [event.operation for event in filled.denials()] == [
        *["find", "find_one", "watch"] * 2,
        "aggregate",
    ]
    assert filled.denials()[-1].collection == "hr_people"


async def test_the_engines_own_collections_are_denied(filled: World) -> None:
    db = filled.db("shop")

    for name in ("_mdb_engine_grants", "_mdb_engine_app_secrets", "apps_config", "system.users"):
        with pytest.raises(ScopeDenied):
            await db[name].find_one({})
        with pytest.raises(ScopeDenied):
            await db[name].insert_one({})


async def test_faults_are_found_when_the_cursor_is_made(filled: World) -> None:
    orders = filled.db("shop").orders

    with pytest.raises(QueryRefused, match=r"\$where"):
        orders.find({"$where": "1"})
    with pytest.raises(QueryRefused, match=r"\$function"):
        orders.find({}, {"x": {"$function": {"body": "", "args": [], "lang": "js"}}})
    with pytest.raises(QueryRefused, match=r"\$where"):
        orders.find({}, {"x": {"$elemMatch": {"$where": "1"}}})
    with pytest.raises(QueryRefused, match="JavaScript"):
        orders.find().where("1")  # type: ignore[attr-defined]
    with pytest.raises(QueryRefused, match="did you mean limit"):
        orders.find({}, limits=3)  # type: ignore[call-arg]
    with pytest.raises(QueryRefused, match="holds the server's memory"):
        orders.find({}, no_cursor_timeout=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="whole number"):
        orders.find({}).limit("3")  # type: ignore[arg-type]
    with pytest.raises(LimitExceeded, match="max_time_ms"):
        orders.find({}).max_time_ms(3_600_000)
    assert filled.commands.names == []


async def test_a_filter_changed_after_the_call_changes_nothing(filled: World) -> None:
    query: dict[str, Any] = {"n": 1}
    cursor = filled.db("shop").orders.find(query)
    query["n"] = {"$where": "1"}

    assert await ids(cursor) == [1]


async def test_a_long_result_is_refused_by_the_name_of_its_limit(filled: World) -> None:
    orders = filled.db("shop", limits=Limits(max_result_documents=3)).orders

    with pytest.raises(LimitExceeded, match="max_result_documents allows 3"):
        await orders.find().to_list()
    assert len(await orders.find().limit(3).to_list()) == 3
    assert len([document async for document in orders.find()]) == 5


async def test_a_slow_operation_is_stopped_by_the_name_of_its_limit(filled: World) -> None:
    inner = {"$sum": {"$map": {"input": {"$range": [0, 1000]}, "in": {"$sqrt": "$$this"}}}}
    outer = {"$sum": {"$map": {"input": {"$range": [0, 1000]}, "as": "x", "in": inner}}}
    slow = {"$expr": {"$gt": [{"$add": [outer, "$n"]}, 0]}}
    orders = filled.db("shop", limits=Limits(max_time_ms=40)).orders

    with pytest.raises(LimitExceeded, match="max_time_ms"):
        await orders.find(slow).to_list()
    with pytest.raises(LimitExceeded, match="max_time_ms"):
        await orders.count_documents(slow)
    with pytest.raises(LimitExceeded, match="max_time_ms"):
        await orders.aggregate([{"$match": slow}]).to_list()
    with pytest.raises(LimitExceeded, match="max_time_ms"):
        await orders.update_many(slow, {"$set": {"x": 1}})


async def test_every_command_carries_a_time_limit(filled: World) -> None:
    orders = filled.db("shop").orders
    await orders.find().to_list()
    await orders.aggregate([]).to_list()
    await orders.count_documents({})
    await orders.distinct("n")
    await orders.update_one({"n": 1}, {"$set": {"x": 1}})
    await orders.insert_one({})
    await orders.delete_one({"x": 1})
    await orders.find_one_and_delete({"n": 1})
    await orders.create_index("n")

    for event in filled.commands.started_events:
        if event.command_name == "insert" and filled.driver.cancellable:
            continue  # one document: the library itself keeps the limit (`test_plans`)
        assert 0 < event.command["maxTimeMS"] <= 30_000, event.command_name


async def test_a_revoked_app_gets_no_further_document(filled: World) -> None:
    cursors = [filled.db("shop").orders.find().batch_size(1), filled.db("shop").orders.find()]
    for cursor in cursors:
        await cursor.next()

    filled.revoked.add("shop")

    for cursor in cursors:

        async def denied(cursor: Any = cursor) -> bool:
            try:
                await cursor.rewind().next()
            except InvalidToken:
                return True
            return False

        await wait_until_async(
            denied, deadline=RECHECK_SECONDS * 20, message="the revocation ends the cursor"
        )
        assert not cursor.alive
    with pytest.raises(InvalidToken):
        filled.db("shop").orders.find()
    with pytest.raises(InvalidToken):
        await filled.db("shop").list_collection_names()
    assert {event.denied for event in filled.events[-2:]} == {"invalid_token"}


async def test_a_grant_that_ends_ends_a_cursor_that_joins_with_it(filled: World) -> None:
    lookup = {"from": "stock_items", "localField": "n", "foreignField": "order", "as": "items"}
    cursor = filled.db("shop").orders.aggregate([{"$lookup": lookup}], batchSize=1)
    await cursor.next()
    filled.let_read("shop")

    async def denied() -> bool:
        try:
            return not await cursor.next()
        except ScopeDenied:
            return True

    filled.raw.shop_orders.insert_many([{"app_id": "shop"} for _ in range(2000)])
    fresh = filled.db("shop")
    with pytest.raises(ScopeDenied):
        fresh.orders.aggregate([{"$lookup": lookup}])
    cursor_of_own = fresh.orders.find()
    assert await cursor_of_own.to_list()
    await wait_until_async(denied, deadline=5, message="the ended grant ends the cursor")


async def test_names_are_listed_as_they_can_be_used(filled: World) -> None:
    db = filled.db("shop")

    assert await db.list_collection_names() == ["orders", "stock_items"]
    for name in await db.list_collection_names():
        assert await db[name].count_documents({}) > 0


async def test_the_database_handle_narrowed_to_reading_reads(filled: World) -> None:
    db: ScopedDatabase = filled.db("shop", read_only=True)

    assert await db.orders.count_documents({}) == 5
    assert "_id_" in await db.orders.index_information()
    with pytest.raises(ScopeDenied, match="read only"):
        await db.orders.insert_one({})


async def test_a_copy_of_a_cursor_is_admitted_like_a_new_query(filled: World) -> None:
    cursor = filled.db("shop").orders.find()
    shared = filled.db("shop")["stock_items"].find()
    await shared.clone().to_list()
    filled.let_read("shop")
    with pytest.raises(ScopeDenied):
        shared.clone()

    filled.revoked.add("shop")
    with pytest.raises(InvalidToken):
        cursor.clone()
    assert [event.operation for event in filled.denials()] == ["find", "find"]


async def test_a_cursors_distinct_takes_a_field(filled: World) -> None:
    cursor = filled.db("shop").orders.find()
    for key in ("$n", {"n": 1}, None):
        with pytest.raises(QueryRefused, match="field's name"):
            await cursor.distinct(key)  # type: ignore[arg-type]
    with pytest.raises(QueryRefused, match="whole number"):
        await cursor.to_list("5")  # type: ignore[arg-type]


async def test_estimated_count_takes_a_time_limit(filled: World) -> None:
    orders = filled.db("shop").orders
    assert await orders.estimated_document_count(maxTimeMS=5000) == await orders.count_documents({})


async def test_name_of_a_hinted_index_may_be_any_kind_of_string(filled: World) -> None:
    class Index(enum.StrEnum):
        BY_ID = "_id_"

    orders = filled.db("shop").orders
    assert await orders.find(hint=Index.BY_ID).to_list() == await orders.find().to_list()
