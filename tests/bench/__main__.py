"""Run the benchmark: ``make bench`` for a minute of it, ``make bench-full`` for all of it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from pymongo import AsyncMongoClient
from support.binding import MountedSecret

from bench.data import DATABASE, MANIFEST, OTHER, OTHER_MANIFEST, SLUG, binding, clicks
from bench.measure import measure
from bench.operations import TITLES, concurrencies, operations
from bench.pods import measure_pods
from bench.report import Run, print_figure, print_parts, write
from bench.startup import measure_startup
from bench.stub import stub_server
from devcluster.mongo import MongoConfig, MongoServer
from mdb_engine import MongoDBEngine
from mdb_engine.config import EngineSettings
from mdb_engine.core.encryption import EnvelopeEncryptionService

SERVERS: Final = ("mongod", "stub")
DRIVERS: Final = ("pymongo", "motor")

SHORT_SECONDS: Final = 0.15
"""How long a short run times one figure."""

FULL_SECONDS: Final = 1.2
"""How long a full run times one figure; half of it where several operations run at once."""


def plain_client(driver: str, uri: str) -> Any:
    """Return a client as an app without the library makes it."""
    if driver == "pymongo":
        return AsyncMongoClient[dict[str, Any]](uri, tz_aware=True)
    from motor.motor_asyncio import AsyncIOMotorClient  # noqa: PLC0415 - an extra

    return AsyncIOMotorClient(uri, tz_aware=True)


@contextmanager
def running(server: str) -> Iterator[str]:
    """Run a server of its own; gives its URI."""
    if server == "stub":
        with stub_server() as uri:
            yield uri
    else:
        with MongoServer(MongoConfig(die_with_parent=True)) as mongod:
            yield mongod.uri


@asynccontextmanager
async def prepared(server: str, driver: str, uri: str) -> AsyncIterator[tuple[Any, MongoDBEngine]]:
    """Yield a plain database and a running engine, both with the same documents."""
    client = plain_client(driver, uri)
    with tempfile.TemporaryDirectory() as root:
        options: dict[str, Any] = {"driver": driver}
        if server == "stub":  # a pod: a registration asks more than the stub could answer
            MountedSecret(Path(root) / SLUG, binding(uri))
            engine = MongoDBEngine(settings=EngineSettings(binding_root=Path(root)), **options)
        else:
            key = EnvelopeEncryptionService.generate_master_key()
            settings = EngineSettings.model_validate({"master_key": key})
            engine = MongoDBEngine(uri, DATABASE, settings=settings, **options)
        async with engine:
            if server == "mongod":
                await engine.register_app(OTHER, OTHER_MANIFEST)
                await engine.register_app(SLUG, MANIFEST)
                await fill(client[DATABASE], engine)
            yield client[DATABASE], engine
    closing = client.close()
    if closing is not None:
        await closing


async def fill(plain: Any, engine: MongoDBEngine) -> None:
    """Write the documents that are read, with the same indexes on both sides."""
    for mine, scoped in (
        (plain.plain_clicks, engine.get_scoped_db(SLUG).clicks),
        (plain.plain_items, engine.get_scoped_db(OTHER).items),
    ):
        await mine.create_index("n")
        await mine.insert_many(clicks(1000, {}))
        await scoped.insert_many(clicks(1000, {}))


async def run_operations(run: Run, server: str, driver: str, uri: str, args: Any) -> None:
    """Measure all operations on one server with one driver."""
    seconds = args.seconds or (SHORT_SECONDS if args.short else FULL_SECONDS)
    async with prepared(server, driver, uri) as (plain, engine):
        for name, pair in operations(driver, plain, engine).items():
            if args.only and name not in args.only:
                continue
            for concurrency in concurrencies(name, short=args.short):
                share = seconds if concurrency == 1 else seconds / 2
                figure = await measure(pair, concurrency, share)
                run.add(server, driver, name, concurrency, figure)
                print_figure(server, driver, name, concurrency, figure)


def main() -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="about a minute, and rougher")
    parser.add_argument("--seconds", type=float, help="how long to time one figure")
    parser.add_argument("--only", nargs="*", choices=[*TITLES, "startup", "pods"], metavar="NAME")
    parser.add_argument("--server", choices=SERVERS, help="this server alone")
    parser.add_argument("--driver", choices=DRIVERS, help="this driver alone")
    parser.add_argument("--write", metavar="NAME", help="keep the run in docs/benchmarks.json")
    args = parser.parse_args()
    run = Run()
    timed = not args.only or set(args.only) & set(TITLES)
    for driver in DRIVERS if timed else ():
        for server in SERVERS:
            if args.driver in {None, driver} and args.server in {None, server}:
                with running(server) as uri:
                    asyncio.run(run_operations(run, server, driver, uri, args))
                if args.write:
                    write(run, args.write)
    if not args.only or "startup" in args.only:
        run.startup = measure_startup(rounds=5 if args.short else 15)
    if "pods" in (args.only or ()) or not (args.only or args.short):
        run.pods = measure_pods()
    print_parts(run)
    if args.write:
        write(run, args.write)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
