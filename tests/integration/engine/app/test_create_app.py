from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request, Response
from pydantic import SecretStr
from support.engine_world import MASTER_KEY, OperatorHand, manifest, standalone_engine
from support.mongo import Database
from support.waiting import wait_until_async

from mdb_engine import (
    DatabaseUnavailable,
    InvalidToken,
    ManifestInvalid,
    MongoDBEngine,
    ScopedDatabase,
)
from mdb_engine.access.sessions import cookie_name
from mdb_engine.config import EngineSettings
from mdb_engine.connection.driver import DriverName
from mdb_engine.fastapi import (
    current_user,
    end_session,
    get_engine,
    get_scoped_db,
    require,
    start_session,
)

Db = Annotated[ScopedDatabase, Depends(get_scoped_db)]


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Run an app's lifespan and answer requests to it, as a server would."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="https://test") as http,
    ):
        yield http


def add_routes(app: FastAPI) -> None:
    @app.post("/track")
    async def track(db: Db) -> dict[str, Any]:
        return {"id": (await db.clicks.insert_one({"url": "/"})).inserted_id}

    @app.get("/clicks")
    async def clicks(db: Db) -> list[dict[str, Any]]:
        return await db.clicks.find({}).to_list(10)

    @app.get("/foreign")
    async def foreign(db: Db) -> dict[str, Any] | None:
        return await db["bank_accounts"].find_one({})

    @app.get("/where")
    async def where(db: Db) -> dict[str, Any] | None:
        return await db.clicks.find_one({"$where": "true"})

    @app.post("/login/{name}")
    async def login(name: str, request: Request, response: Response) -> dict[str, str]:
        return {"token": start_session(request, response, name)}

    @app.post("/logout")
    async def logout(request: Request, response: Response) -> None:
        end_session(request, response)

    @app.get("/me")
    async def me(user: Annotated[str, Depends(current_user)]) -> dict[str, str]:
        return {"user": user}

    @app.get("/engine")
    async def engine_of(engine: Annotated[MongoDBEngine, Depends(get_engine)]) -> dict[str, Any]:
        return {"multi_site": engine.is_multi_site("click_tracker")}


async def test_an_app_of_its_own_from_start_to_shutdown(
    mongo: Database, driver_name: DriverName, tmp_path: Path
) -> None:
    called: list[str] = []
    path = tmp_path / "manifest.json"
    path.write_text(
        '{"slug": "click_tracker", "name": "Clicks", "managed_indexes": {"clicks": []}, '
        '"cors": {"enabled": true, "allow_origins": ["https://shop.example"]}}'
    )
    engine = standalone_engine(mongo, driver_name)

    async def started(app: FastAPI) -> None:
        called.append(app.title)
        await engine.get_scoped_db("click_tracker").clicks.delete_many({})

    app = engine.create_app(
        "click_tracker",
        path,
        version="7",
        on_startup=started,
        on_shutdown=lambda: called.append("shutdown"),
    )
    add_routes(app)
    async with serving(app) as http:
        assert app.version == "7"
        assert (await http.get("/health")).json() == {"status": "healthy", "slug": "click_tracker"}
        ready = await http.get("/ready")
        assert (ready.status_code, ready.json()["ready"]) == (200, True)
        tracked = await http.post("/track")
        assert tracked.status_code == 200, tracked.text
        clicks = (await http.get("/clicks")).json()
        assert [one["_id"] for one in clicks] == [tracked.json()["id"]]
        assert (await http.get("/engine")).json() == {"multi_site": False}

        refused = await http.get("/where")
        assert (refused.status_code, refused.json()["error"]) == (400, "query_refused")
        assert "$where" in refused.json()["path"]

        crossed = await http.get("/clicks", headers={"Origin": "https://shop.example"})
        assert crossed.headers["access-control-allow-origin"] == "https://shop.example"

        assert (await http.get("/me")).status_code == 401
        login = await http.post("/login/ada")
        cookie = login.headers["set-cookie"]
        assert all(part in cookie for part in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"))
        assert cookie_name("click_tracker") in cookie
        assert (await http.get("/me")).json() == {"user": "ada"}
        await http.post("/logout")
        assert (await http.get("/me")).status_code == 401
        bearer = {"Authorization": f"Bearer {login.json()['token']}"}
        assert (await http.get("/me", headers=bearer)).json() == {"user": "ada"}
        forged = await http.get("/me", headers={"Authorization": "Bearer x.y.z"})
        assert (forged.status_code, forged.json()["error"]) == (401, "invalid_token")
    assert called == ["Clicks", "shutdown"]
    assert not engine.initialized


async def test_policy_stands_before_every_route(mongo: Database, driver_name: DriverName) -> None:
    engine = standalone_engine(mongo, driver_name)
    app = engine.create_app(
        "click_tracker",
        {
            **manifest("click_tracker", "clicks"),
            "auth": {
                "policy": {
                    "provider": "casbin",
                    "allow_anonymous": True,
                    "authorization": {
                        "policies": [
                            ["anonymous", "/login/{name}", "write"],
                            ["member", "/clicks", "read"],
                            ["member", "/admin", "read"],
                        ],
                        "roles": [["ada", "member"]],
                    },
                }
            },
        },
    )
    add_routes(app)

    @app.get("/admin", dependencies=[Depends(require("administer", "everything"))])
    async def admin() -> None:
        return None

    async with serving(app) as http:
        assert (await http.get("/ready")).status_code == 200
        assert (await http.get("/clicks")).json()["error"] == "policy_denied"
        await http.post("/login/eve")
        assert (await http.get("/clicks")).status_code == 403
        http.cookies.clear()
        await http.post("/login/ada")
        assert (await http.get("/clicks")).status_code == 200
        assert (await http.post("/track")).status_code == 403
        assert (await http.get("/admin")).status_code == 403


def test_what_cannot_work_refuses_the_start() -> None:
    engine = MongoDBEngine(settings=EngineSettings())
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"auth": {"policy": {"provider": "opa"}}}, "auth.policy.provider"),
        ({"cors": {"enabled": True, "allow_origins": ["*"], "allow_credentials": True}}, "cors"),
        ({"slug": "other", "data_access": {}}, "slug"),
    ]
    for part, path in wrong:
        with pytest.raises(ManifestInvalid) as refused:
            engine.create_app("click_tracker", {**manifest("click_tracker"), **part})
        assert str(refused.value.path).startswith(path)


