"""Two operators that both lead work on the same apps while these change; one then finds all well.

Neither asks for the Lease: RBAC would let them have no other than the one. With
``MDB_ALL_FAULTS=1`` (`make test-faults`) it is a minute over 50 apps.
"""

from __future__ import annotations

import os
import time

import pytest
from support.fault_table import record
from support.installation import Installation, is_ready
from support.invariants import Ledger, data_of, settled
from support.storm import Storm

pytestmark = pytest.mark.long

ALL = os.environ.get("MDB_ALL_FAULTS") == "1"

APPS, SECONDS = (50, 60.0) if ALL else (10, 20.0)


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
