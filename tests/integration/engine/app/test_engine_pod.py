"""An app in a pod: credentials from a binding that changes, grants that come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from bson import ObjectId
from support.engine_world import OperatorHand, manifest
from support.scoped_world import Commands
from support.waiting import wait_until_async

from mdb_engine import InvalidToken, MdbEngineError, MongoDBEngine, ScopeDenied
from mdb_engine.access import grant_source
from mdb_engine.access.model import Grant
from mdb_engine.access.rows import grant_from_document
from mdb_engine.config import secret_variable
from mdb_engine.connection.pool import Connections
from mdb_engine.core.tasks import end
from mdb_engine.engine.pod import PodHosting
from mdb_engine.exceptions import GrantMalformed

GRANT_TTL = 0.5
SLACK = 0.3
"""What a loaded machine may add to the time in which a change takes hold."""

ROTATIONS = 3


@dataclass
class Load:
    """What clients that never pause have met."""

    done: int = 0
    errors: list[BaseException] = field(default_factory=list)
    last_success: float = 0.0


@asynccontextmanager
async def load(*operations: Callable[[], Awaitable[object]]) -> AsyncIterator[Load]:
    """Repeat operations without a pause, each in a task of its own, for the length of a block."""
    seen = Load()

    async def repeat(operation: Callable[[], Awaitable[object]]) -> None:
        while True:
            began = time.monotonic()
            try:
                await operation()
            except MdbEngineError as error:
                seen.errors.append(error)
                await asyncio.sleep(0.01)
            except Exception as error:  # noqa: BLE001 - what an app would have met
                seen.errors.append(error)
                await asyncio.sleep(0.01)
            else:
                seen.done += 1
                seen.last_success = began
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(repeat(operation)) for operation in operations]
    try:
        yield seen
    finally:
        await end(*tasks)


def version_in_use(engine: MongoDBEngine) -> int:
    assert isinstance(engine._hosting, PodHosting)
    return engine._hosting._binding.version


def connections_of(engine: MongoDBEngine) -> Connections:
    assert engine._runtime is not None
    return engine._runtime.connections


@pytest.mark.long
async def test_rotations_under_load_fail_no_operation(operator: OperatorHand) -> None:
    """Users and tokens are replaced, and the old ones dropped, while three clients work on."""
    await operator.register("click_tracker", "clicks")
    async with operator.pod("click_tracker") as engine:
        assert engine.in_pod
        db = engine.get_scoped_db("click_tracker")
        await db.clicks.insert_many([{"n": number} for number in range(300)])

        async def walk() -> None:
            """Read through a cursor of many batches, which stays on the connection it began on."""
            count = 0
            async for _ in db.clicks.find({"n": {"$gte": 0}}).batch_size(50):
                count += 1
            assert count == 300

        async def transact() -> None:
            async with engine.transaction() as tx:
                await db.clicks.insert_one({"in": "tx"}, session=tx)
                await db.clicks.delete_many({"in": "tx"}, session=tx)

        async def swap() -> None:
            before = seen.done
            version = await operator.rotate("click_tracker")
            await wait_until_async(
                lambda: version_in_use(engine) == version, message=f"version {version} in use"
            )
            await wait_until_async(
                lambda: connections_of(engine).retiring == 0, message="the old connection to end"
            )
            await operator.end_overlap("click_tracker")
            await wait_until_async(lambda: seen.done > before + 10, message="work to go on")

        async with load(lambda: db.clicks.insert_one({"x": 1}), walk, transact) as seen:
            for _ in range(ROTATIONS):
                await swap()
        assert seen.errors == []
        assert seen.done > 10 * ROTATIONS
        users = operator.mongo.client[operator.mongo.name].command("usersInfo", 1)["users"]
        assert [user["user"] for user in users] == [f"click_tracker.v{ROTATIONS + 1}"]


async def test_new_credentials_that_do_not_work_leave_the_old_ones_in_use(
    operator: OperatorHand,
) -> None:
    await operator.register("click_tracker", "clicks")
    async with operator.pod("click_tracker") as engine:
        db = engine.get_scoped_db("click_tracker")
        async with load(lambda: db.clicks.insert_one({})) as seen:
            entries = operator.entries(await operator.registry.secrets.reveal("click_tracker"))
            uri = entries["uri"].replace(":27", ":1").replace("click_tracker.v1:", "nobody:")
            for changes in (
                {"uri": uri, "secret-version": "2"},
                {"app-secret": "not-the-token-of-anybody", "secret-version": "3"},
                {"app-slug": "bank", "secret-version": "4"},
            ):
                await operator.mount("click_tracker", **changes)
                await wait_until_async(
                    lambda: engine.readiness("click_tracker").notes, message="a note on /ready"
                )
                assert engine.readiness("click_tracker").ready
                await operator.mount("click_tracker")
                await wait_until_async(
                    lambda: not engine.readiness("click_tracker").notes,
                    deadline=15,
                    message="the note to go",
                )
        assert seen.errors == []
        assert version_in_use(engine) == 1


async def test_sessions_outlive_a_rotation(operator: OperatorHand) -> None:
    await operator.register("click_tracker", "clicks")
    async with operator.pod("click_tracker") as engine:
        sessions = engine.sessions("click_tracker")
        token = sessions.issue("ada")
        await operator.rotate("click_tracker")
        await wait_until_async(lambda: version_in_use(engine) == 2, message="version 2")
        assert sessions.verify(token).subject == "ada"
        await operator.end_overlap("click_tracker")
        await operator.mount("click_tracker")

        def refused() -> bool:
            try:
                sessions.verify(token)
            except InvalidToken:
                return True
            return False

        await wait_until_async(refused, message="the session to end with the overlap")


async def test_a_revoked_reader_is_stopped_within_the_ttl(operator: OperatorHand) -> None:
    """By the library, before MongoDB's own refusal: what counts is the last allowed operation."""
    await operator.register("click_tracker", "clicks")
    await operator.register("dashboard", "reports", reads=("click_tracker",))
    async with operator.pod("dashboard", grant_ttl=GRANT_TTL) as engine:
        dashboard = engine.get_scoped_db("dashboard")
        read = dashboard["click_tracker_clicks"]
        async with load(*[lambda: read.find_one({})] * 3) as seen:
            await wait_until_async(lambda: seen.done > 20, message="reads to succeed")
            await operator.register("click_tracker", "clicks", crossAppPolicy="DenyAll")
            revoked = time.monotonic()
            await wait_until_async(lambda: len(seen.errors) > 20, message="reads to be denied")
        assert seen.last_success - revoked < GRANT_TTL + SLACK
        assert {type(error) for error in seen.errors} == {ScopeDenied}
        await dashboard.reports.insert_one({})

        await operator.register("click_tracker", "clicks")

        async def granted() -> bool:
            try:
                await read.find_one({})
            except ScopeDenied:
                return False
            return True

        await wait_until_async(granted, deadline=GRANT_TTL + 2, message="the grant to be back")


