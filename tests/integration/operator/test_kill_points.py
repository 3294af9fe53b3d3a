"""SIGKILL before and after each call that changes something; whoever comes next ends it rightly.

The operator is its own process, and is started again as kubelet does. Each time everything is
looked at that has to be so (`support.invariants`): whatever was handed out is tried, among it what
the killed process may have given away. With ``MDB_ALL_FAULTS=1`` (`make test-faults`) every call is
a point to die at; `make test-long` takes some of each.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.fault_table import record
from support.installation import MASTER_KEY_SECRET, ROOT, Installation
from support.invariants import Ledger, data_of, ending, settled, violations
from support.killable import FILE
from support.operator_edge import Process
from support.waiting import wait_until

from mdb_engine.core.keyring import generate_master_key

pytestmark = pytest.mark.long

ALL = os.environ.get("MDB_ALL_FAULTS") == "1"

SAMPLE = ((1, "after"), (4, "before"))
"""Of each operation, where not all calls are tried."""

SPEC: dict[str, Any] = {
    "collections": [{"name": "c", "indexes": [{"name": "at", "keys": [{"field": "at"}]}]}]
}
CLOSED: dict[str, Any] = {"dataAccess": {"crossAppPolicy": "DenyAll"}}
MORE: dict[str, Any] = {
    "displayName": "Another",
    "collections": [
        {"name": "c", "indexes": [{"name": "at", "keys": [{"field": "at"}], "unique": True}]},
        {"name": "d", "indexes": [{"name": "by", "keys": [{"field": "by"}]}]},
    ],
}


@dataclass
class World:
    """An operator that can be killed, an owner of data, a reader of it, and what they got."""

    here: Installation = field(repr=False)
    order: Path
    ledger: Ledger = field(default_factory=Ledger, repr=False)
    number: int = 0

    @property
    def owner(self) -> str:
        return f"own-{self.number}"

    @property
    def reader(self) -> str:
        return f"read-{self.number}"

    @property
    def process(self) -> Process:
        return self.here.processes[-1]

    def start(self) -> None:
        program = (
            "env",
            f"{FILE}={self.order}",
            sys.executable,
            ROOT / "tests/support/killable.py",
        )
        self.here.start(program=program, wait=False, LEADER_ELECTION="false")
        self.process.wait_for("The controller has started", deadline=120)

    def dead(self) -> bool:
        return self.process.popen.poll() is not None

    def ready(self, *names: str) -> None:
        for name in names:
            self.here.wait_condition(name, deadline=60)

    def begin(self) -> None:
        """Let both be ready, the reader with a right to the owner's data, and each with data."""
        self.here.apply(self.owner, **SPEC)
        scopes = [self.reader, self.owner]
        self.here.apply(self.reader, **SPEC, dataAccess={"readScopes": scopes})
        self.ready(self.owner, self.reader)
        for name in (self.owner, self.reader):
            self.here.mongo[f"{name}_c"].insert_one({"app_id": name, "at": 1})
        self.ledger.collect(self.here)

    def nothing(self) -> None:
        """Begin without any."""

    def rotated(self) -> None:
        """Let the owner have two versions that are valid."""
        self.begin()
        self.here.annotate(self.owner, "rotate-requested", "1")
        wait_until(
            lambda: self.here.secret(f"{self.owner}-mdb")["secret-version"] == "2",
            deadline=60,
            message="two versions",
        )
        self.ready(self.owner)
        self.ledger.collect(self.here)

    def end(self) -> None:
        """Remove both."""
        for name in (self.owner, self.reader):
            self.here.cluster.api.delete("MdbApp", name, self.here.apps)
        for name in (self.owner, self.reader):
            self.here.wait_gone(name, deadline=60)

    # --- what is done, and what has to come of it

    def create(self) -> Callable[[], bool]:
        self.here.apply(self.owner, **SPEC)
        return lambda: bool(self.here.status(self.owner).get("binding"))

    def update(self) -> Callable[[], bool]:
        self.here.apply(self.owner, **MORE)
        return lambda: "by" in self.here.mongo[f"{self.owner}_d"].index_information()

    def rotate(self) -> Callable[[], bool]:
        self.here.annotate(self.owner, "rotate-requested", "2")
        return lambda: self._version() == "2"

    def revoke(self) -> Callable[[], bool]:
        self.here.annotate(self.owner, "revoke-previous", "leaked")
        return lambda: (
            len(self.here.mongo["_mdb_engine_grants"].find_one({"slug": self.owner})["verifiers"])
            == 1
        )

    def rotate_master_key(self) -> Callable[[], bool]:
        key_id = f"k-{self.number}"
        change = {"stringData": {key_id: generate_master_key(), "active": key_id}}
        self.here.cluster.api.patch("Secret", MASTER_KEY_SECRET, change, self.here.namespace)
        rows = self.here.mongo["_mdb_engine_app_secrets"]
        return lambda: all(
            one["key_id"] == key_id for row in rows.find() for one in (row, *row["previous"])
        )

    def withdraw(self) -> Callable[[], bool]:
        self.here.apply(self.owner, **SPEC, **CLOSED)
        return lambda: self.owner not in (self.here.status(self.reader).get("grantedScopes") or ())

    def delete(self) -> Callable[[], bool]:
        self.here.cluster.api.delete("MdbApp", self.owner, self.here.apps)
        return lambda: self.here.get("MdbApp", self.owner) is None

    def rename(self) -> Callable[[], bool]:
        self.here.apply(self.owner, **SPEC, secret={"name": f"{self.owner}-other"})
        return lambda: self.here.get("Secret", f"{self.owner}-mdb") is None

    def _version(self) -> str:
        return self.here.secret(f"{self.owner}-mdb")["secret-version"]


