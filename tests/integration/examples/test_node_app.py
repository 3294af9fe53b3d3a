"""The example in JavaScript on a real MongoDB, with what the operator projects: no library."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import leakscan
from support.engine_world import OperatorHand
from support.mongo import Database
from support.programs import installed_modules, program
from support.waiting import wait_until_async

from devcluster.node.addresses import free_port

pytestmark = pytest.mark.long

EXAMPLE = Path(__file__).parents[3] / "examples" / "node_app"
SLUG = "node_app"


@dataclass
class App:
    """The running app."""

    http: httpx.AsyncClient
    operator: OperatorHand
    log: Path

    async def until(self, holds: Callable[[], Coroutine[Any, Any, bool]], message: str) -> None:
        await wait_until_async(
            holds,
            deadline=30,
            message=lambda: f"{message}; its log:\n{self.log.read_text()}",
            ignoring=httpx.TransportError,
        )

    async def ready(self) -> bool:
        return (await self.http.get("/ready")).is_success


@pytest.fixture
async def app(mongo_auth: Database, tmp_path: Path) -> AsyncIterator[App]:
    directory, log = tmp_path / "app", tmp_path / "log"
    directory.mkdir()
    shutil.copy(EXAMPLE / "main.mjs", directory)
    (directory / "node_modules").symlink_to(installed_modules(EXAMPLE) / "node_modules")
    operator = OperatorHand(mongo_auth, "pymongo", tmp_path / "bindings")
    await operator.register("stranger", "notes")
    await operator.register(SLUG, "notes")
    port = free_port()
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(program("node"), "main.mjs"),
            cwd=directory,
            env={
                "PATH": os.environ["PATH"],
                "PORT": str(port),
                "BINDING": str(operator.root / SLUG),
            },
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
            made = App(http, operator, log)
            await made.until(made.ready, "the app is ready")
            yield made
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 20) == 0, log.read_text()
        assert leakscan.occurrences(log.read_text()) == []
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await operator.close()


async def test_notes_bear_the_apps_stamp(app: App, mongo_auth: Database) -> None:
    made = await app.http.post("/notes", json={"text": "Buy tea", "app_id": "stranger"})
    assert made.status_code == 201
    assert [one["text"] for one in (await app.http.get("/notes")).json()] == ["Buy tea"]
    [kept] = mongo_auth.client[mongo_auth.name][f"{SLUG}_notes"].find()
    assert kept["app_id"] == SLUG
    assert mongo_auth.client[mongo_auth.name]["stranger_notes"].count_documents({}) == 0


@pytest.mark.parametrize("text", ["", "  ", None, 7, {"$gt": ""}])
async def test_what_is_no_note_is_refused(app: App, text: object) -> None:
    assert (await app.http.post("/notes", json={"text": text})).status_code == 422


async def test_a_body_that_is_too_long_or_no_json_is_refused(app: App) -> None:
    assert (await app.http.post("/notes", content=b"{")).status_code == 422
    assert (await app.http.post("/notes", content=b"null")).status_code == 422
    assert (await app.http.post("/notes", content=b" " * 100_000)).status_code == 413
    assert (await app.http.get("/nowhere")).status_code == 404


async def test_a_rotation_is_followed_without_a_failed_request(app: App) -> None:
    outcomes: list[int] = []
    rotated = asyncio.Event()

    async def load() -> None:
        while not rotated.is_set():
            outcomes.append((await app.http.post("/notes", json={"text": "x"})).status_code)

    loading = asyncio.create_task(load())
    await app.operator.rotate(SLUG)

    async def reconnected() -> bool:
        return app.log.read_text().count("connected as app node_app") == 2

    await app.until(reconnected, "the app has connected as its new user")
    await app.operator.end_overlap(SLUG)
    for _ in range(5):
        assert await app.ready()
    rotated.set()
    await loading
    assert set(outcomes) == {201}


async def test_a_document_without_the_stamp_is_refused_by_mongodb(
    app: App, mongo_auth: Database, tmp_path: Path
) -> None:
    """The wall is not in the app's code: the same program that forgets the stamp writes nothing."""
    source = (EXAMPLE / "main.mjs").read_text()
    forgetful = source.replace(", app_id: connected().slug", "")
    assert forgetful != source
    (tmp_path / "app" / "main.mjs").write_text(forgetful)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(program("node"), "main.mjs"),
        cwd=tmp_path / "app",
        env={
            "PATH": os.environ["PATH"],
            "PORT": str(port),
            "BINDING": str(app.operator.root / SLUG),
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:

            async def ready() -> bool:
                return (await http.get("/ready")).is_success

            await wait_until_async(
                ready, deadline=30, message="it is ready", ignoring=httpx.TransportError
            )
            assert (await http.post("/notes", json={"text": "x"})).status_code == 503
    finally:
        process.terminate()
        _, errors = await process.communicate()
    assert errors.decode().strip() == "POST: 121", "Document failed validation"
    assert mongo_auth.client[mongo_auth.name][f"{SLUG}_notes"].count_documents({}) == 0
