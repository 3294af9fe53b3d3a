"""What one reconcile found and reached: the input of the status, filled in step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from mdb_engine.models.app import GrantOutcome
from mdb_operator.apps.conditions import ConditionStatus, ConditionType, Reason

__all__ = ["Failure", "Isolation", "Outcome", "SecretFacts"]

Isolation = Literal["library", "database"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a reconcile ended before its last step.

    Parameters
    ----------
    condition
        The condition that does not hold because of it.
    reason
        Why, of the closed list.
    message
        What is wrong and what to do about it, free of secrets.
    status
        ``Unknown`` where it could not be found out whether the condition holds.
    retry
        Whether trying again by itself can help; otherwise a change will wake the app up.
    retry_seconds
        The longest delay until then, or None for the usual one.
    """

    condition: ConditionType
    reason: Reason
    message: str
    status: ConditionStatus = "False"
    retry: bool = True
    retry_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SecretFacts:
    """What may be told of an app's secret.

    Parameters
    ----------
    version
        The current version.
    key_id
        The master key that it is under.
    rotated_at
        When it was made.
    previous_expires_at
        Until when the version before it works, or None where none does.
    """

    version: int
    key_id: str
    rotated_at: datetime
    previous_expires_at: datetime | None = None


@dataclass(slots=True)
class Outcome:
    """What was reached, in the order of the steps.

    Parameters
    ----------
    isolation
        Which wall the operator is set to build.
    registered
        Whether slug and collections are this app's.
    grants
        What it was granted, or None where that was not reached.
    secret
        What may be told of its secret, or None where that was not reached.
    database_user
        Whether its database user is as it should be.
    binding
        The Secret that holds its values now, or None.
    failure
        Why the steps ended early, or None.
    suspended
        Whether the app is suspended, so that nothing was tried.
    waiting_until
        When a requested rotation can be served that has to wait, or None.
    missing_targets
        Workloads that could not be restarted, as ``Kind/name (why)``.
    events
        What was done that a person may want to know: reason and note.
    """

    isolation: Isolation
    registered: bool = False
    grants: GrantOutcome | None = None
    secret: SecretFacts | None = None
    database_user: bool = False
    binding: str | None = None
    failure: Failure | None = None
    suspended: bool = False
    waiting_until: datetime | None = None
    missing_targets: tuple[str, ...] = ()
    events: list[tuple[str, str]] = field(default_factory=list)
