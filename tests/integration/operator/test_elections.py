"""Three pods write through elections: nothing acknowledged is lost, and nothing is done twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import PyMongoError
from support.clusters import Cluster
from support.fault_table import record
from support.installation import Installation, installed
from support.invariants import Ledger, settled
from support.kubelet import mounted
from support.replica_set import replica_set, step_down
from support.waiting import wait_until_async

from mdb_engine import DatabaseUnavailable, MongoDBEngine, ScopedDatabase
from mdb_engine.config import EngineSettings
from mdb_engine.connection.driver import DriverName
from mdb_engine.core.tasks import end

ELECTIONS = 4 if os.environ.get("MDB_ALL_FAULTS") == "1" else 2
"""Each with a rotation, of which there may be four before one waits for the end of a version."""

CLIENTS: dict[str, DriverName] = {"shop": "pymongo", "bank": "motor", "mail": "pymongo"}
"""Apps, each with one pod, by the driver that it uses."""

SPEC: dict[str, Any] = {"collections": [{"name": "c"}, {"name": "d"}]}

BETWEEN = 20
"""How many operations of each client are acknowledged between two elections."""


@dataclass
class Writer:
    """One pod that writes numbers in three ways, and keeps which of them were acknowledged."""

    slug: str
    db: ScopedDatabase = field(repr=False)
    engine: MongoDBEngine = field(repr=False)
    acknowledged: dict[str, set[int]] = field(default_factory=dict)
    failed: int = 0
    errors: list[BaseException] = field(default_factory=list)

    async def run(self) -> None:
        """Write until cancelled, in all ways at once."""
        ways = (self.insert, self.push, self.transact)
        await asyncio.gather(*(self._repeat(way.__name__, way) for way in ways))

    async def insert(self, number: int) -> None:
        await self.db.c.insert_one({"way": "insert", "of": self.slug, "n": number})

    async def push(self, number: int) -> None:
        await self.db.c.update_one({"_id": "log"}, {"$push": {"seen": number}}, upsert=True)

    async def transact(self, number: int) -> None:
        async with self.engine.transaction() as tx:
            for collection in (self.db.c, self.db.d):
                await collection.insert_one(
                    {"way": "transact", "of": self.slug, "n": number}, session=tx
                )

    async def _repeat(self, name: str, way: Callable[[int], Awaitable[None]]) -> None:
        done = self.acknowledged.setdefault(name, set())
        for number in range(1_000_000):
            try:
                await way(number)
            except DatabaseUnavailable:  # it may have happened, and nobody said so
                self.failed += 1
            except PyMongoError as error:
                # The drivers' way to say that a transaction has to begin anew.
                if not error.has_error_label("TransientTransactionError"):
                    self.errors.append(error)
                self.failed += 1
            except Exception as error:  # noqa: BLE001 - none is expected
                self.errors.append(error)
            else:
                done.add(number)
            await asyncio.sleep(0.01)

    @property
    def done(self) -> int:
        """The least number of what was acknowledged of a way."""
        return min((len(one) for one in self.acknowledged.values()), default=0)

    def check(self, here: Installation) -> None:
        """Hold what MongoDB has against what it acknowledged."""
        rows = {name: list(here.mongo[f"{self.slug}_{name}"].find()) for name in ("c", "d")}
        for one in (*rows["c"], *rows["d"]):
            assert one["app_id"] == self.slug, one
            assert one.get("of", self.slug) == self.slug, one
        (log,) = [one for one in rows["c"] if one["_id"] == "log"]
        kept = {
            way: [one["n"] for one in rows[name] if one.get("way") == row]
            for way, name, row in (
                ("insert", "c", "insert"),
                ("transact", "c", "transact"),
                ("and transact", "d", "transact"),
            )
        }
        kept["push"] = log["seen"]
        assert sorted(kept["transact"]) == sorted(kept["and transact"]), "half a transaction"
        for way, numbers in kept.items():
            assert len(numbers) == len(set(numbers)), f"{self.slug}: a write by {way} was doubled"
        for way, done in self.acknowledged.items():
            lost = done - set(kept[way])
            assert not lost, f"{self.slug}: {way} lost {sorted(lost)}"


@pytest.fixture
def here(control_plane: Cluster, tmp_path: Path) -> Iterator[Installation]:
    """Give an installation on three members."""
    with replica_set() as server, installed(control_plane, server, tmp_path) as found:
        yield found


@pytest.mark.faults  # a replica set of three beside all else is more than two cores have
async def test_what_three_pods_write_through_elections_is_there_once_and_under_their_own_id(
    here: Installation, tmp_path: Path
) -> None:
    ledger, root = Ledger(), tmp_path / "bindings"
    root.mkdir()
    with ExitStack() as mounts:
        process = here.start()
        for name in CLIENTS:
            here.apply(name, **SPEC)
        for name in CLIENTS:
            here.wait_condition(name, deadline=60)
            mounts.enter_context(mounted(here, name, root))
        writers = []
        for name, driver in CLIENTS.items():
            engine = MongoDBEngine(
                "mongodb://ignored.invalid",
                "ignored",
                slug=name,
                driver=driver,
                settings=EngineSettings(binding_root=root, binding_poll=0.05),
            )
            await engine.initialize()
            writers.append(Writer(name, engine.get_scoped_db(name), engine))
        tasks = [asyncio.create_task(one.run()) for one in writers]

        async def go_on() -> None:
            before = [one.done for one in writers]
            await wait_until_async(
                lambda: all(
                    one.done >= done + BETWEEN for one, done in zip(writers, before, strict=True)
                ),
                deadline=60,
                message=lambda: f"the writers to go on: {writers}",
            )

        try:
            await go_on()
            for number in range(ELECTIONS):
                here.annotate("shop", "rotate-requested", str(number))  # the operator, too
                await asyncio.to_thread(step_down, here.server)
                await go_on()
        finally:
            await end(*tasks)
            for one in writers:
                await one.engine.shutdown()
        assert [one.errors for one in writers] == [[], [], []]
        for one in writers:
            one.check(here)
        seconds = await asyncio.to_thread(settled, here, ledger)
        assert here.status("shop")["secret"]["version"] == ELECTIONS + 1
        here.stop(process)
    record(
        "the primary changes, and a secret rotates",
        "writes of three pods",
        recovered=ELECTIONS,
        of=ELECTIONS,
        seconds=seconds,
        writes=sum(len(done) for one in writers for done in one.acknowledged.values()),
    )
