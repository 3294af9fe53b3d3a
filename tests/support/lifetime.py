"""Start and stop engines, cancelled at random points, and see what is left of them.

``python -m support.lifetime CYCLES`` (``make soak``) does it for as long as is wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pymongo import AsyncMongoClient, MongoClient

from devcluster.mongo import MongoConfig, MongoServer
from mdb_engine import MongoDBEngine
from mdb_engine.connection.driver import DriverName
from mdb_engine.connection.pool import Connections
from support.engine_world import manifest, standalone_engine
from support.mongo import Client, Database
from support.waiting import DeadlineExceededError, wait_until_async

__all__ = ["Leftovers", "cycle"]

LONGEST_LIFE = 0.12
"""Seconds within which a start or a stop is cancelled: a little longer than either takes."""


@dataclass(frozen=True)
class Leftovers:
    """What a process holds at this moment.

    Parameters
    ----------
    tasks
        Names of the loop's tasks.
    sockets
        How many file descriptors are sockets.
    clients
        How many clients of the drivers are open.
    """

    tasks: tuple[str, ...]
    sockets: int
    clients: int

    @classmethod
    def now(cls) -> Self:
        gc.collect()
        current = asyncio.current_task()
        tasks = (one.get_name() for one in asyncio.all_tasks() if one is not current)
        held = gc.get_objects()
        return cls(
            tuple(sorted(tasks)),
            sum(_is_socket(path) for path in Path("/proc/self/fd").iterdir()),
            sum(_is_open_client(one) for one in held),
        )

    def beyond(self, before: Leftovers) -> str:
        """Say what there is more of than before; empty if there is nothing."""
        more = []
        if len(self.tasks) > len(before.tasks):
            more.append(f"tasks {self.tasks}, were {before.tasks}")
        if self.sockets > before.sockets:
            more.append(f"{self.sockets} sockets, were {before.sockets}")
        if self.clients > before.clients:
            more.append(f"{self.clients} clients, were {before.clients}")
        return "; ".join(more)


def _is_socket(path: Path) -> bool:
    try:
        return str(path.readlink()).startswith("socket:")
    except OSError:  # closed since, as that of this directory itself
        return False


def _is_open_client(one: object) -> bool:
    kind = type(one)
    if kind is AsyncMongoClient or kind is MongoClient:
        topology: Any = getattr(one, "_topology", None)
        return bool(topology is not None and topology._opened)
    return False


async def cycle(mongo: Database, driver: DriverName, choose: random.Random) -> None:
    """Start an engine, use it, stop it; cancel start, use or stop at a random moment."""
    engine = standalone_engine(mongo, driver)
    await _cancelled_somewhere(_live(engine, mongo), choose)
    await _cancelled_somewhere(engine.shutdown(), choose)
    await engine.shutdown()


async def _live(engine: MongoDBEngine, mongo: Database) -> None:
    await engine.initialize()
    await engine.register_app("soak", manifest("soak", "things"))
    await engine.get_scoped_db("soak").things.find_one({})
    assert engine._runtime is not None
    connections = engine._runtime.connections
    assert isinstance(connections, Connections)
    await connections.open(engine._hosting._connection)  # type: ignore[union-attr]
    await engine.get_scoped_db("soak").things.find_one({})


async def _cancelled_somewhere(work: Coroutine[Any, Any, None], choose: random.Random) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=choose.random() * LONGEST_LIFE)
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()


async def _soak(mongo: Database, cycles: int) -> int:
    choose = random.Random()  # noqa: S311 - it picks moments
    names: tuple[DriverName, ...] = ("pymongo", "motor")
    for name in names:
        await cycle(mongo, name, choose)
    before, began = Leftovers.now(), time.monotonic()
    for number in range(1, cycles + 1):
        await cycle(mongo, names[number % 2], choose)
        if number % 100 == 0:
            print(f"{number} cycles, {time.monotonic() - began:.0f} s: {Leftovers.now()}")  # noqa: T201
    with contextlib.suppress(DeadlineExceededError):
        await wait_until_async(
            lambda: Leftovers.now().beyond(before) == "", deadline=15, message="all to be gone"
        )
    left = Leftovers.now().beyond(before)
    print(left or f"{cycles} cycles left no task, no socket and no client")  # noqa: T201
    return 1 if left else 0


def main() -> int:
    cycles = int(sys.argv[1])
    client: Client
    with (
        MongoServer(MongoConfig(die_with_parent=True)) as server,
        MongoClient(server.uri) as client,
    ):
        return asyncio.run(_soak(Database(server.uri, "soak", client), cycles))


if __name__ == "__main__":
    sys.exit(main())
