"""What the status says of what was reached; each fits the schema that the CRD is made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mdb_engine.core.secret import Envelope, SealedVersion, SecretRecord
from mdb_engine.exceptions import (
    CollectionTaken,
    DatabaseUnavailable,
    Fault,
    ManifestInvalid,
    MasterKeyError,
    RowDamaged,
    SlugTaken,
    VersionConflict,
)
from mdb_engine.registry.models.app import DeniedScope, GrantOutcome, Owner
from mdb_operator.apps.conditions import ConditionType, Reason
from mdb_operator.apps.failures import failure_for
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.apps.status import Report, describe
from mdb_operator.crd.status import MdbAppStatus
from mdb_operator.exceptions import Conflict, Forbidden, KubernetesUnavailable

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 13, 0, tzinfo=UTC)

GRANTS = GrantOutcome("orders", ("orders",), (), 1, changed=False)
SECRETS = SecretRecord(
    slug="orders",
    incarnation="i",
    current=SealedVersion(3, Envelope("k1", "d", b"", {}), b"", NOW),
    previous=(SealedVersion(2, Envelope("k1", "d", b"", {}), b"", NOW, LATER),),
    rotation_count=2,
    created_at=NOW,
    updated_at=NOW,
)
HOLDING = dict.fromkeys(
    (
        ConditionType.REGISTERED,
        ConditionType.SECRET_PROJECTED,
        ConditionType.DATABASE_USER_READY,
        ConditionType.WORKLOADS_RESTARTED,
        ConditionType.COLLECTIONS_READY,
    ),
    "It holds.",
)


FOR_A_PERSON = {
    "SlugTaken",
    "CollectionTaken",
    "IndexConflict",
    "KeyUnavailable",
    "SecretConflict",
}


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


def reached(seen: MdbAppResource | None = None, *without: ConditionType, **changes: Any) -> Report:
    values: dict[str, Any] = {
        "isolation": "database",
        "grants": GRANTS,
        "secrets": SECRETS,
        "binding": "orders-mdb",
        "holding": {kind: text for kind, text in HOLDING.items() if kind not in without},
        **changes,
    }
    return Report(seen or app(), **values)


def told(report: Report, status: dict[str, Any] | None = None, runs: int = 0) -> dict[str, Any]:
    return describe(report, status or {}, NOW, runs)


def failed(kind: ConditionType, error: Exception, seen: MdbAppResource | None = None) -> Report:
    """Return the report of a run in which one line failed and all that follow it."""
    report = Report(seen or app(), "database")
    with report.line(kind):
        raise error
    return report


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the conditions but for ``Stalled``, which follows from ``Ready``."""
    MdbAppStatus.model_validate(status)
    found = {row["type"]: (row["status"], row["reason"]) for row in status["conditions"]}
    stalled = found.pop("Stalled", None)
    is_for_a_person = found["Ready"][0] == "False" and found["Ready"][1] in FOR_A_PERSON
    assert stalled == (("True", found["Ready"][1]) if is_for_a_person else None)
    return found


def message(status: dict[str, Any], kind: str = "Ready") -> str:
    return next(str(row["message"]) for row in status["conditions"] if row["type"] == kind)


def test_what_works_is_provisioned_and_says_what_to_mount() -> None:
    status = told(reached())
    assert set(conditions(status).values()) == {("True", "Provisioned")}
    assert [*conditions(status), "Stalled"] == [kind.value for kind in ConditionType]
    assert message(status) == "Mount the Secret orders-mdb."
    assert status["secret"] == {
        "version": 3,
        "keyId": "k1",
        "rotatedAt": "2026-03-01T12:00:00Z",
        "previousExpiresAt": "2026-03-01T13:00:00Z",
    }
    assert status["binding"] == {"name": "orders-mdb"}


def test_the_same_report_later_is_the_same_status() -> None:
    first = told(reached())
    assert describe(reached(), first, LATER) == first


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
    status = told(reached(grants=grants))
    assert conditions(status)["GrantsResolved"] == ("False", reason)
    assert conditions(status)["Ready"] == ("True", "Provisioned")
    assert all(scope.slug in message(status, "GrantsResolved") for scope in denied)
    assert status["deniedScopes"] == [{"slug": d.slug, "reason": d.reason} for d in denied]


