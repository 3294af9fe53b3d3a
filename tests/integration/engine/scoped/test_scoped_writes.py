from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from bson import ObjectId
from pymongo import (
    DeleteMany,
    DeleteOne,
    IndexModel,
    InsertOne,
    ReplaceOne,
    ReturnDocument,
    UpdateMany,
    UpdateOne,
)
from pymongo.collation import Collation
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, WriteError
from support.scoped_world import World

from mdb_engine.exceptions import LimitExceeded, QueryRefused, ScopeDenied
from mdb_engine.scoped import Limits, ScopedCollection

FOREIGN = [{"_id": "foreign", "app_id": "hr", "n": 1}, {"_id": "bare", "n": 1}]
"""Documents in an app's collection that are not its own: those of a former owner, say."""


@pytest.fixture
def orders(world: World) -> ScopedCollection:
    world.raw.shop_orders.insert_many(FOREIGN)
    world.raw.stock_items.insert_one({"_id": 1, "app_id": "stock", "n": 1})
    return world.db("shop").orders


def stored(world: World) -> list[dict[str, Any]]:
    """Return the own documents, and make sure that the foreign ones are as they were."""
    documents = list(world.raw.shop_orders.find({}, sort=[("_id", 1)]))
    assert [d for d in documents if d["_id"] in {"foreign", "bare"}] == list(reversed(FOREIGN))
    own = [d for d in documents if d["_id"] not in {"foreign", "bare"}]
    assert all(document.pop("app_id") == "shop" for document in own)
    return own


async def test_inserts_are_stamped_in_a_copy(world: World, orders: ScopedCollection) -> None:
    document: dict[str, Any] = {"n": 1, "app_id": "hr"}
    one = await orders.insert_one(document)
    many = await orders.insert_many([{"_id": 1}, {"_id": 2, "app_id": None}], ordered=False)

    assert document == {"n": 1, "app_id": "hr", "_id": one.inserted_id}
    assert isinstance(one.inserted_id, ObjectId)
    assert many.inserted_ids == [1, 2]
    assert stored(world) == [{"_id": 1}, {"_id": 2}, {"_id": one.inserted_id, "n": 1}]


async def test_updates_change_only_own_documents(world: World, orders: ScopedCollection) -> None:
    await orders.insert_many([{"_id": n, "n": 1} for n in range(3)])

    assert (await orders.update_many({"n": 1}, {"$inc": {"n": 1}})).modified_count == 3
    assert (await orders.update_one({"_id": "foreign"}, {"$set": {"n": 9}})).matched_count == 0
    pipeline = [{"$set": {"m": {"$add": ["$n", 1]}}}]
    assert (await orders.update_one({"_id": 0}, pipeline)).modified_count == 1
    filters = [{"e": {"$gt": 1}}]
    await orders.update_one({"_id": 1}, {"$set": {"list": [1, 2, 3]}})
    await orders.update_one({"_id": 1}, {"$set": {"list.$[e]": 0}}, array_filters=filters)

    assert stored(world) == [
        {"_id": 0, "n": 2, "m": 3},
        {"_id": 1, "n": 2, "list": [1, 0, 0]},
        {"_id": 2, "n": 2},
    ]


async def test_upserts_are_stamped_and_never_take_a_foreign_document(
    world: World, orders: ScopedCollection
) -> None:
    created = await orders.update_one({"key": "a"}, {"$set": {"n": 1}}, upsert=True)
    replaced = await orders.replace_one({"key": "b"}, {"key": "b"}, upsert=True)
    modified = await orders.find_one_and_update(
        {"key": "c"},
        [{"$set": {"n": 3}}],
        upsert=True,
        return_document=ReturnDocument.AFTER,
    )

    assert modified is not None
    assert {created.upserted_id, replaced.upserted_id, modified["_id"]} == {
        document["_id"] for document in stored(world)
    }
    assert sorted(document["key"] for document in stored(world)) == ["a", "b", "c"]
    with pytest.raises(DuplicateKeyError):
        await orders.update_one({"_id": "foreign"}, {"$set": {"n": 9}}, upsert=True)
    with pytest.raises(QueryRefused, match="app_id"):
        await orders.update_one({"app_id": "hr"}, {"$set": {"n": 9}}, upsert=True)


