"""In the steady state an operation costs one command: checking token and grants costs none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.scoped_world import World

from mdb_engine.scoped import ScopedDatabase

LOOKUP = {"from": "stock_items", "localField": "n", "foreignField": "n", "as": "items"}

OPERATIONS: dict[str, tuple[str, Callable[[ScopedDatabase], Awaitable[Any]]]] = {
    "find_one": ("find", lambda db: db.orders.find_one({"n": 1})),
    "find": ("find", lambda db: db.orders.find({"n": {"$gt": 0}}).sort("n").to_list()),
    "find of another app": ("find", lambda db: db["stock_items"].find({}).to_list(10)),
    "insert_one": ("insert", lambda db: db.orders.insert_one({"n": 1})),
    "insert_many": ("insert", lambda db: db.orders.insert_many([{"n": 1}, {"n": 2}])),
    "update_one": ("update", lambda db: db.orders.update_one({"n": 1}, {"$set": {"m": 1}})),
    "delete_one": ("delete", lambda db: db.orders.delete_one({"n": 1})),
    "aggregate": ("aggregate", lambda db: db.orders.aggregate([{"$lookup": LOOKUP}]).to_list()),
    "count_documents": ("aggregate", lambda db: db.orders.count_documents({"n": 1})),
    "distinct": ("distinct", lambda db: db.orders.distinct("n")),
    "find_one_and_delete": ("findAndModify", lambda db: db.orders.find_one_and_delete({"n": 2})),
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_one_command_for_one_operation(world: World, operation: str) -> None:
    command, run = OPERATIONS[operation]
    db = world.db("shop")
    await db.orders.insert_many([{"n": n} for n in range(5)])
    world.commands.clear()

    for _ in range(3):
        await run(db)

    assert world.commands.names == [command] * 3


async def test_one_command_for_the_list_of_collections(world: World) -> None:
    await world.db("shop").list_collection_names()

    assert world.commands.names == ["listCollections"]
