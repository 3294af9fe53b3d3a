"""An app that exists takes the engine in: alone, in a pod, under every server."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from support.engine_world import MASTER_KEY, OperatorHand, standalone_engine
from support.mongo import Database
from support.waiting import wait_until, wait_until_async
from websockets.sync.client import connect

from devcluster.node.addresses import free_port
from mdb_engine import ManifestInvalid, MongoDBEngine, NotInitialized, ScopedDatabase
from mdb_engine.fastapi import get_scoped_db, install

pytestmark = pytest.mark.long

PROGRAMS = Path(__file__).parent / "programs"
PROGRAM = PROGRAMS / "existing.py"
MANIFEST = {"slug": "shop", "managed_indexes": {"orders": []}}
Db = Annotated[ScopedDatabase, Depends(get_scoped_db)]


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an app as a server would, the state of its lifespan included."""
    state: dict[str, Any] = {}
    received: asyncio.Queue[Any] = asyncio.Queue()
    sent: asyncio.Queue[Any] = asyncio.Queue()
    scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
    running = asyncio.create_task(app(scope, received.get, sent.put))
    await received.put({"type": "lifespan.startup"})
    said = await asyncio.wait_for(sent.get(), 30)
    assert said["type"] == "lifespan.startup.complete", said

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    try:
        transport = httpx.ASGITransport(with_state, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield http
    finally:
        await received.put({"type": "lifespan.shutdown"})
        await asyncio.wait_for(running, 30)


def environment_of(mongo: Database, **more: str) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MONGODB_URI": mongo.uri,
        "MONGODB_DB": mongo.name,
        "MDB_ENGINE_MASTER_KEY": MASTER_KEY,
        **more,
    }


@contextmanager
def served(
    mongo: Database, directory: Path, command: Callable[[int], list[str]], source: Path = PROGRAMS
) -> Iterator[tuple[str, Path]]:
    """Run a server until the app is ready; give its host, and what the app has noted."""
    port, log, events = free_port(), directory / "log", directory / "events"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command(port),
            cwd=source,
            env=environment_of(mongo, EVENTS=str(events)),
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        host = f"127.0.0.1:{port}"
        try:
            wait_until(
                lambda: httpx.get(f"http://{host}/ready", timeout=5).is_success,
                deadline=60,
                message=lambda: f"the app is ready; its log:\n{log.read_text()}",
                ignoring=httpx.TransportError,
            )
            yield host, events
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert process.returncode in {0, -signal.SIGTERM}, log.read_text()
    assert MASTER_KEY not in log.read_text()
    assert "Task was destroyed" not in log.read_text()


def fail(reason: str) -> None:
    raise RuntimeError(reason)


def uvicorn(*options: str) -> Callable[[int], list[str]]:
    return lambda port: ["uvicorn", "existing:app", "--port", str(port), *options]


def gunicorn(*options: str) -> Callable[[int], list[str]]:
    worker = ("-k", "uvicorn_worker.UvicornWorker", "-w", "2", "-b")
    return lambda port: ["gunicorn", "existing:app", *worker, f"127.0.0.1:{port}", *options]


def test_everything_that_an_app_does_works_behind_a_real_server(
    mongo: Database, tmp_path: Path
) -> None:
    with (
        served(mongo, tmp_path, uvicorn()) as (host, events),
        httpx.Client(base_url=f"http://{host}", timeout=20) as http,
    ):
        assert http.get("/state").json() == 0
        first = http.post("/orders").json()["id"]
        assert http.get("/inner/count").json() == 1
        assert first in http.get("/orders/stream").text
        assert http.get("/orders/of-a-yielding-dependency").json() == 1
        assert http.get("/orders/count/after the response").json()["count"] == 1
        assert http.post("/orders/later").is_success
        wait_until(
            lambda: http.get("/orders/count/background").json()["count"] == 1,
            message="the background task has written",
        )
        with connect(f"ws://{host}/orders/live") as socket:
            socket.send("by websocket")
            assert socket.recv() == '{"count":4}'
        refused = http.get("/orders/foreign")
        assert (refused.status_code, refused.json()["error"]) == (400, "query_refused")
        assert events.read_text().split() == ["up"]
    assert events.read_text().split() == ["up", "down"]
    kinds = {one["kind"] for one in mongo.client[mongo.name].shop_orders.find()}
    assert kinds == {"order", "after the response", "background", "by websocket", "goodbye"}


