"""The scoped objects beside the drivers' own: nothing is forgotten, and nothing gets out."""

# ruff: noqa: FBT003 - as the drivers take them

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import motor.motor_asyncio
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, DeleteOne, ReadPreference
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.command_cursor import AsyncCommandCursor
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.write_concern import WriteConcern
from support.scoped_world import World

from mdb_engine.exceptions import MdbEngineError, QueryRefused
from mdb_engine.scoped import (
    ScopedChangeStream,
    ScopedClient,
    ScopedCollection,
    ScopedCommandCursor,
    ScopedCursor,
    ScopedDatabase,
    Session,
)
from mdb_engine.scoped.not_offered import (
    CLIENT_REFUSED,
    COLLECTION_REFUSED,
    CURSOR_REFUSED,
    DATABASE_REFUSED,
    SESSION_REFUSED,
    STREAM_REFUSED,
)
from mdb_engine.scoped.options import PARAMETERS, IndexOptions
from mdb_engine.scoped.rewrite.indexes import INDEX_OPTIONS

SURFACES: dict[str, tuple[type, tuple[Any, ...], Mapping[str, str], set[str]]] = {
    "collection": (
        ScopedCollection,
        (AsyncCollection, motor.motor_asyncio.AsyncIOMotorCollection),
        COLLECTION_REFUSED,
        set(),
    ),
    "database": (
        ScopedDatabase,
        (AsyncDatabase, motor.motor_asyncio.AsyncIOMotorDatabase),
        DATABASE_REFUSED,
        set(),
    ),
    "client": (
        ScopedClient,
        (AsyncMongoClient, motor.motor_asyncio.AsyncIOMotorClient),
        CLIENT_REFUSED,
        set(),
    ),
    "session": (
        Session,
        (AsyncClientSession, motor.motor_asyncio.AsyncIOMotorClientSession),
        SESSION_REFUSED,
        set(),
    ),
    "cursor": (
        ScopedCursor,
        (AsyncCursor, motor.motor_asyncio.AsyncIOMotorCursor),
        CURSOR_REFUSED,
        set(),
    ),
    "command cursor": (
        ScopedCommandCursor,
        (AsyncCommandCursor, motor.motor_asyncio.AsyncIOMotorCommandCursor),
        CURSOR_REFUSED,
        {"batch_size"},  # the option batchSize of aggregate
    ),
    "change stream": (
        ScopedChangeStream,
        (AsyncChangeStream, motor.motor_asyncio.AsyncIOMotorChangeStream),
        STREAM_REFUSED,
        set(),
    ),
}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("surface", SURFACES)
def test_every_name_of_both_drivers_is_offered_or_refused_with_a_reason(surface: str) -> None:
    scoped, drivers, refused, elsewhere = SURFACES[surface]
    offered = public(scoped)
    theirs = set().union(*(public(driver) for driver in drivers))

    assert theirs - offered - refused.keys() - elsewhere == set()
    assert not offered & refused.keys()
    assert all(len(reason) > len("no reason") for reason in refused.values())


async def test_what_is_refused_says_why(world: World) -> None:
    db = world.db("shop")
    for thing, table in (
        (db, DATABASE_REFUSED),
        (db.client, CLIENT_REFUSED),
        (db.client.start_session(), SESSION_REFUSED),
        (db.orders, COLLECTION_REFUSED),
        (db.orders.find(), CURSOR_REFUSED),
        (db.orders.aggregate([]), CURSOR_REFUSED),
        (db.orders.watch(), STREAM_REFUSED),
    ):
        for name, reason in table.items():
            if name in public(type(thing)):
                continue
            with pytest.raises(QueryRefused) as caught:
                getattr(thing, name)
            assert reason in str(caught.value)
            assert not hasattr(thing, name)
    assert db["client"].name == "client"


