"""The steps of a reconcile, run in this process: counted, and killed between any two of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.monitoring import CommandListener, CommandStartedEvent
from support.installation import Installation
from support.invariants import ending
from support.operator_edge import Request, writes

from mdb_engine.constants import MAX_SECRET_VERSIONS
from mdb_engine.exceptions import VersionConflict
from mdb_engine.registry.models.app import Owner
from mdb_operator.apps.binding import SECRET_CONFLICT_RETRY_SECONDS
from mdb_operator.apps.conditions import Isolation
from mdb_operator.apps.controller import Controller
from mdb_operator.apps.status import Step
from mdb_operator.apps.workers import Again
from mdb_operator.config import Config
from mdb_operator.keys.source import MissingKeyring
from mdb_operator.kubernetes.resources import AppKey
from mdb_operator.process.context import MONGO_OPTIONS, open_context
from mdb_operator.process.factory import Factory

MONGO_WRITES = {
    "insert", "update", "delete", "findAndModify", "create", "createIndexes", "drop",
    "dropIndexes", "createUser", "dropUser", "updateUser", "createRole", "dropRole", "updateRole",
}  # fmt: skip

SPEC: dict[str, Any] = {
    "collections": [{"name": "clicks", "indexes": [{"name": "u", "keys": [{"field": "user"}]}]}],
    "dataAccess": {"readScopes": ["orders", "stock"]},
    "restart": [{"kind": "Deployment", "name": "orders"}],
}


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


class Commands(CommandListener):
    """Keeps the names of the commands that write."""

    def __init__(self) -> None:
        self.writes: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in MONGO_WRITES:
            self.writes.append(event.command_name)

    def succeeded(self, event: Any) -> None:
        """Say nothing."""

    def failed(self, event: Any) -> None:
        """Say nothing."""


class Operator:
    """A controller without its watch: a test tells it what there is."""

    def __init__(self, factory: Factory, commands: Commands, requests: list[Request]) -> None:
        self.factory = factory
        self.commands = commands
        self.requests = requests
        self.kill_after: int | None = None
        self.on_step: Callable[[], None] = lambda: None
        self.steps: list[Step] = []
        self.controller = Controller(factory, self._did)

    def _did(self, step: Step, _wrote: bool) -> None:  # noqa: FBT001 - an observer
        self.steps.append(step)
        self.on_step()
        if self.kill_after is not None and len(self.steps) > self.kill_after:
            raise Killed

    async def look(self, namespace: str, name: str) -> Again | None:
        """Reconcile an app as it stands in the API server; None if there is none."""
        obj = await self.factory.mdbapp_store().get(namespace, name)
        if obj is None:
            return None
        self.controller.see("MODIFIED", obj)
        return await self.controller.reconcile(AppKey(namespace, name))

    @property
    def writes(self) -> list[str]:
        return [*writes(self.requests), *self.commands.writes]


Start = Callable[..., AbstractAsyncContextManager[Operator]]


@pytest.fixture
def start(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Give a function that starts an operator of this process, with an empty memory."""
    commands = Commands()
    monkeypatch.setitem(MONGO_OPTIONS, "event_listeners", [commands])

    @asynccontextmanager
    async def started(isolation: Isolation = "library") -> AsyncIterator[Operator]:
        commands.writes.clear()
        config = Config(
            namespace=installation.namespace,
            kubeconfig=installation.directory / "kubeconfig",
            watch_namespaces=installation.apps,
            mongodb_uri=installation.server.uri,
            mongodb_database=installation.database,
            isolation=isolation,
            master_key_secret="master-key",
        )
        async with open_context(config) as context:
            requests: list[Request] = []
            context.kube._observer = lambda *seen: requests.append(seen)
            await context.master_keys.refresh()
            operator = Operator(Factory(context), commands, requests)
            await operator.controller.gate.look()
            yield operator

    return started