def test_what_the_app_had_stays_its_own(mongo: Database, tmp_path: Path) -> None:
    with (
        served(mongo, tmp_path, uvicorn()) as (host, _),
        httpx.Client(base_url=f"http://{host}", timeout=20) as http,
    ):
        assert http.get("/health").json() == "my own"
        assert http.get("/ready").json()["ready"]
        answer = http.get("/state", headers={"Origin": "https://here.example"})
        assert answer.headers["access-control-allow-origin"] == "https://here.example"
        broken = http.get("/broken")
        assert (broken.status_code, broken.text) == (500, "Internal Server Error")


@pytest.mark.parametrize(
    "command",
    [uvicorn("--workers", "2"), gunicorn(), gunicorn("--preload")],
    ids=["uvicorn", "gunicorn", "gunicorn, loaded before it forks"],
)
def test_several_workers_have_an_engine_each(
    mongo: Database, tmp_path: Path, command: Callable[[int], list[str]]
) -> None:
    with served(mongo, tmp_path, command) as (host, events):
        wait_until(lambda: len(events.read_text().split()) == 2, message="both workers are up")
        asked = [httpx.get(f"http://{host}/orders/count/x", timeout=20) for _ in range(40)]
        assert all(one.is_success for one in asked)
        assert len({one.json()["process"] for one in asked}) == 2
    assert sorted(events.read_text().split()) == ["down", "down", "up", "up"]
    assert mongo.client[mongo.name]["_mdb_engine_grants"].count_documents({}) == 1


