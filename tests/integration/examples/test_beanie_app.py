"""Beanie's app as a plain process: what its tutorial does, with a transaction and a unique name."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support import leakscan
from support.beanie_tutorial import follow_tutorial
from support.mongo import Server
from support.uvicorn import running

pytestmark = pytest.mark.long

EXAMPLE = Path(__file__).parents[3] / "examples" / "beanie_app"


@pytest.fixture(scope="module")
def database() -> str:
    return f"test_{secrets.token_hex(6)}"


@pytest.fixture(scope="module")
def app(
    mongo_server: Server, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    leakscan.register(key, "the master key")
    environment = {
        "MONGODB_URI": mongo_server.uri,
        "MONGODB_DB": database,
        "MDB_ENGINE_MASTER_KEY": key,
    }
    log = tmp_path_factory.mktemp("beanie_app") / "log"
    with running("main:app", EXAMPLE, environment, log) as client:
        yield client
    mongo_server.client.drop_database(database)


def test_what_the_tutorial_does(app: httpx.Client, mongo_server: Server, database: str) -> None:
    follow_tutorial(app)
    raw = mongo_server.client[database]
    assert raw["beanie_app_chocolates"].distinct("app_id") == ["beanie_app"]
    assert raw["beanie_app_categories"].index_information()["name_1"]["unique"]
    assert app.get("/ready").status_code == 200
