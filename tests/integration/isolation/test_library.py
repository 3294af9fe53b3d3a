"""Everything that the library offers works with the rights of an app's own MongoDB user."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from pymongo import IndexModel, InsertOne
from pymongo.errors import OperationFailure
from support.engine_world import OperatorHand
from support.mongo import Database

from mdb_engine.exceptions import MdbEngineError, ScopeDenied
from mdb_engine.scoped import (
    ScopedChangeStream,
    ScopedCollection,
    ScopedCommandCursor,
    ScopedCursor,
    ScopedDatabase,
)

SET = {"$set": {"a": 1}}
SEARCH = {"name": "s", "definition": {"mappings": {"dynamic": True}}}

Attempt = Callable[[Any], Any]


async def _first_change(stream: ScopedChangeStream) -> None:
    """Ask for a change where there is none, and so wait in vain."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await stream.next()


OPERATIONS: dict[type, dict[str, Attempt]] = {
    ScopedCollection: {
        "aggregate": lambda c: c.aggregate([]).to_list(),
        "bulk_write": lambda c: c.bulk_write([InsertOne({})]),
        "count_documents": lambda c: c.count_documents({}),
        "create_index": lambda c: c.create_index("n"),
        "create_indexes": lambda c: c.create_indexes([IndexModel("m")]),
        "create_search_index": lambda c: c.create_search_index(SEARCH),
        "create_search_indexes": lambda c: c.create_search_indexes([SEARCH]),
        "delete_many": lambda c: c.delete_many({"n": 7}),
        "delete_one": lambda c: c.delete_one({"n": 7}),
        "distinct": lambda c: c.distinct("n"),
        "drop": lambda c: c.drop(),
        "drop_index": lambda c: c.drop_index("gone"),
        "drop_indexes": lambda c: c.drop_indexes(),
        "drop_search_index": lambda c: c.drop_search_index("s"),
        "estimated_document_count": lambda c: c.estimated_document_count(),
        "find": lambda c: c.find({}).to_list(),
        "find_one": lambda c: c.find_one({}),
        "find_one_and_delete": lambda c: c.find_one_and_delete({"n": 7}),
        "find_one_and_replace": lambda c: c.find_one_and_replace({"n": 7}, {}),
        "find_one_and_update": lambda c: c.find_one_and_update({"n": 7}, SET),
        "index_information": lambda c: c.index_information(),
        "insert_many": lambda c: c.insert_many([{}]),
        "insert_one": lambda c: c.insert_one({}),
        "list_indexes": lambda c: c.list_indexes().to_list(),
        "list_search_indexes": lambda c: c.list_search_indexes().to_list(),
        "options": lambda c: c.options(),
        "replace_one": lambda c: c.replace_one({"n": 1}, {"n": 1}),
        "update_many": lambda c: c.update_many({}, SET),
        "update_one": lambda c: c.update_one({}, SET, upsert=True),
        "update_search_index": lambda c: c.update_search_index("s", {"mappings": {}}),
        "watch": lambda c: c.watch(max_await_time_ms=50).try_next(),
        "with_options": lambda c: c.with_options(codec_options=CodecOptions(tz_aware=True)),
    },
    ScopedDatabase: {
        "app": lambda db: db.app("owner").items.find_one({}),
        "command": lambda db: db.command("ping"),
        "create_collection": lambda db: db.create_collection("fresh"),
        "drop_collection": lambda db: db.drop_collection("spare"),
        "get_collection": lambda db: db.get_collection("orders").find_one({}),
        "list_collection_names": lambda db: db.list_collection_names(),
        "with_options": lambda db: db.with_options(
            codec_options=CodecOptions(tz_aware=True)
        ).orders.find_one({}),
    },
    ScopedCursor: {
        "allow_disk_use": lambda cursor: cursor.allow_disk_use(allow_disk_use=True).to_list(),
        "batch_size": lambda cursor: cursor.batch_size(2).to_list(),
        "clone": lambda cursor: cursor.clone().to_list(),
        "close": lambda cursor: cursor.close(),
        "collation": lambda cursor: cursor.collation({"locale": "en"}).to_list(),
        "comment": lambda cursor: cursor.comment("why").to_list(),
        "distinct": lambda cursor: cursor.distinct("n"),
        "explain": lambda cursor: cursor.explain(),
        "hint": lambda cursor: cursor.hint("_id_").to_list(),
        "limit": lambda cursor: cursor.limit(2).to_list(),
        "max": lambda cursor: cursor.hint("_id_").max([("_id", 5)]).to_list(),
        "max_time_ms": lambda cursor: cursor.max_time_ms(5000).to_list(),
        "min": lambda cursor: cursor.hint("_id_").min([("_id", 0)]).to_list(),
        "next": lambda cursor: cursor.next(),
        "projection": lambda cursor: cursor.projection(["n"]).to_list(),
        "rewind": lambda cursor: cursor.rewind().to_list(),
        "skip": lambda cursor: cursor.skip(1).to_list(),
        "sort": lambda cursor: cursor.sort("n").to_list(),
        "to_list": lambda cursor: cursor.to_list(),
        "try_next": lambda cursor: cursor.try_next(),
    },
    ScopedCommandCursor: {
        "close": lambda cursor: cursor.close(),
        "next": lambda cursor: cursor.next(),
        "to_list": lambda cursor: cursor.to_list(),
        "try_next": lambda cursor: cursor.try_next(),
    },
    ScopedChangeStream: {
        "close": lambda stream: stream.close(),
        "next": _first_change,
        "try_next": lambda stream: stream.try_next(),
    },
}
"""Every method that the library offers, once."""