def test_a_reload_takes_the_new_program_and_closes_the_old_engine(
    mongo: Database, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    program = source / "existing.py"
    program.write_text(PROGRAM.read_text())
    with served(mongo, tmp_path, uvicorn("--reload"), source) as (host, events):
        assert httpx.post(f"http://{host}/orders", timeout=20).is_success
        program.write_text(PROGRAM.read_text().replace('"my own"', '"another"'))
        wait_until(
            lambda: httpx.get(f"http://{host}/health", timeout=5).json() == "another",
            deadline=60,
            message="the new program answers",
            ignoring=httpx.TransportError,
        )
        assert httpx.get(f"http://{host}/orders/count/order", timeout=20).json()["count"] == 1
    assert events.read_text().split() == ["up", "down", "up", "down"]


@pytest.fixture
def existing(monkeypatch: pytest.MonkeyPatch, mongo: Database) -> ModuleType:
    """Give the program, loaded anew."""
    for name, value in environment_of(mongo).items():
        if name.startswith("M"):
            monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("existing", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["existing"] = module
    spec.loader.exec_module(module)
    return module


async def test_dependencies_are_overridden_without_an_engine(existing: ModuleType) -> None:
    class Orders:
        async def count_documents(self, _: dict[str, Any]) -> int:
            return 7

    class Fake:
        orders = Orders()

    existing.app.dependency_overrides[get_scoped_db] = Fake
    transport = httpx.ASGITransport(existing.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        assert (await http.get("/orders/count/x")).json()["count"] == 7
    assert not existing.engine.initialized


async def test_in_a_pod_that_is_registered_late_the_lifespan_is_entered_late(
    operator: OperatorHand,
) -> None:
    """The server serves meanwhile, so that /ready can say what is missing."""
    await operator.register("shop", "orders")
    grants = operator.mongo.client[operator.mongo.name]["_mdb_engine_grants"]
    [row] = grants.find({"_id": "shop"})
    grants.delete_one({"_id": "shop"})
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        task = asyncio.current_task()
        events.append("up")
        yield {"found": await engine.get_scoped_db("shop").orders.count_documents({})}
        assert asyncio.current_task() is task
        await engine.get_scoped_db("shop").orders.insert_one({"kind": "goodbye"})
        events.append("down")

    app = FastAPI(lifespan=lifespan)

    @app.get("/state")
    async def state(request: Request) -> int:
        return int(request.state.found)

    engine = operator.pod("shop", startup_deadline=0.2)
    install(app, engine, "shop", MANIFEST)
    async with serving(app) as http:
        assert (await http.get("/ready")).status_code == 503
        assert (await http.get("/health")).status_code == 200
        assert events == []
        grants.insert_one(row)

        async def ready() -> bool:
            return (await http.get("/ready")).is_success

        await wait_until_async(ready, deadline=20, message="the app is ready")
        assert (await http.get("/state")).json() == 0
    assert events == ["up", "down"]
    assert not engine.initialized


async def test_a_lifespan_that_fails_ends_the_start_and_the_engine(mongo: Database) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        fail("the cache cannot be filled")
        yield

    engine = standalone_engine(mongo, "pymongo")
    app = FastAPI(lifespan=lifespan)
    install(app, engine, "shop", MANIFEST)
    with pytest.raises(RuntimeError, match="the cache cannot be filled"):
        async with app.router.lifespan_context(app):
            pass
    assert not engine.initialized


async def test_a_lifespan_that_fails_to_end_still_ends_the_engine(mongo: Database) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        fail("the queue cannot be emptied")

    engine = standalone_engine(mongo, "pymongo")
    app = FastAPI(lifespan=lifespan)
    install(app, engine, "shop", MANIFEST)
    with pytest.raises(RuntimeError, match="the queue cannot be emptied"):
        async with app.router.lifespan_context(app):
            assert engine.initialized
    assert not engine.initialized


async def test_create_app_takes_a_lifespan_and_hooks(mongo: Database) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        events.append("lifespan up")
        yield
        events.append("lifespan down")

    app = standalone_engine(mongo, "pymongo").create_app(
        "shop",
        MANIFEST,
        lifespan=lifespan,
        on_startup=lambda: events.append("hook up"),
        on_shutdown=lambda: events.append("hook down"),
    )
    async with app.router.lifespan_context(app):
        pass
    assert events == ["lifespan up", "hook up", "hook down", "lifespan down"]


async def test_a_policy_of_the_manifest_guards_the_routes_that_were_there(
    mongo: Database,
) -> None:
    app = FastAPI()

    @app.get("/orders")
    async def orders(db: Db) -> int:
        return await db.orders.count_documents({})

    policy = {"authorization": {"policies": [["user:ada", "/orders", "read"]]}}
    manifest = {**MANIFEST, "auth": {"policy": policy}}
    install(app, standalone_engine(mongo, "pymongo"), "shop", manifest)
    async with serving(app) as http:
        assert (await http.get("/orders")).status_code == 401
        assert (await http.get("/health")).status_code == 200


async def test_install_refuses_what_cannot_work(mongo: Database) -> None:
    engine = standalone_engine(mongo, "pymongo")
    app = FastAPI()
    with pytest.raises(ManifestInvalid, match="the app is 'other'"):
        install(app, engine, "other", MANIFEST)
    install(app, engine, "shop", MANIFEST)
    with pytest.raises(NotInitialized, match="is app 'shop' already"):
        install(app, engine, "shop", MANIFEST)

    crossing = FastAPI()
    crossing.add_middleware(CORSMiddleware, allow_origins=["*"])
    cors = {"enabled": True, "allow_origins": ["https://here.example"]}
    with pytest.raises(ManifestInvalid, match="has a CORSMiddleware; keep one"):
        install(crossing, engine, "shop", {**MANIFEST, "cors": cors})

    started = FastAPI()
    started.middleware_stack = started.build_middleware_stack()
    with pytest.raises(NotInitialized, match="has been started; call install before that"):
        install(started, engine, "shop", MANIFEST)


async def test_an_app_without_an_engine_says_what_to_call() -> None:
    app = FastAPI()

    @app.get("/orders")
    async def orders(db: Db) -> None:
        raise AssertionError

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        with pytest.raises(NotInitialized, match=r"mdb_engine\.fastapi\.install"):
            await http.get("/orders")


def test_two_apps_do_not_share_what_install_made(mongo: Database) -> None:
    engine = MongoDBEngine(mongo.uri, mongo.name)
    apps = [FastAPI(), FastAPI()]
    for app in apps:
        install(app, engine, "shop", MANIFEST)
    assert apps[0].state.mdb is not apps[1].state.mdb
