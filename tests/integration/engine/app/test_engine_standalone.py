from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr
from support import leakscan
from support.engine_world import MASTER_KEY, manifest, standalone_engine
from support.mongo import Database
from support.scoped_world import Commands
from support.waiting import wait_until_async

from mdb_engine import (
    InvalidToken,
    ManifestInvalid,
    MasterKeyError,
    MongoDBEngine,
    NotInitialized,
    NotRegistered,
    ScopeDenied,
    TokenRequired,
)
from mdb_engine.config import EngineSettings
from mdb_engine.connection.driver import DriverName
from mdb_engine.constants import GRANTS_COLLECTION
from mdb_engine.engine.standalone import StandaloneHosting
from mdb_engine.exceptions import (
    BindingError,
    LimitExceeded,
)
from mdb_engine.scoped import Limits

CLICKS = manifest("click_tracker", "clicks")
DASHBOARD = manifest("dashboard", "reports", reads=("click_tracker",))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MONGODB_URI", "MONGODB_DB", "MDB_ENGINE_MASTER_KEY", "SERVICE_BINDING_ROOT"):
        monkeypatch.delenv(name, raising=False)


async def test_two_apps_share_what_was_granted_and_nothing_else(
    mongo: Database, driver_name: DriverName
) -> None:
    async with standalone_engine(mongo, driver_name) as engine:
        await engine.register_app("dashboard", DASHBOARD)
        await engine.register_app("click_tracker", CLICKS)
        own = engine.get_scoped_db("click_tracker")
        await own.clicks.insert_one({"url": "/"})
        dashboard = engine.get_scoped_db("dashboard")
        assert engine.is_multi_site("dashboard")
        assert not engine.is_multi_site("click_tracker")
        found = await dashboard["click_tracker_clicks"].find({}).to_list(10)
        assert [one["url"] for one in found] == ["/"]
        with pytest.raises(ScopeDenied):
            await dashboard["click_tracker_clicks"].insert_one({"url": "/forged"})
        with pytest.raises(ScopeDenied):
            await own["dashboard_reports"].find_one({})
        async with engine.transaction() as tx:
            await dashboard.reports.insert_one({"n": 1}, session=tx)
        assert await dashboard.reports.count_documents({}) == 1


async def test_handles_only_ever_narrow(mongo: Database, driver_name: DriverName) -> None:
    async with standalone_engine(mongo, driver_name) as engine:
        await engine.register_app("click_tracker", CLICKS)
        await engine.register_app("dashboard", DASHBOARD)
        with pytest.raises(ScopeDenied, match="click_tracker' asks to read dashboard"):
            engine.get_scoped_db("click_tracker", read_scopes=["click_tracker", "dashboard"])
        with pytest.raises(ScopeDenied, match=r"a list of slugs.*\['dashboard'\]"):
            engine.get_scoped_db("dashboard", read_scopes="dashboard")
        with pytest.raises(ScopeDenied, match="asks to write as 'click_tracker'"):
            engine.get_scoped_db("dashboard", write_scope="click_tracker")
        narrow = engine.get_scoped_db(
            "dashboard", read_scopes=["dashboard"], write_scope="dashboard"
        )
        await narrow.reports.insert_one({})
        with pytest.raises(ScopeDenied):
            await narrow["click_tracker_clicks"].find_one({})
        with pytest.raises(ScopeDenied):
            await engine.get_scoped_db("dashboard", read_only=True).reports.insert_one({})


async def test_scopes_that_are_none_are_refused_in_words(
    mongo: Database, driver_name: DriverName
) -> None:
    async with standalone_engine(mongo, driver_name) as engine:
        await engine.register_app("shop", manifest("shop", "orders"))
        wrong: list[Any] = [7, "shop", [7], [["shop"]], [None], {"shop": 1, 7: 2}, object(), True]
        for scopes in wrong:
            with pytest.raises(ScopeDenied, match="read_scopes= is a list of slugs"):
                engine.get_scoped_db("shop", read_scopes=scopes)
        for scope in (7, ["shop"], object()):
            with pytest.raises(ScopeDenied, match="write_scope="):
                engine.get_scoped_db("shop", write_scope=scope)  # type: ignore[arg-type]


