from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mdb_engine.exceptions import DatabaseUnavailable, VersionConflict
from mdb_engine.registry.models.installation import Installation
from mdb_operator.exceptions import (
    DatabaseHeld,
    Forbidden,
    KubernetesUnavailable,
    OperatorError,
)
from mdb_operator.mongodb.gate import DatabaseGate
from mdb_operator.mongodb.installation import InstallationGuard, identify

OURS = Installation("uid-1/mdb-operator-leader", "mdb-system")
THEIRS = Installation("uid-2/mdb-operator-leader", "mdb-system")


class Store:
    """Stands for the one document; MongoDB's own is in the integration tests."""

    def __init__(self, held: Installation | None = None) -> None:
        self.held = held
        self.writes = 0
        self.faster: Installation | None = None

    async def get(self) -> Installation | None:
        return self.held

    async def insert(self, installation: Installation) -> bool:
        self.held = self.held or self.faster
        if self.held is not None:
            return False
        self.held, self.writes = installation, self.writes + 1
        return True

    async def replace(self, installation: Installation, former: str) -> None:
        if self.held is None or self.held.identity != former:
            raise VersionConflict("changed")
        self.held, self.writes = installation, self.writes + 1


class Who:
    """Answers which installation this is, and counts how often it was asked."""

    def __init__(self, answer: Installation | Exception | None = OURS) -> None:
        self.answer = answer
        self.asked = 0

    async def __call__(self) -> Installation | None:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def guard(store: Store, who: Who | None = None) -> InstallationGuard:
    return InstallationGuard(store, who or Who(), "mdb")  # type: ignore[arg-type]


async def test_a_database_that_is_nobodys_is_claimed_once() -> None:
    store, who = Store(), Who()
    ours = guard(store, who)
    for _ in range(3):
        await ours.require()
    assert store.held is not None
    assert (store.held.identity, store.writes, who.asked) == (OURS.identity, 1, 1)
    assert store.held.claimed_at is not None
    await guard(store).require()  # another replica, or a restart
    assert store.writes == 1


async def test_a_command_claims_nothing() -> None:
    store = Store()
    await guard(store).require(claim=False)
    assert store.held is None


async def test_whoever_loses_the_race_for_a_free_database_is_refused() -> None:
    store = Store()
    store.faster = THEIRS
    with pytest.raises(DatabaseHeld):
        await guard(store).require()
    store.held, store.faster = None, OURS  # the other replica of the same installation
    await guard(store).require()
    assert store.writes == 0


async def test_the_refusal_names_both_and_what_to_do() -> None:
    with pytest.raises(DatabaseHeld) as refused:
        await guard(Store(THEIRS)).require()
    said = refused.value.message
    assert refused.value.holder == THEIRS
    for part in (
        "database 'mdb'",
        str(THEIRS),
        str(OURS),
        "mongodb.database",
        f"mdb-operator adopt-database --from={THEIRS.identity}",
    ):
        assert part in said


async def test_a_takeover_names_whom_it_takes_the_database_from() -> None:
    store = Store(THEIRS)
    ours = guard(store)
    for wrong in (None, "uid-3/mdb-operator-leader"):
        with pytest.raises(DatabaseHeld):
            await ours.adopt(wrong)
    assert store.writes == 0
    assert await ours.adopt(THEIRS.identity) == THEIRS
    await ours.require()
    assert await ours.adopt(THEIRS.identity) is None  # again, or where it never was another's
    assert store.writes == 1
    with pytest.raises(DatabaseHeld):
        await guard(store, Who(THEIRS)).require()


async def test_the_apps_of_all_former_installations_are_taken_over() -> None:
    store, told = Store(replace(THEIRS, adopted_from=("uid-3", OURS.identity))), [0]

    def adopted() -> None:
        told[0] += 1

    ours = InstallationGuard(store, Who(), "mdb", on_adoption=adopted)  # type: ignore[arg-type]
    assert (ours.own, ours.formers) == (None, None)
    await ours.adopt(THEIRS.identity)
    await ours.require()
    await ours.require()
    assert ours.own == OURS.identity
    assert ours.formers == frozenset({THEIRS.identity, "uid-3"})
    assert told == [1]

    # Of one that had another database, and went away with it: its apps alone.
    await guard(store).adopt("uid-4")
    await ours.require()
    assert ours.formers == frozenset({THEIRS.identity, "uid-3", "uid-4"})
    assert told == [2]
    writes = store.writes
    for known in ("uid-4", OURS.identity, None):
        await guard(store).adopt(known)
    assert store.writes == writes