async def test_without_mongodb_an_app_of_its_own_does_not_start(driver_name: DriverName) -> None:
    settings = EngineSettings(master_key=SecretStr(MASTER_KEY), startup_deadline=0.2)
    engine = MongoDBEngine(
        "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50",
        "x",
        driver=driver_name,
        settings=settings,
        client_options={"serverSelectionTimeoutMS": 50},
    )
    app = engine.create_app("click_tracker", manifest("click_tracker"))
    with pytest.raises(DatabaseUnavailable, match="could not be registered within"):
        async with serving(app):
            pass


async def test_a_pod_that_is_not_registered_yet_says_so_and_then_becomes_ready(
    operator: OperatorHand, caplog: pytest.LogCaptureFixture
) -> None:
    await operator.register("click_tracker", "clicks")
    collection = operator.mongo.client[operator.mongo.name]["_mdb_engine_grants"]
    row = collection.find_one_and_delete({"slug": "click_tracker"})
    assert row is not None
    called: list[str] = []
    engine = operator.pod("click_tracker", startup_deadline=0.1)
    app = engine.create_app(
        "click_tracker",
        manifest("click_tracker", "clicks", reads=("bank",)),
        on_startup=lambda: called.append("startup"),
    )
    add_routes(app)
    async with serving(app) as http:
        assert (await http.get("/health")).status_code == 200

        async def says_why() -> bool:
            answer = await http.get("/ready")
            assert answer.status_code == 503
            return "not registered" in answer.json()["checks"]["startup"]

        await wait_until_async(says_why, message="/ready to say what it waits for")
        assert (await http.post("/track")).status_code == 503
        assert called == []

        collection.insert_one(row)

        async def ready() -> bool:
            return (await http.get("/ready")).status_code == 200

        await wait_until_async(ready, message="the app to become ready")
        assert called == ["startup"]
        assert (await http.post("/track")).status_code == 200
        assert (await http.get("/foreign")).status_code == 403
        notes = (await http.get("/ready")).json()["notes"]
        assert notes == ["manifest.json differs from what is registered"]
        assert "manifest.json reads bank, which is not granted" in caplog.text


async def test_a_pod_with_another_apps_secret_mounted_does_not_start(
    operator: OperatorHand,
) -> None:
    await operator.register("bank", "accounts")
    engine = operator.pod("click_tracker")
    app = engine.create_app("click_tracker", manifest("click_tracker"))
    with pytest.raises(InvalidToken, match="is for app bank, not 'click_tracker'"):
        async with serving(app):
            pass