async def test_a_second_run_and_a_new_process_write_nothing(
    installation: Installation, start: Start
) -> None:
    installation.apply("orders", **SPEC)
    async with start() as operator:
        await operator.look(installation.apps, "orders")
        assert operator.writes
        operator.commands.writes.clear()
        operator.requests.clear()
        await operator.look(installation.apps, "orders")
        assert operator.writes == []
        assert len(operator.requests) <= 3  # the test's own look, the Secret, the workload
    async with start() as operator:
        again = await operator.look(installation.apps, "orders")
        assert operator.writes == []
        assert again is not None
        assert again.seconds is not None
        assert 400 < again.seconds <= 600


async def test_killed_after_any_step_the_next_process_finishes(
    installation: Installation, start: Start
) -> None:
    namespace = installation.apps
    async with start() as operator:
        installation.apply("whole", collections=SPEC["collections"], restart=SPEC["restart"])
        await operator.look(namespace, "whole")
        steps = list(operator.steps)
    assert len(steps) == 9, steps
    wanted = outcome(installation, "whole")
    for index in range(len(steps)):
        name = f"killed-{index}"
        installation.apply(name, collections=SPEC["collections"], restart=SPEC["restart"])
        async with start() as operator:
            operator.kill_after = index
            with pytest.raises(Killed):
                await operator.look(namespace, name)
        async with start() as operator:
            await operator.look(namespace, name)
            assert outcome(installation, name) == wanted
            operator.commands.writes.clear()
            operator.requests.clear()
            await operator.look(namespace, name)
            assert operator.writes == [], f"after {steps[index]}"


async def test_a_rotation_killed_after_any_step_happens_once(
    installation: Installation, start: Start
) -> None:
    namespace = installation.apps
    for index in range(9):
        name = f"rotated-{index}"
        installation.apply(name)
        async with start() as operator:
            await operator.look(namespace, name)
            installation.annotate(name, "rotate-requested", "please")
            operator.steps.clear()
            operator.kill_after = index
            try:
                await operator.look(namespace, name)
            except Killed:
                assert not ending(installation), f"after {operator.steps}"
            else:
                break
        async with start() as operator:
            await operator.look(namespace, name)
            await operator.look(namespace, name)
        assert not ending(installation)
        entries = installation.secret(f"{name}-mdb")
        assert entries["secret-version"] == "2"
        assert entries["app-secret-previous"] not in ("", entries["app-secret"])
        row = installation.mongo["_mdb_engine_app_secrets"].find_one({"slug": name})
        assert row is not None
        assert row["version"] == 2
        # From the moment that the Secret holds its successor, and not before: 600 s by default.
        left = row["previous"][0]["expires_at"].replace(tzinfo=UTC) - datetime.now(UTC)
        assert timedelta(seconds=500) < left <= timedelta(seconds=602)
    assert index == 8, "the rotation has two steps more than a reconcile without workloads"


async def test_users_that_are_not_needed_any_more_end_once_the_secret_has_the_shared_one(
    installation: Installation, start: Start
) -> None:
    def retired() -> list[bool]:
        users = installation.mongo.command("usersInfo")["users"]
        return ["retireAt" in one["customData"] for one in users if one["user"] == "given-up.v1"]

    installation.apply("given-up")
    async with start("database") as operator:
        await operator.look(installation.apps, "given-up")
        before = list(operator.steps)
    async with start("library") as operator:
        operator.kill_after = before.index(Step.DATABASE_USER) - 1  # no finalizer is added now
        with pytest.raises(Killed):
            await operator.look(installation.apps, "given-up")
        assert operator.steps[-1] is Step.DATABASE_USER
        assert retired() == [False]
        assert installation.secret("given-up-mdb")["username"] == "given-up.v1"
    async with start("library") as operator:
        await operator.look(installation.apps, "given-up")
        assert retired() == [True]
        assert installation.secret("given-up-mdb")["username"] != "given-up.v1"