def test_a_taken_slug_leaves_nothing_else_to_tell() -> None:
    error = SlugTaken("Slug 'orders' is taken", holder=Owner("x", "y", "z"))
    status = told(failed(ConditionType.REGISTERED, error), told(reached()))
    assert set(conditions(status).values()) == {("False", "SlugTaken")}
    assert not {"binding", "secret", "grantedScopes", "deniedScopes"} & set(status)
    assert "another slug" in message(status)
    assert message(status, "SecretProjected").startswith("Waits for Registered: ")


def test_with_the_database_down_what_was_known_stays() -> None:
    before = told(reached())
    error = DatabaseUnavailable("MongoDB is away")
    status = describe(failed(ConditionType.REGISTERED, error), before, LATER)
    found = conditions(status)
    assert found.pop("Ready") == ("False", "DatabaseUnavailable")
    assert set(found.values()) == {("Unknown", "DatabaseUnavailable")}
    for fact in ("binding", "secret", "grantedScopes", "deniedScopes"):
        assert status[fact] == before[fact]


def test_without_the_master_key_all_that_needs_none_holds() -> None:
    report = reached(
        None,
        ConditionType.SECRET_PROJECTED,
        ConditionType.DATABASE_USER_READY,
        ConditionType.WORKLOADS_RESTARTED,
        binding=None,
    )
    with report.line(ConditionType.SECRET_PROJECTED):
        raise MasterKeyError("Key 'k9' is missing")
    status = told(report)
    assert conditions(status) == {
        "Ready": ("False", "KeyUnavailable"),
        "Registered": ("True", "Provisioned"),
        "GrantsResolved": ("True", "Provisioned"),
        "SecretProjected": ("False", "KeyUnavailable"),
        "DatabaseUserReady": ("False", "KeyUnavailable"),
        "WorkloadsRestarted": ("False", "KeyUnavailable"),
        "CollectionsReady": ("True", "Provisioned"),
    }
    assert "'k9'" in message(status)


def test_a_foreign_secret_is_no_binding() -> None:
    report = reached(None, ConditionType.SECRET_PROJECTED, binding=None, unbound=True)
    report.fail(ConditionType.SECRET_PROJECTED, Reason.SECRET_CONFLICT, "Not ours.")
    status = told(report, told(reached()))
    assert conditions(status)["Ready"] == ("False", "SecretConflict")
    assert conditions(status)["DatabaseUserReady"] == ("True", "Provisioned")
    assert "binding" not in status


def test_a_bad_index_spoils_ready_and_nothing_that_pods_need() -> None:
    report = reached(None, ConditionType.COLLECTIONS_READY)
    report.fail(ConditionType.COLLECTIONS_READY, Reason.INDEX_CONFLICT, "No index.")
    status = told(report)
    found = conditions(status)
    assert found.pop("Ready") == ("False", "IndexConflict")
    assert found.pop("CollectionsReady") == ("False", "IndexConflict")
    assert set(found.values()) == {("True", "Provisioned")}
    assert status["binding"] == {"name": "orders-mdb"}
    assert message(status) == "No index."


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (ConditionType.COLLECTIONS_READY, Reason.INDEX_BUILDING),
        (ConditionType.WORKLOADS_RESTARTED, Reason.RESTART_FAILED),
    ],
)
def test_what_the_app_can_be_used_without_does_not_spoil_ready(
    kind: ConditionType, reason: Reason
) -> None:
    report = reached(None, kind)
    report.fail(kind, reason, "It is said.")
    status = told(report)
    assert conditions(status)["Ready"] == ("True", "Provisioned")
    assert conditions(status)[kind.value] == ("False", reason.value)


