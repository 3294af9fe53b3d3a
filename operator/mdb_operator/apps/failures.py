"""The one table that turns errors of the domain and of the API server into conditions.

What a person can do about an error is decided here and nowhere else. An error that is in no row is
a bug: it is logged with its traceback and tried again, and no condition pretends to know what it
means.
"""

from __future__ import annotations

from dataclasses import dataclass

from mdb_engine.exceptions import (
    CollectionTaken,
    DatabaseForbidden,
    DatabaseUnavailable,
    ManifestInvalid,
    MasterKeyError,
    SlugTaken,
)
from mdb_operator.apps.conditions import ConditionStatus, ConditionType, Reason
from mdb_operator.apps.outcome import Failure
from mdb_operator.exceptions import Forbidden, Invalid
from mdb_operator.logging import redact

__all__ = ["failure_for"]


@dataclass(frozen=True, slots=True)
class _Row:
    condition: ConditionType
    reason: Reason
    advice: str
    status: ConditionStatus = "False"
    retry: bool = True
    retry_seconds: float | None = None


_TABLE: tuple[tuple[type[Exception], _Row], ...] = (
    (
        SlugTaken,
        _Row(
            ConditionType.REGISTERED,
            Reason.SLUG_TAKEN,
            "Nothing was written. Create an MdbApp with another slug, or have the holder deleted or"
            " the slug released (kubectl mdb release).",
            retry=False,
        ),
    ),
    (
        CollectionTaken,
        _Row(
            ConditionType.REGISTERED,
            Reason.COLLECTION_TAKEN,
            "Rename the collection in spec.collections.",
            retry=False,
        ),
    ),
    (
        ManifestInvalid,
        # The API server refuses such a manifest; one that was stored before the rule is told so.
        _Row(
            ConditionType.REGISTERED,
            Reason.COLLECTION_TAKEN,
            "Correct the spec; nothing was written.",
            retry=False,
        ),
    ),
    (
        MasterKeyError,
        _Row(
            ConditionType.SECRET_PROJECTED,
            Reason.KEY_UNAVAILABLE,
            "Put the key back into the master key Secret of the operator's namespace; nothing was"
            " overwritten.",
            retry_seconds=15,
        ),
    ),
    (
        DatabaseForbidden,
        _Row(
            ConditionType.REGISTERED,
            Reason.DATABASE_UNAVAILABLE,
            "It is tried again by itself; check the operator's MongoDB user, its password and its"
            " role (mdb-operator mongodb-role).",
            status="Unknown",
            retry_seconds=10,
        ),
    ),
    (
        DatabaseUnavailable,
        _Row(
            ConditionType.REGISTERED,
            Reason.DATABASE_UNAVAILABLE,
            "It is tried again by itself; check that MongoDB runs and that the operator may reach"
            " it.",
            status="Unknown",
            retry_seconds=10,
        ),
    ),
    (
        Forbidden,
        _Row(
            ConditionType.SECRET_PROJECTED,
            Reason.SECRET_CONFLICT,
            "The API server does not let the operator write here; check its RBAC and whether the"
            " namespace is being deleted.",
        ),
    ),
    (
        Invalid,
        _Row(
            ConditionType.SECRET_PROJECTED,
            Reason.SECRET_CONFLICT,
            "The API server refuses the object; correct the spec.",
        ),
    ),
)
"""By class, the first that fits: what does not hold, why, and what to do next."""


def failure_for(error: Exception) -> Failure | None:
    """Return what an error means for the app's conditions, or None for one that means nothing."""
    for kind, row in _TABLE:
        if isinstance(error, kind):
            text = redact(str(error)).rstrip()
            sentence = text if text.endswith((".", "!", "?")) else f"{text}."
            return Failure(
                condition=row.condition,
                reason=row.reason,
                message=f"{sentence} {row.advice}",
                status=row.status,
                retry=row.retry,
                retry_seconds=row.retry_seconds,
            )
    return None
