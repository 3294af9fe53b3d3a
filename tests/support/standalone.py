"""Both example apps as plain processes, with nothing but what ``scripts/setup.sh`` has written."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from support import leakscan
from support.mongo import Server
from support.uvicorn import running

__all__ = ["Apps", "standalone_apps"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "multi_app"


@dataclass(frozen=True)
class Apps:
    """Where both apps answer, and the name of their database."""

    click_tracker: httpx.Client
    dashboard: httpx.Client
    database: str

    def track(self, **click: object) -> httpx.Response:
        """Record a click."""
        return self.click_tracker.post("/track", json={"user_id": "ada", "url": "/", **click})


@contextmanager
def standalone_apps(server: Server, directory: Path) -> Iterator[Apps]:
    """Start both apps on a database of their own, dropped afterwards."""
    shutil.copytree(EXAMPLE / "scripts", directory / "scripts")
    shutil.copy(EXAMPLE / ".env.example", directory)
    subprocess.run([directory / "scripts" / "setup.sh"], check=True, capture_output=True)
    lines = (directory / ".env").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
    leakscan.register(environment["MDB_ENGINE_MASTER_KEY"], "the master key")
    database = f"test_{secrets.token_hex(6)}"
    environment |= {"MONGODB_URI": server.uri, "MONGODB_DB": database}
    try:
        with (
            _app_of_the_image("click_tracker", environment, directory) as click_tracker,
            _app_of_the_image("dashboard", environment, directory) as dashboard,
        ):
            yield Apps(click_tracker, dashboard, database)
    finally:
        server.client.drop_database(database)


@contextmanager
def _app_of_the_image(
    name: str, environment: dict[str, str], directory: Path
) -> Iterator[httpx.Client]:
    """Run an app as its image does, and give a client of it."""
    log = directory / f"{name}.log"
    options = ("--no-server-header", "--log-config=common/logging.json")
    with running(f"{name}.main:app", EXAMPLE, environment, log, *options) as client:
        yield client
    assert 'GET /ready HTTP/1.1" 200' not in log.read_text(), "probes fill the log"
