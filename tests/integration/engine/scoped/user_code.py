"""What an app's developer writes; `test_typing` asks mypy what it makes of it."""

# ruff: noqa: FBT003 - as the drivers take them

from __future__ import annotations

from typing import assert_type

from pymongo.results import BulkWriteResult, InsertOneResult, UpdateResult

from mdb_engine.scoped import (
    ScopedChangeStream,
    ScopedCollection,
    ScopedCommandCursor,
    ScopedCursor,
    ScopedDatabase,
    Transaction,
)
from mdb_engine.scoped.cursor import Document


async def typed(db: ScopedDatabase, tx: Transaction) -> None:
    assert_type(db.clicks, ScopedCollection)
    assert_type(db["clicks"], ScopedCollection)
    assert_type(db.app("click_tracker").clicks, ScopedCollection)
    assert_type(db.clicks.find({}).sort("at", -1).limit(3), ScopedCursor)
    assert_type(db.clicks.aggregate([]), ScopedCommandCursor)
    assert_type(db.clicks.watch(), ScopedChangeStream)
    assert_type(await db.clicks.find({}).to_list(100), list[Document])
    assert_type(await db.clicks.find_one({}), Document | None)
    assert_type(await db.clicks.insert_one({"n": 1}, session=tx), InsertOneResult)
    assert_type(await db.clicks.update_one({}, {"$set": {"n": 1}}, upsert=True), UpdateResult)
    assert_type(await db.clicks.update_one({}, {"$set": {"n": 1}}, True), UpdateResult)
    assert_type(await db.clicks.find({}, {"n": 1}, 0, 10).to_list(), list[Document])
    assert_type(await db.clicks.bulk_write([], False), BulkWriteResult)
    assert_type(await db.clicks.count_documents({}), int)
    async for click in db.clicks.find():
        assert_type(click, Document)
    async with db.clicks.watch() as stream:
        assert_type(stream, ScopedChangeStream)
        async for change in stream:
            assert_type(change, Document)


async def mistaken(db: ScopedDatabase) -> None:
    await db.clicks.find_one({}, limits=3)  # E: call-arg
    await db.clicks.delete_one("an id")  # E: arg-type
    await db.clicks.update_one({}, {}, upsert="yes")  # E: arg-type
    await db.clicks.update_one({}, {}, "yes")  # E: arg-type
    await db.clicks.find_one_and_update({}, {}, return_documents=True)  # E: call-arg
    await db.clicks.insert_one({}, session=object())  # E: arg-type
    db.clicks.rename("other")  # E: attr-defined
    _ = db.clicks.database  # E: attr-defined
    db.clicks.find().where("1")  # E: attr-defined
