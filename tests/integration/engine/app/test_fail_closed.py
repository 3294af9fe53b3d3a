"""A MongoDB that does not answer: access closes, requests are answered, and all of it heals."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Iterator

import pytest
from pymongo import MongoClient
from support.engine_world import manifest, standalone_engine
from support.mongo import Client, Database
from support.waiting import wait_until_async

from devcluster.mongo import MongoConfig, MongoServer
from mdb_engine import DatabaseUnavailable
from mdb_engine.connection.driver import DriverName

MAX_AGE = 0.8


@pytest.fixture
def frozen_server() -> Iterator[MongoServer]:
    """Give a server of this test's own, which it may freeze."""
    with MongoServer(MongoConfig(die_with_parent=True)) as server:
        yield server
        os.kill(server.pid, signal.SIGCONT)


# PyMongo's asynchronous client forgets to close a socket whose connecting is cancelled, which is
# what the engine's deadline does while MongoDB is frozen.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_a_frozen_mongodb_closes_access_and_a_thawed_one_opens_it(
    frozen_server: MongoServer, driver_name: DriverName
) -> None:
    client: Client
    with MongoClient(frozen_server.uri) as client:
        engine = standalone_engine(
            Database(frozen_server.uri, "frozen", client),
            driver_name,
            grant_ttl=0.2,
            grant_max_age=MAX_AGE,
        )
        async with engine:
            await engine.register_app("click_tracker", manifest("click_tracker", "clicks"))
            db = engine.get_scoped_db("click_tracker")
            await db.clicks.insert_one({})
            assert engine.readiness("click_tracker").ready

            os.kill(frozen_server.pid, signal.SIGSTOP)
            frozen = time.monotonic()
            await wait_until_async(
                lambda: not engine.readiness("click_tracker").ready, message="/ready to say no"
            )
            assert time.monotonic() - frozen < MAX_AGE + 1.5
            checks = {one.name: one.ok for one in engine.readiness("click_tracker").checks}
            assert checks == {"database": False, "grant": False}
            began = time.monotonic()
            with pytest.raises(DatabaseUnavailable, match="could not be refreshed"):
                await db.clicks.find_one({})
            assert time.monotonic() - began < 0.2, "an operation must not wait to be refused"

            os.kill(frozen_server.pid, signal.SIGCONT)
            await wait_until_async(
                lambda: engine.readiness("click_tracker").ready, message="/ready to say yes again"
            )
            await db.clicks.insert_one({})
    gc.collect()  # such a socket is to end here, not in some later test
