"""The policy stands before everything that an app serves, and is asked about the right route."""

from __future__ import annotations

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from mdb_engine import MongoDBEngine
from mdb_engine.access.sessions import SessionKeys
from mdb_engine.config import EngineSettings
from mdb_engine.fastapi.policy import resource_of

MANIFEST = {
    "schema_version": "2.0",
    "slug": "shop",
    "name": "shop",
    "data_access": {"read_scopes": ["shop"], "write_scope": "shop"},
    "managed_indexes": {},
    "auth": {"policy": {"provider": "custom", "required": True}},
}


class Recording:
    """Says yes to everything but secrets, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    async def allows(self, subject: str, action: str, resource: str) -> bool:
        self.asked.append((subject, action, resource))
        return not resource.startswith("/secret")


class Served:
    """An ASGI application that answers with what it was asked for."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("served")(scope, receive, send)


def routers() -> APIRouter:
    inner = APIRouter(prefix="/orders")

    @inner.get("/{number}")
    @inner.get("/{number}/health")
    async def order(number: int) -> int:
        return number

    outer = APIRouter()
    outer.include_router(inner, prefix="/v1")

    @outer.get("/health")
    @outer.get("/ready")
    async def health() -> str:
        return "not the engine's"

    return outer


@pytest.fixture
def authorizer() -> Recording:
    return Recording()


@pytest.fixture
def app(authorizer: Recording) -> FastAPI:
    engine = MongoDBEngine("mongodb://h", "x", settings=EngineSettings())
    engine.sessions("shop").use(SessionKeys(1, {1: b"k" * 32}))
    made = engine.create_app("shop", MANIFEST, authorizer=authorizer)
    made.include_router(routers(), prefix="/admin")
    made.state.token = engine.sessions("shop").issue("ada")

    def raw(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.url.path)

    made.add_route("/raw/{n}", raw)
    made.mount("/files", Served())
    made.mount("/secret", Served())
    return made


def client(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)


PATHS = {
    "/admin/v1/orders/5": "/admin/v1/orders/{number}",
    "/admin/v1/orders/5/health": "/admin/v1/orders/{number}/health",
    "/admin/health": "/admin/health",
    "/admin/ready": "/admin/ready",
    "/raw/5": "/raw/{n}",
    "/files/a/b": "/files/a/b",
    "/docs": "/docs",
    "/openapi.json": "/openapi.json",
}
"""What is asked for, and the resource that the policy has to be asked about."""


async def test_the_policy_is_asked_about_the_whole_path(
    app: FastAPI, authorizer: Recording
) -> None:
    async with client(app, Authorization=f"Bearer {app.state.token}") as http:
        for path in PATHS:
            assert (await http.get(path)).status_code == 200, path
        assert (await http.get("/secret/plans")).json()["error"] == "policy_denied"
        assert (await http.head("/raw/5")).status_code == 200
    expected = [*PATHS.values(), "/secret/plans", "/raw/{n}"]
    assert authorizer.asked == [("ada", "read", resource) for resource in expected]


async def test_nothing_but_health_is_open_without_a_session(
    app: FastAPI, authorizer: Recording
) -> None:
    async with client(app) as http:
        for path in (*PATHS, "/secret/plans"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["error"]) == (401, "token_required"), path
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/ready")).status_code == 503
    assert authorizer.asked == []


@pytest.mark.parametrize(
    ("path", "root_path", "resource"),
    [
        ("/app/raw/5", "/app", "/raw/{n}"),
        ("/app/files/a", "/app", "/files/a"),
        ("/raw/5/", "", "/raw/{n}"),
        ("/application", "/app", "/application"),
        ("/app", "/app", "/app"),
        ("/", "", "/"),
    ],
)
def test_the_resource_does_not_depend_on_where_the_app_is_served(
    app: FastAPI, path: str, root_path: str, resource: str
) -> None:
    scope = {"type": "http", "method": "GET", "path": path, "root_path": root_path, "headers": []}
    assert resource_of(scope, app.router)[1] == resource
    assert scope.keys() == {"type", "method", "path", "root_path", "headers"}
