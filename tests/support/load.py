"""Three clients of one app that write and read all the time while its credentials change.

The library, plain PyMongo and Node, each of which follows the mounted binding in its own way. What
counts is that none of them ever has an operation that fails.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pymongo import MongoClient

from mdb_engine import MongoDBEngine
from mdb_engine.config import EngineSettings
from mdb_engine.engine.pod import PodHosting
from support.isolation import node_program

__all__ = ["Counts", "LoadClient", "under_load"]

PAUSE_SECONDS = 0.005
"""Between two rounds: a load without a pause would leave no processor for what is tested."""

SHOWN_ERRORS = 5

LEAST_OPERATIONS = 20
"""Fewer, and it was not under load."""


@dataclass
class Counts:
    """What became of a client's operations.

    Parameters
    ----------
    succeeded, failed
        How many.
    errors
        What the first that failed said.
    """

    succeeded: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)

    def fail(self, error: Exception) -> None:
        """Count an operation that failed."""
        self.failed += 1
        if len(self.errors) < SHOWN_ERRORS:
            self.errors.append(f"{type(error).__name__}: {error}"[:300])


class LoadClient(Protocol):
    """A client under load."""

    name: str

    def __init__(self, root: Path, slug: str, collection: str) -> None: ...

    @property
    def state(self) -> str:
        """Which state of the mounted files it uses now."""

    def stop(self) -> Counts:
        """End it and return what became of its operations."""


class LibraryClient:
    """The library, with several operations under way at once."""

    name = "library"

    def __init__(self, root: Path, slug: str, collection: str) -> None:
        self._counts = Counts()
        self._ended = threading.Event()
        self._ready = threading.Event()
        self._engine = MongoDBEngine(
            "mongodb://ignored.invalid",
            "ignored",
            slug=slug,
            settings=EngineSettings(binding_root=root, binding_poll=0.05, grant_ttl=0.5),
        )
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(slug, collection)), name="load: library"
        )
        self._thread.start()

    @property
    def state(self) -> str:
        """Where ``..data`` led when it last changed its credentials."""
        hosting = self._engine._hosting
        if not isinstance(hosting, PodHosting):
            return ""
        return hosting._binding.fingerprint.removeprefix("link:")

    def stop(self) -> Counts:
        """End it."""
        self._ended.set()
        self._thread.join(timeout=30)
        return self._counts

    async def _run(self, slug: str, collection: str) -> None:
        async with self._engine as engine:
            things = engine.get_scoped_db(slug)[collection]
            await asyncio.gather(*(self._work(things) for _ in range(4)))

    async def _work(self, things: Any) -> None:
        while not self._ended.is_set():
            try:
                await things.insert_one({"from": "library"})
                await things.find_one({"from": "library"})
                self._counts.succeeded += 2
            except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
                self._counts.fail(error)
            await asyncio.sleep(4 * PAUSE_SECONDS)


class PlainClient:
    """Plain PyMongo, as the documentation tells a client to follow the files."""

    name = "pymongo"

    def __init__(self, root: Path, slug: str, collection: str) -> None:
        self.state = ""
        self._counts = Counts()
        self._ended = threading.Event()
        self._directory = root / slug
        self._thread = threading.Thread(
            target=self._run, args=(f"{slug}_{collection}",), name="load: pymongo"
        )
        self._thread.start()

    def stop(self) -> Counts:
        """End it."""
        self._ended.set()
        self._thread.join(timeout=30)
        return self._counts

    def _run(self, collection: str) -> None:
        client: MongoClient[Any] | None = None
        database = ""
        while not self._ended.is_set():
            try:
                if str((self._directory / "..data").readlink()) != self.state:
                    state, uri, database = self._mounted()
                    fresh: MongoClient[Any] = MongoClient(
                        uri, serverSelectionTimeoutMS=5_000, **self._tls()
                    )
                    fresh[database].command("ping")
                    client, old = fresh, client
                    self.state = state
                    if old is not None:
                        old.close()
                assert client is not None
                client[database][collection].insert_one(
                    {"app_id": collection.partition("_")[0], "from": "pymongo"}
                )
                client[database][collection].find_one({"from": "pymongo"})
                self._counts.succeeded += 2
            except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
                self._counts.fail(error)
            time.sleep(PAUSE_SECONDS)
        if client is not None:
            client.close()

    def _tls(self) -> dict[str, Any]:
        files = {"tlsCAFile": "certificates", "tlsCertificateKeyFile": "client-certificate"}
        paths = {option: self._directory / name for option, name in files.items()}
        return {
            option: str(path)
            for option, path in paths.items()
            if path.is_file() and path.stat().st_size
        }

    def _mounted(self) -> tuple[str, str, str]:
        """Read all files of one state; begin anew where it is replaced meanwhile."""
        while True:
            state = str((self._directory / "..data").readlink())
            try:
                files = self._directory / state
                return state, (files / "uri").read_text(), (files / "database").read_text()
            except FileNotFoundError:
                continue


class NodeClient:
    """MongoDB's driver for Node, following the files in the same way."""

    name = "node"

    def __init__(self, root: Path, slug: str, collection: str) -> None:
        self.state = ""
        self._last: dict[str, Any] = {}
        self._process = subprocess.Popen(
            [*node_program("load.mjs"), str(root / slug), f"{slug}_{collection}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._read, name="load: node")
        self._thread.start()

    def stop(self) -> Counts:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._thread.join(timeout=30)
        code = self._process.wait(timeout=30)
        assert code == 0, f"the client in Node ended with {code}"
        return Counts(self._last["succeeded"], self._last["failed"], self._last["errors"])

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._last = json.loads(line)
                self.state = self._last.get("state", self.state)


@contextmanager
def under_load(root: Path, slug: str, collection: str) -> Iterator[list[LoadClient]]:
    """Give the three clients, at work; ends them where the test did not.

    Parameters
    ----------
    root
        Below which the app's binding is mounted.
    slug
        The app.
    collection
        One of its collections, by its logical name.
    """
    clients: list[LoadClient] = []
    try:
        kinds: tuple[type[LoadClient], ...] = (LibraryClient, PlainClient, NodeClient)
        clients.extend(kind(root, slug, collection) for kind in kinds)
        yield clients
    finally:
        ends = {client.name: client.stop() for client in clients}
    for name, counts in ends.items():
        assert (counts.failed, counts.errors) == (0, []), name
        assert counts.succeeded > LEAST_OPERATIONS, name