async def test_a_deletion_killed_after_any_step_leaves_nothing(
    installation: Installation, start: Start
) -> None:
    namespace = installation.apps
    for index in range(5):
        name = f"deleted-{index}"
        installation.apply(name, collections=[{"name": "c"}], deletionPolicy="Delete")
        async with start() as operator:
            await operator.look(namespace, name)
            installation.kubectl("delete", "mdbapp", name, "--wait=false")
            operator.steps.clear()
            operator.kill_after = index
            with pytest.raises(Killed):
                await operator.look(namespace, name)
        async with start() as operator:
            await operator.look(namespace, name)
        assert installation.get("MdbApp", name) is None
        assert installation.get("Secret", f"{name}-mdb") is None
        for collection in ("apps_config", "_mdb_engine_app_secrets", "_mdb_engine_grants"):
            assert installation.mongo[collection].count_documents({"slug": name}) == 0
        assert f"{name}_c" not in installation.mongo.list_collection_names()


async def lose_the_master_key(_installation: Installation, operator: Operator) -> None:
    operator.factory.context.master_keys.encryption.use(MissingKeyring("lost"))


async def damage_its_secret(installation: Installation, _operator: Operator) -> None:
    installation.mongo["_mdb_engine_app_secrets"].update_one(
        {"slug": "owner"}, {"$unset": {"previous": ""}}
    )


async def make_an_index_impossible(installation: Installation, operator: Operator) -> None:
    same = {"app_id": "owner", "user": "same"}
    installation.mongo["owner_clicks"].insert_many([{**same}, {**same}])
    installation.apply("owner", **{**CLOSED, "collections": [UNIQUE]})


async def kill_it_after_the_grants(installation: Installation, operator: Operator) -> None:
    """Let the reader evade the way in which everything else follows: nobody looks at it."""
    installation.apply("reader", **READER, suspend=True)
    await operator.look(installation.apps, "reader")
    operator.steps.clear()
    operator.kill_after = 4  # claim, collections, secret, grants


READER: dict[str, Any] = {"dataAccess": {"readScopes": ["reader", "owner"]}}
CLOSED: dict[str, Any] = {"dataAccess": {"crossAppPolicy": "DenyAll"}}
UNIQUE = {
    "name": "clicks",
    "indexes": [{"name": "u", "unique": True, "keys": [{"field": "user"}]}],
}


@pytest.mark.parametrize(
    "trouble",
    [
        lose_the_master_key,
        damage_its_secret,
        make_an_index_impossible,
        kill_it_after_the_grants,
    ],
)
async def test_a_consent_that_is_withdrawn_ends_in_mongodb_whatever_else_fails(
    installation: Installation,
    start: Start,
    trouble: Callable[[Installation, Operator], Awaitable[None]],
) -> None:
    def may_read() -> bool:
        found = installation.mongo.command(
            "rolesInfo", "mdb-engine.app.reader", showPrivileges=True
        )
        resources = [one["resource"] for one in found["roles"][0]["privileges"]]
        return "owner_clicks" in {resource.get("collection") for resource in resources}

    namespace = installation.apps
    installation.apply("owner", collections=[{"name": "clicks"}])
    installation.apply("reader", **READER)
    try:
        async with start("database") as operator:
            await operator.look(namespace, "owner")
            await operator.look(namespace, "reader")
            assert may_read()
            installation.apply("owner", **CLOSED, collections=[{"name": "clicks"}])
            await trouble(installation, operator)
            with suppress(Killed):
                await operator.look(namespace, "owner")
        if operator.kill_after is not None:
            async with start("database") as operator:
                await operator.look(namespace, "owner")
                await operator.controller.sweep()
        assert not may_read()
    finally:
        installation.mongo.command("dropAllUsersFromDatabase")
        installation.mongo.command("dropAllRolesFromDatabase")


