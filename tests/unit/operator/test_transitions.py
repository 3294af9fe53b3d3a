"""Which transitions of a status are worth an event."""

from __future__ import annotations

from typing import Any

import pytest

from mdb_operator.apps.reconcile import _is_silent


def status(reason: str, kind: str = "Ready") -> dict[str, Any]:
    state = "True" if reason == "Provisioned" else "False"
    return {"conditions": [{"type": kind, "status": state, "reason": reason}]}


@pytest.mark.parametrize(
    ("before", "after", "silent"),
    [
        ("Provisioned", "DatabaseUnavailable", True),
        ("DatabaseUnavailable", "Provisioned", True),
        ("DatabaseUnavailable", "KeyUnavailable", False),
        ("Provisioned", "KeyUnavailable", False),
        ("KeyUnavailable", "Provisioned", False),
    ],
)
def test_an_outage_and_its_end_are_no_event_of_each_app(
    before: str, after: str, *, silent: bool
) -> None:
    (row,) = status(after)["conditions"]
    assert _is_silent(row, status(before)) is silent


def test_a_new_app_that_meets_an_outage_says_so() -> None:
    (row,) = status("DatabaseUnavailable")["conditions"]
    assert not _is_silent(row, {})


def test_only_the_first_and_good_state_of_the_grants_is_silent() -> None:
    (good,) = status("Provisioned", "GrantsResolved")["conditions"]
    (denied,) = status("NotGranted", "GrantsResolved")["conditions"]
    assert _is_silent(good, {})
    assert not _is_silent(denied, {})
    assert not _is_silent(good, status("NotGranted", "GrantsResolved"))
