"""Many pods read while their secrets rotate and the versions before end: none is ever refused."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.credentials import wait_refused
from support.fault_table import record
from support.installation import ROOT, Installation
from support.invariants import Ledger, data_of, settled
from support.kubelet import mounted
from support.waiting import wait_until_async

from mdb_engine import MongoDBEngine
from mdb_engine.config import EngineSettings
from mdb_engine.core.tasks import end
from mdb_engine.engine.pod import PodHosting

pytestmark = pytest.mark.long

ALL = os.environ.get("MDB_ALL_FAULTS") == "1"

PODS, ROTATIONS = (50, 5) if ALL else (10, 2)

READERS = ("till", "desk")
"""Apps that the pods are of, in turn; each reads its own data and those of `OWNER`."""

OWNER = "stock"


@dataclass
class Pod:
    """One pod that reads without an end, and what it met."""

    slug: str
    engine: MongoDBEngine = field(repr=False)
    reads: int = 0
    errors: list[BaseException] = field(default_factory=list)

    async def run(self) -> None:
        """Read until cancelled, one document and a cursor of several batches, of both apps."""
        db = self.engine.get_scoped_db(self.slug)
        while True:
            for collection in (db.c, db[f"{OWNER}_c"]):
                try:
                    assert await collection.find_one({"n": 1}) is not None
                    found = [one["n"] async for one in collection.find({}).batch_size(5)]
                    assert sorted(found) == list(range(20))
                except Exception as error:  # noqa: BLE001 - whatever it is, it is one too many
                    self.errors.append(error)
                else:
                    self.reads += 1
                await asyncio.sleep(0.02)

    @property
    def version(self) -> int:
        """Which version of the secret it uses."""
        hosting = self.engine._hosting
        assert isinstance(hosting, PodHosting)
        return hosting._binding.version


@asynccontextmanager
async def reading(root: Path) -> AsyncIterator[list[Pod]]:
    """Give pods at work; ends them."""
    async with AsyncExitStack() as engines:
        pods = []
        for number in range(PODS):
            slug = READERS[number % len(READERS)]
            settings = EngineSettings(binding_root=root, binding_poll=0.5)
            engine = MongoDBEngine("mongodb://ignored.invalid", "x", slug=slug, settings=settings)
            pods.append(Pod(slug, await engines.enter_async_context(engine)))
        tasks = [asyncio.create_task(pod.run()) for pod in pods]
        try:
            yield pods
        finally:
            await end(*tasks)


async def all_use(pods: list[Pod], version: int) -> None:
    await wait_until_async(
        lambda: all(pod.version == version for pod in pods),
        deadline=60,
        message=lambda: f"all pods at version {version}: {[pod.version for pod in pods]}",
    )


async def all_go_on(pods: list[Pod]) -> None:
    before = {id(pod): pod.reads for pod in pods}
    await wait_until_async(
        lambda: all(pod.reads > before[id(pod)] + 2 for pod in pods),
        deadline=60,
        message="all pods to go on reading",
    )


@pytest.mark.timeout(600)
async def test_no_pod_is_refused_while_secrets_rotate_and_earlier_versions_end(
    installation: Installation, tmp_path: Path
) -> None:
    here, ledger, root = installation, Ledger(), tmp_path / "bindings"
    root.mkdir()
    process = here.start(program=(sys.executable, ROOT / "tests/support/short_overlap.py"))
    here.apply(OWNER, collections=[{"name": "c"}])
    here.wait_condition(OWNER, deadline=60)
    for name in READERS:
        scopes = [name, OWNER]
        here.apply(name, collections=[{"name": "c"}], dataAccess={"readScopes": scopes})
    for name in READERS:
        here.wait_condition(name, deadline=60)
    for name in (OWNER, *READERS):
        here.mongo[f"{name}_c"].insert_many([{"app_id": name, "n": n} for n in range(20)])
    data = data_of(here, OWNER, *READERS)
    with ExitStack() as mounts:
        for name in READERS:
            mounts.enter_context(mounted(here, name, root))
        async with reading(root) as pods:
            for version in range(2, 2 + ROTATIONS):
                old = {name: here.secret(f"{name}-mdb")["uri"] for name in READERS}
                await asyncio.to_thread(ledger.collect, here)
                here.annotate((OWNER, *READERS), "rotate-requested", str(version))
                await all_use(pods, version)
                for name, uri in old.items():
                    await asyncio.to_thread(wait_refused, uri, f"the last of {name}", 60)
                await all_go_on(pods)
            began = time.monotonic()
            await asyncio.to_thread(settled, here, ledger, data)
            seconds = time.monotonic() - began
    errors = [error for pod in pods for error in pod.errors]
    assert errors == [], f"{len(errors)} of {sum(pod.reads for pod in pods)}"
    here.stop(process)
    record(
        "secrets rotate, and each version before ends",
        f"readings of {PODS} pods",
        recovered=ROTATIONS,
        of=ROTATIONS,
        seconds=seconds,
        readings=sum(pod.reads for pod in pods),
    )
