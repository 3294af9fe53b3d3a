"""A MongoDB that does not answer: access closes, requests are answered, and all of it heals."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends
from pymongo import MongoClient
from support.engine_world import OperatorHand, manifest, standalone_engine
from support.forwarder import Forwarder
from support.mongo import Client, Database
from support.waiting import wait_until_async

from devcluster.mongo import MongoConfig, MongoServer
from mdb_engine import DatabaseUnavailable, MongoDBEngine, ScopedDatabase, ScopeDenied
from mdb_engine.connection.driver import DriverName
from mdb_engine.exceptions import ServerLimitExceeded
from mdb_engine.fastapi import get_scoped_db
from mdb_engine.scoped.limits import Limits

pytestmark = pytest.mark.long

MAX_AGE = 0.8

LIMITS = Limits(max_time_ms=2_000)

GIVEN_UP_SECONDS = 20.0
"""After its time limit the server would have answered within 5 s, and what has run out of time is
found within a second; the rest is for a busy machine."""

OPERATIONS: dict[str, Callable[[ScopedDatabase], Awaitable[object]]] = {
    "find_one": lambda db: db.clicks.find_one({"n": 7}),
    "find_one by _id": lambda db: db.clicks.find_one({"_id": 7}),
    "to_list": lambda db: db.clicks.find({"n": {"$gte": 0}}).to_list(),
    "the first document": lambda db: anext(aiter(db.clicks.find({"n": {"$gte": 0}}))),
    "aggregate": lambda db: db.clicks.aggregate([{"$match": {"n": 7}}]).to_list(),
    "count_documents": lambda db: db.clicks.count_documents({"n": 7}),
    "distinct": lambda db: db.clicks.distinct("n"),
    "insert_one": lambda db: db.clicks.insert_one({"n": -1}),
    "insert_many": lambda db: db.clicks.insert_many([{"n": -1}, {"n": -2}]),
    "update_many": lambda db: db.clicks.update_many({"n": 7}, {"$set": {"seen": True}}),
    "find_one_and_update": lambda db: db.clicks.find_one_and_update({"n": 7}, {"$set": {"m": 1}}),
}


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


@pytest.fixture
def proxy(operator: OperatorHand) -> Iterator[Forwarder]:
    """Give what stands between the apps and MongoDB, and not before the operator."""
    found = Forwarder(operator.mongo.uri)
    operator.apps_host = f"127.0.0.1:{found.port}"
    yield found
    found.close()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # as above
async def test_a_pod_whose_connections_hang_answers_503_and_then_takes_a_withdrawal_and_a_rotation(
    operator: OperatorHand, proxy: Forwarder
) -> None:
    await operator.register("bank", "accounts")
    await operator.register("click_tracker", "clicks", reads=("bank",))
    engine = operator.pod("click_tracker", LIMITS, grant_ttl=0.2, grant_max_age=MAX_AGE)
    own = manifest("click_tracker", "clicks", reads=("bank",))
    app = engine.create_app("click_tracker", own)

    @app.get("/{collection}/first")
    async def first(
        collection: str, db: Annotated[ScopedDatabase, Depends(get_scoped_db)]
    ) -> dict[str, Any] | None:
        return await db[collection].find_one({"n": {"$gte": 0}})

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="https://test", timeout=GIVEN_UP_SECONDS
        ) as http,
    ):

        async def status(path: str) -> int:
            return (await http.get(path)).status_code

        async def answers(path: str) -> bool:
            return await status(path) == 200

        def waits_for_credentials() -> bool:
            notes = engine.readiness("click_tracker").notes
            return any("new credentials are mounted" in str(note) for note in notes)

        for path in ("/ready", "/clicks/first", "/bank_accounts/first"):
            assert await status(path) == 200, path

        # The command comes and its answer does not, nor does anything after it.
        proxy.hang_at = b"click_tracker_clicks"
        began = time.monotonic()
        under_way = await asyncio.gather(*(http.get("/clicks/first") for _ in range(3)))
        assert time.monotonic() - began < GIVEN_UP_SECONDS
        assert proxy.hangs
        assert {one.status_code for one in under_way} == {503}, [one.text for one in under_way]
        assert await status("/ready") == 503
        for path in ("/clicks/first", "/bank_accounts/first"):
            began = time.monotonic()
            assert await status(path) == 503
            assert time.monotonic() - began < 1, "an operation must not wait to be refused"

        # Consent is withdrawn, and the credentials change: the new connection hangs, too.
        await operator.register("bank", "accounts", crossAppPolicy="DenyAll")
        version = await operator.rotate("click_tracker")
        await wait_until_async(
            waits_for_credentials,
            deadline=60,
            message="a note that the new credentials cannot be used",
        )
        assert await status("/ready") == 503

        proxy.mend()
        healed: set[int] = set()

        async def is_healed() -> bool:
            healed.add(await status("/bank_accounts/first"))
            return await answers("/clicks/first") and await answers("/ready")

        await wait_until_async(is_healed, deadline=60, message="requests to be answered again")
        assert await status("/bank_accounts/first") == 403
        assert healed <= {403, 503}, "what was withdrawn meanwhile was read"
        await wait_until_async(
            lambda: not waits_for_credentials(),
            deadline=60,
            message=f"version {version} in use",
        )
        await operator.end_overlap("click_tracker")
        assert await status("/clicks/first") == 200
    gc.collect()


@asynccontextmanager
async def given_up_in_time(what: str) -> AsyncIterator[None]:
    """Fail where something waits for an answer that never comes."""
    try:
        async with asyncio.timeout(GIVEN_UP_SECONDS):
            yield
    except TimeoutError:
        pytest.fail(f"{what} waits for an answer that never comes")


async def hung(proxy: Forwarder, at: bytes, work: Awaitable[Any]) -> asyncio.Future[Any]:
    """Begin some work, whose connection alone hangs when it sends something; all others go on."""
    proxy.hang_at, proxy.hangs_alone = at, True
    working = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    await wait_until_async(lambda: proxy.hung, message=f"{at!r} to hang")
    proxy.mend()
    return working


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # as above
async def test_an_operation_whose_connection_alone_hangs_ends_and_the_others_go_on(
    operator: OperatorHand, proxy: Forwarder
) -> None:
    """As behind a firewall that forgets a connection: the driver's monitor sees nothing of it."""
    await operator.register("click_tracker", "clicks")
    async with operator.pod("click_tracker", LIMITS) as engine:
        db = engine.get_scoped_db("click_tracker")
        await db.clicks.insert_many([{"_id": number, "n": number} for number in range(20)])

        async def fails(name: str, call: Callable[[ScopedDatabase], Awaitable[object]]) -> None:
            async with given_up_in_time(name):
                with pytest.raises((DatabaseUnavailable, ServerLimitExceeded)):
                    await call(db)

        proxy.hang_at, proxy.hangs_alone = b"click_tracker_clicks", True
        await asyncio.gather(*(fails(name, call) for name, call in OPERATIONS.items()))
        proxy.mend()
        assert await db.clicks.find_one({"n": 3}) is not None

        # A cursor hangs at a batch that is not its first.
        cursor = db.clicks.find({"n": {"$gte": 0}}).batch_size(5)
        assert await anext(cursor)
        proxy.hang_at, proxy.hangs_alone = b"getMore", True

        async def rest(_: ScopedDatabase) -> None:
            async for _document in cursor:
                pass

        await fails("a cursor", rest)
        assert engine.readiness("click_tracker").ready
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # as above
async def test_a_change_stream_whose_connection_alone_hangs_goes_on_on_another(
    operator: OperatorHand, proxy: Forwarder
) -> None:
    await operator.register("click_tracker", "clicks")
    async with operator.pod("click_tracker", LIMITS) as engine:
        db = engine.get_scoped_db("click_tracker")
        async with db.clicks.watch() as stream:
            await db.clicks.insert_one({"_id": 1})
            assert (await anext(stream))["documentKey"] == {"_id": 1}
            waiting = await hung(proxy, b"getMore", anext(stream))
            await db.clicks.insert_one({"_id": 2})
            async with given_up_in_time("a stream"):
                assert (await waiting)["documentKey"] == {"_id": 2}
    gc.collect()


