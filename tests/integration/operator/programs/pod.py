"""One pod: it writes and reads its app's data without an end, and keeps what it met in a document.

A pod that is refused cannot write that down; it does once it is let in again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from mdb_engine import MongoDBEngine, ScopedDatabase

DOCUMENTS = 20
"""In the collection ``c``, numbered by ``n``."""

SHOWN = 5
"""Errors that are kept with their words."""


class Pod:
    """What one pod does, and what it met.

    Parameters
    ----------
    name
        Of the pod.
    db
        Of its app.
    version
        Says which version of the secret it uses.
    """

    def __init__(self, name: str, db: ScopedDatabase, version: Callable[[], int]) -> None:
        self._name, self._db, self._version = name, db, version
        self._reads = self._writes = self._refused = 0
        self._errors: list[str] = []

    async def round(self) -> None:
        """Write its own document and read it, then all documents by a cursor of two batches."""
        self._writes += await self._succeeds(self._write)
        for read in (self._read_own, self._read_all):
            self._reads += await self._succeeds(read)

    async def _succeeds(self, work: Callable[[], Awaitable[None]]) -> bool:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one too many
            self._refused += 1
            self._errors = [*self._errors, f"{type(error).__name__}: {error}"[:300]][:SHOWN]
            return False
        return True

    async def _write(self) -> None:
        said: dict[str, Any] = {
            "version": self._version(),
            "reads": self._reads,
            "writes": self._writes + 1,
            "refused": self._refused,
            "errors": self._errors,
        }
        await self._db.pods.update_one({"pod": self._name}, {"$set": said}, upsert=True)

    async def _read_own(self) -> None:
        found = await self._db.pods.find_one({"pod": self._name})
        assert found is not None, "its own document is not there"
        assert found["writes"] >= self._writes, "a write that was acknowledged is lost"

    async def _read_all(self) -> None:
        found = [one["n"] async for one in self._db.c.find({}).batch_size(DOCUMENTS // 2)]
        assert sorted(found) == list(range(DOCUMENTS)), f"{len(found)} documents"


async def run() -> None:
    """Work for ever."""
    async with MongoDBEngine() as engine:
        hosting: Any = engine._hosting
        db = engine.get_scoped_db(os.environ["SLUG"])
        pod = Pod(os.environ["HOSTNAME"], db, lambda: hosting._binding.version)
        while True:
            await pod.round()
            await asyncio.sleep(float(os.environ["PAUSE_SECONDS"]))


if __name__ == "__main__":
    asyncio.run(run())