REFUSED: dict[tuple[type, str], tuple[type[Exception], str]] = {
    (ScopedCollection, "options"): (ScopeDenied, "may not list collections"),
    (ScopedDatabase, "create_collection"): (ScopeDenied, "not declared"),
    **{
        # This server knows no search; one that does says that the right is missing.
        (ScopedCollection, name): ((OperationFailure, MdbEngineError), "")  # type: ignore[misc]
        for name in OPERATIONS[ScopedCollection]
        if "search" in name
    },
    (ScopedCollection, "drop_index"): (OperationFailure, "index not found"),
}
"""What is refused, by whom, and with which reason."""


@pytest.mark.parametrize("kind", OPERATIONS, ids=lambda kind: kind.__name__)
def test_every_method_is_tried(kind: type) -> None:
    offered = {
        name
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }
    assert OPERATIONS[kind].keys() == offered


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_every_method_works_or_says_why_not(
    driver: str, mongo_auth: Database, tmp_path: Path
) -> None:
    hand = OperatorHand(mongo_auth, driver, tmp_path)  # type: ignore[arg-type]
    answers: dict[tuple[type, str], Exception | None] = {}
    try:
        await hand.register("owner", "items")
        await hand.register("shop", "orders", "spare", reads=("owner",))
        async with hand.pod("shop") as engine:
            db = engine.get_scoped_db("shop")
            for kind, methods in OPERATIONS.items():
                for name, attempt in methods.items():
                    await db.orders.drop()
                    await db.orders.insert_many([{"_id": n, "n": n} for n in range(5)])
                    on = {
                        ScopedCollection: db.orders,
                        ScopedDatabase: db,
                        ScopedCursor: db.orders.find({}),
                        ScopedCommandCursor: db.orders.aggregate([]),
                        ScopedChangeStream: db.orders.watch(max_await_time_ms=50),
                    }[kind]
                    answers[kind, name] = await _answer(attempt, on)
    finally:
        await hand.close()
    for key, (error, reason) in REFUSED.items():
        answer = answers.pop(key)
        assert isinstance(answer, error), key
        assert reason in str(answer), key
    assert {key: answer for key, answer in answers.items() if answer is not None} == {}


async def _answer(attempt: Attempt, on: Any) -> Exception | None:
    try:
        done = attempt(on)
        if isinstance(done, Awaitable):
            await done
    except (MdbEngineError, OperationFailure) as error:
        return error
    return None


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_what_the_library_offers_an_apps_role_allows(
    driver: str, mongo_auth: Database, tmp_path: Path
) -> None:
    hand = OperatorHand(mongo_auth, driver, tmp_path)  # type: ignore[arg-type]
    try:
        await hand.register("owner", "items")
        await hand.register("shop", "orders", "spare", reads=("owner",))
        mongo_auth.client[mongo_auth.name].owner_items.insert_one({"app_id": "owner", "n": 1})
        async with hand.pod("shop") as engine:
            db = engine.get_scoped_db("shop")
            orders = db.orders
            await db.spare.insert_one({"n": 1})
            await db.spare.drop()
            await db.create_collection("spare")
            assert await db.spare.count_documents({}) == 0
            await orders.insert_many([{"n": n} for n in range(5)])
            assert await orders.count_documents({}) == 5
            assert await orders.estimated_document_count() == 5
            assert sorted(await orders.distinct("n")) == [0, 1, 2, 3, 4]
            found = await orders.find_one_and_update({"n": 1}, {"$set": {"a": 1}})
            assert found is not None
            assert found["n"] == 1
            assert (await orders.replace_one({"n": 2}, {"n": 22})).modified_count == 1
            assert (await orders.delete_one({"n": 3})).deleted_count == 1
            name = await orders.create_index([("n", 1)])
            assert name in await orders.index_information()
            await orders.drop_index(name)
            await orders.aggregate([{"$match": {}}, {"$out": "spare"}]).to_list(None)
            await orders.aggregate([{"$match": {}}, {"$merge": {"into": "spare"}}]).to_list(None)
            assert await db.spare.count_documents({}) == 4
            joined = await orders.aggregate(
                [{"$unionWith": "owner_items"}, {"$group": {"_id": "$app_id"}}]
            ).to_list(None)
            assert {row["_id"] for row in joined} == {"owner", "shop"}
            assert await db.app("owner").items.count_documents({}) == 1
            with pytest.raises(ScopeDenied):
                await db.app("owner").items.insert_one({})
            names = await db.list_collection_names()
            assert {"orders", "spare"} <= {one.removeprefix("shop_") for one in names}
            for watched in (orders, db.app("owner").items):
                async with watched.watch() as stream:
                    write = mongo_auth.client[mongo_auth.name][
                        "shop_orders" if watched is orders else "owner_items"
                    ].insert_one
                    slug = "shop" if watched is orders else "owner"
                    await asyncio.to_thread(write, {"app_id": slug, "seen": 1})
                    change = await asyncio.wait_for(anext(aiter(stream)), 10)
                    assert change["fullDocument"]["seen"] == 1
            async with engine.transaction() as transaction:
                await orders.insert_one({"n": 77}, session=transaction)
            assert await orders.count_documents({"n": 77}) == 1
    finally:
        await hand.close()
