"""Two apps as plain processes with environment variables alone, as a compose file has them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support import leakscan
from support.engine_world import OperatorHand
from support.mongo import Database
from support.waiting import wait_until

from mdb_engine.connection.driver import DriverName
from mdb_engine.core.encryption import EnvelopeEncryptionService

pytestmark = pytest.mark.long

APP = """
    import json, os, socket
    from typing import Annotated, Any
    import uvicorn
    from fastapi import Depends
    from mdb_engine import MongoDBEngine, ScopedDatabase
    from mdb_engine.fastapi import get_scoped_db

    engine = MongoDBEngine.from_environment()
    app = engine.create_app(slug=os.environ["APP"], manifest=json.loads(os.environ["MANIFEST"]))
    Db = Annotated[ScopedDatabase, Depends(get_scoped_db)]

    @app.post("/track")
    async def track(db: Db) -> dict[str, Any]:
        return {"id": (await db.clicks.insert_one({"url": "/"})).inserted_id}

    @app.get("/analytics")
    async def analytics(db: Db) -> list[dict[str, Any]]:
        return await db.app("click_tracker").clicks.find({}).to_list(100)

    listening = socket.create_server(("127.0.0.1", 0))
    print("port", listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="info")).run(sockets=[listening])
"""
TRACKER = '{"slug": "click_tracker", "managed_indexes": {"clicks": []}}'
DASHBOARD = '{"slug": "dashboard", "data_access": {"read_scopes": ["dashboard", "click_tracker"]}}'


@contextmanager
def process(
    directory: Path, slug: str, manifest: str, environment: dict[str, str]
) -> Iterator[tuple[httpx.Client, Path]]:
    """Run an app; stop it as a container is stopped, and see that it ends well."""
    program = directory / "app.py"
    program.write_text(textwrap.dedent(APP))
    log = directory / f"{slug}.log"
    with log.open("w") as output:
        running = subprocess.Popen(
            [sys.executable, str(program)],
            env={**environment, "APP": slug, "MANIFEST": manifest},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:

            def port() -> str | None:
                assert running.poll() is None, log.read_text()
                lines = [one for one in log.read_text().splitlines() if one.startswith("port ")]
                return lines[0].split()[1] if lines else None

            number = wait_until(port, deadline=30, message="the app to listen")
            with httpx.Client(base_url=f"http://127.0.0.1:{number}", timeout=20) as http:
                yield http, log
            running.send_signal(signal.SIGTERM)
            assert running.wait(timeout=20) in {0, -signal.SIGTERM}, log.read_text()
        finally:
            running.kill()
            running.wait()


def test_two_processes_share_data_with_environment_variables_alone(
    mongo: Database, driver_name: DriverName, tmp_path: Path
) -> None:
    key = EnvelopeEncryptionService.generate_master_key()
    leakscan.register(key, "the master key")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "MONGODB_URI": mongo.uri,
        "MONGODB_DB": mongo.name,
        "MDB_ENGINE_MASTER_KEY": key,
        "MDB_DRIVER": driver_name,
    }
    with (
        process(tmp_path, "dashboard", DASHBOARD, environment) as (dashboard, dashboard_log),
        process(tmp_path, "click_tracker", TRACKER, environment) as (tracker, tracker_log),
    ):
        ids = [tracker.post("/track").json()["id"] for _ in range(3)]
        # The dashboard was there first; its grant takes hold soon after the tracker registers.
        wait_until(lambda: dashboard.get("/analytics").is_success, deadline=15, message="the grant")
        assert [one["_id"] for one in dashboard.get("/analytics").json()] == ids
        refused = tracker.get("/analytics")
        assert refused.status_code == 200
        assert dashboard.post("/track").status_code == 200
        for http in (dashboard, tracker):
            assert http.get("/ready").json()["ready"]
    for log in (dashboard_log, tracker_log):
        assert leakscan.occurrences(log.read_text()) == []
        assert "Traceback" not in log.read_text()


FAILING = """
    import socket
    import uvicorn
    from mdb_engine import MongoDBEngine

    def on_startup() -> None:
        raise RuntimeError("the cache of the app cannot be filled")

    engine = MongoDBEngine.from_environment()
    app = engine.create_app(
        slug="click_tracker", manifest={"slug": "click_tracker"}, on_startup=on_startup
    )
    listening = socket.create_server(("127.0.0.1", 0))
    uvicorn.Server(uvicorn.Config(app, log_level="info")).run(sockets=[listening])
"""


@pytest.mark.parametrize("deadline", ["0", "20"], ids=["late", "in time"])
async def test_a_pod_whose_on_startup_fails_ends_whenever_that_is(
    operator: OperatorHand, tmp_path: Path, deadline: str
) -> None:
    """A replica that went on would never be ready; ``/health`` is well, so it would stay."""
    await operator.register("click_tracker", "clicks")
    program = tmp_path / "app.py"
    program.write_text(textwrap.dedent(FAILING))
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "SERVICE_BINDING_ROOT": str(operator.root),
            "MDB_DRIVER": operator.driver_name,
            "MDB_STARTUP_DEADLINE_SECONDS": deadline,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            shown, _ = await running.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
    log = shown.decode()
    assert running.returncode != 0, log
    assert "the cache of the app cannot be filled" in log
    assert ("app click_tracker could not be started; the process ends" in log) is (deadline == "0")
    assert leakscan.occurrences(log) == []
