"""One pod: it reads and writes without an end, and says in a file what it met.

``python -m soak.pod BINDINGS SLUG HUB NEIGHBOUR NAME FILE``. Its own data and those of the hub it
must always have; those of the neighbour as that app consents. SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mdb_engine import MongoDBEngine
from mdb_engine.config import EngineSettings
from mdb_engine.exceptions import DatabaseUnavailable, MdbEngineError

PAUSE_SECONDS = 0.25
"""Between two rounds of four operations."""

TOLD_EVERY_SECONDS = 2.0

HUB_DOCUMENTS = 20

SHOWN = 20
"""Errors that are kept with their words."""


@dataclass
class Said:
    """What a pod says.

    Parameters
    ----------
    reads, writes
        How many succeeded.
    refused
        How many failed that should not.
    cursors
        How many ended with their connection, which the pod then read anew.
    errors
        When, and what some of them said.
    neighbour
        Whether the last attempt to read the neighbour's data was let through.
    neighbours
        How often each attempt came out in which way.
    tasks
        Of the event loop.
    started
        Whether it is up.
    """

    reads: int = 0
    writes: int = 0
    refused: int = 0
    cursors: int = 0
    errors: list[tuple[float, str]] = field(default_factory=list)
    neighbour: bool = False
    neighbours: dict[str, int] = field(default_factory=dict)
    tasks: int = 0
    started: bool = False

    def keep(self, file: Path) -> None:
        """Write it down, at once."""
        self.tasks = len(asyncio.all_tasks())
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.rename(file)


class Pod:
    """The work of one pod."""

    def __init__(
        self, engine: MongoDBEngine, slug: str, hub: str, neighbour: str, name: str
    ) -> None:
        self._db = engine.get_scoped_db(slug)
        self._hub, self._neighbour, self._name = hub, neighbour, name
        self.said = Said(started=True)

    async def round(self) -> None:
        """Do each thing once."""
        if await self._must(self._write):
            self.said.writes += 1
        for read in (self._read_own, self._read_hub):
            if await self._must(read):
                self.said.reads += 1
        try:
            await self._db[f"{self._neighbour}_c"].find_one({})
        except MdbEngineError as error:
            outcome = type(error).__name__
        except Exception as error:  # noqa: BLE001 - the library has a name for every refusal
            self._note(error)
            outcome = "failed"
        else:
            outcome = "read"
        self.said.neighbour = outcome == "read"
        self.said.neighbours[outcome] = self.said.neighbours.get(outcome, 0) + 1

    async def _must(self, work: Callable[[], Awaitable[None]]) -> bool:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one too many
            self._note(error)
            return False
        return True

    def _note(self, error: Exception) -> None:
        self.said.refused += 1
        if len(self.said.errors) < SHOWN:
            self.said.errors.append((time.time(), f"{type(error).__name__}: {error}"[:300]))

    async def _write(self) -> None:
        await self._db.c.update_one({"pod": self._name}, {"$inc": {"n": 1}}, upsert=True)

    async def _read_own(self) -> None:
        found = await self._db.c.find_one({"pod": self._name})
        assert found is not None, "its own document is not there"

    async def _read_hub(self) -> None:
        every = self._db[f"{self._hub}_c"].find({})
        try:
            found = [one["n"] async for one in every.clone().batch_size(5)]
        except DatabaseUnavailable:
            # Any driver asks twice for a cursor's first batch alone; the others end with their
            # connection, and the pod begins anew.
            self.said.cursors += 1
            found = [one["n"] async for one in every]
        assert sorted(found) == list(range(HUB_DOCUMENTS)), f"{len(found)} of the hub's documents"


async def run(root: Path, slug: str, hub: str, neighbour: str, name: str, file: Path) -> None:
    """Work until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    settings: Any = EngineSettings(binding_root=root)
    async with MongoDBEngine(
        "mongodb://ignored.invalid", "x", slug=slug, settings=settings
    ) as engine:
        pod = Pod(engine, slug, hub, neighbour, name)

        told = 0.0
        while not ended.is_set():
            if time.monotonic() > told + TOLD_EVERY_SECONDS:
                pod.said.keep(file)
                told = time.monotonic()
            await pod.round()
            await asyncio.sleep(PAUSE_SECONDS)
        pod.said.keep(file)


if __name__ == "__main__":
    a_root, a_slug, a_hub, a_neighbour, a_name, a_file = sys.argv[1:]
    asyncio.run(run(Path(a_root), a_slug, a_hub, a_neighbour, a_name, Path(a_file)))