def test_what_passes_changes_nothing_until_it_does_not_pass() -> None:
    before = told(reached())
    seen = app(before, generation=5)
    report = reached(
        seen,
        ConditionType.SECRET_PROJECTED,
        ConditionType.WORKLOADS_RESTARTED,
        binding=None,
    )
    with report.line(ConditionType.SECRET_PROJECTED):
        raise KubernetesUnavailable("create secrets: 429")
    status = told(report, before, runs=1)
    generations = {row["type"]: row["observedGeneration"] for row in status["conditions"]}
    assert conditions(status) == conditions(before)
    assert status["observedGeneration"] == 5
    assert generations["SecretProjected"] == generations["Ready"] == 4, "of what was applied"
    assert generations["Registered"] == 5
    assert status["binding"] == before["binding"]
    later = told(report, before, runs=3)
    assert conditions(later)["SecretProjected"] == ("Unknown", "KubernetesUnavailable")
    assert conditions(later)["Ready"][0] == "False"
    assert "429" in message(later)
    assert later["binding"] == before["binding"]


def test_suspension_keeps_what_was_known_and_says_that_nobody_looks() -> None:
    before = told(reached())
    suspended = Report(app(before, generation=5), "database", suspended=True)
    status = describe(suspended, before, LATER)
    found = conditions(status)
    assert found.pop("Ready") == ("False", "Suspended")
    assert set(found.values()) == {("True", "Provisioned")}
    assert status["binding"] == before["binding"]
    assert {row["observedGeneration"] for row in status["conditions"]} == {5}
    fresh = conditions(told(Report(app(), "database", suspended=True)))
    assert set(fresh.values()) == {("False", "Suspended"), ("Unknown", "Suspended")}


def test_a_reason_that_this_operator_does_not_know_stops_no_suspension() -> None:
    before = told(reached())
    for row in before["conditions"]:
        row["reason"] = "OfALaterVersion"
    status = describe(Report(app(before), "database", suspended=True), before, LATER)
    assert {reason for _, reason in conditions(status).values()} == {"Suspended"}


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
    assert (failure.reason, failure.retry_seconds is not None) == (reason, retry)
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
    report = Report(app(), "database")
    with report.line(ConditionType.REGISTERED):
        raise KubernetesUnavailable("no answer from https://u:hunter22@api/x")
    assert "hunter22" not in str(told(report, runs=3))


def test_the_trouble_of_a_collection_or_a_row_is_not_that_of_the_database() -> None:
    report = reached()
    with report.line(ConditionType.COLLECTIONS_READY):
        raise DatabaseUnavailable("a lock is held")
    with report.line(ConditionType.SECRET_PROJECTED):
        raise RowDamaged("the secret's row")
    report.require_database()
    with report.line(ConditionType.GRANTS_RESOLVED):
        raise DatabaseUnavailable("nobody answers")
    with pytest.raises(DatabaseUnavailable, match="nobody answers"):
        report.require_database()


def test_what_only_a_person_can_mend_is_stalled_until_it_is_mended() -> None:
    taken = failed(ConditionType.REGISTERED, SlugTaken("taken", holder=Owner("x", "y", "z")))
    status = told(taken)
    assert message(status, "Stalled") == message(status)
    suspended = describe(Report(app(status), "database", suspended=True), status, LATER)
    assert {row["type"]: row["status"] for row in suspended["conditions"]}["Stalled"] == "True"
    mended = told(reached(app(status)), status)
    assert "Stalled" not in {row["type"] for row in mended["conditions"]}
    down = failed(ConditionType.REGISTERED, DatabaseUnavailable("down"))
    assert "Stalled" not in {row["type"] for row in told(down)["conditions"]}, "passes by itself"


def test_nothing_waits_for_an_index() -> None:
    standing = told(reached())
    report = reached(None, ConditionType.SECRET_PROJECTED, binding=None)
    report.fail(ConditionType.COLLECTIONS_READY, Reason.INDEX_CONFLICT, "An index.")
    with report.line(ConditionType.GRANTS_RESOLVED):
        raise VersionConflict("somebody else was faster")
    rows = {row["type"]: row for row in told(report, standing, runs=1)["conditions"]}
    assert rows["SecretProjected"]["status"] == "True"
