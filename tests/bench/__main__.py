"""Run the benchmark: ``PYTHONPATH=tests python -m bench [--short] [--only NAME] [--write]``."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from bench.data import DATABASE, MANIFEST, OTHER, OTHER_MANIFEST, SLUG, binding, clicks
from bench.measure import Figure, measure
from bench.operations import TITLES, operations
from bench.stub import stub_server
from devcluster.mongo import MongoConfig, MongoServer
from mdb_engine import MongoDBEngine
from mdb_engine.config import EngineSettings
from mdb_engine.core.encryption import EnvelopeEncryptionService
from pymongo import AsyncMongoClient
from support.binding import MountedSecret

SERVERS: Final = ("mongod", "stub")
DRIVERS: Final = ("pymongo", "motor")
CONCURRENCY: Final = (1, 16, 64)

SHORT_SECONDS: Final = 0.12
"""How long a short run times one figure."""

FULL_SECONDS: Final = {1: 2.0, 16: 1.2, 64: 1.2}
"""How long a full run times one figure, by concurrency."""


def plain_client(driver: str, uri: str) -> Any:
    """Return a client as an app without the library makes it."""
    if driver == "pymongo":
        return AsyncMongoClient(uri, tz_aware=True)
    from motor.motor_asyncio import AsyncIOMotorClient  # noqa: PLC0415 - an extra

    return AsyncIOMotorClient(uri, tz_aware=True)


@asynccontextmanager
async def prepared(server: str, driver: str, uri: str) -> AsyncIterator[tuple[Any, MongoDBEngine]]:
    """Yield a plain database and a running engine, both with the same documents."""
    client = plain_client(driver, uri)
    plain = client[DATABASE]
    options: dict[str, Any] = {"driver": driver}
    with tempfile.TemporaryDirectory() as root:
        if server == "stub":  # a pod: the stub could not answer what a registration asks
            MountedSecret(Path(root) / SLUG, binding(uri))
            settings = EngineSettings(binding_root=Path(root))
            engine = MongoDBEngine(settings=settings, **options)
        else:
            key = EnvelopeEncryptionService.generate_master_key()
            engine = MongoDBEngine(uri, DATABASE, settings=EngineSettings(master_key=key), **options)
        async with engine:
            if server == "mongod":
                await engine.register_app(OTHER, OTHER_MANIFEST)
                await engine.register_app(SLUG, MANIFEST)
                await fill(plain, engine)
            yield plain, engine
    closing = client.close()
    if closing is not None:
        await closing


async def fill(plain: Any, engine: MongoDBEngine) -> None:
    """Write the documents that are read."""
    await plain.plain_clicks.create_index("n", name="n")
    await plain.plain_items.create_index("n", name="n")
    for mine, scoped in (
        (plain.plain_clicks, engine.get_scoped_db(SLUG).clicks),
        (plain.plain_items, engine.get_scoped_db(OTHER).items),
    ):
        await mine.insert_many(clicks(1000, {}))
        await scoped.insert_many(clicks(1000, {}))


async def run(
    server: str, driver: str, uri: str, only: list[str], seconds: Mapping[int, float]
) -> Iterator[tuple[dict[str, Any], Figure]] | list[tuple[dict[str, Any], Figure]]:
    found = []
    async with prepared(server, driver, uri) as (plain, engine):
        for name, pair in operations(driver, plain, engine).items():
            if only and name not in only:
                continue
            for concurrency in CONCURRENCY:
                figure = await measure(pair, concurrency, seconds[concurrency])
                found.append(figure)
                print(f"{server:7} {driver:8} {name:17} x{concurrency:<3} {figure.plain_us:9.1f} {figure.library_us:9.1f} {figure.ratio:6.3f} [{figure.low:.3f} {figure.high:.3f}] {figure.more_us:+8.1f} us n={figure.rounds}")
    return found


if __name__ == "__main__":
    for driver in DRIVERS:
        with stub_server() as uri:
            asyncio.run(run("stub", driver, uri, sys.argv[1:], dict.fromkeys(CONCURRENCY, SHORT_SECONDS)))
        with MongoServer(MongoConfig(die_with_parent=True), print) as m:
            asyncio.run(run("mongod", driver, m.uri, sys.argv[1:], dict.fromkeys(CONCURRENCY, SHORT_SECONDS)))
