"""Every call of the operator fails once, in each way; no credential then opens what it should not.

What was ever handed out is kept and tried, on the real MongoDB. In `make test` and `make test-long`
every call that writes and some that read fail in one of the three ways, in turn; with
``MDB_ALL_FAULTS=1`` (`make test-faults`) every call fails in each of them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support.credentials import opens, reads
from support.faults import Call, Fault
from support.installation import Installation
from support.live_operator import LiveOperator, live_operator

ALL = os.environ.get("MDB_ALL_FAULTS") == "1"

COLLECTION: dict[str, Any] = {
    "collections": [{"name": "c", "indexes": [{"name": "at", "keys": [{"field": "at"}]}]}]
}
CLOSED: dict[str, Any] = {"dataAccess": {"crossAppPolicy": "DenyAll"}}


@pytest.fixture
async def operator(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LiveOperator]:
    async with live_operator(installation, monkeypatch) as found:
        yield found


class World:
    """An owner of data and a reader of it, and every credential that either ever had."""

    def __init__(self, operator: LiveOperator, number: int) -> None:
        self.operator, self.here = operator, operator.here
        self.owner, self.reader = f"own-{number}", f"read-{number}"
        self.issued: dict[str, dict[int, str]] = {self.owner: {}, self.reader: {}}
        self.owned: dict[str, Any] = {**COLLECTION}

    def collect(self) -> None:
        """Keep what is handed out at this moment."""
        for name, uris in self.issued.items():
            if self.here.get("Secret", f"{name}-mdb") is not None:
                entries = self.here.secret(f"{name}-mdb")
                uris[int(entries["secret-version"])] = entries["uri"]

    async def begin(self) -> None:
        """Let both be ready, with the reader's right to read."""
        self.here.apply(self.owner, **self.owned)
        await self.operator.settle(self.owner)
        scopes = [self.reader, self.owner]
        self.here.apply(self.reader, dataAccess={"readScopes": scopes}, **COLLECTION)
        await self.operator.settle(self.reader)
        self.collect()
        assert reads(self.issued[self.reader][1], f"{self.owner}_c")

    async def rotated(self) -> None:
        """Let the owner have two versions that are valid."""
        await self.begin()
        self.here.annotate(self.owner, "rotate-requested", "leaked")
        await self.operator.settle(self.owner)
        self.collect()
        assert sorted(self.issued[self.owner]) == [1, 2]

    async def nothing(self) -> None:
        """Begin without the owner."""

    # --- what is done, and fails

    def create(self) -> None:
        self.here.apply(self.owner, **self.owned)

    def withdraw(self) -> None:
        self.here.apply(self.owner, **self.owned, **CLOSED)

    def rotate(self) -> None:
        self.here.annotate(self.owner, "rotate-requested", "please")

    def revoke(self) -> None:
        self.here.annotate(self.owner, "revoke-previous", "leaked")

    def delete(self) -> None:
        self.here.cluster.api.delete("MdbApp", self.owner, self.here.apps)

    # --- what has to be so afterwards

    def check(self, valid: set[int], *, read: bool = False) -> None:
        """Try every credential: those of the owner that are valid open, and no others."""
        self.collect()
        mine = self.issued[self.owner]
        assert {version for version, uri in mine.items() if opens(uri)} == valid
        users = self.here.mongo.command("usersInfo", filter={"customData.slug": self.owner})
        names = {user["user"] for user in users["users"]}
        assert names == {f"{self.owner}.v{version}" for version in valid}
        row = self.here.mongo["_mdb_engine_grants"].find_one({"slug": self.owner})
        accepted = {verifier["version"] for verifier in row["verifiers"]} if row else set()
        assert accepted == valid, "the tokens that pods accept"
        for uri in self.issued[self.reader].values():
            assert reads(uri, f"{self.owner}_c") == read
        if valid:
            assert max(mine) == max(valid), "the Secret has the last version"
            status = self.here.status(self.owner)
            assert status["secret"]["version"] == max(valid)
            rows = {one["type"]: one["status"] for one in status["conditions"]}
            assert rows["Ready"] == "True", status
        else:
            assert self.here.get("MdbApp", self.owner) is None
            assert self.here.get("Secret", f"{self.owner}-mdb") is None
            assert self.here.mongo["_mdb_engine_app_secrets"].find_one({"slug": self.owner}) is None


SCENARIOS: dict[str, tuple[Any, Callable[[World], None], set[int], bool]] = {
    "create": (World.nothing, World.create, {1}, False),
    "withdraw": (World.begin, World.withdraw, {1}, False),
    "rotate": (World.begin, World.rotate, {1, 2}, True),
    "revoke": (World.rotated, World.revoke, {2}, True),
    "delete": (World.rotated, World.delete, set(), False),
}

SHORT = ("create", "withdraw")


@pytest.mark.timeout(1800 if ALL else 300)
@pytest.mark.parametrize(
    "scenario",
    [
        *SHORT,
        *(pytest.param(name, marks=pytest.mark.long) for name in SCENARIOS if name not in SHORT),
    ],
)
async def test_no_failing_call_leaves_a_credential_that_opens_too_much(
    operator: LiveOperator, scenario: str
) -> None:
    begin, act, valid, read = SCENARIOS[scenario]
    faults = operator.faults

    async def run(number: int, fault: Fault | None, index: int) -> list[Call]:
        world = World(operator, number)
        await begin(world)
        act(world)
        operator.see(world.owner)
        if fault is None:
            faults.watch()
        else:
            faults.fail(index, fault)
        await operator.look(world.owner)
        made, failed = list(faults.calls), faults.failed
        faults.watch()
        world.collect()
        if failed is not None:
            hit.append(failed)
        try:
            await operator.settle(world.owner)
            world.check(valid, read=read)
        except BaseException as error:
            error.add_note(f"{scenario}: {fault} of call {index}, {failed}")
            raise
        # The look at it is over: what stays would only make the later ones slower.
        for name in (world.owner, world.reader):
            operator.here.cluster.api.delete("MdbApp", name, operator.here.apps)
            await operator.settle(name)
            operator.see(name)
        return made

    hit: list[Call] = []
    await run(0, None, 0)  # the first run makes what all apps share
    calls = await run(1, None, 0)
    assert {call.target for call in calls} == {"kubernetes", "mongodb"}
    kinds = list(Fault)
    todo = [
        (index, fault)
        for index, call in enumerate(calls)
        for fault in (kinds if ALL else [kinds[index % len(kinds)]])
        if ALL or call.writes or index % 4 == 0
    ]
    assert len(todo) >= 8, calls
    for number, (index, fault) in enumerate(todo, start=2):
        await run(number, fault, index)
    assert len(hit) > 0.9 * len(todo), "the calls of a run are almost always the same"
