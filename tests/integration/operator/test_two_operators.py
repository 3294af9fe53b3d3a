"""Two operators that both lead work on the same apps while these change; one then finds all well.

Neither asks for the Lease: RBAC would let them have no other than the one. With
``MDB_ALL_FAULTS=1`` (`make test-faults`) it is a minute over 50 apps.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.fault_table import record
from support.installation import Installation, is_ready
from support.invariants import Ledger, data_of, settled

ALL = os.environ.get("MDB_ALL_FAULTS") == "1"

APPS, SECONDS = (50, 60.0) if ALL else (10, 20.0)

MOST_ROTATIONS = 3
"""Of one app: with five valid versions a further rotation waits."""


@dataclass
class Storm:
    """Changes without a pause, each of an app that is drawn by lot."""

    here: Installation = field(repr=False)
    names: list[str]
    lot: random.Random = field(default_factory=lambda: random.Random(15), repr=False)  # noqa: S311
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    made: Counter[str] = field(default_factory=Counter)
    valid: Counter[str] = field(default_factory=Counter)  # at most, of versions
    newest: Counter[str] = field(default_factory=Counter)  # at most
    requests: itertools.count[int] = field(default_factory=itertools.count)

    def begin(self) -> None:
        self.specs = {name: {"collections": [{"name": "c"}]} for name in self.names}
        self.here.apply_all(self.names, **self.specs[self.names[0]])
        self.newest.update(self.names)

    def change(self) -> None:
        """Do one thing to one app."""
        name = self.lot.choice(self.names)
        if name in self.gone:
            if self.here.get("MdbApp", name) is None:
                self.gone.remove(name)
                self.newest[name] += 1
                self._apply(name)
                self.made["made anew"] += 1
            return
        weights = {
            self.rotate: 4,
            self.revoke: 2,
            self.read: 4,
            self.close: 2,
            self.extend: 2,
            self.rename: 2,
            self.lose: 2,
            self.delete: 1,
        }
        (what,) = self.lot.choices(list(weights), list(weights.values()))
        what(name)
        self.made[what.__name__] += 1

    def rotate(self, name: str) -> None:
        if self.valid[name] < MOST_ROTATIONS:
            self.valid[name] += 1
            self.newest[name] += 1
            self.here.annotate(name, "rotate-requested", str(next(self.requests)))

    def revoke(self, name: str) -> None:
        self.newest[name] += 1  # which alone is left
        self.here.annotate(name, "revoke-previous", str(next(self.requests)))

    def read(self, name: str) -> None:
        scopes = [name, *self.lot.sample([one for one in self.names if one != name], 3)]
        self.specs[name]["dataAccess"] = {"readScopes": scopes}
        self._apply(name)

    def close(self, name: str) -> None:
        if self.specs[name].pop("dataAccess", {}).get("crossAppPolicy") is None:
            self.specs[name]["dataAccess"] = {"crossAppPolicy": "DenyAll"}
        self._apply(name)

    def extend(self, name: str) -> None:
        index = {"name": f"by{next(self.requests)}", "keys": [{"field": "by"}]}
        self.specs[name]["collections"] = [{"name": "c"}, {"name": "d", "indexes": [index]}]
        self._apply(name)

    def rename(self, name: str) -> None:
        self.specs[name]["secret"] = {"name": f"{name}-{next(self.requests)}"}
        self._apply(name)

    def lose(self, name: str) -> None:
        secret = self.specs[name].get("secret", {}).get("name", f"{name}-mdb")
        self.here.cluster.api.delete("Secret", secret, self.here.apps)

    def delete(self, name: str) -> None:
        self.here.cluster.api.delete("MdbApp", name, self.here.apps)
        self.gone.add(name)
        self.valid[name] = 0

    def _apply(self, name: str) -> None:
        self.here.apply(name, **self.specs[name])


@pytest.mark.timeout(600)
def test_two_operators_that_both_lead_through_changes_leave_what_one_settles(
    installation: Installation,
) -> None:
    here, ledger = installation, Ledger()
    names = [f"storm-{number}" for number in range(APPS)]
    both = [here.start(name=one, LEADER_ELECTION="false") for one in ("a", "b")]
    assert [here.metrics(one)["mdb_operator_leader"] for one in both] == [1, 1]
    storm = Storm(here, names)
    storm.begin()
    here.wait_all(is_ready, names, message="all apps ready", deadline=120)
    for name in names:
        here.mongo[f"{name}_c"].insert_one({"app_id": name, "n": 1})
    data = data_of(here, *names)

    began = time.monotonic()
    while time.monotonic() < began + SECONDS:
        storm.change()
        ledger.collect(here)
    for process in both:
        assert sum(here.written_to_kubernetes(process).values()) > APPS, "it has not worked"
        here.stop(process)
    assert len(storm.made) >= 6, storm.made

    one = here.start(name="c")
    try:
        seconds = settled(here, ledger, data, deadline=180)
    except AssertionError as error:
        error.add_note(f"{storm.made}")
        raise
    assert here.mongo["_mdb_engine_installation"].count_documents({}) == 1
    for name in set(names) - storm.gone:
        version = here.status(name)["secret"]["version"]
        assert version <= storm.newest[name], f"{name}: a request was done twice"
    here.stop(one)
    for process in here.processes:
        assert "Traceback" not in process.text()
    record(
        "two operators lead at once",
        f"changes of {APPS} apps",
        seconds=seconds,
        changes=sum(storm.made.values()),
        during=SECONDS,
    )
