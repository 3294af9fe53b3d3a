"""A FastAPI request from its first byte to the last of the answer, without a network.

The app is called as a server calls it (ASGI, https://asgi.readthedocs.io): a client over HTTP would
cost as much as what is to be measured.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request

from bench.data import MANIFEST, SLUG
from mdb_engine import Manifest, MongoDBEngine, ScopedDatabase
from mdb_engine.fastapi import get_scoped_db

__all__ = ["library_app", "library_request", "plain_app", "plain_request"]

Call = Callable[[], Awaitable[None]]


async def get_database(request: Request) -> Any:
    """Return the database, as a dependency."""
    return request.app.state.database


def plain_app(database: Any) -> FastAPI:
    """Return the app as it is written without the library."""
    app = FastAPI()
    app.state.database = database

    @app.get("/one")
    async def one(db: Annotated[Any, Depends(get_database)]) -> dict[str, Any]:
        found: dict[str, Any] = await db.plain_clicks.find_one({"_id": 7})
        return found

    @app.get("/many")
    async def many(db: Annotated[Any, Depends(get_database)]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            await db.plain_clicks.find({"n": {"$gte": 0}}).limit(100).to_list(100)
        )
        return found

    return app


def library_app(engine: MongoDBEngine) -> FastAPI:
    """Return the same app with the library."""
    app = engine.create_app(SLUG, Manifest.model_validate(dict(MANIFEST)))

    @app.get("/one")
    async def one(db: Annotated[ScopedDatabase, Depends(get_scoped_db)]) -> dict[str, Any] | None:
        return await db.clicks.find_one({"_id": 7})

    @app.get("/many")
    async def many(
        db: Annotated[ScopedDatabase, Depends(get_scoped_db)],
    ) -> list[dict[str, Any]]:
        return await db.clicks.find({"n": {"$gte": 0}}).limit(100).to_list(100)

    return app


def plain_request(database: Any, path: str) -> Call:
    """Return a request of the plain app."""
    return _request(plain_app(database), path)


def library_request(engine: MongoDBEngine, path: str) -> Call:
    """Return a request of the app with the library."""
    return _request(library_app(engine), path)


def _request(app: FastAPI, path: str) -> Call:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def request() -> None:
        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and message["status"] != 200:
                raise RuntimeError(f"{path} answers {message['status']}")

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"localhost"), (b"accept", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await app(scope, receive, send)

    return request
