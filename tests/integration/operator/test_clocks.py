"""The operator's clock is ten minutes off, in either direction: nothing ends early, or late."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

import pytest
from support.credentials import opens, wait_refused
from support.fault_table import record
from support.installation import MASTER_KEY_SECRET, ROOT, Installation
from support.invariants import Ledger, data_of, settled
from support.programs import ensure_debian_packages
from support.short_overlap import OVERLAP_SECONDS
from support.waiting import wait_until

from mdb_engine.core.keyring import generate_master_key

pytestmark = pytest.mark.long


def faketime() -> Path:
    """Return the library that gives a process another time."""
    ensure_debian_packages(["faketime"])
    (found,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return found


def wait_version(here: Installation, name: str, version: str) -> None:
    wait_until(
        lambda: here.secret(f"{name}-mdb")["secret-version"] == version,
        deadline=20,
        message=f"version {version} of {name}",
    )


@pytest.mark.parametrize("off", ["+600s", "-600s"])
def test_overlaps_and_times_are_mongodbs_whatever_the_operators_clock_says(
    installation: Installation, off: str
) -> None:
    here, ledger = installation, Ledger()
    # The library alone: the program `faketime` keeps signals to itself.
    wrong_clock = (
        *("env", f"LD_PRELOAD={faketime()}", f"FAKETIME={off}", "FAKETIME_DONT_FAKE_MONOTONIC=1"),
    )
    short_overlap = (sys.executable, ROOT / "tests" / "support" / "short_overlap.py")
    process = here.start(program=(*wrong_clock, *short_overlap))
    for name in ("early", "late"):
        here.apply(name, collections=[{"name": "c"}])
        here.wait_condition(name)
        here.mongo[f"{name}_c"].insert_one({"app_id": name, "n": 1})
    data = data_of(here, "early", "late")
    ledger.collect(here)

    # The previous version works for its overlap, and then no more.
    old = here.secret("early-mdb")["uri"]
    here.annotate("early", "rotate-requested", "now")
    wait_version(here, "early", "2")
    assert opens(old), "within the overlap"
    told = wait_until(
        lambda: here.status("early")["secret"].get("previousExpiresAt"),
        message="the status to say when the previous version ends",
    )
    until = dt.datetime.fromisoformat(told)
    assert abs(until - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=OVERLAP_SECONDS + 5)
    change = {"stringData": {"k2": generate_master_key(), "active": "k2"}}
    here.cluster.api.patch("Secret", MASTER_KEY_SECRET, change, here.namespace)
    wait_until(
        lambda: here.status("early")["secret"]["keyId"] == "k2", message="the new master key"
    )
    wait_refused(old, "a version whose overlap is over", deadline=OVERLAP_SECONDS + 10)
    assert dt.datetime.now(dt.UTC) > until - dt.timedelta(seconds=1), "it ended early"

    # A leader whose clock is right goes on where the other one was, and has nothing to change.
    ledger.collect(here)
    seconds = settled(here, ledger, data)
    here.stop(process)
    written = here.written_to_mongodb()
    process = here.start(program=short_overlap)
    seconds = max(seconds, settled(here, ledger, data))
    assert here.written_to_mongodb() == written
    here.annotate("late", "rotate-requested", "now")
    wait_version(here, "late", "2")
    settled(here, ledger, data)
    here.stop(process)
    record(f"the operator's clock is off by {off}", "rotate", seconds=seconds)
