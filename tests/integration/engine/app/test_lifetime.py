"""How an engine begins and ends: cancelled at any point, on another loop, with MongoDB gone."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from pymongo import MongoClient
from support.engine_world import manifest, standalone_engine
from support.lifetime import Leftovers, cycle
from support.mongo import Client, Database
from support.waiting import wait_until_async

from devcluster.mongo import MongoConfig, MongoServer
from mdb_engine import DatabaseUnavailable, NotInitialized
from mdb_engine.connection.driver import DriverName, get_driver
from mdb_engine.connection.pool import Connections, ConnectionSettings
from mdb_engine.core.tasks import finish

pytestmark = pytest.mark.long

SELECTION_SECONDS = 2.0


# PyMongo leaves it to the collector to close a connection whose opening is cancelled.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_cancelling_start_and_stop_anywhere_leaves_nothing(
    mongo: Database, driver_name: DriverName
) -> None:
    """A short soak; ``make soak`` does two thousand of these."""
    choose = random.Random(12)  # noqa: S311 - it picks moments
    await cycle(mongo, driver_name, choose)  # what is made once for the process
    before = Leftovers.now()
    for _ in range(40):
        await cycle(mongo, driver_name, choose)
    await wait_until_async(
        lambda: Leftovers.now().beyond(before) == "",
        message=lambda: f"all to be gone: {Leftovers.now().beyond(before)}",
    )


async def test_a_cancelled_shutdown_ends_everything_and_may_be_called_again(
    mongo: Database, driver_name: DriverName
) -> None:
    engine = standalone_engine(mongo, driver_name)
    before = asyncio.all_tasks()
    await engine.initialize()
    assert engine._runtime is not None
    connections = engine._runtime.connections
    stopping = asyncio.create_task(engine.shutdown())
    await asyncio.sleep(0)
    while not stopping.done():  # again and again, as a server does that has no time
        stopping.cancel()
        await asyncio.sleep(0.01)
    assert stopping.cancelled()
    assert connections._current is None
    assert not {one for one in asyncio.all_tasks() - before if one.get_name().startswith("mdb")}
    await engine.shutdown()
    async with engine:
        assert engine.initialized


async def test_a_retired_client_whose_close_takes_long_is_closed(
    mongo: Database, driver_name: DriverName, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = get_driver(driver_name)
    close = driver.close
    closed: list[Any] = []

    async def slowly(client: Any) -> None:
        await asyncio.sleep(1.2)
        await close(client)
        closed.append(client)

    monkeypatch.setattr(driver, "close", slowly)
    connections = Connections(driver, grace=60)
    settings = ConnectionSettings(SecretStr(mongo.uri), mongo.name)
    await connections.open(settings)
    first = connections.database().client
    await connections.open(settings)
    assert connections.retiring == 1
    await connections.close()
    assert first in closed
    assert len(closed) == 2


async def test_finishing_raises_the_cancellation_after_the_work_and_the_works_own_error() -> None:
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        done.append("work")

    async def fail() -> None:
        raise ValueError("mine")

    task = asyncio.create_task(finish(work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["work"]
    with pytest.raises(ValueError, match="mine"):
        await finish(fail())


def test_an_engine_on_another_event_loop_says_what_it_is_at_once(
    mongo: Database, driver_name: DriverName
) -> None:
    engine = standalone_engine(mongo, driver_name)

    async def elsewhere(handle: Any) -> None:
        for attempt in (
            engine.initialize,
            engine.shutdown,
            lambda: handle.clicks.find_one({}),
            lambda: handle.clicks.find({}).to_list(1),
            lambda: engine.register_app("shop", manifest("shop", "clicks")),
        ):
            began = time.monotonic()
            with pytest.raises(NotInitialized, match="another event loop"):
                await attempt()
            assert time.monotonic() - began < 0.5
        with pytest.raises(NotInitialized, match="another event loop"):
            engine.get_scoped_db("shop")

    async def here() -> None:
        await engine.initialize()
        await engine.register_app("shop", manifest("shop", "clicks"))
        db = engine.get_scoped_db("shop")
        await asyncio.to_thread(asyncio.run, elsewhere(db))
        # Synchronous code of an app runs in a thread that has no loop at all.
        assert (await asyncio.to_thread(engine.get_scoped_db, "shop")) is not None
        await db.clicks.insert_one({})
        await engine.shutdown()

    asyncio.run(here())


@pytest.mark.filterwarnings("ignore:Unclosed AsyncMongoClient:ResourceWarning")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_whose_loop_is_gone_says_so_and_can_be_started_again(
    mongo: Database, driver_name: DriverName
) -> None:
    use_past_its_loop(mongo, driver_name)
    # What the loops left is collected here, and does not surprise another test.
    for _ in range(2):
        gc.collect()


def use_past_its_loop(mongo: Database, driver_name: DriverName) -> None:
    engine = standalone_engine(mongo, driver_name)
    handles: list[Any] = []

    async def first() -> None:
        await engine.initialize()
        await engine.register_app("shop", manifest("shop", "clicks"))
        handles.append(engine.get_scoped_db("shop"))

    async def second() -> None:
        with pytest.raises(NotInitialized, match=r"is closed; await engine\.initialize"):
            await handles[0].clicks.find_one({})
        await engine.initialize()
        await engine.register_app("shop", manifest("shop", "clicks"))
        await engine.get_scoped_db("shop").clicks.insert_one({})
        await engine.shutdown()

    async def third() -> None:
        await engine.initialize()

    asyncio.run(first())
    asyncio.run(second())
    asyncio.run(third())
    asyncio.run(engine.shutdown())
    assert not engine.initialized


async def test_two_apps_on_one_engine_end_one_by_one(
    mongo: Database, driver_name: DriverName
) -> None:
    engine = standalone_engine(mongo, driver_name)
    apps = [
        engine.create_app(slug, manifest(slug, "things"), dependencies=[])
        for slug in ("shop", "bank")
    ]
    first, second = (app.router.lifespan_context(app) for app in apps)
    await first.__aenter__()
    await second.__aenter__()
    await first.__aexit__(None, None, None)
    await engine.get_scoped_db("bank").things.insert_one({})
    await second.__aexit__(None, None, None)
    states = [engine.initialized]
    async with engine:  # and neither ends the engine of the program that made it
        async with apps[0].router.lifespan_context(apps[0]):
            pass
        states.append(engine.initialized)
    states.append(engine.initialized)
    assert states == [False, True, False]


@pytest.fixture
def doomed_server() -> Iterator[MongoServer]:
    """Give a server of this test's own, which it may end."""
    with MongoServer(MongoConfig(die_with_parent=True)) as server:
        yield server