async def test_replacing_and_deleting(world: World, orders: ScopedCollection) -> None:
    await orders.insert_many([{"_id": n, "n": 1} for n in range(6)])

    assert (await orders.replace_one({"_id": 0}, {"x": 1, "app_id": "hr"})).modified_count == 1
    assert await orders.find_one_and_replace({"_id": 1}, {"x": 2}) == {
        "_id": 1,
        "n": 1,
        "app_id": "shop",
    }
    changed = await orders.find_one_and_update(
        {"_id": 2}, {"$set": {"x": 3}}, projection={"x": 1}, return_document=True
    )
    assert changed == {"_id": 2, "x": 3}
    assert (await orders.find_one_and_delete({}, sort=[("_id", -1)], projection=["n"])) == {
        "_id": 5,
        "n": 1,
    }
    assert (await orders.delete_one({"_id": "foreign"})).deleted_count == 0
    assert (await orders.delete_one({"_id": 4})).deleted_count == 1
    assert [document["_id"] for document in stored(world)] == [0, 1, 2, 3]
    assert (await orders.delete_many({})).deleted_count == 4
    assert stored(world) == []


async def test_bulk_writes_are_scoped_one_by_one(world: World, orders: ScopedCollection) -> None:
    result = await orders.bulk_write(
        [
            InsertOne({"_id": 1, "n": 1, "app_id": "hr", "l": [1, 5]}),
            InsertOne({"_id": 2, "n": 1}),
            UpdateMany({"n": 1}, {"$inc": {"n": 1}}),
            UpdateOne({"_id": 3}, {"$set": {"n": 0}}, upsert=True),
            ReplaceOne({"_id": 2}, {"m": 2}, collation={"locale": "en"}),
            DeleteOne({"_id": "foreign"}),
            DeleteMany({"_id": "bare"}, hint="_id_"),
            UpdateOne({"_id": 1}, {"$set": {"l.$[e]": 0}}, array_filters=[{"e": 5}]),
        ],
    )

    assert (result.inserted_count, result.deleted_count, result.upserted_count) == (2, 0, 1)
    assert stored(world) == [
        {"_id": 1, "n": 2, "l": [1, 0]},
        {"_id": 2, "m": 2},
        {"_id": 3, "n": 0},
    ]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (UpdateOne({}, {"$set": {"app_id": "hr"}}), "app_id"),
        (UpdateMany({"$where": "1"}, {"$set": {"n": 1}}), r"\$where"),
        (ReplaceOne({"app_id": "hr"}, {}, upsert=True), "app_id"),
        (DeleteOne({"$expr": {"$function": {}}}), r"\$function"),
        (InsertOne({}, namespace="hr.people"), "namespace"),
        (UpdateOne({}, {"$set": {"n": 1}}, array_filters=[{"$where": "1"}]), r"\$where"),
        ({"insertOne": {}}, "has to be one of"),
    ],
)
async def test_one_refused_request_stops_the_whole_bulk(
    world: World, orders: ScopedCollection, request_: Any, reason: str
) -> None:
    with pytest.raises(QueryRefused, match=reason) as caught:
        await orders.bulk_write([InsertOne({"_id": 1}), request_])

    assert "requests[1]" in str(caught.value)
    assert world.commands.names == []


async def test_a_subclass_of_a_request_is_refused(world: World, orders: ScopedCollection) -> None:
    class Sly(DeleteMany):
        def _add_to_bulk(self, bulkobj: Any) -> None:
            bulkobj.add_delete({}, 0)

    with pytest.raises(QueryRefused, match="has to be one of"):
        await orders.bulk_write([Sly({"_id": 1})])
    stored(world)


async def test_another_apps_collection_is_read_only(world: World, orders: ScopedCollection) -> None:
    items = world.db("shop")["stock_items"]
    attempts = {
        "insert_one": items.insert_one({}),
        "insert_many": items.insert_many([{}]),
        "update_one": items.update_one({}, {"$set": {"n": 2}}),
        "update_many": items.update_many({}, {"$set": {"n": 2}}),
        "replace_one": items.replace_one({}, {}),
        "delete_one": items.delete_one({}),
        "delete_many": items.delete_many({}),
        "find_one_and_update": items.find_one_and_update({}, {"$set": {"n": 2}}),
        "find_one_and_replace": items.find_one_and_replace({}, {}),
        "find_one_and_delete": items.find_one_and_delete({}),
        "bulk_write": items.bulk_write([InsertOne({})]),
        "create_index": items.create_index("n"),
        "create_indexes": items.create_indexes([IndexModel("n")]),
        "drop_index": items.drop_index("n_1"),
        "drop_indexes": items.drop_indexes(),
        "index_information": items.index_information(),
        "create_search_index": items.create_search_index({"name": "s", "definition": {}}),
        "create_search_indexes": items.create_search_indexes([]),
        "update_search_index": items.update_search_index("s", {}),
        "drop_search_index": items.drop_search_index("s"),
        "options": items.options(),
        "drop": items.drop(),
    }
    for attempt in attempts.values():
        with pytest.raises(ScopeDenied, match="read only"):
            await attempt
    for synchronous in (items.list_indexes, items.list_search_indexes):
        with pytest.raises(ScopeDenied, match="read only"):
            synchronous()
    with pytest.raises(ScopeDenied):
        world.db("shop").orders.aggregate([{"$out": "stock_items"}])
    with pytest.raises(ScopeDenied):
        await world.db("shop").create_collection("stock_items")

    assert world.commands.names == []
    assert [event.operation for event in world.denials()] == [
        *attempts,
        "list_indexes",
        "list_search_indexes",
        "aggregate",
        "create_collection",
    ]
    assert list(world.raw.stock_items.find()) == [{"_id": 1, "app_id": "stock", "n": 1}]


