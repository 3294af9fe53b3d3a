"""The audit trail under its bound, whatever was put into it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import bson
from support.registry import Registries

from mdb_engine.connection.driver import get_driver
from mdb_engine.constants import AUDIT_COLLECTION
from mdb_engine.registry.registry import Registry
from mdb_engine.registry.storage.audit import AuditStore

NOW = dt.datetime.now(dt.UTC)


def event(minutes_ago: int, **fields: Any) -> dict[str, Any]:
    at = NOW - dt.timedelta(minutes=minutes_ago)
    return {"event": "denied", "slug": "dash", "message": "x" * 300, "at": at, **fields}


async def test_the_trail_is_held_under_its_bound_by_removing_what_is_forged_then_the_oldest(
    registries: Registries, registry: Registry
) -> None:
    await registry.prepare()
    trail = registries.database.client[registries.database.name][AUDIT_COLLECTION]
    real = [event(number, number=number) for number in range(3_000)]
    forged = [
        event(-120, forged="ahead"),
        {"forged": "no time"},
        {"forged": "no time that can be", "at": "always"},
        event(1, forged="large", more="x" * 20_000),
    ]
    trail.insert_many([*real, *forged])
    driver = get_driver(registries.driver_name)
    client = driver.connect(registries.database.uri)
    try:
        store = AuditStore(client[registries.database.name], driver)
        assert await store.trim(10 << 20) == 0
        assert trail.count_documents({}) == len(real) + len(forged)
        most = 500_000
        removed = await store.trim(most)
        kept = list(trail.find({}))
        assert removed == len(real) + len(forged) - len(kept)
        assert 0.8 * most < sum(len(bson.encode(one)) for one in kept) <= most
        assert sorted(one["number"] for one in kept) == list(range(len(kept)))
        assert await store.trim(most) == 0
        assert await registry.trim_audit() == 0
    finally:
        await driver.close(client)