async def test_collections_below_collections_are_not_offered(world: World) -> None:
    db = world.db("shop")

    attempts: tuple[Callable[[], object], ...] = (
        lambda: db.orders.archive,  # type: ignore[attr-defined]
        lambda: db.orders["archive"],
        lambda: db["orders.archive"].find({}),
        lambda: db[1],  # type: ignore[index]
        lambda: db._private,
        lambda: db.app("stock")._private,
        lambda: list(db),
        lambda: list(db.app("stock")),
    )
    for attempt in attempts:
        with pytest.raises(MdbEngineError):
            attempt()


def reachable(root: object) -> Iterator[tuple[str, object]]:
    """Yield what attributes, items and slots lead to, calling nothing and looking in no code."""
    seen: set[int] = set()
    stack: list[tuple[str, object, int]] = [("", root, 0)]
    while stack:
        path, thing, depth = stack.pop()
        if id(thing) in seen or isinstance(thing, str | bytes | int | float | type(None)):
            continue
        seen.add(id(thing))
        yield path, thing
        if depth > 6 or isinstance(thing, type) or type(thing).__name__ == "module":
            continue
        for name in dir(thing):
            if name in {"__class__", "__globals__", "__closure__", "__builtins__", "__code__"}:
                continue
            try:
                stack.append((f"{path}.{name}", getattr(thing, name), depth + 1))
            except Exception:  # noqa: BLE001, S112 - a refusal is what is hoped for
                continue
        if isinstance(thing, Mapping):
            stack += [(f"{path}[{key!r}]", value, depth + 1) for key, value in thing.items()]
        elif isinstance(thing, list | tuple | set | frozenset):
            stack += [(f"{path}[]", value, depth + 1) for value in thing]


def is_a_drivers(thing: object) -> bool:
    """Say whether it leads to a client; plain values such as WriteConcern do not."""
    kind = thing if isinstance(thing, type) else type(thing)
    instance = not isinstance(thing, type)
    module = kind.__module__
    return instance and (
        module.startswith(("motor.", "pymongo.asynchronous.", "pymongo.synchronous."))
        or kind.__name__ in {"_LatentCursor", "MongoClient"}
    )


async def test_no_object_leads_to_one_of_the_drivers(world: World) -> None:
    db = world.db("shop")
    await db.orders.insert_many([{} for _ in range(5)])
    cursor, command_cursor = db.orders.find().batch_size(2), db.orders.aggregate([], batchSize=2)
    await cursor.next()
    await command_cursor.next()
    result = await db.orders.insert_one({})
    session = db.client.start_session()
    await db.orders.find_one({}, session=session)
    async with world.transaction() as tx, db.orders.watch() as stream, session:
        await db.orders.find_one({}, session=tx)
        in_transaction = db.orders.find({}, session=tx)
        await in_transaction.to_list()
        for thing in (
            *(db, db.orders, db.app("stock"), db.app("stock").items),
            *(cursor, command_cursor, in_transaction, stream, tx, result, session),
            *(db.client, session.start_transaction()),
        ):
            found = [path for path, reached in reachable(thing) if is_a_drivers(reached)]
            assert found == [], f"{type(thing).__name__} leads to the driver"


async def test_the_walk_would_find_a_driver_object(world: World) -> None:
    class Leaky:
        def __init__(self) -> None:
            self._hidden = {"deep": [world.connection.database]}

    assert any(is_a_drivers(reached) for _, reached in reachable(Leaky()))
    assert any(is_a_drivers(reached) for _, reached in reachable(world.current))


@pytest.mark.parametrize("attempt", [copy.copy, copy.deepcopy, pickle.dumps])
async def test_nothing_is_copied_or_pickled_with_what_it_holds(
    world: World, attempt: Callable[[object], object]
) -> None:
    db = world.db("shop")

    for thing in (
        *(db, db.orders, db.app("stock"), db.orders.find(), db.orders.aggregate([])),
        *(db.orders.watch(), world.transaction(), db.client, db.client.start_session()),
    ):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            attempt(thing)
        assert not hasattr(thing, "__dict__")
        assert world.mongo.uri not in repr(thing)


