"""Beanie's app as a plain process: what its tutorial does, with a transaction and a unique name."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support import leakscan
from support.mongo import Server
from support.uvicorn import running

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
    for name, price, category in (("Tony", 5.5, "nuts"), ("Ada", 2.5, "nuts"), ("Eve", 4, "dark")):
        new = {"name": name, "price": price, "category": category}
        made = app.post("/chocolates", json=new)
        assert made.status_code == 201, made.text

    cheap = app.get("/chocolates", params={"cheaper_than": 5}).json()
    assert [(one["name"], one["category"]["name"]) for one in cheap] == [
        ("Ada", "nuts"),
        ("Eve", "dark"),
    ]
    assert app.get("/averages").json() == [
        {"_id": "dark", "price": 4.0},
        {"_id": "nuts", "price": 4.0},
    ]

    ada = cheap[0]["_id"]
    assert app.post(f"/chocolates/{ada}/sale").status_code == 204
    (sold,) = [one for one in app.get("/chocolates").json() if one["_id"] == ada]
    assert (sold["sold"], sold["category"]["description"]) == (1, "last sold: Ada")
    assert app.post("/chocolates/65f0c0ffee00112233445566/sale").status_code == 404
    assert app.post("/chocolates/nowhere/sale").status_code == 422
    assert app.delete(f"/chocolates/{ada}").status_code == 204
    assert len(app.get("/chocolates").json()) == 2

    raw = mongo_server.client[database]
    assert raw["beanie_app_chocolates"].distinct("app_id") == ["beanie_app"]
    assert raw["beanie_app_categories"].index_information()["name_1"]["unique"]
    assert app.get("/ready").status_code == 200