async def test_a_revoked_token_is_refused_within_the_ttl(operator: OperatorHand) -> None:
    await operator.register("click_tracker", "clicks")
    async with operator.pod("click_tracker", binding_poll=30) as engine:
        db = engine.get_scoped_db("click_tracker")
        async with load(*[lambda: db.clicks.find_one({})] * 2) as seen:
            await operator.rotate("click_tracker")
            await wait_until_async(lambda: seen.done > 20, message="the old token to work on")
            assert seen.errors == []
            await operator.registry.revoke_previous("click_tracker")
            revoked = time.monotonic()
            await wait_until_async(lambda: len(seen.errors) > 5, message="it to be refused")
        assert seen.last_success - revoked < GRANT_TTL + SLACK
        assert {type(error) for error in seen.errors} == {InvalidToken}


async def test_what_a_pod_asks_and_reads_for_its_grants(
    operator: OperatorHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command a reading, and nothing parsed but the rows of its own that have changed."""
    await operator.register("click_tracker", "clicks")
    await operator.register("dashboard", "reports", reads=("click_tracker",))
    await operator.register("bank", "accounts")
    parsed: list[str] = []

    def counting(document: Mapping[str, Any]) -> Grant:
        parsed.append(document["_id"])
        return grant_from_document(document)

    monkeypatch.setattr(grant_source, "grant_from_document", counting)
    commands = Commands()
    engine = operator.pod("dashboard", grant_ttl=60, binding_poll=30)
    engine._client_options["event_listeners"] = [commands]
    async with engine:
        assert engine._runtime is not None
        cache = engine._runtime.cache
        await cache.stop()  # it is told below when to read
        # The slugs of all; its own row, to see what it may read; then all of those at once.
        sent = [name for name in commands.names if not name.startswith("sasl")]
        assert sent == ["ping", "aggregate", "find", "find"]
        assert parsed == ["dashboard", "click_tracker"]

        async def seen(changes: int = 3) -> tuple[list[str], list[str]]:
            commands.clear()
            parsed.clear()
            for _ in range(changes):
                await cache.refresh()
            return commands.names, sorted(parsed)

        assert await seen() == (["find"] * 3, [])
        before = cache.index()
        await operator.registry.rotate("bank", expected_version=1, overlap_seconds=600)
        await operator.register("hr", "people")
        assert await seen() == (["find"] * 3, [])
        assert cache.index() is before
        await operator.registry.rotate("click_tracker", expected_version=1, overlap_seconds=600)
        assert await seen() == (["find"] * 3, ["click_tracker"])
        await operator.registry.rotate("dashboard", expected_version=1, overlap_seconds=600)
        assert await seen() == (["find"] * 3, ["dashboard"])
        await operator.register("dashboard", "reports", reads=("click_tracker", "bank"))
        assert await seen() == (["find"] * 4, ["bank", "dashboard"])
        rows = operator.mongo.client[operator.mongo.name]["_mdb_engine_grants"]
        rows.insert_many([{"_id": "broken", "slug": 7}, {"_id": ObjectId()}, {"_id": "no_slug"}])
        cache._slugs_at = None
        assert await seen(1) == (["aggregate", "find"], [])
        for name in ("broken_things", "no_slug_things", "hr_people"):
            with pytest.raises(ScopeDenied):
                await engine.get_scoped_db("dashboard")[name].find_one({})
        rows.update_one({"_id": "dashboard"}, {"$set": {"verifiers": []}})  # and the same epoch
        names, _ = await seen()
        assert names.count("find") == 3
        assert parsed == ["dashboard"]
        with pytest.raises(InvalidToken):
            engine.get_scoped_db("dashboard")


async def test_a_pod_has_one_identity_and_no_master_key(operator: OperatorHand) -> None:
    await operator.register("click_tracker", "clicks")
    await operator.register("bank", "accounts")
    with pytest.raises(InvalidToken, match="is for app bank, click_tracker, not 'shop'"):
        await operator.pod("shop").initialize()
    async with operator.pod("click_tracker") as engine:
        with pytest.raises(InvalidToken, match="this pod's binding is for app 'click_tracker'"):
            engine.get_scoped_db("bank")
        with pytest.raises(ScopeDenied, match="kubectl mdb rotate"):
            await engine.rotate_app_secret("click_tracker")
        # What the image says is compared, never applied.
        wider = manifest("click_tracker", "clicks", "extra", reads=("bank",))
        await engine.register_app("click_tracker", wider)
        notes = [note.message for note in engine.readiness("click_tracker").notes]
        assert "manifest.json reads bank, which is not granted" in notes
        assert "manifest.json declares extra, which is not registered" in notes
        with pytest.raises(ScopeDenied):
            await engine.get_scoped_db("click_tracker")["bank_accounts"].find_one({})
        assert "mongodb://" not in repr(engine) + repr(engine.settings)


async def test_a_pods_token_is_the_mounted_one_whatever_the_environment_says(
    operator: OperatorHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await operator.register("click_tracker", "clicks")
    monkeypatch.setenv(secret_variable("click_tracker"), "of-another-time")
    async with operator.pod("click_tracker") as engine:
        await engine.get_scoped_db("click_tracker").clicks.find_one({})


async def test_denials_reach_the_audit_trail_with_a_pods_rights(operator: OperatorHand) -> None:
    await operator.register("click_tracker", "clicks")
    await operator.register("dashboard", "reports", reads=("click_tracker",))
    async with operator.pod("click_tracker", instance="pod-7") as engine:
        db = engine.get_scoped_db("click_tracker")
        for _ in range(3):
            with pytest.raises(ScopeDenied):
                await db["dashboard_reports"].find_one({})
        with pytest.raises(InvalidToken):
            engine.get_scoped_db("click_tracker", app_token="forged-by-somebody")
    async with operator.pod("dashboard") as engine:
        await engine.get_scoped_db("dashboard")["click_tracker_clicks"].find_one({})
    rows = list(operator.mongo.client[operator.mongo.name]["_mdb_engine_audit"].find())
    found = {(row["event"], row["slug"], row["collection"]): row for row in rows}
    denied = found["denied", "click_tracker", "dashboard_reports"]
    assert (denied["count"], denied["instance"], denied["operation"]) == (3, "pod-7", "find_one")
    assert ("token_rejected", "click_tracker", "") in found
    assert ("cross_app_read", "dashboard", "click_tracker_clicks") in found
    assert all("forged-by-somebody" not in repr(row) for row in rows)


async def test_a_malformed_row_of_the_grants_costs_its_own_app_only(
    operator: OperatorHand,
) -> None:
    await operator.register("click_tracker", "clicks")
    await operator.register("shop", "orders")
    rows = operator.mongo.client[operator.mongo.name]["_mdb_engine_grants"]
    async with operator.pod("click_tracker") as tracker, operator.pod("shop") as shop:
        clicks = tracker.get_scoped_db("click_tracker").clicks
        orders = shop.get_scoped_db("shop").orders
        row = rows.find_one_and_update(
            {"_id": "click_tracker"}, {"$set": {"verifiers": "damaged"}, "$inc": {"epoch": 1}}
        )
        assert row is not None
        await wait_until_async(
            lambda: not tracker.readiness("click_tracker").ready, message="the row to be seen"
        )
        with pytest.raises(GrantMalformed, match=r"row 'click_tracker' of _mdb_engine_grants"):
            await clicks.find_one({})
        await orders.insert_one({})
        async with operator.pod("shop") as late:  # and new pods of other apps start
            await late.get_scoped_db("shop").orders.find_one({})
        rows.update_one({"_id": "click_tracker"}, {"$set": {"verifiers": row["verifiers"]}})
        await wait_until_async(
            lambda: tracker.readiness("click_tracker").ready, message="it to heal"
        )
        await clicks.find_one({})