async def by_a_transaction(engine: MongoDBEngine, document: dict[str, Any]) -> None:
    async with engine.transaction() as tx:
        await engine.get_scoped_db("click_tracker").clicks.insert_one(document, session=tx)


async def by_with_transaction(engine: MongoDBEngine, document: dict[str, Any]) -> None:
    clicks = engine.get_scoped_db("click_tracker").clicks
    async with engine.session() as session:
        await session.with_transaction(lambda held: clicks.insert_one(document, session=held))


async def by_hand(engine: MongoDBEngine, document: dict[str, Any]) -> None:
    clicks = engine.get_scoped_db("click_tracker").clicks
    async with engine.session() as session:
        await session.start_transaction()
        await clicks.insert_one(document, session=session)
        await session.commit_transaction()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # as above
@pytest.mark.parametrize("commit", [by_a_transaction, by_with_transaction, by_hand])
async def test_a_commit_whose_connection_alone_hangs_is_repeated_on_another(
    operator: OperatorHand,
    proxy: Forwarder,
    commit: Callable[[MongoDBEngine, dict[str, Any]], Awaitable[None]],
) -> None:
    await operator.register("click_tracker", "clicks")
    async with operator.pod("click_tracker", LIMITS) as engine:
        committing = await hung(proxy, b"commitTransaction", commit(engine, {"_id": 1}))
        async with given_up_in_time("a commit"):
            await committing
        assert await engine.get_scoped_db("click_tracker").clicks.find_one({"_id": 1}) is not None
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # as above
@pytest.mark.parametrize("streaming", [False, True], ids=["reads", "a change stream"])
async def test_a_withdrawal_holds_although_the_connection_hangs_on_which_grants_are_read(
    operator: OperatorHand, proxy: Forwarder, *, streaming: bool
) -> None:
    ttl = 0.5
    await operator.register("bank", "accounts")
    await operator.register("click_tracker", "clicks", reads=("bank",))
    async with operator.pod("click_tracker", LIMITS, grant_ttl=ttl) as engine:
        accounts = engine.get_scoped_db("click_tracker").bank_accounts
        assert await accounts.find_one({}) is None
        stream = await accounts.watch() if streaming else None
        proxy.hang_at, proxy.hangs_alone = b"_mdb_engine_grants", True
        await wait_until_async(lambda: proxy.hung, message="the reading of grants to hang")
        proxy.mend()
        await operator.register("bank", "accounts", crossAppPolicy="DenyAll")

        async def denied() -> bool:
            try:
                await (stream.try_next() if stream else accounts.find_one({}))
            except ScopeDenied:
                return True
            return False

        # What hangs is given up after twice the ttl, and tried again within it.
        await wait_until_async(denied, deadline=GIVEN_UP_SECONDS, message="the withdrawal")
    gc.collect()
