from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
from pymongo import errors
from support.mongo import Database
from support.scoped_world import MemoryGate, World, connected_world

from mdb_engine.connection.driver import DriverName
from mdb_engine.connection.pool import Connection
from mdb_engine.exceptions import (
    DatabaseFull,
    DatabaseUnavailable,
    LimitExceeded,
    QueryRefused,
    ScopeDenied,
    ServerLimitExceeded,
)
from mdb_engine.scoped import ScopedDatabase
from mdb_engine.scoped.errors import translated

PASSWORD = "correct-horse-battery"


@contextmanager
def failing(world: World, command: str, **failure: Any) -> Iterator[None]:
    admin = world.mongo.client.admin
    data = {"failCommands": [command], "namespace": f"{world.mongo.name}.shop_orders", **failure}
    admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
    try:
        yield
    finally:
        admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        ({"errorCode": 50}, LimitExceeded),
        ({"errorCode": 292}, LimitExceeded),
        ({"errorCode": 13}, ScopeDenied),
        ({"errorCode": 18}, DatabaseUnavailable),
        ({"errorCode": 14031}, DatabaseFull),
        ({"errorCode": 121}, errors.OperationFailure),
    ],
)
async def test_the_servers_errors_become_the_domains(
    world: World, failure: dict[str, Any], expected: type[Exception]
) -> None:
    await world.db("shop").orders.insert_one({})
    with failing(world, "find", **failure), pytest.raises(expected) as caught:
        await world.db("shop").orders.find({"n": PASSWORD}).to_list()

    assert PASSWORD not in str(caught.value)
    assert [event.denied for event in world.events[-2:]] == (
        [None, "scope_denied"] if expected is ScopeDenied else [None, None]
    )


@pytest.mark.usefixtures("sockets_swept")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_an_unreachable_server_is_unavailable(
    driver_name: DriverName, mongo: Database
) -> None:
    world = connected_world(driver_name, mongo)
    gone = world.driver.connect(
        f"mongodb://ann:{PASSWORD}@127.0.0.1:9/?directConnection=true",
        serverSelectionTimeoutMS=50,
    )
    gate = MemoryGate(world, "shop", read_only=False)
    db = ScopedDatabase(gate, lambda: Connection(gone, gone[mongo.name]), world.driver)
    try:
        for attempt in (
            db.orders.find_one({}),
            db.orders.insert_one({}),
            db.orders.find().to_list(),
        ):
            with pytest.raises(DatabaseUnavailable) as caught:
                await attempt
            assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r}"
    finally:
        await world.driver.close(gone)
        await world.driver.close(world.client)


@pytest.mark.usefixtures("sockets_swept")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_a_closed_connection_is_unavailable(driver_name: DriverName, mongo: Database) -> None:
    world = connected_world(driver_name, mongo)
    db = world.db("shop")
    await db.orders.insert_one({})
    await world.driver.close(world.client)

    with pytest.raises(DatabaseUnavailable):
        await db.orders.find_one({})


async def test_what_mongodb_denies_is_denied(driver_name: DriverName, mongo_auth: Database) -> None:
    """The second wall: the app's own database user reaches nothing but what was declared."""
    database = mongo_auth.client[mongo_auth.name]
    privilege = {
        "resource": {"db": mongo_auth.name, "collection": "shop_orders"},
        "actions": ["find", "insert"],
    }
    database.command("createRole", "shop", privileges=[privilege], roles=[])
    database.command("createUser", "shop", pwd=PASSWORD, roles=["shop"])
    host = mongo_auth.uri.split("@")[1].split("/")[0]
    uri = f"mongodb://shop:{quote(PASSWORD)}@{host}/?directConnection=true&authSource="
    world = connected_world(
        driver_name, Database(uri + mongo_auth.name, mongo_auth.name, mongo_auth.client)
    )
    db = world.db("shop")
    try:
        await db.orders.insert_one({"_id": 1})
        assert await db.orders.count_documents({}) == 1
        for attempt in (
            db.clicks.insert_one({"secret": "a-value-of-the-user"}),
            db.clicks.find({"secret": "a-value-of-the-user"}).to_list(),
            db.clicks.aggregate([]).to_list(),
            db["stock_items"].find_one({}),
            db.orders.drop(),
        ):
            with pytest.raises(ScopeDenied, match="declare it in the manifest") as caught:
                await attempt
            assert caught.value.__cause__ is None
            assert "a-value-of-the-user" not in str(caught.value)
        assert await db.list_collection_names() == ["orders"]
        assert {event.collection for event in world.denials()} == {
            "shop_clicks",
            "stock_items",
            "shop_orders",
        }
    finally:
        await world.driver.close(world.client)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ServerSelectionTimeoutError("a host"), DatabaseUnavailable),
        (errors.AutoReconnect("a host"), DatabaseUnavailable),
        (errors.NotPrimaryError("a host"), DatabaseUnavailable),
        (errors.WaitQueueTimeoutError("a host"), DatabaseUnavailable),
        (errors.InvalidOperation("Cannot use MongoClient after close"), DatabaseUnavailable),
        (errors.ExecutionTimeout("slow", 50), ServerLimitExceeded),
        (errors.DocumentTooLarge("too big"), LimitExceeded),
        (errors.WriteError("too big", 17419), LimitExceeded),
        (errors.OperationFailure("not authorized on shop to execute {find}", 13), ScopeDenied),
        (errors.DuplicateKeyError("E11000", 11000), None),
        (errors.WriteError("no such operator", 9), None),
        (errors.BulkWriteError({"writeErrors": []}), None),
        (errors.InvalidOperation("Cannot use ended session"), QueryRefused),
        (errors.InvalidOperation("cannot set options"), None),
        (errors.CursorNotFound("gone", 43), None),
    ],
)
def test_the_table_of_errors(error: errors.PyMongoError, expected: type[Exception] | None) -> None:
    outcome = translated(error, "find", 30.0)

    if expected is None:
        assert outcome is None
    else:
        assert outcome is not None
        assert type(outcome[0]) is expected
        assert str(error) not in str(outcome[0])
