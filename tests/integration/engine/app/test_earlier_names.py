"""Programs of the earlier version run unmodified: alone, and in a pod."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from support import leakscan
from support.engine_world import OperatorHand, manifest, standalone_engine
from support.mongo import Database

from mdb_engine import InvalidToken, MongoDBEngine, ScopedDatabase
from mdb_engine.connection.driver import DriverName
from mdb_engine.dependencies import get_scoped_db
from mdb_engine.engine import earlier

SLUG = "click_tracker"


@pytest.fixture(autouse=True)
def _said_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earlier, "_said", set())
    monkeypatch.delenv("CLICK_TRACKER_SECRET", raising=False)


def earlier_app(engine: MongoDBEngine) -> FastAPI:
    """Return an app as its programmers wrote them then."""
    app = engine.create_app(slug=SLUG, manifest=manifest(SLUG, "clicks"), title="Click Tracker")

    async def database() -> ScopedDatabase:
        token = engine.get_app_token(SLUG) or await engine.auto_retrieve_app_token(SLUG)
        if not token:
            raise HTTPException(500, "App token not available")
        return engine.get_scoped_db(SLUG, app_token=token)

    @app.get("/secret-info")
    async def secret_info() -> dict[str, bool]:
        manager = engine._app_secrets_manager
        return {
            "secret_configured": engine.get_app_token(SLUG) is not None,
            "engine_initialized": engine._initialized,
            "secret_exists_in_db": manager is not None and await manager.app_secret_exists(SLUG),
        }

    @app.post("/track")
    async def track() -> dict[str, str]:
        result = await (await database()).clicks.insert_one({"url": "/"})
        return {"click_id": str(result.inserted_id)}

    @app.get("/clicks")
    async def clicks() -> dict[str, int]:
        found = await (await database()).clicks.find({}).sort("_id", -1).to_list(length=100)
        return {"count": len(found)}

    return app


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        yield client


async def use(client: httpx.AsyncClient) -> None:
    assert (await client.post("/track")).status_code == 200
    assert (await client.get("/clicks")).json() == {"count": 1}
    assert set((await client.get("/secret-info")).json().values()) == {True}
    assert (await client.get("/health")).json()["status"] == "healthy"


async def test_an_earlier_program_runs_alone(mongo: Database, driver_name: DriverName) -> None:
    engine = standalone_engine(mongo, driver_name)
    async with served(earlier_app(engine)) as client:
        await use(client)
        status = await engine.get_health_status()
        assert status["status"] == "healthy"
        assert {check["name"] for check in status["checks"]} >= {"engine", f"{SLUG} database"}


async def test_an_earlier_program_runs_in_a_pod(operator: OperatorHand) -> None:
    await operator.register(SLUG, "clicks")
    async with operator.pod(SLUG) as engine, served(earlier_app(engine)) as client:
        assert engine.in_pod
        await use(client)
        await operator.rotate(SLUG)
        assert (await client.get("/clicks")).json() == {"count": 1}


def documented_apps(engine: MongoDBEngine, directory: Path) -> list[FastAPI]:
    """Return apps by the three patterns of the earlier version's quick start."""
    path = directory / "manifest.json"
    path.write_text(json.dumps(manifest(SLUG, "clicks")))

    @asynccontextmanager
    async def by_hand(app: FastAPI) -> AsyncIterator[None]:
        await engine.initialize()
        loaded = await engine.load_manifest(path)
        await engine.register_app(loaded, create_indexes=True)
        assert engine.get_app(SLUG) is not None
        yield
        await engine.shutdown()

    apps = [
        engine.create_app(slug=SLUG, manifest=path),
        FastAPI(lifespan=engine.lifespan(SLUG, path)),
        FastAPI(lifespan=by_hand),
    ]

    async def database() -> ScopedDatabase:
        return engine.get_scoped_db(SLUG, app_token=engine.get_app_token(SLUG))

    dependencies: list[Callable[..., Any]] = [get_scoped_db, get_scoped_db, database]
    for app, dependency in zip(apps, dependencies, strict=True):

        @app.post("/tasks")
        async def create_task(
            task: dict[str, Any],
            db: ScopedDatabase = Depends(dependency),
        ) -> dict[str, str]:
            return {"id": str((await db.clicks.insert_one(task)).inserted_id)}

        @app.get("/tasks")
        async def list_tasks(
            db: ScopedDatabase = Depends(dependency),
        ) -> list[dict[str, Any]]:
            found = await db.clicks.find({"status": "pending"}).to_list(length=10)
            return [{**one, "_id": str(one["_id"])} for one in found]

        @app.get("/wrong")
        async def wrong(
            db: ScopedDatabase = Depends(dependency),
        ) -> None:
            await db.clicks.find_one({"$where": "true"})

    return apps


