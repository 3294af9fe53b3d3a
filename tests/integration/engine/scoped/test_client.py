"""The client of a scoped database, its three commands and its sessions, and attacks on each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from bson import Timestamp
from pymongo import ReadPreference
from pymongo.driver_info import DriverInfo
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern
from support.scoped_world import World

from mdb_engine.connection.driver import TRANSACTION_OPTIONS
from mdb_engine.connection.pool import Connection
from mdb_engine.exceptions import (
    InvalidToken,
    LimitExceeded,
    MdbEngineError,
    OptionRefused,
    QueryRefused,
    ScopeDenied,
)
from mdb_engine.scoped import Session


async def test_three_commands_answer_and_name_no_host(world: World) -> None:
    db = world.db("shop")
    assert await db.command("ping") == {"ok": 1.0}
    assert (await db.command({"buildInfo": 1}))["version"].count(".") == 2
    hello = await db.command("hello", comment="who is it")
    assert hello["isWritablePrimary"] is True
    assert not {"hosts", "me", "primary", "connectionId", "topologyVersion"} & hello.keys()
    assert world.commands.last["comment"] == "who is it"


class Liar(str):
    """Looks like a harmless name and is another."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other == "ping"

    __hash__ = str.__hash__


class TwoFaced(Mapping[str, Any]):
    """Says something else each time that it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def __getitem__(self, name: str) -> Any:
        return 1

    def __iter__(self) -> Any:
        self.reads += 1
        return iter(["ping"] if self.reads == 1 else ["dropDatabase"])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    "command",
    [
        {"find": "hr_people"},
        {"aggregate": 1, "pipeline": [], "cursor": {}},
        {"ping": 1, "find": "hr_people"},
        {"ping": 1, "$db": "admin"},
        {"ping": 1, "lsid": {"id": 1}},
        {"hello": 1, "saslSupportedMechs": "shop.hr.v1"},
        {"hello": 1, "speculativeAuthenticate": {"saslStart": 1}},
        {"listCollections": 1},
        {"create": "v", "viewOn": "hr_people", "pipeline": []},
        {"collMod": "shop_orders", "validator": {}},
        {"dropDatabase": 1},
        "serverStatus",
        "listDatabases",
        "connectionStatus",
        "isMaster",
        "Ping",
        Liar("dropDatabase"),
        {},
        [],
        None,
    ],
)
async def test_every_other_command_is_refused_and_not_sent(world: World, command: Any) -> None:
    world.commands.clear()
    with pytest.raises(QueryRefused):
        await world.db("shop").command(command)
    assert world.commands.names == []
    assert world.denials()


async def test_a_command_is_read_once_and_sent_as_it_was_read(world: World) -> None:
    assert await world.db("shop").command(TwoFaced()) == {"ok": 1.0}
    assert world.commands.names == ["ping"]


async def test_options_of_a_command_are_refused(world: World) -> None:
    db = world.db("shop")
    for refused in (
        lambda: db.command("ping", 2),
        lambda: db.command("ping", find="hr_people"),
        lambda: db.command("hello", saslSupportedMechs="x"),
        lambda: db.command("ping", read_preference=ReadPreference.NEAREST),
    ):
        with pytest.raises(OptionRefused):
            await refused()
    world.revoked.add("shop")
    with pytest.raises(InvalidToken):
        await db.command("ping")
    with pytest.raises(InvalidToken):
        await db.list_collection_names()


async def test_a_client_leads_to_its_one_database(world: World) -> None:
    db = world.db("shop")
    assert db.client[db.name] == db
    assert db.client.get_default_database() == db
    assert not db.client.is_mongos
    assert await db.client.is_mongos is False
    for name in ("admin", "local", "config", "", db.name + "x"):
        with pytest.raises(ScopeDenied):
            db.client[name]
    db.client.append_metadata(DriverInfo("a library", "1.0"))
    for wrong in ("a library", DriverInfo("x" * 100), object()):
        with pytest.raises(OptionRefused):
            db.client.append_metadata(wrong)  # type: ignore[arg-type]
    for name in ("close", "drop_database", "list_databases", "watch", "bulk_write", "admin"):
        assert not hasattr(db.client, name)


async def test_settings_of_a_database_are_those_of_its_collections(world: World) -> None:
    db = world.db("shop")
    assert db.codec_options == db.orders.codec_options
    other = db.with_options(
        write_concern=WriteConcern("majority"), read_concern=ReadConcern("majority")
    )
    assert other.write_concern == WriteConcern("majority")
    assert other.read_concern == ReadConcern("majority")
    assert other.read_preference == ReadPreference.PRIMARY
    made = await db.create_collection("clicks", write_concern=WriteConcern(1), check_exists=True)
    assert made.write_concern == WriteConcern(1)
    assert await db.list_collection_names(authorizedCollections=True, nameOnly=True) == ["clicks"]
    with pytest.raises(OptionRefused):
        await db.list_collection_names(authorizedCollections=False)
    with pytest.raises(OptionRefused):
        await db.list_collection_names(filter={"name": "hr_people"})  # type: ignore[call-arg]


async def test_what_asks_for_nothing_is_refused_nowhere(world: World) -> None:
    db = world.db("shop")
    await db.orders.insert_one({"n": 1}, bypass_document_validation=False)
    empties: tuple[Any, ...] = ([], {}, ())
    for empty in empties:
        assert await db.orders.find({}, sort=empty).to_list()
        assert await db.orders.find_one({}, sort=empty)
        assert await db.orders.find_one_and_update({}, {"$inc": {"n": 1}}, sort=empty)
    assert await db.orders.find({}, max_time_ms=0, no_cursor_timeout=False).to_list()
    assert await db.orders.count_documents({}, maxTimeMS=0) == 1
    assert world.commands.last["maxTimeMS"] == 30_000
    assert await (await db.orders.aggregate([], maxTimeMS=0)).to_list()


async def test_a_session_reads_what_it_wrote_and_lists_collections(world: World) -> None:
    db = world.db("shop")
    async with db.client.start_session(causal_consistency=True) as session:
        await db.orders.insert_one({"_id": 1}, session=session)
        assert await db.orders.find_one({"_id": 1}, session=session)
        assert world.commands.last["readConcern"]["afterClusterTime"] == session.operation_time
        assert await db.list_collection_names(session=session) == ["orders"]
        async with session.start_transaction():
            with pytest.raises(QueryRefused, match="in a transaction"):
                await db.list_collection_names(session=session)
    assert session.has_ended
    with pytest.raises(QueryRefused, match="over"):
        await db.orders.find_one({}, session=session)


async def test_a_session_without_causal_consistency_waits_for_nothing(world: World) -> None:
    db = world.db("shop")
    async with db.client.start_session(causal_consistency=False) as session:
        await db.orders.insert_one({}, session=session)
        await db.orders.find_one({}, session=session)
    assert "readConcern" not in world.commands.last


async def test_a_snapshot_shows_the_data_of_one_moment(world: World) -> None:
    db = world.db("shop")
    await db.orders.insert_one({"_id": 1})
    async with db.client.start_session(snapshot=True) as session:
        assert await db.orders.count_documents({}, session=session) == 1
        await db.orders.insert_one({"_id": 2})
        assert await db.orders.count_documents({}, session=session) == 1
        assert world.commands.last["readConcern"]["level"] == "snapshot"
    with pytest.raises(OptionRefused, match="snapshot"):
        db.client.start_session(snapshot=True, causal_consistency=True)


async def test_the_options_of_a_transaction_are_sent(world: World) -> None:
    db = world.db("shop")
    await db.orders.insert_one({})
    concerns: dict[str, Any] = {
        "read_concern": ReadConcern("snapshot"),
        "write_concern": WriteConcern(w=1),
        "max_commit_time_ms": 1234,
    }
    defaults = TRANSACTION_OPTIONS[0](**concerns)

    async def by_engine() -> None:
        async with world.transaction(**concerns) as tx:
            await db.orders.insert_one({}, session=tx)

    async def by_session() -> None:
        session = Session(world.driver, world.current)
        async with session, session.start_transaction(**concerns):
            await db.orders.insert_one({}, session=session)

    async def by_default() -> None:
        async with db.client.start_session(default_transaction_options=defaults) as session:
            await session.with_transaction(lambda s: db.orders.insert_one({}, session=s))

    for begin in (by_engine, by_session, by_default):
        world.commands.clear()
        await begin()
        first, commit = world.commands.started_events[0], world.commands.started_events[1]
        assert (first.command_name, commit.command_name) == ("insert", "commitTransaction")
        assert first.command["readConcern"]["level"] == "snapshot"
        assert commit.command["writeConcern"] == {"w": 1}
        assert commit.command["maxTimeMS"] == 1234


async def test_a_commit_has_a_time_limit_whatever_is_asked(world: World) -> None:
    with pytest.raises(LimitExceeded, match="max_commit_time_ms"):
        world.transaction(max_commit_time_ms=10**6)
    with pytest.raises(OptionRefused):
        world.transaction(retries=3)  # type: ignore[call-arg]
    db = world.db("shop")
    async with world.transaction(max_commit_time_ms=0) as tx:
        await db.orders.insert_one({}, session=tx)
    assert world.commands.last["maxTimeMS"] == 30_000


async def test_a_session_of_a_driver_or_of_another_engine_is_refused(world: World) -> None:
    db = world.db("shop")
    foreign = Session(world.driver, lambda: world.connection)

    class Disguised(Session):
        """A subclass could lead elsewhere."""

    with pytest.raises(QueryRefused, match="another engine"):
        await db.orders.find_one({}, session=foreign)
    with pytest.raises(QueryRefused, match="another engine"):
        await db.command("ping", session=foreign)
    with pytest.raises(QueryRefused, match="another engine"):
        await db.list_collection_names(session=foreign)
    raw = world.driver.start_session(world.client)
    for wrong in (Disguised(world.driver, world.current), raw, object()):
        with pytest.raises(OptionRefused, match="session takes"):
            await db.orders.find_one({}, session=wrong)  # type: ignore[arg-type]
    await raw.end_session()


async def test_a_session_is_scoped_and_commits_for_nobody_who_was_revoked(world: World) -> None:
    db = world.db("shop")
    world.raw["hr_people"].insert_one({"app_id": "hr"})
    async with db.client.start_session() as session:
        with pytest.raises(ScopeDenied):
            await db["hr_people"].find_one({}, session=session)
        await session.start_transaction()
        await db.orders.insert_one({"_id": 1}, session=session)
        world.revoked.add("shop")
        with pytest.raises(InvalidToken):
            await session.commit_transaction()
        world.revoked.clear()

        async def work(inner: Session) -> None:
            await db.orders.insert_one({"_id": 2}, session=inner)
            world.revoked.add("shop")

        with pytest.raises(InvalidToken):
            await session.with_transaction(work)
    assert world.raw["shop_orders"].count_documents({}) == 0


async def test_a_session_moves_to_the_connection_that_is_current(world: World) -> None:
    db = world.db("shop")
    old = world.connection
    session = db.client.start_session()
    await db.orders.insert_one({"_id": 1}, session=session)
    seen = session.operation_time
    client = world.driver.connect(world.mongo.uri, event_listeners=[world.commands])
    world.connection = Connection(client, client[world.mongo.name])
    try:
        assert await db.orders.find_one({"_id": 1}, session=session)
        assert world.commands.last["readConcern"]["afterClusterTime"] == seen
        assert old.idle
        async with session.start_transaction():
            await db.orders.insert_one({"_id": 2}, session=session)
            world.connection = old
            await db.orders.insert_one({"_id": 3}, session=session)
        assert await db.orders.count_documents({}) == 3
        await session.end_session()
        assert old.idle
    finally:
        world.connection = old
        await world.driver.close(client)


async def test_the_clock_of_a_session_takes_operation_times_alone(world: World) -> None:
    db = world.db("shop")
    async with db.client.start_session() as first, db.client.start_session() as second:
        await db.orders.insert_one({}, session=first)
        assert first.operation_time is not None
        second.advance_operation_time(first.operation_time)
        await db.orders.find_one({}, session=second)
        assert world.commands.last["readConcern"]["afterClusterTime"] == first.operation_time
        for name in ("cluster_time", "advance_cluster_time", "session_id", "client", "options"):
            assert not hasattr(first, name)
        with pytest.raises(OptionRefused):
            second.advance_operation_time({"$timestamp": 1})  # type: ignore[arg-type]
        second.advance_operation_time(Timestamp(2**31, 1))
        with pytest.raises(OperationFailure):
            await db.orders.find_one({}, session=second)


async def test_one_session_may_be_awaited_and_cancelled(world: World) -> None:
    db = world.db("shop")
    session = await db.client.start_session()
    await session.start_transaction()
    await db.orders.insert_one({"_id": 1}, session=session)
    task = asyncio.create_task(session.abort_transaction())
    await task
    with pytest.raises((MdbEngineError, Exception)):
        await session.commit_transaction()
    await session.end_session()
    await session.end_session()
    assert world.raw["shop_orders"].count_documents({}) == 0
