"""What an app made with create_app answers: documents in one form, in every kind of endpoint."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from bson import Binary, DatetimeMS, DBRef, Decimal128, ObjectId, Timestamp
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticSerializationError, to_json
from starlette.applications import Starlette
from starlette.routing import Mount

from mdb_engine import MongoDBEngine, ScopedDatabase
from mdb_engine.access.readiness import Check, Note, Readiness
from mdb_engine.access.sessions import SessionKeys
from mdb_engine.config import EngineSettings
from mdb_engine.core.documents import as_json, plain
from mdb_engine.exceptions import InvalidToken, MdbEngineError
from mdb_engine.fastapi import MdbJSONResponse, MdbRouter, current_user, get_engine, get_scoped_db

OID = ObjectId("0123456789abcdef01234567")
NAIVE = datetime(2026, 1, 2, 3, 4, 5, 678000)  # noqa: DTZ001 - as PyMongo returns them
DOCUMENT: dict[Any, Any] = {
    "_id": OID,
    "naive": NAIVE,
    "aware": NAIVE.replace(tzinfo=UTC),
    "elsewhere": NAIVE.replace(tzinfo=timezone(timedelta(hours=2))),
    "whole": datetime(2026, 1, 2, tzinfo=UTC),
    "bytes": b"\x00\xff\xfe",
    "binary": Binary(b"\x00\xff\xfe", 5),
    "uuid": Binary.from_uuid(UUID(int=1)),
    "price": Decimal128("1.10"),
    "ms": DatetimeMS(0),
    "far": DatetimeMS(2**60),
    "stamp": Timestamp(0, 1),
    "ref": DBRef("orders", OID),
    "list": [NAIVE, b"\xff", {"deep": (OID, NAIVE)}],
    "nan": float("nan"),
    "text": "é",
    5: None,
}
WRITTEN = {
    "_id": str(OID),
    "naive": "2026-01-02T03:04:05.678000Z",
    "aware": "2026-01-02T03:04:05.678000Z",
    "elsewhere": "2026-01-02T03:04:05.678000+02:00",
    "whole": "2026-01-02T00:00:00Z",
    "bytes": "AP/+",
    "binary": "AP/+",
    "uuid": str(UUID(int=1)),
    "price": "1.10",
    "ms": "1970-01-01T00:00:00Z",
    "far": 2**60,
    "stamp": "1970-01-01T00:00:00Z",
    "ref": {"collection": "orders", "id": str(OID)},
    "list": [
        "2026-01-02T03:04:05.678000Z",
        "/w==",
        {"deep": [str(OID), "2026-01-02T03:04:05.678000Z"]},
    ],
    "nan": None,
    "text": "é",
    "5": None,
}


class Click(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    id: ObjectId = Field(alias="_id")
    price: Decimal128
    naive: datetime
    more: dict[str, Any] = {}


@pytest.fixture
def app() -> FastAPI:  # noqa: C901 - one endpoint of each kind
    engine = MongoDBEngine("mongodb://h", "x", settings=EngineSettings())
    engine.sessions("shop").use(SessionKeys(1, {1: b"k" * 32}))
    made = engine.create_app("shop", {"slug": "shop", "managed_indexes": {}})
    own = MdbRouter(prefix="/own")

    for router in (made, own):

        @router.get("/bare")
        async def bare():  # type: ignore[no-untyped-def]  # noqa: ANN202 - that is the case
            return DOCUMENT

        @router.get("/bare-sync")
        def bare_sync():  # type: ignore[no-untyped-def]  # noqa: ANN202
            return DOCUMENT

        @router.get("/any")
        async def anything() -> Any:
            return DOCUMENT

        @router.get("/annotated")
        async def annotated() -> dict[Any, Any]:
            return DOCUMENT

        @router.get("/listed")
        def listed() -> list[dict[Any, Any]]:
            return [DOCUMENT]

        @router.get("/response")
        async def response() -> MdbJSONResponse:
            return MdbJSONResponse(DOCUMENT)

        @router.get("/model", response_model=Click)
        async def model() -> Any:
            return DOCUMENT

        @router.get("/instance")
        async def instance() -> Click:
            return Click(
                _id=OID, price=Decimal128("1.10"), naive=DOCUMENT["aware"], more={"deep": [OID]}
            )

        @router.get("/lines")
        async def lines() -> AsyncIterator[dict[Any, Any]]:
            yield DOCUMENT
            yield DOCUMENT

        @router.get("/lines-bare")
        def lines_bare():  # type: ignore[no-untyped-def]  # noqa: ANN202
            yield DOCUMENT
            yield DOCUMENT

    made.include_router(own)
    return made


def client(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)


@pytest.mark.parametrize("prefix", ["", "/own"])
@pytest.mark.parametrize(
    "path", ["/bare", "/bare-sync", "/any", "/annotated", "/listed", "/response"]
)
async def test_a_document_has_one_form(app: FastAPI, prefix: str, path: str) -> None:
    async with client(app) as http:
        answer = await http.get(prefix + path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body[0] if path == "/listed" else body) == WRITTEN


@pytest.mark.parametrize("prefix", ["", "/own"])
@pytest.mark.parametrize("path", ["/lines", "/lines-bare"])
async def test_an_endpoint_with_yield_answers_line_by_line(
    app: FastAPI, prefix: str, path: str
) -> None:
    async with client(app) as http:
        answer = await http.get(prefix + path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/jsonl")
    assert [json.loads(line) for line in answer.text.splitlines()] == [WRITTEN, WRITTEN]


@pytest.mark.parametrize("prefix", ["", "/own"])
@pytest.mark.parametrize("path", ["/model", "/instance"])
async def test_a_model_may_have_bson_types(app: FastAPI, prefix: str, path: str) -> None:
    async with client(app) as http:
        body = (await http.get(prefix + path)).json()
        schema = (await http.get("/openapi.json")).json()["components"]["schemas"]["Click"]
    assert (body["_id"], body["price"], body["naive"]) == (str(OID), "1.10", WRITTEN["naive"])
    assert path == "/model" or body["more"] == {"deep": [str(OID)]}
    assert "string" in json.dumps(schema["properties"]["_id"])


def test_what_is_no_object_id_is_told_by_the_models_own_error() -> None:
    assert (
        Click.model_validate_json(
            f'{{"_id": "{OID}", "price": "1.5", "naive": "2026-01-02T03:04:05Z"}}'
        ).id
        == OID
    )
    for wrong in ("xyz", 5, None, b"123456789012"):
        with pytest.raises(ValueError, match="_id"):
            Click.model_validate({"_id": wrong, "price": Decimal128("1"), "naive": NAIVE})


@pytest.mark.parametrize("name", DOCUMENT)
def test_what_pydantic_writes_by_itself_is_what_it_is_converted_to(name: Any) -> None:
    value = DOCUMENT[name]
    for holder in (value, [value], {"a": value}, {"a": [1, {"b": value}]}, {1: [value]}):
        converted = to_json(plain(holder), inf_nan_mode="null")
        assert as_json(holder) == converted


def test_what_cannot_be_written_is_an_error_that_names_its_type() -> None:
    with pytest.raises(PydanticSerializationError, match="object"):
        MdbJSONResponse({"a": object()})
    assert MdbJSONResponse({"a": {1}, "b": Decimal("1.5")}).body == b'{"a":[1],"b":"1.5"}'


# Mounted applications.


def mounted(app: FastAPI) -> FastAPI:
    sub = FastAPI()

    @sub.get("/me")
    async def me(user: Annotated[str, Depends(current_user)]) -> str:
        return user

    @sub.get("/engine")
    async def engine(found: Annotated[MongoDBEngine, Depends(get_engine)]) -> str:
        return type(found).__name__

    @sub.get("/db")
    async def database(db: Annotated[ScopedDatabase, Depends(get_scoped_db)]) -> str:
        return str(db)

    app.mount("/sub", sub)
    return app


async def test_the_dependencies_work_in_an_app_that_is_mounted(app: FastAPI) -> None:
    engine = app.state.mdb.engine
    mounted(app)
    inner = APIRouter()
    inner.mount("/deep", Starlette(routes=[Mount("/er", mounted(FastAPI()))]))
    app.include_router(inner, prefix="/in")
    app.add_middleware(Passing)
    token = engine.sessions("shop").issue("ada")
    async with starting(app), client(app, Authorization=f"Bearer {token}") as http:
        for path in ("/sub", "/in/deep/er/sub"):
            assert (await http.get(f"{path}/me")).json() == "ada"
            assert (await http.get(f"{path}/engine")).json() == "MongoDBEngine"
            missing = await http.get(f"{path}/me", headers={"Authorization": "Bearer x"})
            assert (missing.status_code, missing.json()["error"]) == (401, "invalid_token")
            early = await http.get(f"{path}/db")
            assert (early.status_code, early.json()["error"]) == (503, "not_initialized")
            assert early.json().keys() == {"error", "message", "request_id"}


@asynccontextmanager
async def starting(app: FastAPI) -> AsyncIterator[None]:
    """Begin to run an app's lifespan, which fails: there is no MongoDB."""
    with contextlib.suppress(MdbEngineError):
        async with app.router.lifespan_context(app):
            raise AssertionError("it started without a MongoDB")
    yield


