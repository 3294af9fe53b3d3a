"""Whose an MdbApp is, by its class, who has claimed it, and whose apps were adopted."""

from __future__ import annotations

from typing import Any

import pytest

from mdb_operator.apps.ownership import Others, Ours, handled_by
from mdb_operator.apps.resource import MdbAppResource

ME, FORMER, OTHER = "uid-1/leader", "uid-0/leader", "uid-2/leader"
CLAIM = Ours(claim=True)
RELEASE = Others(release=True)


def app(named: str | None, holder: str | None, *, deleting: bool = False) -> MdbAppResource:
    metadata: dict[str, Any] = {"namespace": "shop", "name": "orders", "uid": "u"}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return MdbAppResource.from_body(
        {
            "metadata": metadata,
            "spec": {"slug": "orders"} | ({"operatorClass": named} if named else {}),
            "status": {"installation": holder} if holder else {},
        }
    )


@pytest.mark.parametrize(
    ("named", "holder", "verdict"),
    [
        (None, None, CLAIM),  # an object from before there were classes
        ("default", None, CLAIM),
        ("default", ME, Ours()),
        ("default", FORMER, CLAIM),
        ("default", OTHER, Others(rival=OTHER)),
        ("blue", None, Others()),
        ("blue", OTHER, Others()),
        ("blue", ME, RELEASE),
        ("blue", FORMER, RELEASE),
    ],
)
def test_whose_an_app_is(named: str | None, holder: str | None, verdict: Ours | Others) -> None:
    assert handled_by(app(named, holder), "default", ME, {FORMER}) == verdict


@pytest.mark.parametrize(
    ("holder", "verdict"),
    [(None, Ours()), (ME, Ours()), (FORMER, Ours()), (OTHER, Others(rival=OTHER))],
)
def test_a_deletion_waits_for_no_claim(holder: str | None, verdict: Ours | Others) -> None:
    assert handled_by(app(None, holder, deleting=True), "default", ME, {FORMER}) == verdict


@pytest.mark.parametrize(
    ("named", "holder", "verdict"),
    [
        ("default", None, Ours()),
        ("default", OTHER, Others(rival=OTHER)),
        ("blue", None, Others()),
        ("blue", OTHER, Others()),
    ],
)
def test_one_without_a_name_claims_nothing_and_touches_nothing_that_is_claimed(
    named: str, holder: str | None, verdict: Ours | Others
) -> None:
    assert handled_by(app(named, holder), "default", None, ()) == verdict