async def test_who_it_is_can_be_told_before_mongodb_answers() -> None:
    who = Who()
    ours = guard(Store(THEIRS), who)
    assert [await ours.identify() for _ in range(2)] == [OURS.identity] * 2
    assert (who.asked, ours.formers) == (1, None)
    who = Who(None)
    nameless = guard(Store(), who)
    assert [await nameless.identify() for _ in range(2)] == [None, None]
    assert who.asked == 1


async def test_one_without_a_name_works_alone_and_never_in_a_claimed_database() -> None:
    store, who = Store(), Who(None)
    nameless = guard(store, who)
    for _ in range(3):
        await nameless.require()
    assert (store.held, who.asked) == (None, 1)
    store.held = OURS
    with pytest.raises(DatabaseHeld, match="MDB_OPERATOR_INSTALLATION"):
        await nameless.require()
    with pytest.raises(OperatorError, match="MDB_OPERATOR_INSTALLATION"):
        await nameless.adopt(OURS.identity)
    who.answer = OURS  # somebody gave it the right
    await nameless.require()


async def test_an_api_server_that_does_not_answer_is_no_permission() -> None:
    who = Who(KubernetesUnavailable("get /api/v1/namespaces/mdb-system: no answer"))
    ours = guard(Store(), who)
    with pytest.raises(DatabaseUnavailable, match="cannot be told yet"):
        await ours.require()
    who.answer = OURS
    await ours.require()


class Kube:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def get(self, *_: object, **__: object) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        return {"metadata": {"uid": "uid-1"}}


async def test_the_name_is_the_setting_or_else_the_namespaces_uid_with_the_lease() -> None:
    kube: Any = Kube()
    assert await identify(kube, "mdb-system", "mdb-operator-leader", None) == OURS
    kube = Kube(Forbidden("no"))
    assert await identify(kube, "mdb-system", "x", None) is None
    named = await identify(kube, "mdb-system", "x", "prod-eu")
    assert named == Installation("prod-eu", "mdb-system")


class Database:
    """Answers the gate's looks, or does not."""

    def __init__(self) -> None:
        self.answers = True
        self.refused = 0
        self.was_refused = asyncio.Event()

    async def command(self, *_: object, **__: object) -> dict[str, Any]:
        if not self.answers:
            self.refused += 1
            if self.refused > 3:
                self.was_refused.set()
            raise ConnectionError
        return {"cursor": {"firstBatch": [{"info": {"uuid": 1}}]}, "localTime": datetime.now(UTC)}


class Look:
    """A gate over a database that a test gives to one installation or another."""

    def __init__(self, held: Installation | None) -> None:
        self.store, self.database = Store(held), Database()
        self.told: list[str | None] = []
        self.stop, self.heard = asyncio.Event(), asyncio.Event()
        self.prepared = 0

        async def prepare() -> None:
            self.prepared += 1

        async def answer() -> None:
            await self.database.command()

        self.gate = DatabaseGate(
            self.database,
            prepare,
            lambda _: None,
            answer,
            guard(self.store).require,
            interval=0.001,
        )

    async def wait(self) -> None:
        await self.gate.wait_until_ours(self.stop, self._told)

    def _told(self, error: DatabaseHeld | None) -> None:
        self.told.append(error.holder.identity if error else None)
        self.heard.set()


async def test_another_installations_database_is_waited_for_until_it_is_ours() -> None:
    look = Look(THEIRS)
    waiting = asyncio.create_task(look.wait())
    await asyncio.wait_for(look.heard.wait(), 10)
    look.database.answers = False
    await asyncio.wait_for(look.database.was_refused.wait(), 10)
    assert not waiting.done(), "no answer is no news of whose it is"
    look.database.answers = True
    assert (look.prepared, look.gate.up) == (0, False)
    await guard(look.store).adopt(THEIRS.identity)
    await asyncio.wait_for(waiting, 10)
    assert look.told == [THEIRS.identity, None]
    assert (look.prepared, look.gate.up) == (1, True)

    look.store.held = THEIRS  # taken over while it works
    with pytest.raises(DatabaseHeld):
        await asyncio.wait_for(look.gate.run(), 10)


async def test_a_mongodb_that_does_not_answer_is_not_waited_for() -> None:
    look = Look(THEIRS)
    look.database.answers = False
    await asyncio.wait_for(look.wait(), 10)
    assert look.told == [None]
    assert not look.gate.up
    look.database.answers = True
    with pytest.raises(DatabaseHeld):
        await asyncio.wait_for(look.gate.run(), 10)


async def test_waiting_ends_with_the_process() -> None:
    look = Look(THEIRS)
    waiting = asyncio.create_task(look.wait())
    await asyncio.wait_for(look.heard.wait(), 10)
    look.stop.set()
    await asyncio.wait_for(waiting, 10)
    assert look.prepared == 0