async def test_errors_about_the_callers_data_stay_the_drivers(
    world: World, orders: ScopedCollection
) -> None:
    await orders.create_index("key", unique=True, sparse=True)
    await orders.insert_one({"_id": 1, "key": "a"})

    with pytest.raises(DuplicateKeyError):
        await orders.insert_one({"_id": 1})
    with pytest.raises(DuplicateKeyError):
        await orders.find_one_and_update({"key": "b"}, {"$set": {"_id": 1}}, upsert=True)
    with pytest.raises(BulkWriteError):
        await orders.insert_many([{"_id": 2, "key": "b"}, {"_id": 2, "key": "c"}])


async def test_what_is_too_large_or_too_much_names_its_limit(world: World) -> None:
    orders = world.db("shop", limits=Limits(max_bulk_operations=2, max_document_bytes=1000)).orders

    with pytest.raises(LimitExceeded, match="max_document_bytes"):
        await orders.insert_one({"text": "x" * 1000})
    with pytest.raises(LimitExceeded, match="max_bulk_operations"):
        await orders.insert_many([{}, {}, {}])
    with pytest.raises(LimitExceeded, match="max_bulk_operations"):
        await orders.bulk_write([InsertOne({})] * 3)
    assert world.commands.names == []

    growing = world.db("shop").orders
    await growing.insert_one({"_id": 1, "text": "x" * 1000})
    grown = {"$set": {"text": {"$concat": ["$text"] * 99}}}
    await growing.update_one({}, [grown])
    with pytest.raises(LimitExceeded, match="16 MiB"):
        await growing.update_one({}, [grown, {"$set": {"more": "$text", "most": "$text"}}])


async def test_options_of_writes_are_on_a_list(world: World, orders: ScopedCollection) -> None:
    with pytest.raises(TypeError, match="validation is there to be kept"):
        await orders.insert_one({}, bypass_document_validation=True)  # type: ignore[arg-type]
    with pytest.raises(QueryRefused, match="no option upserts; did you mean upsert"):
        await orders.update_one({}, {"$set": {"n": 1}}, upserts=True)  # type: ignore[call-arg]
    with pytest.raises(QueryRefused, match=r"\$function"):
        await orders.delete_many({}, let={"x": {"$function": {}}})
    with pytest.raises(QueryRefused, match="needs a filter"):
        await orders.delete_many(None)  # type: ignore[arg-type]
    with pytest.raises(QueryRefused, match=r"\$where"):
        await orders.find_one_and_delete({}, projection={"x": {"$elemMatch": {"$where": "1"}}})
    assert world.commands.names == []


async def test_indexes_of_an_own_collection(world: World, orders: ScopedCollection) -> None:
    assert await orders.create_index([("n", 1), ("day", -1)], name="by_n") == "by_n"
    models = [IndexModel("at", expireAfterSeconds=60), IndexModel([("t", "text")])]
    assert await orders.create_indexes(models) == ["at_1", "t_text"]
    assert await orders.create_index({"place": "2dsphere"}) == "place_2dsphere"

    found = await orders.list_indexes().to_list()
    assert {index["name"] for index in found} == set(await orders.index_information())
    assert (await orders.index_information())["at_1"]["expireAfterSeconds"] == 60
    await orders.drop_index("by_n")
    await orders.drop_index([("at", 1)])
    assert set(await orders.index_information()) == {"_id_", "t_text", "place_2dsphere"}
    await orders.drop_indexes()
    assert set(await orders.index_information()) == {"_id_"}
    with pytest.raises(QueryRefused, match="storageEngine"):
        await orders.create_index("n", storageEngine={})  # type: ignore[call-arg]


