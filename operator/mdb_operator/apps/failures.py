"""The one table that turns errors of the domain and of the API server into what a person reads.

What a person can do about an error is decided here and nowhere else. Which condition it is about
depends on the line of the reconcile that it ended, and not on the error. An error that is in no row
is one that passes (a lost race, an API server that does not answer) or a bug: it is tried again,
and no condition pretends to know what it means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mdb_engine.exceptions import (
    CollectionTaken,
    DatabaseForbidden,
    DatabaseFull,
    DatabaseUnavailable,
    KeyManagerUnavailable,
    ManifestInvalid,
    MasterKeyError,
    SlugTaken,
)
from mdb_operator.apps.conditions import ConditionStatus, Reason
from mdb_operator.exceptions import Forbidden, Invalid
from mdb_operator.logging import redact

__all__ = ["Failure", "failure_for"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a line of a reconcile could not be done."""

    reason: Reason
    message: str  # what is wrong and what to do about it, free of secrets
    # ``Unknown`` where it could not be found out whether it holds.
    status: ConditionStatus = "False"
    # The longest delay until the next attempt; None where trying again by itself cannot help, and a
    # change will wake the app up.
    retry_seconds: float | None = None


_TABLE: dict[type[Exception], Failure] = {
    SlugTaken: Failure(
        Reason.SLUG_TAKEN,
        "Nothing was written. Create an MdbApp with another slug, or have the holder deleted or"
        " the slug released (kubectl mdb release).",
    ),
    CollectionTaken: Failure(Reason.COLLECTION_TAKEN, "Rename the collection in spec.collections."),
    # The API server refuses such a manifest; one that was stored before the rule is told so.
    ManifestInvalid: Failure(Reason.COLLECTION_TAKEN, "Correct the spec; nothing was written."),
    KeyManagerUnavailable: Failure(
        Reason.KEY_UNAVAILABLE,
        "It is tried again by itself. Apps that have their Secret go on; only new ones, and"
        " rotations, wait for it.",
        status="Unknown",
        retry_seconds=15,
    ),
    MasterKeyError: Failure(
        Reason.KEY_UNAVAILABLE,
        "Put the key back into the master key Secret of the operator's namespace, or where else"
        " it comes from; nothing was overwritten.",
        retry_seconds=15,
    ),
    DatabaseForbidden: Failure(
        Reason.DATABASE_UNAVAILABLE,
        "It is tried again by itself; check the operator's MongoDB user, its password and its"
        " role (mdb-operator mongodb-role).",
        status="Unknown",
        retry_seconds=10,
    ),
    DatabaseFull: Failure(
        Reason.DATABASE_UNAVAILABLE,
        "It is tried again by itself; make room on MongoDB's disk, or a larger one, and start it"
        " again where it has ended. Reading goes on only while it runs.",
        status="Unknown",
        retry_seconds=10,
    ),
    DatabaseUnavailable: Failure(
        Reason.DATABASE_UNAVAILABLE,
        "It is tried again by itself; check that MongoDB runs (it ends when its disk is full) and"
        " that the operator may reach it.",
        status="Unknown",
        retry_seconds=10,
    ),
    Forbidden: Failure(
        Reason.SECRET_CONFLICT,
        "The API server does not let the operator write here; check its RBAC, the admission webhook"
        " that the message names, and whether the namespace is being deleted.",
        retry_seconds=15,
    ),
    Invalid: Failure(
        Reason.SECRET_CONFLICT,
        "The API server refuses the object; correct the spec, or what refuses it.",
        retry_seconds=60,
    ),
}
"""By class, the first that fits: why, and what to do next; the error says what is wrong."""


def failure_for(error: Exception) -> Failure | None:
    """Return what a person is told of an error, or None for one that means nothing to them."""
    for kind, row in _TABLE.items():
        if isinstance(error, kind):
            return replace(row, message=f"{sentence(error)} {row.message}")
    return None


def sentence(error: Exception) -> str:
    """Return an error's text as a sentence without secrets."""
    text = redact(str(error)).rstrip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
