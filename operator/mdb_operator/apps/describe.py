"""Turn what a reconcile reached into the status that should stand in the resource. Pure.

Every condition is always there, so that ``kubectl wait`` has something to wait for, and each is
made by one function below. A message says what to do next wherever something is to be done, and
holds no figure that changes by itself: the status of an app that does not change must not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mdb_operator.apps.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
    format_time,
    merge_conditions,
)
from mdb_operator.apps.outcome import Failure, Outcome
from mdb_operator.apps.resource import MdbAppResource

__all__ = ["describe"]

_NEEDED = (
    ConditionType.REGISTERED,
    ConditionType.SECRET_PROJECTED,
    ConditionType.DATABASE_USER_READY,
)
"""What `Ready` sums up. A denied foreign scope is not among it: the app works with what it has."""

_KEEPS_BINDING = frozenset({Reason.DATABASE_UNAVAILABLE, Reason.KEY_UNAVAILABLE, Reason.DELETING})
"""Failures that say nothing about the Secret that is there: pods may go on mounting it."""


_REASONS = frozenset(Reason)


def describe(app: MdbAppResource, outcome: Outcome, now: datetime) -> dict[str, Any]:
    """Return the whole status of an MdbApp.

    Parameters
    ----------
    app
        The resource with the status that stands there now: transition times are kept from it, and
        so is what could not be found out this time.
    outcome
        What was reached.
    now
        The time of what changed.
    """
    if outcome.suspended:
        return _suspended(app, now)
    parts = {
        ConditionType.REGISTERED: _registered(outcome),
        ConditionType.GRANTS_RESOLVED: _grants_resolved(outcome),
        ConditionType.SECRET_PROJECTED: _secret_projected(app, outcome),
        ConditionType.DATABASE_USER_READY: _database_user_ready(outcome),
    }
    parts[ConditionType.READY] = _ready(parts, outcome)
    conditions = [
        Condition(kind, status, reason, message, app.generation)
        for kind, (status, reason, message) in parts.items()
    ]
    status: dict[str, Any] = {
        "observedGeneration": app.generation,
        "conditions": merge_conditions(app.status.get("conditions") or (), conditions, now),
    }
    status |= _facts(app, outcome)
    return status


Part = tuple[ConditionStatus, Reason, str]


def _registered(outcome: Outcome) -> Part:
    if outcome.registered:
        return "True", Reason.PROVISIONED, "Slug and collections are this app's."
    return _failed(outcome, ConditionType.REGISTERED)


def _grants_resolved(outcome: Outcome) -> Part:
    if outcome.grants is None:
        return _failed(outcome, ConditionType.GRANTS_RESOLVED)
    denied = outcome.grants.denied
    if not denied:
        return "True", Reason.PROVISIONED, "Every scope in readScopes is granted."
    refused = any(scope.reason == Reason.NOT_GRANTED for scope in denied)
    reason = Reason.NOT_GRANTED if refused else Reason.GRANT_PENDING
    return "False", reason, " ".join(f"{scope.slug}: {scope.message}" for scope in denied)


def _secret_projected(app: MdbAppResource, outcome: Outcome) -> Part:
    if outcome.binding is None:
        return _failed(outcome, ConditionType.SECRET_PROJECTED)
    message = f"Secret {outcome.binding} holds the app's values."
    if outcome.waiting_until is not None:
        message += (
            " The requested rotation waits until"
            f" {format_time(outcome.waiting_until)}, when an earlier version ends; to end all"
            " earlier versions now set the annotation mdb-engine.dev/revoke-previous."
        )
    if outcome.missing_targets:
        missing = ", ".join(outcome.missing_targets)
        message += f" Not restarted in {app.key.namespace}: {missing}."
    return "True", Reason.PROVISIONED, message


def _database_user_ready(outcome: Outcome) -> Part:
    if not outcome.database_user:
        return _failed(outcome, ConditionType.DATABASE_USER_READY)
    if outcome.isolation == "library":
        return (
            "True",
            Reason.PROVISIONED,
            (
                "isolation: library - the app shares the operator's database user, so only the"
                " library keeps apps apart, not MongoDB. Install with isolation: database for a"
                " user of its own."
            ),
        )
    return "True", Reason.PROVISIONED, "The app has a database user and role of its own."


def _ready(parts: Mapping[ConditionType, Part], outcome: Outcome) -> Part:
    failure = outcome.failure
    if failure is not None and any(parts[kind][0] != "True" for kind in _NEEDED):
        return "False", failure.reason, failure.message
    for kind in _NEEDED:
        if parts[kind][0] != "True":
            return "False", parts[kind][1], parts[kind][2]
    return "True", Reason.PROVISIONED, f"Mount the Secret {outcome.binding}."


def _failed(outcome: Outcome, kind: ConditionType) -> Part:
    """Return a condition that was not reached: because of itself, or of one before it."""
    failure = outcome.failure or Failure(kind, Reason.DATABASE_UNAVAILABLE, "Not looked at yet.")
    if failure.condition is kind:
        return failure.status, failure.reason, failure.message
    status: ConditionStatus = "Unknown" if failure.status == "Unknown" else "False"
    return status, failure.reason, f"Waits for {failure.condition.value}: {failure.message}"


def _facts(app: MdbAppResource, outcome: Outcome) -> dict[str, Any]:
    """Return binding, secret and scopes: what holds, and what held where that is not known."""
    facts: dict[str, Any] = {}
    if app.installation is not None:
        facts["installation"] = app.installation
    unknown = outcome.failure is not None and outcome.failure.reason in _KEEPS_BINDING
    kept = app.status if unknown else {}
    if outcome.binding is not None:
        facts["binding"] = {"name": outcome.binding}
    elif "binding" in kept:
        facts["binding"] = kept["binding"]
    if outcome.secret is not None:
        secret = outcome.secret
        facts["secret"] = {
            "version": secret.version,
            "keyId": secret.key_id,
            "rotatedAt": format_time(secret.rotated_at),
        }
        if secret.previous_expires_at is not None:
            facts["secret"]["previousExpiresAt"] = format_time(secret.previous_expires_at)
    elif "secret" in kept:
        facts["secret"] = kept["secret"]
    if outcome.grants is not None:
        facts["grantedScopes"] = list(outcome.grants.granted)
        facts["deniedScopes"] = [
            {"slug": scope.slug, "reason": scope.reason} for scope in outcome.grants.denied
        ]
    else:
        facts |= {key: kept[key] for key in ("grantedScopes", "deniedScopes") if key in kept}
    return facts


def _suspended(app: MdbAppResource, now: datetime) -> dict[str, Any]:
    """Return the status of an app that nobody looks at: what was known, and that it may be old."""
    old = {row.get("type"): row for row in app.status.get("conditions") or ()}
    message = "spec.suspend is true: nothing is repaired or rotated. Set it to false to go on."
    conditions = [
        Condition(ConditionType.READY, "False", Reason.SUSPENDED, message, app.generation)
    ]
    for kind in ConditionType:
        if kind is ConditionType.READY:
            continue
        row = old.get(kind.value)
        if row is None or row["reason"] not in _REASONS:
            # Not there, or of another version of the operator, or not the operator's at all.
            conditions.append(Condition(kind, "Unknown", Reason.SUSPENDED, message, app.generation))
        else:
            conditions.append(
                Condition(
                    kind, row["status"], Reason(row["reason"]), row["message"], app.generation
                )
            )
    kept = {key: value for key, value in app.status.items() if key != "conditions"}
    return {
        **kept,
        "observedGeneration": app.generation,
        "conditions": merge_conditions(app.status.get("conditions") or (), conditions, now),
    }