async def test_options_of_a_collection_are_kept_and_checked(world: World) -> None:
    db = world.db("shop")
    orders = db.orders.with_options(
        write_concern=WriteConcern(w=1), read_preference=ReadPreference.SECONDARY_PREFERRED
    )

    assert orders.write_concern == WriteConcern(w=1)
    assert orders.read_preference == ReadPreference.SECONDARY_PREFERRED
    assert orders.read_concern == db.orders.read_concern
    assert orders != db.orders == world_collection(db)
    assert {db.orders: 1}[world_collection(db)] == 1
    await orders.insert_one({"_id": 1})
    assert world.commands.last["writeConcern"] == {"w": 1}
    aware = db.with_options(codec_options=CodecOptions(tz_aware=True)).get_collection("orders")
    assert aware.codec_options.tz_aware
    assert await aware.find_one({}) == {"_id": 1, "app_id": "shop"}
    for bad in (
        {"codec_options": CodecOptions(document_class=RawBSONDocument)},
        {"codec_options": {"tz_aware": True}},
        {"database": world.connection.database},
    ):
        with pytest.raises(QueryRefused):
            db.orders.with_options(**bad)


def world_collection(db: ScopedDatabase) -> ScopedCollection:
    return db.get_collection("orders")


SAME_ORDER = {
    *("bulk_write", "delete_many", "delete_one", "find_one_and_delete", "find_one_and_replace"),
    *("find_one_and_update", "insert_many", "insert_one", "replace_one", "update_many"),
    *("aggregate", "count_documents", "distinct", "update_one"),
}
"""Methods whose positional arguments PyMongo names; Motor passes them on."""


@pytest.mark.parametrize("name", sorted(SAME_ORDER))
def test_arguments_stand_in_the_order_of_the_drivers(name: str) -> None:
    def positional(kind: type) -> list[str]:
        parameters = inspect.signature(getattr(kind, name)).parameters.values()
        return [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]

    assert positional(ScopedCollection) == positional(AsyncCollection)


async def test_arguments_by_position_mean_what_they_mean_to_the_drivers(world: World) -> None:
    orders = world.db("shop").orders
    await orders.update_one({"_id": 1}, {"$set": {"n": 1}}, True)
    await orders.insert_many([{"_id": 2}, {"_id": 3}], False)
    assert await orders.find({}, {"n": 1}, 1, 1).to_list() == [{"_id": 2}]
    assert await orders.find_one({}, {"n": 1}, 2) == {"_id": 3}
    assert (await orders.find_one_and_update({}, {"$set": {"n": 2}}, None, [("_id", -1)]))[
        "_id"
    ] == 3  # type: ignore[index]
    with pytest.raises(QueryRefused, match="bypass_document_validation"):
        await orders.insert_one({}, True)  # type: ignore[arg-type]
    with pytest.raises(QueryRefused, match="no_cursor_timeout"):
        orders.find({}, None, 0, 0, True)  # type: ignore[arg-type]
    with pytest.raises(QueryRefused, match="did you mean upsert"):
        await orders.update_one({}, {"$set": {"n": 1}}, upserts=True)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", sorted(PARAMETERS))
async def test_every_option_is_read_by_its_name(world: World, name: str) -> None:
    first: dict[str, list[Any]] = {
        "aggregate": [[]],
        "bulk_write": [[DeleteOne({})]],
        "distinct": ["a"],
        "estimated_document_count": [],
        "insert_many": [[{}]],
        "watch": [],
    }
    update = {"$set": {"n": 1}}
    second = [update] if "update" in name else [{}] if "replace" in name else []
    method = getattr(world.db("shop").orders, name)

    async def call(**options: Any) -> None:
        made = method(*first.get(name, [{}, *second]), **options)
        await (made if inspect.isawaitable(made) else made.to_list())

    for option in PARAMETERS[name].names:
        with pytest.raises(QueryRefused) as refused:
            await call(**{option: object()})
        assert option in f"{refused.value.path} {refused.value}", option


def test_the_types_of_an_index_name_the_options_that_are_allowed() -> None:
    assert IndexOptions.__annotations__.keys() == INDEX_OPTIONS.keys()
