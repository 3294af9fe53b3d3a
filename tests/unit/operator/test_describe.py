"""What the status says of what was reached; each fits the schema that the CRD is made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mdb_engine.exceptions import (
    CollectionTaken,
    DatabaseUnavailable,
    Fault,
    ManifestInvalid,
    MasterKeyError,
    SlugTaken,
    VersionConflict,
)
from mdb_engine.models.app import DeniedScope, GrantOutcome, Owner
from mdb_operator.apps.conditions import ConditionType, Reason
from mdb_operator.apps.describe import describe
from mdb_operator.apps.failures import failure_for
from mdb_operator.apps.outcome import Failure, Outcome, SecretFacts
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.crd.status import MdbAppStatus
from mdb_operator.exceptions import Conflict, Forbidden, KubernetesUnavailable

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 13, 0, tzinfo=UTC)

GRANTS = GrantOutcome("orders", ("orders",), (), 1, changed=False)
FACTS = SecretFacts(version=3, key_id="k1", rotated_at=NOW, previous_expires_at=LATER)


def app(status: dict[str, Any] | None = None, generation: int = 4) -> MdbAppResource:
    return MdbAppResource.from_body(
        {
            "metadata": {
                "namespace": "shop",
                "name": "orders",
                "uid": "u",
                "generation": generation,
            },
            "spec": {"slug": "orders"},
            "status": status or {},
        }
    )


def reached(**changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "isolation": "database",
        "registered": True,
        "grants": GRANTS,
        "secret": FACTS,
        "database_user": True,
        "binding": "orders-mdb",
        **changes,
    }
    return Outcome(**values)


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    MdbAppStatus.model_validate(status)
    return {row["type"]: (row["status"], row["reason"]) for row in status["conditions"]}


def message(status: dict[str, Any], kind: str = "Ready") -> str:
    return next(str(row["message"]) for row in status["conditions"] if row["type"] == kind)


def failed(error: Exception, **changes: Any) -> Outcome:
    return reached(failure=failure_for(error), **changes)


def test_what_works_is_provisioned_and_says_what_to_mount() -> None:
    status = describe(app(), reached(), NOW)
    assert set(conditions(status).values()) == {("True", "Provisioned")}
    assert list(conditions(status)) == [kind.value for kind in ConditionType]
    assert message(status) == "Mount the Secret orders-mdb."
    assert status["secret"] == {
        "version": 3,
        "keyId": "k1",
        "rotatedAt": "2026-03-01T12:00:00Z",
        "previousExpiresAt": "2026-03-01T13:00:00Z",
    }
    assert status["binding"] == {"name": "orders-mdb"}


def test_the_same_outcome_later_is_the_same_status() -> None:
    first = describe(app(), reached(), NOW)
    assert describe(app(first), reached(), LATER) == first


@pytest.mark.parametrize(
    ("denied", "reason"),
    [
        ([DeniedScope("a", "GrantPending", "m1")], "GrantPending"),
        ([DeniedScope("a", "NotGranted", "m1")], "NotGranted"),
        (
            [DeniedScope("a", "GrantPending", "m1"), DeniedScope("b", "NotGranted", "m2")],
            "NotGranted",
        ),
    ],
)
def test_a_denied_scope_is_told_and_the_app_stays_ready(
    denied: list[DeniedScope], reason: str
) -> None:
    grants = GrantOutcome("orders", ("orders",), tuple(denied), 1, changed=False)
    status = describe(app(), reached(grants=grants), NOW)
    assert conditions(status)["GrantsResolved"] == ("False", reason)
    assert conditions(status)["Ready"] == ("True", "Provisioned")
    assert all(scope.slug in message(status, "GrantsResolved") for scope in denied)
    assert status["deniedScopes"] == [{"slug": d.slug, "reason": d.reason} for d in denied]


def test_a_taken_slug_leaves_nothing_else_to_tell() -> None:
    error = SlugTaken("Slug 'orders' is taken", holder=Owner("x", "y", "z"))
    before = describe(app(), reached(), NOW)
    outcome = Outcome(isolation="database", failure=failure_for(error))
    status = describe(app(before), outcome, NOW)
    assert set(conditions(status).values()) == {("False", "SlugTaken")}
    assert not {"binding", "secret", "grantedScopes", "deniedScopes"} & set(status)
    assert "another slug" in message(status)
    assert message(status, "SecretProjected").startswith("Waits for Registered: ")


def test_with_the_database_down_what_was_known_stays() -> None:
    before = describe(app(), reached(), NOW)
    outcome = Outcome(
        isolation="database", failure=failure_for(DatabaseUnavailable("MongoDB is away"))
    )
    status = describe(app(before), outcome, LATER)
    found = conditions(status)
    assert found.pop("Ready") == ("False", "DatabaseUnavailable")
    assert set(found.values()) == {("Unknown", "DatabaseUnavailable")}
    for fact in ("binding", "secret", "grantedScopes", "deniedScopes"):
        assert status[fact] == before[fact]


def test_without_the_master_key_registration_and_grants_hold() -> None:
    status = describe(
        app(),
        failed(MasterKeyError("Key 'k9' is missing"), secret=None, binding=None,
               database_user=False),
        NOW,
    )  # fmt: skip
    assert conditions(status) == {
        "Ready": ("False", "KeyUnavailable"),
        "Registered": ("True", "Provisioned"),
        "GrantsResolved": ("True", "Provisioned"),
        "SecretProjected": ("False", "KeyUnavailable"),
        "DatabaseUserReady": ("False", "KeyUnavailable"),
    }
    assert "'k9'" in message(status)


def test_a_foreign_secret_is_no_binding() -> None:
    before = describe(app(), reached(), NOW)
    failure = Failure(ConditionType.SECRET_PROJECTED, Reason.SECRET_CONFLICT, "Not ours.")
    status = describe(app(before), reached(failure=failure, binding=None), NOW)
    assert conditions(status)["Ready"] == ("False", "SecretConflict")
    assert conditions(status)["DatabaseUserReady"] == ("True", "Provisioned")
    assert "binding" not in status


def test_suspension_keeps_what_was_known_and_says_that_nobody_looks() -> None:
    before = describe(app(), reached(), NOW)
    status = describe(
        app(before, generation=5), Outcome(isolation="database", suspended=True), LATER
    )
    found = conditions(status)
    assert found.pop("Ready") == ("False", "Suspended")
    assert set(found.values()) == {("True", "Provisioned")}
    assert status["binding"] == before["binding"]
    assert {row["observedGeneration"] for row in status["conditions"]} == {5}
    fresh = conditions(describe(app(), Outcome(isolation="database", suspended=True), NOW))
    assert set(fresh.values()) == {("False", "Suspended"), ("Unknown", "Suspended")}


def test_a_reason_that_this_operator_does_not_know_stops_no_suspension() -> None:
    before = describe(app(), reached(), NOW)
    for row in before["conditions"]:
        row["reason"] = "OfALaterVersion"
    status = describe(app(before), Outcome(isolation="database", suspended=True), LATER)
    assert {reason for _, reason in conditions(status).values()} == {"Suspended"}


def test_what_a_person_has_to_do_is_said() -> None:
    waiting = describe(app(), reached(waiting_until=LATER), NOW)
    assert "2026-03-01T13:00:00Z" in message(waiting, "SecretProjected")
    assert "revoke-previous" in message(waiting, "SecretProjected")
    missing = describe(app(), reached(missing_targets=("Deployment/x",)), NOW)
    assert "Deployment/x" in message(missing, "SecretProjected")
    library = describe(app(), reached(isolation="library"), NOW)
    assert "isolation: database" in message(library, "DatabaseUserReady")


@pytest.mark.parametrize(
    ("error", "reason", "retry"),
    [
        (SlugTaken("taken", holder=Owner("a", "b", "c")), Reason.SLUG_TAKEN, False),
        (CollectionTaken("taken"), Reason.COLLECTION_TAKEN, False),
        (ManifestInvalid([Fault("slug", "is wrong")]), Reason.COLLECTION_TAKEN, False),
        (MasterKeyError("missing"), Reason.KEY_UNAVAILABLE, True),
        (DatabaseUnavailable("down"), Reason.DATABASE_UNAVAILABLE, True),
        (Forbidden("no"), Reason.SECRET_CONFLICT, True),
    ],
)
def test_errors_become_conditions_in_one_table(
    error: Exception, reason: Reason, *, retry: bool
) -> None:
    failure = failure_for(error)
    assert failure is not None
    assert (failure.reason, failure.retry) == (reason, retry)
    assert failure.message.count(". ") >= 1, "what is wrong, then what to do"


@pytest.mark.parametrize(
    "error", [VersionConflict("raced"), Conflict("raced"), KubernetesUnavailable("x"), KeyError()]
)
def test_what_is_no_condition_is_none(error: Exception) -> None:
    assert failure_for(error) is None


def test_a_password_in_an_error_does_not_get_into_a_message() -> None:
    failure = failure_for(DatabaseUnavailable("cannot reach mongodb://root:hunter22@db:27017/x"))
    assert failure is not None
    assert "hunter22" not in failure.message
