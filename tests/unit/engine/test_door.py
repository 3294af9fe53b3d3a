"""Every way to register a route, and every spelling of a path, meets the policy first.

The two tables of ``docs/security.md`` are what these tests have found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from starlette.endpoints import HTTPEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send
from support.waiting import wait_until_async
from unit.docs.pages import read

from mdb_engine import MongoDBEngine
from mdb_engine.access.sessions import SessionKeys
from mdb_engine.config import EngineSettings
from mdb_engine.exceptions import DatabaseUnavailable, MdbEngineError, ScopeDenied
from mdb_engine.fastapi import MdbRouter, current_user

MANIFEST = {
    "slug": "shop",
    "managed_indexes": {},
    "auth": {"policy": {"provider": "custom", "required": True}},
}


@dataclass
class Rights:
    """Allows one user all of a prefix, and keeps what it was asked."""

    prefix: str = "/"
    asked: list[str] = field(default_factory=list)

    async def allows(self, subject: str, action: str, resource: str) -> bool:  # noqa: ARG002
        self.asked.append(resource)
        return subject == "ada" and resource.startswith(self.prefix)


@dataclass
class Shop:
    """An app with a policy, which routes are added to."""

    rights: Rights = field(default_factory=Rights)
    served: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = MongoDBEngine("mongodb://h", "x", settings=EngineSettings())
        self.engine.sessions("shop").use(SessionKeys(1, {1: b"k" * 32}))

    def app(self, **options: Any) -> FastAPI:
        return self.engine.create_app("shop", MANIFEST, authorizer=self.rights, **options)

    def session(self, user: str) -> str:
        return self.engine.sessions("shop").issue(user)

    # What is registered, in the forms that FastAPI and Starlette take.

    async def function(self, request: Request) -> PlainTextResponse:
        self.served.append(request.url.path)
        return PlainTextResponse("served")

    def typed(self) -> Callable[..., Any]:
        async def endpoint(request: Request) -> str:
            self.served.append(request.url.path)
            return "served"

        return endpoint

    def streaming(self) -> Callable[..., Any]:
        async def endpoint(request: Request) -> AsyncIterator[dict[str, int]]:
            self.served.append(request.url.path)
            yield {"part": 1}

        return endpoint

    def posted(self) -> Callable[..., Any]:
        async def endpoint(request: Request, body: dict[str, Any]) -> str:
            self.served.append(request.url.path)
            return str(body)

        return endpoint

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.served.append(scope["path"])
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        else:
            await PlainTextResponse("served")(scope, receive, send)

    async def websocket(self, websocket: WebSocket) -> None:
        self.served.append(websocket.url.path)
        await websocket.accept()

    def websocket_typed(self) -> Callable[..., Any]:
        async def endpoint(websocket: WebSocket) -> None:
            await self.websocket(websocket)

        return endpoint

    def endpoint_class(self) -> Any:
        shop = self

        class Endpoint(HTTPEndpoint):
            async def get(self, request: Request) -> PlainTextResponse:
                return await shop.function(request)

        return Endpoint

    def sub_app(self) -> FastAPI:
        made = FastAPI()
        made.get("/a")(self.typed())
        return made


Way = Callable[[Shop], FastAPI]

WAYS: dict[str, tuple[Way, str, str]] = {}
"""How a route is registered: what does it, what is asked for, and the resource that this is."""


def way(name: str, path: str, resource: str = "") -> Callable[[Way], Way]:
    def keep(function: Way) -> Way:
        WAYS[name] = (function, path, resource or path.partition(" ")[2])
        return function

    return keep


def added(name: str, path: str, add: Callable[[Shop, FastAPI], Any], resource: str = "") -> None:
    @way(name, path, resource)
    def build(shop: Shop) -> FastAPI:
        app = shop.app()
        add(shop, app)
        return app


def included(
    name: str, path: str, add: Callable[[Shop, APIRouter], Any], resource: str = ""
) -> None:
    @way(name, path, resource)
    def build(shop: Shop) -> FastAPI:
        app, outer, router = shop.app(), APIRouter(), APIRouter()
        add(shop, router)
        outer.include_router(router, prefix="/v1")
        app.include_router(outer, prefix="/in")
        return app


added("`@app.get`", "GET /a/5", lambda s, a: a.get("/a/{n}")(s.typed()), "/a/{n}")
added("`@app.post`, with a body", "POST /a/5", lambda s, a: a.post("/a/{n}")(s.posted()), "/a/{n}")
added("`@app.get`, with `yield`", "GET /a", lambda s, a: a.get("/a")(s.streaming()))
added("`app.add_api_route`", "GET /a", lambda s, a: a.add_api_route("/a", s.typed()))
added("`app.add_route`", "GET /a/5", lambda s, a: a.add_route("/a/{n}", s.function), "/a/{n}")
added("`app.router.add_route`", "GET /a", lambda s, a: a.router.add_route("/a", s.function))
added("an `HTTPEndpoint`", "GET /a", lambda s, a: a.add_route("/a", s.endpoint_class()))
added("`app.mount`", "GET /a/b", lambda s, a: a.mount("/a", s.asgi))
added("`app.mount` of a FastAPI app", "GET /sub/a", lambda s, a: a.mount("/sub", s.sub_app()))
added("`app.mount` at the root", "GET /a", lambda s, a: a.mount("", s.asgi))
added("`app.router.mount`", "GET /a/b", lambda s, a: a.router.mount("/a", s.asgi))
added("`app.host`", "GET /a", lambda s, a: a.host("shop.example", s.asgi))
added("`app.router.host`", "GET /a", lambda s, a: a.router.host("shop.example", s.asgi))
added(
    "`app.router.routes.append`",
    "GET /a",
    lambda s, a: a.router.routes.append(Route("/a", s.function)),
)
added(
    "`app.router.routes.insert(0, ...)`",
    "GET /a",
    lambda s, a: a.router.routes.insert(0, Mount("", Router([Route("/a", s.function)]))),
)
added("`app.router.default`", "GET /a", lambda s, a: setattr(a.router, "default", s.asgi))
added("`MdbRouter`, included", "GET /a", lambda s, a: a.include_router(mdb_router(s)))
included("`@router.get`", "GET /in/v1/a/5", lambda s, r: r.get("/a/{n}")(s.typed()), "/in/v1/a/{n}")
included("`router.add_route`", "GET /in/v1/a", lambda s, r: r.add_route("/a", s.function))
included("`router.mount`", "GET /in/v1/a/b", lambda s, r: r.mount("/a", s.asgi))
included(
    "`router.routes.append`", "GET /in/v1/a", lambda s, r: r.routes.append(Route("/a", s.function))
)
included("`@router.websocket`", "WS /in/v1/a", lambda s, r: r.websocket("/a")(s.websocket_typed()))
included(
    "`router.add_websocket_route`",
    "WS /in/v1/a",
    lambda s, r: r.add_websocket_route("/a", s.websocket),
)
added(
    "`@app.websocket`", "WS /a/5", lambda s, a: a.websocket("/a/{n}")(s.websocket_typed()), "/a/{n}"
)
added(
    "`app.router.add_websocket_route`",
    "WS /a",
    lambda s, a: a.router.add_websocket_route("/a", s.websocket),
)
added("a websocket that is mounted", "WS /a/b", lambda s, a: a.mount("/a", s.asgi))
way("`create_app(routes=[Route(...)])`", "GET /a")(
    lambda s: s.app(routes=[Route("/a", s.function)])
)
way("`create_app(routes=[Mount(...)])`", "GET /a/b")(lambda s: s.app(routes=[Mount("/a", s.asgi)]))
way("`create_app(routes=[Host(...)])`", "GET /a")(
    lambda s: s.app(routes=[Host("shop.example", s.asgi)])
)


def mdb_router(shop: Shop) -> MdbRouter:
    router = MdbRouter()
    router.get("/a")(shop.typed())
    return router


@dataclass
class Answer:
    status: int
    body: bytes
    was_read: bool


async def ask(app: FastAPI, request: str, session: str = "") -> Answer:
    """Send a request as a server passes it on, with a body that is looked at when it is read."""
    method, _, path = request.partition(" ")
    headers = [(b"host", b"shop.example"), (b"content-type", b"application/json")]
    if session:
        headers.append((b"authorization", f"Bearer {session}".encode()))
    scope: Scope = {
        "type": "websocket" if method == "WS" else "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "extensions": {"websocket.http.response": {}},
    }
    if method != "WS":
        scope["method"] = method
    sent: list[Message] = []
    was_read = False

    async def receive() -> Message:
        nonlocal was_read
        if was_read:
            await asyncio.Event().wait()  # nothing more comes; what waits for it is cancelled
        was_read = True
        if method == "WS":
            return {"type": "websocket.connect"}
        return {"type": "http.request", "body": b'{"large": "body"}', "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if sent[0]["type"] == "websocket.accept":
        return Answer(101, b"", was_read)
    return Answer(sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:]), was_read)


async def tried(name: str) -> list[str]:
    """Return a row of the table: the way, what is asked for, and the three answers."""
    build, request, resource = WAYS[name]
    answers = []
    for user, right in (("", False), ("eve", False), ("ada", True)):
        shop = Shop()
        answer = await ask(build(shop), request, user and shop.session(user))
        assert bool(shop.served) is right, f"{name}: served to {user or 'nobody'}"
        assert right or not answer.was_read, f"{name}: the body was read before the refusal"
        assert shop.rights.asked == ([resource] if user else []), name
        answers.append(str(answer.status))
    return [name, f"`{request}`", f"`{resource}`", *answers]


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@pytest.mark.parametrize("name", WAYS)
async def test_nothing_is_served_that_the_policy_was_not_asked_about(name: str) -> None:
    *_, nobody, denied, allowed = await tried(name)
    assert (nobody, denied) == ("401", "403")
    assert allowed == ("101" if WAYS[name][1].startswith("WS") else "200")


async def test_the_ways_to_a_route_are_in_the_documents() -> None:
    assert len(WAYS) >= 20
    rows = [await tried(name) for name in WAYS]
    heads = ["registered by", "asked for", "resource", "no session", "no right", "the right"]
    expected = table(heads, rows)
    assert expected in read("docs/security.md"), f"docs/security.md should say:\n\n{expected}\n"


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/nowhere", "/a/", "/"])
async def test_nor_is_anything_said_about_what_there_is(path: str) -> None:
    shop = Shop()
    app = shop.app()
    app.get("/a")(shop.typed())
    assert (await ask(app, f"GET {path}")).status == 401
    assert (await ask(app, f"DELETE {path}")).status == 401


async def test_a_redirect_to_a_route_needs_the_right_to_the_route() -> None:
    shop = Shop(Rights("/a/{n}"))
    app = shop.app()
    app.get("/a/{n}/")(shop.typed())
    assert (await ask(app, "GET /a/5", shop.session("ada"))).status == 307
    assert (await ask(app, "GET /b/5", shop.session("ada"))).status == 403
    assert shop.rights.asked == ["/a/{n}/", "/b/5"]


async def test_the_probes_are_the_engines_own_and_always_open() -> None:
    shop = Shop()
    app = shop.app(routes=[Mount("", shop.asgi)], dependencies=[Depends(current_user)])
    app.get("/health")(shop.typed())
    for method in ("GET", "HEAD"):
        assert (await ask(app, f"{method} /health")).status == 200
        assert (await ask(app, f"{method} /ready")).status == 503
    app.router.routes.insert(0, Route("/ready", shop.function))
    assert (await ask(app, "GET /ready")).status == 401  # it is not the engine's any more
    assert shop.served == []


async def test_middleware_alone_comes_before_the_door() -> None:
    shop = Shop()
    app = shop.app()
    app.get("/a")(shop.typed())
    seen: list[str] = []

    @app.middleware("http")
    async def answers(request: Request, call_next: Callable[..., Any]) -> Any:
        seen.append(request.url.path)
        if request.url.path == "/middleware":
            return PlainTextResponse("served")
        return await call_next(request)

    assert (await ask(app, "GET /middleware")).status == 200
    assert (await ask(app, "GET /a")).status == 401
    assert seen == ["/middleware", "/a"]
    assert shop.served == []


async def test_a_policy_that_is_not_required_is_no_door() -> None:
    shop = Shop()
    policy = {"provider": "custom", "required": False}
    manifest = {**MANIFEST, "auth": {"policy": policy}}
    app = shop.engine.create_app("shop", manifest, authorizer=shop.rights)
    app.get("/a")(shop.typed())
    assert (await ask(app, "GET /a")).status == 200
    assert shop.rights.asked == []


async def test_a_websocket_is_closed_where_the_server_can_send_no_refusal() -> None:
    shop = Shop()
    app = shop.app()
    app.websocket("/a")(shop.websocket_typed())
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is to be read")

    await app({"type": "websocket", "path": "/a", "headers": []}, receive, send)
    assert [(one["type"], one.get("code")) for one in sent] == [("websocket.close", 1008)]
    assert shop.served == []


@pytest.mark.parametrize(
    ("error", "code"), [(ScopeDenied("no"), 1008), (DatabaseUnavailable("no"), 1011)]
)
async def test_a_websocket_that_is_open_is_closed_when_its_endpoint_fails(
    error: MdbEngineError, code: int
) -> None:
    shop = Shop()
    app = shop.app()

    @app.websocket("/a")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        raise error

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    headers = [(b"authorization", f"Bearer {shop.session('ada')}".encode())]
    extensions: dict[str, Any] = {"websocket.http.response": {}}
    scope = {"type": "websocket", "path": "/a", "query_string": b"", "headers": headers}
    await app({**scope, "extensions": extensions}, receive, send)
    assert [one["type"] for one in sent] == ["websocket.accept", "websocket.close"]
    assert sent[1]["code"] == code


SPELLINGS = {
    "/files/public/a.txt": (401, 200),
    "/files/public/a.txt?x=/../../secret.txt": (401, 200),
    "/files/public/a.txt/": (401, 200),
    "/files/public/": (401, 404),
    "/files/public": (401, 403),
    "/files/secret.txt": (401, 403),
    "/FILES/secret.txt": (401, 403),
    "/files/public/../secret.txt": (400, 400),
    "/files/public/%2e%2e/secret.txt": (400, 400),
    "/files/public/.%2E/secret.txt": (400, 400),
    "/files/public/x/../../secret.txt": (400, 400),
    "/files/public/..": (400, 400),
    "/files/public/./a.txt": (400, 400),
    "/files/public//a.txt": (400, 400),
    "//files/public/a.txt": (400, 400),
    "/files/public/a.txt//": (400, 400),
    "/files/public%2fa.txt": (400, 400),
    "/files/public/..%2Fsecret.txt": (400, 400),
    "/files/public/..%5csecret.txt": (400, 400),
    "/files/public/..\\secret.txt": (400, 400),
    "/files/public/%252e%252e/secret.txt": (401, 404),
    "/files/public/..;/secret.txt": (401, 404),
    "/files/public/%E2%80%A5/secret.txt": (401, 404),
    "http://shop.example/files/public/../secret.txt": (400, 400),
}
"""Of what is asked for: the answer without a session, and with the right to ``/files/public/*``."""


@asynccontextmanager
async def served_by_uvicorn(app: FastAPI) -> AsyncIterator[int]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
    task = asyncio.create_task(server.serve())
    try:
        await wait_until_async(lambda: started(server), message="uvicorn to listen")
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def started(server: uvicorn.Server) -> bool:
    return server.started


async def sent_raw(port: int, target: str, session: str = "") -> tuple[int, bytes]:
    """Ask for a path just as it is spelt: no client puts it right."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {target} HTTP/1.1", "Host: shop.example", "Connection: close"]
    if session:
        lines.append(f"Authorization: Bearer {session}")
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        async with asyncio.timeout(10):
            answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    return int(answer.split(b" ", 2)[1]), answer


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "a.txt").write_text("for all")
    (tmp_path / "secret.txt").write_text("for nobody")
    return tmp_path


async def test_a_path_is_served_only_as_the_policy_was_asked_about_it(files: Path) -> None:
    shop = Shop(Rights("/files/public/"))
    app = shop.app()
    app.mount("/files", StaticFiles(directory=files))
    rows, found = [], {}
    async with served_by_uvicorn(app) as port:
        for target in SPELLINGS:
            answers = []
            for session in ("", shop.session("ada")):
                status, answer = await sent_raw(port, target, session)
                assert b"for nobody" not in answer, target
                answers.append(status)
            found[target] = (answers[0], answers[1])
            rows.append([f"`{target}`", *map(str, answers)])
    assert found == SPELLINGS
    expected = table(["asked for", "no session", "the right to `/files/public/*`"], rows)
    assert expected in read("docs/security.md"), f"docs/security.md should say:\n\n{expected}\n"


async def test_an_app_without_a_policy_takes_any_path(files: Path) -> None:
    shop = Shop()
    app = shop.engine.create_app("shop", {"slug": "shop", "managed_indexes": {}})
    app.get("/a/{rest:path}")(shop.typed())
    assert (await ask(app, "GET /a//b")).status == 200
