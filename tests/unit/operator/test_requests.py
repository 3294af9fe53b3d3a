"""What is asked of an app's secret and what is due, as a table of what was read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from mdb_engine.core.secret import ClientCertificate, Envelope, SealedVersion, SecretRecord
from mdb_operator.apps.requests import (
    Rotation,
    asked_revocation,
    due_rotation,
    next_due,
    not_renewed,
    requests,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROTATE = "mdb-engine.dev/rotate-requested"
REVOKE = "mdb-engine.dev/revoke-previous"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def sealed(version: int, created: datetime, expires: datetime | None = None) -> SealedVersion:
    return SealedVersion(version, Envelope("k1", "d", b"", {}), b"", created, expires)


def secrets(
    *,
    age: float = 60,
    expiries: tuple[float, ...] = (),
    handled: dict[str, str] | None = None,
    certificate: ClientCertificate | None = None,
) -> SecretRecord:
    """Return credentials that are ``age`` seconds old, with earlier versions that end."""
    created, version = at(-age), len(expiries) + 1
    return SecretRecord(
        slug="orders",
        incarnation="i",
        current=replace(sealed(version, created), certificate=certificate),
        previous=tuple(
            sealed(version - 1 - index, created, at(left)) for index, left in enumerate(expiries)
        ),
        rotation_count=0,
        created_at=created,
        updated_at=created,
        handled=handled or {},
    )


@pytest.mark.parametrize(
    ("row", "asked", "period", "due"),
    [
        (secrets(), {}, 0, None),
        (secrets(), {"rotate": "b"}, 0, Rotation(1, "b")),
        (secrets(handled={"rotate": "a"}), {"rotate": "b"}, 0, Rotation(1, "b")),
        (secrets(handled={"rotate": "b"}), {"rotate": "b"}, 0, None),
        (secrets(age=100), {}, 101, None),
        (secrets(age=100), {}, 100, Rotation(1, None)),
        (secrets(age=100), {"rotate": "b"}, 100, Rotation(1, "b")),
        (secrets(age=100, expiries=(30,)), {}, 100, Rotation(2, None)),
    ],
    ids=[
        "nothing is asked",
        "a first request",
        "a new value is another request",
        "the same value is served once",
        "a period that is not over",
        "a period that is over",
        "a request serves the period too",
        "fenced by the version that was seen",
    ],
)
def test_a_rotation_is_due_by_request_or_by_period(
    row: SecretRecord, asked: dict[str, str], period: int, due: Rotation | None
) -> None:
    assert due_rotation(row, asked, period, NOW) == due


def certified(age: float, *, life: float = 300, issuer: str = "a") -> SecretRecord:
    """Return credentials with a certificate, both ``age`` seconds old."""
    return secrets(age=age, certificate=ClientCertificate(issuer, at(life - age)))


@pytest.mark.parametrize(
    ("row", "issuer", "period", "due"),
    [
        (certified(199), "a", 0, False),
        (certified(200), "a", 0, True),
        (certified(100), "a", 100, True),
        (certified(1), "b", 0, True),
        (certified(1), "", 0, True),
        (secrets(), "a", 0, True),
    ],
    ids=[
        "before two thirds of its life",
        "after two thirds of its life",
        "a period that is shorter",
        "of another authority",
        "where passwords are wanted",
        "a password where certificates are wanted",
    ],
)
def test_a_rotation_is_due_for_the_sake_of_a_certificate(
    row: SecretRecord, issuer: str, period: int, *, due: bool
) -> None:
    wanted = Rotation(1, None) if due else None
    assert due_rotation(row, {}, period, NOW, issuer) == wanted


def test_a_certificate_is_looked_at_when_it_is_due_and_is_late_after_five_sixths() -> None:
    assert next_due(certified(100), 0) == at(100)
    assert next_due(certified(100), 150) == at(50)
    assert not not_renewed(certified(249), NOW)
    assert not_renewed(certified(250), NOW)
    assert not not_renewed(secrets(age=10_000), NOW)


@pytest.mark.parametrize(
    ("handled", "asked", "revocation"),
    [
        ({}, {}, None),
        ({}, {"revoke-previous": "x"}, "x"),
        ({"revoke-previous": "x"}, {"revoke-previous": "x"}, None),
        ({"revoke-previous": "x"}, {"revoke-previous": "y"}, "y"),
        ({"revoke-previous": "x"}, {}, None),
    ],
)
def test_a_revocation_is_asked_by_a_new_value(
    handled: dict[str, str], asked: dict[str, str], revocation: str | None
) -> None:
    assert asked_revocation(secrets(handled=handled), asked) == revocation


def test_what_is_due_next_is_the_earlier_of_an_end_and_a_period() -> None:
    assert next_due(secrets(), 0) is None
    assert next_due(secrets(expiries=(30, 10)), 0) == at(10)
    assert next_due(secrets(age=60), 100) == at(40)
    assert next_due(secrets(age=60, expiries=(30,)), 100) == at(30)
    # What is overdue stays due: whoever was not there at the time looks at once.
    assert next_due(secrets(expiries=(-5,)), 0) == at(-5)


def test_requests_are_read_from_our_annotations_and_nothing_else() -> None:
    assert requests({ROTATE: "a", REVOKE: "b", "other": "c"}) == {
        "rotate": "a",
        "revoke-previous": "b",
    }
    assert requests({ROTATE: ""}) == {}


def test_a_long_request_is_known_by_its_digest() -> None:
    long = "x" * 129
    assert requests({ROTATE: long}) == {"rotate": f"sha256:{sha256(long.encode()).hexdigest()}"}
    assert requests({ROTATE: "x" * 128}) == {"rotate": "x" * 128}