OPERATIONS: dict[str, tuple[Callable[[World], None], Callable[[World], Callable[[], bool]]]] = {
    "create": (World.nothing, World.create),
    "update": (World.begin, World.update),
    "rotate": (World.begin, World.rotate),
    "revoke": (World.rotated, World.revoke),
    "rotate the master key": (World.rotated, World.rotate_master_key),
    "withdraw consent": (World.begin, World.withdraw),
    "delete": (World.rotated, World.delete),
    "rename the Secret": (World.begin, World.rename),
}


@pytest.fixture
def world(installation: Installation, tmp_path: Path) -> Iterator[World]:
    made = World(installation, tmp_path / "kill.json")
    made.start()
    yield made
    assert not made.dead()


@pytest.mark.timeout(3600 if ALL else 300)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_process_that_is_killed_at_any_call_leaves_what_the_next_one_ends(
    world: World, operation: str
) -> None:
    begin, act = OPERATIONS[operation]
    here = world.here
    points = (
        ((number, when) for number in itertools.count() for when in ("before", "after"))
        if ALL
        else iter(SAMPLE)
    )
    kills, longest = 0, 0.0
    for number, when in points:
        world.number += 1
        begin(world)
        data = data_of(here, world.owner, world.reader)
        world.order.with_suffix(".calls").unlink(missing_ok=True)
        order = json.dumps({"number": number, "when": when, "world": world.number})
        world.order.with_suffix(".new").write_text(order)
        world.order.with_suffix(".new").rename(world.order)
        done = act(world)

        def ended(done: Callable[[], bool] = done, data: Any = data) -> bool:
            # It may be that something is still to be done behind what is waited for.
            return world.dead() or (done() and not violations(here, world.ledger, data))

        wait_until(
            ended,
            deadline=60,
            message=lambda: f"{operation} or a death: {world.process.text()[-2000:]}",
        )
        killed = world.dead()
        world.order.unlink()
        if killed:
            assert world.process.popen.returncode == -9, world.process.text()[-4000:]
            world.ledger.collect(here)
            assert not ending(here), f"{operation}, killed {when} call {number}"
            world.start()
            kills += 1
        calls = world.order.with_suffix(".calls").read_text().splitlines()
        try:
            wait_until(done, deadline=60, message=f"the end of: {operation}")
            seconds = settled(here, world.ledger, data)
        except AssertionError as error:
            error.add_note(f"{operation}, killed {when} call {number} of {calls}: {killed}")
            raise
        longest = max(longest, seconds)
        world.end()
        if not killed:
            break
    assert kills, f"{operation} makes no call that it could be killed at"
    record(
        "SIGKILL at a call that changes something",
        operation,
        recovered=kills,
        of=kills,
        seconds=longest,
    )