async def test_a_token_comes_from_the_argument_the_environment_or_the_database(
    mongo: Database, driver_name: DriverName, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with standalone_engine(mongo, driver_name) as first:
        await first.register_app("click_tracker", CLICKS)
        token = await first._app_secrets_manager.rotate_app_secret("click_tracker")
        leakscan.register(token, "the app's secret")

        async with standalone_engine(mongo, driver_name) as other:
            # This process did not register the app, and nothing tells it the token.
            with pytest.raises(TokenRequired, match="CLICK_TRACKER_SECRET"):
                other.get_scoped_db("click_tracker")
            with pytest.raises(InvalidToken):
                other.get_scoped_db("click_tracker", app_token="wrong")
            with pytest.raises(NotRegistered):
                other.get_scoped_db("nobody", app_token="wrong")
            with pytest.raises(NotRegistered, match="by its slug, not by a NoneType"):
                other.get_scoped_db(None)  # type: ignore[arg-type]
            with pytest.raises(InvalidToken) as undecodable:
                other.get_scoped_db("click_tracker", app_token="\ud800" + token)
            assert undecodable.value.__context__ is None
            await other.get_scoped_db("click_tracker", app_token=token).clicks.find_one({})
            monkeypatch.setenv("CLICK_TRACKER_SECRET", token)
            await other.get_scoped_db("click_tracker").clicks.find_one({})

        monkeypatch.setenv("CLICK_TRACKER_SECRET", "stale")
        async with standalone_engine(mongo, driver_name) as third:
            await third.register_app("click_tracker", CLICKS)
            with pytest.raises(InvalidToken):
                third.get_scoped_db("click_tracker")


async def test_a_rotation_reaches_other_processes_and_the_old_secret_works_on(
    mongo: Database, driver_name: DriverName
) -> None:
    async with (
        standalone_engine(mongo, driver_name) as one,
        standalone_engine(mongo, driver_name) as two,
    ):
        await one.register_app("click_tracker", CLICKS)
        await two.register_app("click_tracker", CLICKS)
        handles = [each.get_scoped_db("click_tracker") for each in (one, two)]
        session = two.sessions("click_tracker").issue("ada")
        old = (await one.rotate_app_secret("click_tracker")).get_secret_value()
        leakscan.register(old, "the app's secret")
        new = (await one.rotate_app_secret("click_tracker")).get_secret_value()
        leakscan.register(new, "the app's secret")
        for token in (old, new):
            await one.get_scoped_db("click_tracker", app_token=token).clicks.find_one({})
        for handle in handles:
            await handle.clicks.find_one({})
        hosting = two._hosting
        assert isinstance(hosting, StandaloneHosting)
        await wait_until_async(
            lambda: hosting._versions["click_tracker"] == {1, 2, 3},
            message="the other process to find the new version",
        )
        assert two.sessions("click_tracker").verify(session).subject == "ada"

        await hosting.registry.revoke_previous("click_tracker")
        await wait_until_async(
            lambda: hosting._versions["click_tracker"] == {3},
            message="the process to let go of what was revoked",
        )
        with pytest.raises(InvalidToken):
            two.sessions("click_tracker").verify(session)


async def test_registering_at_once_in_many_processes_ends_with_one_secret(
    mongo: Database, driver_name: DriverName
) -> None:
    engines = [standalone_engine(mongo, driver_name) for _ in range(5)]
    try:
        await asyncio.gather(*(engine.initialize() for engine in engines))
        await asyncio.gather(*(one.register_app("click_tracker", CLICKS) for one in engines))
        for engine in engines:
            await engine.get_scoped_db("click_tracker").clicks.insert_one({})
        row = mongo.client[mongo.name]["_mdb_engine_app_secrets"].find_one({})
        assert row is not None
        assert row["rotation_count"] == 0
    finally:
        await asyncio.gather(*(engine.shutdown() for engine in engines))


async def test_a_refused_manifest_leaves_nothing_behind(
    mongo: Database, driver_name: DriverName
) -> None:
    async with standalone_engine(mongo, driver_name) as engine:
        for wrong in ({**CLICKS, "slog": 1}, {**CLICKS, "slug": "other"}):
            with pytest.raises(ManifestInvalid):
                await engine.register_app("click_tracker", wrong)
        assert mongo.client[mongo.name]["apps_config"].count_documents({}) == 0


async def test_without_binding_and_key_it_says_what_is_missing(driver_name: DriverName) -> None:
    bare = MongoDBEngine("mongodb://localhost", "x", driver=driver_name, settings=EngineSettings())
    with pytest.raises(MasterKeyError, match="Master key not found"):
        await bare.initialize()
    with pytest.raises(ValueError, match="Master key not found"):
        await bare.initialize()
    keyed = MongoDBEngine(driver=driver_name, settings=EngineSettings(master_key=MASTER_KEY))
    with pytest.raises(BindingError, match="MONGODB_URI"):
        await keyed.initialize()


async def test_before_and_after_its_life_it_refuses(
    mongo: Database, driver_name: DriverName
) -> None:
    engine = standalone_engine(mongo, driver_name)
    calls: list[Any] = [lambda: engine.get_scoped_db("click_tracker"), engine.transaction]
    for call in calls:
        with pytest.raises(NotInitialized):
            call()
    await engine.initialize()
    await engine.initialize()
    await engine.register_app("click_tracker", CLICKS)
    db = engine.get_scoped_db("click_tracker")
    await engine.shutdown()
    await engine.shutdown()
    with pytest.raises(NotInitialized):
        await db.clicks.find_one({})
    async with engine:
        with pytest.raises(NotInitialized):
            await db.clicks.find_one({})


async def test_an_operation_costs_one_command(mongo: Database, driver_name: DriverName) -> None:
    commands = Commands()
    engine = MongoDBEngine(
        mongo.uri,
        mongo.name,
        driver=driver_name,
        settings=EngineSettings(master_key=SecretStr(MASTER_KEY)),
        client_options={"event_listeners": [commands]},
    )
    async with engine:
        await engine.register_app("click_tracker", CLICKS)
        commands.clear()
        for _ in range(5):
            # As a request does it: a handle of its own, whose token is checked.
            await engine.get_scoped_db("click_tracker").clicks.find_one({})
        seen = [event.command.get("find") for event in commands.started_events]
        assert [name for name in seen if name != GRANTS_COLLECTION] == ["click_tracker_clicks"] * 5


async def test_a_wrong_uri_is_never_shown(driver_name: DriverName) -> None:
    password = "correct-horse-battery"
    leakscan.register(password, "a password")
    for uri in (
        f"mongodb://user:{password}@[broken",
        f"mongodb://user:{password}@127.0.0.1:1/?serverSelectionTimeoutMS=50",
        f"mongodb://us:er:{password}@h/",
    ):
        settings = EngineSettings(master_key=MASTER_KEY)
        engine = MongoDBEngine(
            uri, "x", driver=driver_name, settings=settings,
            client_options={"serverSelectionTimeoutMS": 50},
        )  # fmt: skip
        with pytest.raises(Exception, match="MongoDB") as caught:
            await engine.initialize()
        shown = f"{engine!r} {engine.settings!r} {caught.value!r} {caught.getrepr(style='native')}"
        assert leakscan.occurrences(shown) == []


async def test_a_handle_may_have_limits_of_its_own(
    mongo: Database, driver_name: DriverName
) -> None:
    async with standalone_engine(mongo, driver_name) as engine:
        await engine.register_app("click_tracker", CLICKS)
        nightly = engine.get_scoped_db("click_tracker", limits=Limits(max_time_ms=3_600_000))
        assert await nightly.clicks.find({}, max_time_ms=3_000_000).to_list() == []
        with pytest.raises(LimitExceeded, match="max_time_ms, 30000"):
            engine.get_scoped_db("click_tracker").clicks.find({}, max_time_ms=3_000_000)


async def test_an_index_that_cannot_be_built_stops_no_app_and_is_logged(
    mongo: Database, driver_name: DriverName, caplog: pytest.LogCaptureFixture
) -> None:
    indexed = manifest("click_tracker", "clicks")
    indexed["managed_indexes"]["clicks"] = [{"name": "u", "keys": {"n": 1}, "unique": True}]
    async with standalone_engine(mongo, driver_name) as engine:
        await engine.register_app("click_tracker", manifest("click_tracker", "clicks"))
        clicks = engine.get_scoped_db("click_tracker").clicks
        await clicks.insert_many([{"n": 1}, {"n": 1}])
        await engine.register_app("click_tracker", indexed)
        assert await clicks.count_documents({}) == 2
        assert (await clicks.options())["validator"] == {"app_id": {"$eq": "click_tracker"}}
    assert "Index 'u' cannot be built on 'clicks': DuplicateKey" in caplog.text
