from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mdb_engine.registry.models.app import Revisions
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.apps.verified import FRESH_SECONDS, FULL_LOOK_SECONDS, Verified
from mdb_operator.mongodb.certificates import Certificates

APP = MdbAppResource.from_body(
    {
        "metadata": {"namespace": "shop", "name": "orders", "uid": "1", "generation": 1},
        "spec": {"slug": "orders"},
        "status": {"grantedScopes": ["orders"]},
    }
)
REVISIONS = Revisions("abc", 1, 1, 1)
START = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """The time and the certificates."""

    def __init__(self) -> None:
        self.now = 0.0
        self.certificates = Certificates()
        self.verified = Verified(
            lambda: self.certificates, lambda: START + timedelta(seconds=self.now), lambda: self.now
        )


def test_what_was_not_looked_at_is_not_verified() -> None:
    verified = World().verified
    assert not verified.has(APP.key)
    assert not verified.covers(APP)
    assert not verified.holds(APP.key, REVISIONS)
    assert not verified.is_fresh(APP.key)


def test_a_look_holds_for_as_long_as_nothing_differs() -> None:
    world = World()
    world.verified.note(APP, REVISIONS, world.certificates, None)
    assert world.verified.covers(replace(APP, resource_version="9"))
    assert world.verified.holds(APP.key, REVISIONS)
    world.verified.forget(APP.key)
    assert not world.verified.covers(APP)


@pytest.mark.parametrize(
    "change",
    [
        {"uid": "2"},
        {"generation": 2},
        {"annotations": {"mdb-engine.dev/rotate-requested": "1"}},
        {"status": {}},
        {"finalizers": ("x",)},
        {"deleting": True},
    ],
)
def test_an_mdbapp_that_differs_is_not_covered(change: dict[str, Any]) -> None:
    world = World()
    world.verified.note(APP, REVISIONS, world.certificates, None)
    assert not world.verified.covers(replace(APP, **change))


@pytest.mark.parametrize(
    "found",
    [
        None,
        replace(REVISIONS, incarnation="def"),
        replace(REVISIONS, registration=2),
        replace(REVISIONS, secret=2),
        replace(REVISIONS, epoch=2),
    ],
)
def test_rows_that_differ_hold_no_more(found: Revisions | None) -> None:
    world = World()
    world.verified.note(APP, REVISIONS, world.certificates, None)
    assert not world.verified.holds(APP.key, found)


def test_other_certificates_are_not_covered() -> None:
    world = World()
    world.verified.note(APP, REVISIONS, world.certificates, None)
    world.certificates = Certificates("PEM")
    assert not world.verified.covers(APP)


def test_certificates_that_come_during_a_look_are_not_covered_by_it() -> None:
    world = World()
    before = world.verified.certificates
    world.certificates = Certificates("PEM")
    world.verified.note(APP, REVISIONS, before, None)
    assert not world.verified.covers(APP)


def test_revisions_are_fresh_for_a_moment_and_a_look_for_a_day() -> None:
    world = World()
    world.verified.note(APP, REVISIONS, world.certificates, None)
    assert world.verified.is_fresh(APP.key)
    world.now = FRESH_SECONDS
    assert not world.verified.is_fresh(APP.key)
    world.now = FULL_LOOK_SECONDS / 2 - 1
    assert world.verified.covers(APP)
    world.now = FULL_LOOK_SECONDS
    assert not world.verified.covers(APP)


def test_a_look_holds_until_something_is_due_by_mongodbs_clock() -> None:
    world = World()
    world.verified.note(APP, REVISIONS, world.certificates, START + timedelta(seconds=60))
    world.now = 59
    assert world.verified.covers(APP)
    world.now = 60
    assert not world.verified.covers(APP)