async def use_documented(engine: MongoDBEngine, directory: Path) -> None:
    for number, app in enumerate(documented_apps(engine, directory)):
        for _ in range(2):  # an app is started again, too
            async with served(app) as client:
                assert (await client.post("/tasks", json={"status": "pending"})).status_code == 200
                assert (await client.get("/tasks")).json()[0]["status"] == "pending"
                if number < 2:
                    assert (await client.get("/wrong")).json()["error"] == "query_refused"
                    assert (await client.get("/ready")).status_code == 200


async def test_what_the_earlier_documents_show_runs_alone(
    mongo: Database, driver_name: DriverName, tmp_path: Path
) -> None:
    await use_documented(standalone_engine(mongo, driver_name), tmp_path)


async def test_what_the_earlier_documents_show_runs_in_a_pod(
    operator: OperatorHand, tmp_path: Path
) -> None:
    await operator.register(SLUG, "clicks")
    await use_documented(operator.pod(SLUG), tmp_path)


@pytest.mark.parametrize("right", ["right", ""], ids=["right", "wrong"])
async def test_an_earlier_compose_files_name_of_a_secret_is_said_once_and_locks_nobody_out(
    mongo: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, right: str
) -> None:
    caplog.set_level(logging.WARNING, "mdb_engine.earlier")
    slug = f"{SLUG}_dashboard"
    wanted = manifest(slug, "reports", reads=(SLUG,))
    async with standalone_engine(mongo, "pymongo") as engine:
        await engine.register_app(SLUG, manifest(SLUG, "clicks"))
        await engine.register_app(slug, wanted)
        secret = (await engine.rotate_app_secret(slug)).get_secret_value()
        leakscan.register(secret, "the app's secret")
        monkeypatch.setenv("DASHBOARD_SECRET", secret if right else "of-something-else")
        for _ in range(2):
            await engine.register_app(slug, wanted)
        assert await engine.get_scoped_db(slug).reports.count_documents({}) == 0
    [said] = [one.message for one in caplog.records if one.name == "mdb_engine.earlier"]
    verdict = "is its secret" if right else "is not its secret, and ignored"
    name = "the name is CLICK_TRACKER_DASHBOARD_SECRET"
    assert said == f"app {slug}: DASHBOARD_SECRET {verdict}; {name}"


async def test_a_usual_name_of_another_secret_is_no_alias(
    mongo: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "mdb_engine.earlier")
    monkeypatch.setenv("API_SECRET", "of-something-else")
    async with standalone_engine(mongo, "pymongo") as engine:
        await engine.register_app("shop", manifest("shop", "orders"))
        await engine.register_app("shop_api", manifest("shop_api", "calls", reads=("shop",)))
    assert not [one.message for one in caplog.records if one.name == "mdb_engine.earlier"]


async def test_a_token_is_looked_up_that_another_process_registered(
    mongo: Database, driver_name: DriverName
) -> None:
    async with standalone_engine(mongo, driver_name) as one:
        await one.register_app(SLUG, manifest(SLUG, "clicks"))
    async with standalone_engine(mongo, driver_name) as other:
        assert other.get_app_token(SLUG) is None
        token = await other.auto_retrieve_app_token(SLUG)
        db = other.get_scoped_db(SLUG, app_token=token)
        assert await db.clicks.count_documents({}) == 0
        assert await other.auto_retrieve_app_token("nobody") is None


async def test_the_token_shows_nothing_and_opens_no_other_app(
    mongo: Database, driver_name: DriverName
) -> None:
    async with standalone_engine(mongo, driver_name) as engine:
        await engine.register_app(SLUG, manifest(SLUG, "clicks"))
        await engine.register_app("other", manifest("other", "rows"))
        token = engine.get_app_token(SLUG)
        assert str(token) == repr(token) == "PresentedToken(...)"
        with pytest.raises(InvalidToken):
            engine.get_scoped_db("other", app_token=token)


async def test_before_it_is_connected_there_is_nothing_and_no_error(mongo: Database) -> None:
    engine = standalone_engine(mongo, "pymongo")
    assert not engine._initialized
    assert engine._app_secrets_manager is None
    assert engine.get_app_token(SLUG) is None
    assert await engine.auto_retrieve_app_token(SLUG) is None
    assert (await engine.get_health_status())["status"] == "unhealthy"


async def test_the_log_says_once_what_each_name_is_now(
    mongo: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mdb_engine.earlier")
    engine = standalone_engine(mongo, "pymongo")
    for _ in range(3):
        engine.get_app_token(SLUG)
    [said] = [record.message for record in caplog.records]
    assert said.startswith("get_app_token is a name of the earlier version; write get_scoped_db")
