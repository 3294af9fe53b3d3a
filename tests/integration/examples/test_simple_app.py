"""The smallest app as a plain process: its list, what it refuses, and its page."""

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

EXAMPLE = Path(__file__).parents[3] / "examples" / "simple_app"


@pytest.fixture(scope="module")
def app(mongo_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    leakscan.register(key, "the master key")
    database = f"test_{secrets.token_hex(6)}"
    environment = {
        "MONGODB_URI": mongo_server.uri,
        "MONGODB_DB": database,
        "MDB_ENGINE_MASTER_KEY": key,
    }
    log = tmp_path_factory.mktemp("simple_app") / "log"
    with running("main:app", EXAMPLE, environment, log) as client:
        yield client
    mongo_server.client.drop_database(database)


@pytest.mark.long
def test_a_task_is_added_done_and_removed(app: httpx.Client) -> None:
    first, second = (
        app.post("/tasks", json={"text": text}).raise_for_status().json()
        for text in ("Buy tea", "<b>Drink it</b>")
    )
    assert [task["text"] for task in app.get("/tasks").json()] == ["<b>Drink it</b>", "Buy tea"]

    assert app.patch(f"/tasks/{first['_id']}", json={"done": True}).status_code == 204
    assert [task["done"] for task in app.get("/tasks").json()] == [False, True]

    for task in (first, second):
        assert app.delete(f"/tasks/{task['_id']}").status_code == 204
    assert app.get("/tasks").json() == []


@pytest.mark.parametrize("text", ["", "   ", "x" * 201, None, {"$gt": ""}])
def test_what_is_no_task_is_refused(app: httpx.Client, text: object) -> None:
    assert app.post("/tasks", json={"text": text}).status_code == 422


def test_another_sites_form_cannot_add_a_task(app: httpx.Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        headers = {"Content-Type": kind}
        assert app.post("/tasks", content=b'{"text": "x"}', headers=headers).status_code == 422


def test_a_task_that_is_not_there_is_not_done(app: httpx.Client) -> None:
    answer = app.patch("/tasks/nowhere", json={"done": True})
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no such task")


def test_it_says_that_it_is_healthy_and_lists_what_it_answers(app: httpx.Client) -> None:
    assert app.get("/health").json() == {"status": "healthy", "slug": "simple_app"}
    listed = app.get("/api").json()["endpoints"]
    assert {f"{one['method']} {one['path']}" for one in listed} == {
        "GET /health",
        "GET /ready",
        "GET /tasks",
        "POST /tasks",
        "PATCH /tasks/{task_id}",
        "DELETE /tasks/{task_id}",
        "GET /api",
    }


def test_its_page_allows_nothing_from_elsewhere(app: httpx.Client) -> None:
    page = app.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.text
    assert "unsafe" not in page.text
    for file in ("style.css", "script.js"):
        assert app.get(f"/{file}").is_success
        assert "://" not in app.get(f"/{file}").text
    assert app.get("/main.py").status_code == 404