async def test_search_indexes_are_asked_for_on_the_own_collection_only(
    world: World, orders: ScopedCollection
) -> None:
    """Search needs Atlas; here is seen what is sent, and that the server's answer arrives."""
    await orders.insert_one({})
    world.commands.clear()
    for attempt in (
        orders.create_search_index({"name": "s", "definition": {"mappings": {"dynamic": True}}}),
        orders.update_search_index("s", {"mappings": {"dynamic": True}}),
        orders.drop_search_index("s"),
        orders.list_search_indexes("s").to_list(),
    ):
        with pytest.raises(OperationFailure):
            await attempt
    assert [next(iter(e.command.values())) for e in world.commands.started_events] == [
        "shop_orders"
    ] * 4


async def test_own_collections_are_made_described_and_dropped(world: World) -> None:
    db = world.db("shop")
    clicks = await db.create_collection("clicks", capped=True, size=4096)

    assert clicks == db.clicks
    assert (await clicks.options())["capped"] is True
    with pytest.raises(QueryRefused, match="viewOn"):
        await db.create_collection("copies", viewOn="hr_people")  # type: ignore[call-arg]
    with pytest.raises(QueryRefused, match="collation, max, read_concern"):
        await db.create_collection("copies", indexOptionDefaults={})  # type: ignore[call-arg]
    await db.drafts.insert_one({})
    await db.drop_collection(db.drafts)
    assert await db.list_collection_names() == ["clicks"]


async def test_a_declared_collection_is_emptied_and_stays(
    world: World, orders: ScopedCollection
) -> None:
    db = world.db("shop")
    await db.create_collection("clicks")
    await db.clicks.insert_many([{"n": n} for n in range(3)])
    await db.clicks.create_index("n")
    before = await db.clicks.options()

    await db.drop_collection("clicks")

    assert await db.clicks.index_information() == {"_id_": {"v": 2, "key": [("_id", 1)]}}
    assert await db.clicks.options() == before
    assert await db.create_collection("clicks") == db.clicks  # it is as if it had been dropped
    with pytest.raises(OperationFailure, match="exists"):
        await db.create_collection("clicks", validator={"n": 1})
    await db.clicks.insert_one({})
    with pytest.raises(OperationFailure, match="exists"):
        await db.create_collection("clicks")
    await db.clicks.drop()
    assert world.raw.shop_clicks.count_documents({}) == 0
    await orders.drop()
    assert stored(world) == []


async def test_a_collection_that_the_library_makes_has_the_stamps_validator(world: World) -> None:
    db = world.db("shop")
    await db.create_collection("plain")
    await db.create_collection("ruled", validator={"n": {"$gt": 0}}, validationLevel="strict")
    await db.create_collection("loose", collation=Collation("en", strength=1))
    for name in ("shop_plain", "shop_ruled", "shop_loose"):
        world.raw[name].insert_one({"app_id": "shop", "n": 1})
        for stamp in ("hr", "SHOP", "shóp", "shop\n", None):
            with pytest.raises(WriteError):
                world.raw[name].insert_one({"app_id": stamp, "n": 1})
    for option, value in (("validationLevel", "off"), ("validationAction", "warn")):
        with pytest.raises(QueryRefused, match="holds the app's stamp"):
            await db.create_collection("copies", **{option: value})  # type: ignore[arg-type]


async def test_a_collection_is_made_with_a_validator(world: World) -> None:
    db = world.db("shop")
    with pytest.raises(QueryRefused, match=r"\$function"):
        await db.create_collection("copies", validator={"$expr": {"$function": {}}})

    copies = await db.create_collection(
        "copies", validator={"n": {"$gt": 0}}, collation=Collation("en")
    )

    await copies.insert_one({"n": 1})
    with pytest.raises(WriteError):
        await copies.insert_one({"n": 0})


async def test_sort_of_a_write_is_sent_as_a_document(world: World) -> None:
    orders = world.db("shop").orders
    by_n: dict[str, Any] = {"sort": {"n": -1}}
    for attempt in (
        orders.update_one({}, {"$set": {"x": 1}}, sort=[("n", -1)]),
        orders.replace_one({}, {"x": 1}, sort=[("n", -1)]),
        orders.bulk_write([UpdateOne({}, {"$set": {"x": 1}}, **by_n)]),
        orders.bulk_write([ReplaceOne({}, {"x": 1}, **by_n)]),
    ):
        with suppress(OperationFailure):  # MongoDB knows it since 8.0
            await attempt
        assert world.commands.last["updates"][0]["sort"] == {"n": -1}


async def test_name_of_an_index_is_the_string_that_it_holds(world: World) -> None:
    class Name(str):
        __slots__ = ()

        def __str__(self) -> str:
            return self

    orders = world.db("shop").orders
    await orders.create_index("n", name=Name("by_n"))
    await orders.drop_index(Name("by_n"))
    assert type(world.commands.last["index"]) is str
