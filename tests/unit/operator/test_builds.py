"""Builds of collections and indexes: whose they are, and when they end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.models.app import AppRecord, AppState, Owner
from mdb_operator.apps import builds as module
from mdb_operator.apps.builds import Builds, Built
from mdb_operator.kubernetes.resources import AppKey

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = AppKey("shop", "orders")
RECORD = AppRecord(
    slug="orders",
    owner=Owner("shop", "orders", "u"),
    state=AppState.ACTIVE,
    spec=MdbAppSpec.parse({"slug": "orders"}),
    generation=1,
    incarnation="first",
    claims=frozenset(),
    created_at=NOW,
    updated_at=NOW,
)
CHANGED = replace(RECORD, spec=MdbAppSpec.parse({"slug": "orders", "collections": [{"name": "c"}]}))


class Mongo:
    """Builds for as long as a test wants it to."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.running: list[AppRecord] = []

    async def build(self, record: AppRecord) -> Built:
        self.running.append(record)
        try:
            await self.release.wait()
        finally:
            self.running.remove(record)
        return Built(wrote=True, record=record)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.01)


@pytest.mark.parametrize("after", [CHANGED, replace(RECORD, incarnation="second")])
async def test_a_build_that_ended_says_nothing_of_another_registration(after: AppRecord) -> None:
    mongo, ended = Mongo(), asyncio.Event()
    builds = Builds(mongo.build, lambda _: ended.set(), lambda: NOW)
    assert await builds.ensure(KEY, RECORD) == NOW
    mongo.release.set()
    await asyncio.wait_for(ended.wait(), 2)
    built = await builds.ensure(KEY, after)
    assert isinstance(built, Built)
    assert built.record == after


@pytest.mark.parametrize("after", [CHANGED, replace(RECORD, incarnation="second")])
async def test_a_build_that_hangs_holds_up_no_other_registration(after: AppRecord) -> None:
    mongo = Mongo()
    builds = Builds(mongo.build, lambda _: None, lambda: NOW)
    for record in (RECORD, after):
        assert await builds.ensure(KEY, record) == NOW
    assert mongo.running == [after]
    await builds.close()


async def test_nothing_is_built_for_an_app_whose_build_was_ended() -> None:
    mongo = Mongo()
    builds = Builds(mongo.build, lambda _: None, lambda: NOW)
    await builds.ensure(KEY, RECORD)
    await builds.end(KEY)
    assert mongo.running == []
    await builds.end(KEY)
