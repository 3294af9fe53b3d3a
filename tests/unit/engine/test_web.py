from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from bson import SON, Binary, Decimal128, Int64, ObjectId, Regex, Timestamp
from bson.errors import InvalidDocument
from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel
from pymongo.errors import AutoReconnect, DuplicateKeyError, ExecutionTimeout, WriteError

from mdb_engine import exceptions
from mdb_engine.exceptions import Fault, ManifestInvalid, MdbEngineError
from mdb_engine.fastapi import MdbJSONResponse, MdbRoute, MdbRouter, plain
from mdb_engine.fastapi.errors import STATUS, add_error_handlers
from mdb_engine.scoped import errors as scoped_errors

OID = ObjectId("0123456789abcdef01234567")
DOCUMENT: dict[str, Any] = {
    "_id": OID,
    "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "price": Decimal128("1.10"),
    "list": [OID, {"deep": OID}],
    "big": Int64(2**40),
    "blob": Binary(b"\x00\xff"),
    "uuid": Binary.from_uuid(UUID(int=1)),
    "regex": Regex("^a"),
    "stamp": Timestamp(0, 1),
}
EXPECTED = {
    "_id": str(OID),
    "price": "1.10",
    "list": [str(OID), {"deep": str(OID)}],
    "big": 2**40,
    "blob": "AP8=",
    "uuid": str(UUID(int=1)),
    "regex": "^a",
}


SAID = "key 2 of app bank in /bindings is wrong"


class Click(BaseModel):
    id: str
    at: datetime


def app() -> FastAPI:
    made = FastAPI(default_response_class=MdbJSONResponse)
    made.router.route_class = MdbRoute
    add_error_handlers(made)

    @made.get("/bare")
    async def bare():  # type: ignore[no-untyped-def]  # noqa: ANN202 - that is the case
        return DOCUMENT

    @made.get("/annotated")
    async def annotated() -> dict[str, Any]:
        return DOCUMENT

    @made.get("/list")
    def listed() -> list[dict[str, Any]]:
        return [DOCUMENT]

    @made.get("/model")
    async def model() -> Click:
        return {"id": OID, "at": DOCUMENT["at"]}  # type: ignore[return-value]

    @made.get("/response")
    async def response() -> MdbJSONResponse:
        return MdbJSONResponse({**DOCUMENT, "naive": datetime(2026, 1, 2), "nan": math.nan})  # noqa: DTZ001

    own, plain_router = MdbRouter(prefix="/own"), APIRouter(prefix="/plain")
    own.get("/annotated")(annotated)
    plain_router.get("/bare")(bare)
    made.include_router(own)
    made.include_router(plain_router)

    @made.get("/fail/{name}")
    async def fail(name: str) -> None:
        raise failure(name)

    return made


def failure(name: str) -> Exception:
    if name == "lost":
        return AutoReconnect("db-0.internal:27017 connection closed")
    if name == "duplicate":
        return DuplicateKeyError("E11000 dup key: { mail: 'ada@internal' }", 11000)
    if name == "invalid":
        return WriteError("Document failed validation: internal", 121)
    if name == "slow":
        return ExecutionTimeout("operation exceeded time limit of internal", 50)
    if name == "unencodable":
        return InvalidDocument("cannot encode object: internal")
    if name == "bug":
        return RuntimeError("internal")
    kind = getattr(exceptions, name, None) or getattr(scoped_errors, name)
    if kind is ManifestInvalid:
        return ManifestInvalid([Fault("slug", "is wrong")])
    error: Exception = kind(SAID, path="pipeline[2].$lookup")
    return error


