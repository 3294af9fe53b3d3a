"""What the scope costs: each operation through the library, against the driver alone.

Both run in turn, in the same process on the same server, so the ratio holds while the machine's
speed drifts. ``make bench`` prints a table; nothing here is asserted, since timings are no test.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from devcluster.mongo import MongoConfig, MongoServer
from mdb_engine import MongoDBEngine
from mdb_engine.config import EngineSettings
from mdb_engine.connection.driver import DriverName
from mdb_engine.core.encryption import EnvelopeEncryptionService

ROUNDS = 400
"""Pairs of each operation: enough for a median that two runs agree on within a few percent."""

WARM_UP = 50

Call = Callable[[], Awaitable[Any]]

PIPELINE = [
    {"$match": {"user": "ada"}},
    {"$group": {"_id": "$url", "clicks": {"$sum": 1}}},
    {"$sort": {"clicks": -1}},
    {"$limit": 5},
]


async def main(driver: DriverName, uri: str) -> None:
    """Measure one driver."""
    settings = EngineSettings(master_key=EnvelopeEncryptionService.generate_master_key())
    async with MongoDBEngine(uri, f"bench_{driver}", driver=driver, settings=settings) as engine:
        manifest = {"slug": "shop", "name": "Shop", "managed_indexes": {"clicks": []}}
        await engine.register_app("shop", manifest)
        scoped = engine.get_scoped_db("shop").clicks
        raw = engine._runtime.connections.database()["shop_clicks"]  # type: ignore[union-attr]
        await scoped.insert_many(
            [{"_id": n, "user": "ada", "url": f"/{n % 20}", "n": n} for n in range(1000)]
        )
        print(f"\n{driver}, medians of {ROUNDS} pairs\n")
        print(f"  {'operation':<16} {'driver':>9} {'library':>9} {'ratio':>7}")
        for name, (alone, through) in operations(raw, scoped).items():
            a, b = await measure(alone, through)
            print(f"  {name:<16} {a * 1e6:>6.0f} us {b * 1e6:>6.0f} us {b / a:>7.2f}")


def operations(raw: Any, scoped: Any) -> dict[str, tuple[Call, Call]]:
    """Return pairs of the same operation, without the library and with it."""
    mine = {"app_id": "shop"}
    return {
        "find_one": (
            lambda: raw.find_one({**mine, "_id": 7}),
            lambda: scoped.find_one({"_id": 7}),
        ),
        "find 100": (
            lambda: raw.find({**mine, "user": "ada"}).limit(100).to_list(100),
            lambda: scoped.find({"user": "ada"}).limit(100).to_list(100),
        ),
        "insert_one": (
            lambda: raw.insert_one({**mine, "user": "bob"}),
            lambda: scoped.insert_one({"user": "bob"}),
        ),
        "update_one": (
            lambda: raw.update_one({**mine, "_id": 7}, {"$inc": {"n": 1}}),
            lambda: scoped.update_one({"_id": 7}, {"$inc": {"n": 1}}),
        ),
        "count_documents": (
            lambda: raw.count_documents({**mine, "n": {"$lt": 50}}),
            lambda: scoped.count_documents({"n": {"$lt": 50}}),
        ),
        "aggregate": (
            lambda: _listed(raw.aggregate([{"$match": mine}, *PIPELINE])),
            lambda: scoped.aggregate(PIPELINE).to_list(10),
        ),
    }


async def _listed(cursor: Any) -> Any:
    """Read a cursor that one driver awaits and the other does not."""
    if hasattr(cursor, "__await__"):
        cursor = await cursor
    return await cursor.to_list(10)


async def measure(alone: Call, through: Call) -> tuple[float, float]:
    """Return the median seconds of both, run in turn."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(WARM_UP + ROUNDS):
        for call, times in zip((alone, through), taken, strict=True):
            started = time.perf_counter()
            await call()
            if number >= WARM_UP:
                times.append(time.perf_counter() - started)
    return statistics.median(taken[0]), statistics.median(taken[1])


if __name__ == "__main__":
    with MongoServer(MongoConfig(die_with_parent=True), print) as started:
        asyncio.run(main("motor", started.uri))
        asyncio.run(main("pymongo", started.uri))
