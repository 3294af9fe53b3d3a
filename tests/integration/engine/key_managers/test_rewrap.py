"""The credentials of many apps move from one key manager to another, which fails on the way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support import leakscan
from support.key_managers import Service, serve
from support.mongo import Database
from support.registry import owner, spec

from mdb_engine.connection.driver import get_driver
from mdb_engine.constants import SECRETS_COLLECTION
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.key_manager import KeyManager
from mdb_engine.core.keyring import Keyring, generate_master_key
from mdb_engine.exceptions import KeyManagerUnavailable, MasterKeyError
from mdb_engine.key_managers import KeyManagers
from mdb_engine.registry.master_key import RewrapReport
from mdb_engine.registry.models.app import AppRecord
from mdb_engine.registry.registry import Registry

pytestmark = pytest.mark.long

APPS = 300 if os.environ.get("MDB_ALL_FAULTS") else 40
"""300 apps take a minute each key manager; `make test-faults` has that time."""


class Shop:
    """A database with apps, and what opens their credentials."""

    def __init__(self, mongo: Database) -> None:
        self.mongo = mongo
        self._driver = get_driver("pymongo")
        self.client = self._driver.connect(mongo.uri)
        self.key = generate_master_key()
        leakscan.register(self.key, "the master key")
        self.keyring = Keyring.parse(f"k1:{self.key}")
        self.rows = mongo.client[mongo.name][SECRETS_COLLECTION]

    def registry(self, *managers: KeyManager) -> Registry:
        manager = managers[0] if len(managers) == 1 else KeyManagers(managers)
        encryption = EnvelopeEncryptionService(manager)
        return Registry(self.client[self.mongo.name], self._driver, encryption)

    async def fill(self, count: int) -> None:
        """Make the credentials of apps, the first of which was rotated once."""
        registry = self.registry(self.keyring)
        await registry.prepare()
        for number in range(count):
            app = spec(f"app{number}")
            record: AppRecord = await registry.claim(app, owner(app.slug))
            await registry.secrets.ensure(record)
        await registry.secrets.rotate("app0", expected_version=1, overlap_seconds=3600)

    async def tokens(self, *managers: KeyManager) -> dict[str, Any]:
        """Return all tokens, of all versions, opened by a process that has just started."""
        registry = self.registry(*managers)
        found = {}
        for row in list(self.rows.find({}, {"slug": 1})):
            one = await registry.secrets.reveal(row["slug"])
            found[one.slug] = [v.token.get_secret_value() for v in (one.current, *one.earlier)]
        return found

    def key_ids(self) -> set[str]:
        rows = list(self.rows.find())
        return {one["key_id"] for row in rows for one in (row, *row["previous"])}

    async def close(self) -> None:
        await self._driver.close(self.client)


@pytest.fixture
async def shop(mongo: Database) -> AsyncIterator[Shop]:
    made = Shop(mongo)
    yield made
    await made.close()


async def test_many_apps_move_to_a_key_manager_that_fails_in_the_middle_and_lose_nothing(
    service: Service, shop: Shop, record_property: Any
) -> None:
    await shop.fill(APPS)
    before = await shop.tokens(shop.keyring)
    moving = service.manager()
    registry = shop.registry(moving, shop.keyring)
    assert await registry.master_key.pending() == APPS

    def fail_halfway(done: int, _total: int) -> None:
        if done == APPS // 2:
            service.cut()

    with pytest.raises(KeyManagerUnavailable, match=f"{APPS // 2} of {APPS} apps are re-wrapped"):
        await registry.master_key.run(fail_halfway)
    rows = list(shop.rows.find({}, {"key_id": 1}))
    assert sum(row["key_id"] == "k1" for row in rows) == APPS // 2
    # Nothing is lost, and this process still opens all of it.
    revealed = [await registry.secrets.reveal(row["_id"]) for row in rows]
    assert {one.slug: one.current.token.get_secret_value() for one in revealed} == {
        slug: tokens[0] for slug, tokens in before.items()
    }

    service.mend()
    await moving.check()
    began = time.monotonic()
    assert await registry.master_key.run() == RewrapReport(total=APPS // 2, done=APPS // 2)
    resumed = time.monotonic() - began
    (active,) = shop.key_ids()
    assert moving.owns(active)
    began = time.monotonic()
    assert await shop.tokens(service.manager()) == before
    opened = time.monotonic() - began

    # The key manager's own rotation: everything goes to its new key, by the same re-wrapping.
    service.rotate()
    assert await moving.check() != active
    began = time.monotonic()
    assert (await registry.master_key.run()).done == APPS
    rewrapped = time.monotonic() - began
    assert active not in shop.key_ids()
    assert await shop.tokens(service.manager()) == before
    figures = (
        f"resumed with {APPS // 2} apps in {resumed:.2f} s, opened {APPS} cold in {opened:.2f} s, "
        f"re-wrapped {APPS} after a rotation in {rewrapped:.2f} s"
    )
    record_property("figures", figures)
    print(f"\n{type(service).__name__}: {figures}")  # noqa: T201 - what the documentation quotes


async def test_moving_back_to_a_keyring_needs_no_more_than_the_other_way(
    service: Service, shop: Shop
) -> None:
    await shop.fill(5)
    before = await shop.tokens(shop.keyring)
    there, back = service.manager(), shop.keyring
    await shop.registry(there, back).master_key.run()
    await shop.registry(back, there).master_key.run()
    assert shop.key_ids() == {"k1"}
    assert await shop.tokens(back) == before


async def test_without_the_former_key_manager_nothing_is_written(
    service: Service, shop: Shop
) -> None:
    await shop.fill(2)
    rows = list(shop.rows.find())
    with pytest.raises(MasterKeyError, match="'k1'"):
        await shop.registry(service.manager()).master_key.run()
    assert list(shop.rows.find()) == rows


async def test_a_standalone_program_is_rewrapped_by_a_command(
    mongo: Database, shop: Shop, tmp_path: Any
) -> None:
    await shop.fill(3)
    before = await shop.tokens(shop.keyring)
    with serve("transit", tmp_path) as service:

        def rewrap(key: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "mdb_engine", "rewrap"],
                env={
                    **os.environ,
                    "MONGODB_URI": mongo.uri,
                    "MONGODB_DB": mongo.name,
                    "MDB_ENGINE_MASTER_KEY": key,
                },
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        done = rewrap(f"{service.uri},k1:{shop.key}")
        assert done.stdout == (
            "3 apps were re-wrapped; everything is wrapped with transit:mdb:v1\n"
        ), done.stderr
        assert await shop.tokens(service.manager()) == before
        service.cut()
        failed = rewrap(service.uri)
        assert failed.returncode == 1
        assert failed.stderr.startswith("mdb_engine: The key manager transit://")
        assert len(failed.stderr.splitlines()) == 1
        service.mend()
        assert rewrap(f"k1:{shop.key},{service.uri}").returncode == 0
    assert shop.key_ids() == {"k1"}
    assert await shop.tokens(shop.keyring) == before
