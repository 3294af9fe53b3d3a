from __future__ import annotations

from typing import Any

import pytest
from pymongo import InsertOne
from pymongo.errors import OperationFailure
from support.scoped_world import World

from mdb_engine.exceptions import InvalidToken, QueryRefused, ScopeDenied
from mdb_engine.scoped import ScopedDatabase, Transaction


@pytest.fixture
async def db(world: World) -> ScopedDatabase:
    db = world.db("shop")
    await db.orders.insert_many([{"_id": 1, "n": 10}, {"_id": 2, "n": 0}])
    world.raw.create_collection("shop_copies")
    return db


def amounts(world: World) -> list[int]:
    return [document["n"] for document in world.raw.shop_orders.find(sort=[("_id", 1)])]


async def move(db: ScopedDatabase, tx: Transaction) -> None:
    await db.orders.update_one({"_id": 1}, {"$inc": {"n": -3}}, session=tx)
    await db.orders.update_one({"_id": 2}, {"$inc": {"n": 3}}, session=tx)


async def test_leaving_the_block_commits(world: World, db: ScopedDatabase) -> None:
    async with world.transaction() as tx:
        await move(db, tx)
        assert tx.active
        assert amounts(world) == [10, 0]

    assert amounts(world) == [7, 3]
    assert not tx.active


async def test_an_exception_aborts(world: World, db: ScopedDatabase) -> None:
    async def fail() -> None:
        async with world.transaction() as tx:
            await move(db, tx)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert amounts(world) == [10, 0]


async def test_every_kind_of_operation_takes_part(world: World, db: ScopedDatabase) -> None:
    orders = db.orders
    async with world.transaction() as tx:
        await orders.insert_one({"_id": 3, "n": 1}, session=tx)
        await orders.insert_many([{"_id": 4, "n": 1}], session=tx)
        await orders.bulk_write([InsertOne({"_id": 5, "n": 1})], session=tx)
        assert await orders.count_documents({}, session=tx) == 5
        assert len(await orders.find({}, session=tx).batch_size(2).to_list()) == 5
        assert len(await orders.find({}, session=tx).distinct("_id")) == 5
        assert len(await orders.aggregate([], session=tx).to_list()) == 5
        assert await orders.find_one({"_id": 5}, session=tx)
        assert await orders.distinct("n", {"_id": 1}, session=tx) == [10]
        assert await orders.find_one_and_delete({"_id": 5}, session=tx)
        await orders.replace_one({"_id": 4}, {"n": 2}, session=tx)
        await orders.update_many({"n": 2}, {"$set": {"n": 3}}, session=tx)
        await orders.delete_many({"_id": 3}, session=tx)
        assert amounts(world) == [10, 0]

    assert amounts(world) == [10, 0, 3]
    names = [name for name in world.commands.names if name != "insert"]
    assert names.count("commitTransaction") == 1


async def test_operations_in_a_transaction_are_scoped_like_any(
    world: World, db: ScopedDatabase
) -> None:
    async with world.transaction() as tx:
        with pytest.raises(ScopeDenied):
            await db["hr_people"].find_one({}, session=tx)
        with pytest.raises(ScopeDenied):
            await db["stock_items"].insert_one({}, session=tx)


async def test_nothing_is_committed_for_an_app_that_was_revoked(
    world: World, db: ScopedDatabase
) -> None:
    async def be_revoked() -> None:
        async with world.transaction() as tx:
            await move(db, tx)
            world.revoked.add("shop")

    with pytest.raises(InvalidToken):
        await be_revoked()
    assert amounts(world) == [10, 0]


async def test_only_an_own_active_transaction_is_taken(world: World, db: ScopedDatabase) -> None:
    raw_session = world.driver.start_session(world.client)
    with pytest.raises(TypeError, match="session takes what"):
        await db.orders.insert_one({}, session=raw_session)
    await raw_session.end_session()

    async with world.transaction() as tx:
        pass
    for over in (tx, world.transaction()):
        with pytest.raises(QueryRefused, match="transaction is over"):
            await db.orders.insert_one({}, session=over)

    async with Transaction(world.driver, lambda: world.connection) as foreign:
        with pytest.raises(QueryRefused, match="another engine"):
            await db.orders.insert_one({}, session=foreign)
    async with world.transaction() as tx:
        with pytest.raises(QueryRefused, match="begun already"):
            await tx.__aenter__()


async def test_run_repeats_what_another_transaction_was_in_the_way_of(
    world: World, db: ScopedDatabase
) -> None:
    attempts = 0

    async def work(tx: Transaction) -> str:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            async with world.transaction() as other:
                await db.orders.find_one({}, session=tx)  # fixes what this transaction sees
                await db.orders.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=other)
        await move(db, tx)
        return "done"

    assert await world.transaction().run(work) == "done"
    assert attempts == 2
    assert amounts(world) == [8, 3]


async def test_a_conflict_that_stays_is_the_drivers_error(world: World, db: ScopedDatabase) -> None:
    async def collide(tx: Transaction) -> Any:
        await db.orders.find_one({}, session=tx)
        await db.orders.update_one({"_id": 1}, {"$inc": {"n": 1}})
        return await db.orders.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=tx)

    with pytest.raises(OperationFailure) as caught:
        await world.transaction().run(collide)
    assert caught.value.has_error_label("TransientTransactionError")
    assert amounts(world) == [15, 0]


async def test_an_error_of_the_work_is_not_repeated(world: World, db: ScopedDatabase) -> None:
    calls = []

    async def work(tx: Transaction) -> None:
        calls.append(await db.orders.find_one({}, session=tx))
        raise LookupError

    with pytest.raises(LookupError):
        await world.transaction().run(work)
    assert len(calls) == 1


async def test_a_cursor_ends_with_its_transaction(world: World, db: ScopedDatabase) -> None:
    tx = world.transaction()
    async with tx:
        cursor = db.orders.find({}, session=tx, batch_size=1)
        await cursor.next()
    with pytest.raises(QueryRefused, match="transaction that is over"):
        await cursor.to_list()
    with pytest.raises(QueryRefused, match="the transaction is over"):
        await cursor.clone().to_list()