class Passing:
    """Middleware of ASGI that does nothing."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, *message: Any) -> None:
        await self.app(*message)


# /ready


class Told:
    """An engine of which only one thing is known."""

    def __init__(self, *checks: Check, notes: tuple[Note, ...] = ()) -> None:
        self.told = Readiness(checks, notes)

    def readiness(self, _slug: str) -> Readiness:
        return self.told


async def test_ready_names_nothing_and_the_log_everything_once(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    def old(seconds: int) -> Told:
        error = InvalidToken(f"/bindings/bank holds key k7 of bank_accounts, {seconds} s old")
        note = Note("reads bank, which is not granted", "manifest.json differs")
        return Told(Check("database", ok=True), Check.failed("grant", error), notes=(note, note))

    context = app.state.mdb
    context.started = True
    answers = []
    async with client(app) as http:
        for told in (old(1), old(2), Told(Check("database", ok=True)), old(3)):
            context.engine = told
            answers.append(await http.get("/ready"))
    assert [one.status_code for one in answers] == [503, 503, 200, 503]
    first, second, well, third = (one.json() for one in answers)
    assert first["checks"] == {
        "database": "ok", "grant": "the secret of the app is not accepted", "startup": "ok",
    }  # fmt: skip
    assert first["notes"] == ["manifest.json differs"]
    assert well == {
        "ready": True, "slug": "shop", "notes": [],
        "checks": {"database": "ok", "startup": "ok"},
    }  # fmt: skip
    assert "bank" not in answers[0].text
    assert first["request_id"] == second["request_id"] != third["request_id"]
    said = [record.getMessage() for record in caplog.records if "k7" in record.getMessage()]
    assert [first["request_id"] in said[0], third["request_id"] in said[1]] == [True, True]
    assert len(said) == 2