def client(of: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(of, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.mark.parametrize(
    "path", ["/bare", "/annotated", "/own/annotated", "/plain/bare", "/list", "/response"]
)
async def test_a_route_returns_documents_as_they_are(path: str) -> None:
    async with client(app()) as http:
        answer = await http.get(path)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    body = body[0] if path == "/list" else body
    assert {key: body[key] for key in EXPECTED} == EXPECTED
    assert datetime.fromisoformat(body["at"]) == DOCUMENT["at"]
    if path == "/response":
        assert (body["naive"], body["nan"]) == ("2026-01-02T00:00:00Z", None)


async def test_a_model_takes_object_ids_for_text() -> None:
    async with client(app()) as http:
        assert (await http.get("/model")).json()["id"] == str(OID)


async def test_documentation_still_knows_the_types() -> None:
    async with client(app()) as http:
        schema = (await http.get("/openapi.json")).json()
    body = schema["paths"]["/model"]["get"]["responses"]["200"]["content"]["application/json"]
    assert body["schema"]["$ref"].endswith("/Click")


def test_what_holds_no_bson_is_left_alone() -> None:
    value = (1, "a", None, {"x": [True]})
    assert plain(value) == value
    assert json.loads(bytes(MdbJSONResponse({"a": {OID: 1}}).body)) == {"a": {str(OID): 1}}


def test_a_conversion_leaves_the_document_as_it_is_and_copies_only_what_changes() -> None:
    inner = {"x": [1, "a"]}
    document = {"at": datetime(2026, 1, 1), "ids": [OID], "inner": inner}  # noqa: DTZ001 - MongoDB's
    found = plain([document, inner])
    assert document == {"at": datetime(2026, 1, 1), "ids": [OID], "inner": inner}  # noqa: DTZ001
    assert found == [
        {"at": datetime(2026, 1, 1, tzinfo=UTC), "ids": [str(OID)], "inner": inner},
        inner,
    ]
    assert found[0]["inner"] is inner
    assert type(plain(SON(a=1))) is dict


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("SessionRequired", 401, "token_required"),
        ("SessionInvalid", 401, "invalid_token"),
        ("TokenRequired", 503, "token_required"),
        ("InvalidToken", 503, "invalid_token"),
        ("PathRefused", 400, "path_refused"),
        ("ScopeDenied", 403, "scope_denied"),
        ("QueryRefused", 400, "query_refused"),
        ("LimitExceeded", 413, "limit_exceeded"),
        ("ServerLimitExceeded", 504, "limit_exceeded"),
        ("OptionRefused", 500, "query_refused"),
        ("AttributeRefused", 500, "query_refused"),
        ("ManifestInvalid", 422, "manifest_invalid"),
        ("NotInitialized", 503, "not_initialized"),
        ("DatabaseUnavailable", 503, "database_unavailable"),
        ("MasterKeyError", 503, "master_key_error"),
        ("lost", 503, "database_unavailable"),
        ("duplicate", 409, "duplicate_key"),
        ("invalid", 500, "database_error"),
        ("slow", 504, "limit_exceeded"),
        ("unencodable", 500, "database_error"),
        ("bug", 500, "app_error"),
    ],
)
async def test_an_engine_error_is_an_answer(
    name: str, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mdb_engine.web")
    async with client(app()) as http:
        answer = await http.get(f"/fail/{name}")
    assert answer.status_code == status
    body = answer.json()
    assert body["error"] == code
    assert body["message"]
    assert "internal" not in answer.text
    assert ("WWW-Authenticate" in answer.headers) is (status == 401)
    assert ("Retry-After" in answer.headers) is (status == 503)
    if name == "QueryRefused":
        assert body["path"] == "pipeline[2].$lookup"
    if status >= 500:
        assert body.keys() == {"error", "message", "request_id"}
        assert SAID not in answer.text, "what is wrong with the app is for its log"
        assert "pipeline" not in answer.text
        assert body["request_id"] in caplog.text
        assert SAID in caplog.text or not hasattr(exceptions, name)


@pytest.mark.parametrize(
    ("given", "taken"),
    [("req-4711.abc_DEF", True), ("short", False), ("x" * 65, False), ("a b c d e f g", False)],
)
async def test_a_request_id_from_the_ingress_is_kept_if_it_is_one(given: str, taken: bool) -> None:  # noqa: FBT001
    async with client(app()) as http:
        answer = await http.get("/fail/DatabaseUnavailable", headers={"X-Request-ID": given})
    assert (answer.json()["request_id"] == given) is taken


async def test_an_apps_own_handlers_come_before_the_engines() -> None:
    async def own(_request: Request, error: Exception) -> MdbJSONResponse:
        return MdbJSONResponse({"own": type(error).__name__}, 418)

    made = FastAPI(exception_handlers={MdbEngineError: own, 500: own})
    add_error_handlers(made)

    @made.get("/fail/{name}")
    async def fail(name: str) -> None:
        raise failure(name)

    async with client(made) as http:
        assert (await http.get("/fail/ScopeDenied")).json() == {"own": "ScopeDenied"}
        assert (await http.get("/fail/bug")).json() == {"own": "RuntimeError"}


def test_every_error_of_the_domain_has_a_status() -> None:
    for name in exceptions.__all__:
        kind = getattr(exceptions, name)
        if isinstance(kind, type) and issubclass(kind, MdbEngineError):
            nearest = next(above for above in kind.__mro__ if above in STATUS)
            assert nearest is not MdbEngineError or kind is MdbEngineError, f"{name} has no status"