OPERATIONS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "find_one": lambda things: things.find_one({}),
    "find": lambda things: things.find({}).to_list(10),
    "count": lambda things: things.count_documents({}),
    "aggregate": lambda things: things.aggregate([{"$match": {}}]).to_list(10),
    "insert_one": lambda things: things.insert_one({}),
    "insert_many": lambda things: things.insert_many([{}, {}]),
    "update_one": lambda things: things.update_one({}, {"$set": {"a": 1}}),
    "delete_one": lambda things: things.delete_one({}),
    "find_one_and_update": lambda things: things.find_one_and_update({}, {"$set": {"a": 1}}),
    "distinct": lambda things: things.distinct("a"),
}


def batched(size: int) -> list[list[str]]:
    names = list(OPERATIONS)
    return [names[start : start + size] for start in range(0, len(names), size)]


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_with_mongodb_gone_every_operation_says_so_after_one_time_and_the_end_is_quick(
    doomed_server: MongoServer, driver_name: DriverName
) -> None:
    client: Client
    separator = "&" if "?" in doomed_server.uri else "/?"
    uri = f"{doomed_server.uri}{separator}serverSelectionTimeoutMS={SELECTION_SECONDS * 1000:.0f}"
    with MongoClient(doomed_server.uri) as client:
        engine = standalone_engine(Database(uri, "doomed", client), driver_name)
        await engine.initialize()
        await engine.register_app("shop", manifest("shop", "things"))
        things = engine.get_scoped_db("shop").things
        for operation in OPERATIONS.values():
            await operation(things)
    doomed_server.stop()

    async def timed(operation: Callable[[Any], Awaitable[Any]]) -> float:
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            await operation(things)
        return time.monotonic() - began

    for names in batched(4):  # Motor has as many threads, even on a small machine
        took = await asyncio.gather(*(timed(OPERATIONS[name]) for name in names))
        slow = {
            name: seconds
            for name, seconds in zip(names, took, strict=True)
            if not SELECTION_SECONDS - 0.5 < seconds < SELECTION_SECONDS + 1.5
        }
        assert slow == {}
    began = time.monotonic()
    await engine.shutdown()
    assert time.monotonic() - began < 6
    gc.collect()


async def test_on_startup_may_take_longer_than_the_deadline(
    mongo: Database, driver_name: DriverName
) -> None:
    engine = standalone_engine(mongo, driver_name, startup_deadline=1)
    done: list[str] = []

    async def warm_up() -> None:
        await asyncio.sleep(1.5)
        done.append("warm")

    app: FastAPI = engine.create_app("shop", manifest("shop", "things"), on_startup=warm_up)
    async with app.router.lifespan_context(app):
        assert done == ["warm"]