async def test_a_rotation_that_waits_for_room_is_not_tried_over_and_over(
    installation: Installation, start: Start
) -> None:
    installation.apply("orders", secret={"rotationPeriodSeconds": 600, "overlapSeconds": 604800})
    async with start() as operator:
        queue, clock = operator.controller.database.queue, operator.controller.database.clock
        for _ in range(MAX_SECRET_VERSIONS + 1):
            await operator.look(installation.apps, "orders")
            clock._ahead += timedelta(seconds=700)
        assert int(installation.app("orders")["status"]["secret"]["version"]) == MAX_SECRET_VERSIONS
        queue.forget(AppKey(installation.apps, "orders"))
        await operator.look(installation.apps, "orders")
        while len(queue):
            queue.done(await queue.take())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await queue.take()


async def test_a_run_that_failed_is_repeated_soon_also_in_a_fight_and_beside_old_trouble(
    installation: Installation, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(_slug: str) -> None:
        raise VersionConflict("somebody else was faster")

    key = AppKey(installation.apps, "orders")
    installation.kubectl("create", "secret", "generic", "orders-mdb")  # somebody else's
    installation.apply("orders")
    async with start() as operator:
        before = await operator.look(*key)
        assert before is not None
        assert before.seconds == SECRET_CONFLICT_RETRY_SECONDS
        queue = operator.controller.database.queue
        queue.hold(key, 300)
        monkeypatch.setattr(operator.controller.database.registry, "publish", lost)
        again = await operator.look(*key)
        assert again is not None
        assert again.failed
        assert again.seconds == 1
        while len(queue):
            queue.done(await queue.take())
        queue.wake(key)
        async with asyncio.timeout(2):
            assert await queue.take() == key


async def test_a_late_end_of_a_former_app_takes_nothing_from_its_successor(
    installation: Installation, start: Start
) -> None:
    def users() -> list[str]:
        found = installation.mongo.command("usersInfo")["users"]
        return [one["user"] for one in found if one["user"].startswith("orders.")]

    installation.apply("orders", collections=[{"name": "c"}])
    try:
        async with start("database") as operator:
            await operator.look(installation.apps, "orders")
            database = operator.controller.database
            former = await database.registry.holder("orders")
            assert former is not None
            body = installation.app("orders")
            none = '{"metadata": {"finalizers": null}}'
            installation.kubectl("patch", "mdbapp", "orders", "--type=merge", "-p", none)
            installation.kubectl("delete", "mdbapp", "orders")
            operator.controller.see("DELETED", body)
            await operator.controller.reconcile(AppKey(installation.apps, "orders"))
            installation.apply("orders", collections=[{"name": "c"}])
            await operator.look(installation.apps, "orders")
            assert users() == ["orders.v2"]
            await database.end_vanished(former)
            assert users() == ["orders.v2"]
    finally:
        installation.mongo.command("dropAllUsersFromDatabase")
        installation.mongo.command("dropAllRolesFromDatabase")


async def test_whoever_was_faster_in_ending_an_app_is_looked_at_again(
    installation: Installation, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = AppKey(installation.apps, "orders")
    installation.apply("orders")
    async with start() as operator:
        await operator.look(*key)
        database = operator.controller.database
        record = await database.registry.holder("orders")
        assert record is not None
        drop = database.users.drop

        async def somebody_is_faster(slug: str) -> bool:
            await database.registry.bury(slug, record.owner)
            return await drop(slug)

        monkeypatch.setattr(database.users, "drop", somebody_is_faster)
        database.queue.forget(key)
        await database.end_vanished(record)
        async with asyncio.timeout(2):
            assert await database.queue.take() == key


async def test_a_sweep_that_fails_for_one_app_ends_the_others(
    installation: Installation, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a-stuck", "b-gone"):
        installation.apply(name)
    async with start() as operator:
        for name in ("a-stuck", "b-gone"):
            await operator.look(installation.apps, name)
            none = '{"metadata": {"finalizers": null}}'
            installation.kubectl("patch", "mdbapp", name, "--type=merge", "-p", none)
            installation.kubectl("delete", "mdbapp", name)
        registry = operator.controller.database.registry
        bury = registry.bury

        async def fail_for_one(slug: str, holder: Owner) -> bool:
            if slug == "a-stuck":
                raise VersionConflict("somebody else was faster")
            return await bury(slug, holder)

        monkeypatch.setattr(registry, "bury", fail_for_one)
        with pytest.raises(VersionConflict):
            await operator.controller.sweep()
        states = {row["slug"]: row["state"] for row in installation.mongo["apps_config"].find()}
        assert states == {"a-stuck": "active", "b-gone": "tombstone"}


async def test_an_app_that_goes_in_the_middle_leaves_no_series(
    installation: Installation, start: Start
) -> None:
    installation.apply("going")
    async with start() as operator:
        await operator.look(installation.apps, "going")
        body = installation.app("going")
        shown = operator.factory.context.metrics.registry.get_sample_value
        assert shown("mdb_operator_apps") == 1
        operator.on_step = lambda: operator.controller.see("DELETED", body)
        await operator.look(installation.apps, "going")
        assert shown("mdb_operator_apps") == 0


@pytest.mark.parametrize("damage", ["another's", "incomplete"])
async def test_one_damaged_row_keeps_no_other_app_from_being_registered(
    installation: Installation, start: Start, damage: str
) -> None:
    for name in ("a-damaged", "b-whole", "c-new"):
        installation.apply(name)
    async with start() as operator:
        await operator.look(installation.apps, "a-damaged")
        await operator.look(installation.apps, "b-whole")
    rows = installation.mongo["_mdb_engine_app_secrets"]
    envelopes = {row["slug"]: row["encrypted_secret"] for row in rows.find()}
    if damage == "another's":
        change: dict[str, Any] = {"$set": {"encrypted_secret": envelopes["b-whole"]}}
    else:
        change = {"$unset": {"previous": ""}}
    rows.update_one({"slug": "a-damaged"}, change)
    async with start() as operator:
        for name in envelopes:
            await operator.look(installation.apps, name)
        await operator.look(installation.apps, "c-new")
    reason = "KeyUnavailable" if damage == "another's" else "DatabaseUnavailable"
    assert installation.condition("a-damaged")["reason"] == reason
    assert installation.condition("c-new")["reason"] == "Provisioned"


async def test_two_operators_active_at_once_end_with_one_secret(
    installation: Installation, start: Start
) -> None:
    namespace = installation.apps
    names = [f"raced-{number}" for number in range(6)]
    for name in names:
        installation.apply(name)
    async with start() as first, start() as second:
        outcomes: list[Again | None] = []
        for _ in range(20):
            looks = [o.look(namespace, name) for name in names for o in (first, second)]
            outcomes = await asyncio.gather(*looks)
            if all(again is not None and not again.failed for again in outcomes):
                break
        else:
            pytest.fail(f"they never agree: {outcomes}")
        first.commands.writes.clear()
        await asyncio.gather(*(o.look(namespace, name) for name in names for o in (first, second)))
        assert first.commands.writes == []
    for name in names:
        assert installation.status(name)["secret"]["version"] == 1
        assert installation.secret(f"{name}-mdb")["secret-version"] == "1"
        grants = installation.mongo["_mdb_engine_grants"].find_one({"slug": name})
        assert grants is not None
        assert len(grants["verifiers"]) == 1


def outcome(installation: Installation, name: str) -> dict[str, Any]:
    """Return what is the same for every app of one shape."""
    app = installation.app(name)
    status = app["status"]
    secret = installation.secret(f"{name}-mdb")
    return {
        "finalizers": app["metadata"]["finalizers"],
        "conditions": {row["type"]: row["reason"] for row in status["conditions"]},
        "version": (status["secret"]["version"], secret["secret-version"]),
        "entries": sorted(key for key, value in secret.items() if value),
        "indexes": sorted(installation.mongo[f"{name}_clicks"].index_information()),
        "rows": [
            installation.mongo[collection].count_documents({"slug": name})
            for collection in ("apps_config", "_mdb_engine_app_secrets", "_mdb_engine_grants")
        ],
    }
