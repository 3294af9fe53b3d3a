"""What is asked of an app's secret, and what is due. Pure: no I/O, no clock.

Slugs, collections, versions and grants are the registry's to decide. Whether a rotation was asked
for or is due, what is to be revoked, and when to look again is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from mdb_engine.core.secret import SecretRecord
from mdb_engine.registry.secrets import REVOKE_PREVIOUS, ROTATE
from mdb_operator.constants import ANNOTATION_REVOKE_PREVIOUS, ANNOTATION_ROTATE_REQUESTED

__all__ = ["Rotation", "asked_revocation", "due_rotation", "next_due", "not_renewed", "requests"]

_ANNOTATIONS: Mapping[str, str] = {
    ROTATE: ANNOTATION_ROTATE_REQUESTED,
    REVOKE_PREVIOUS: ANNOTATION_REVOKE_PREVIOUS,
}

LONGEST_REQUEST = 128
"""Characters of a request that is kept as it is; a time, a name, a ticket's number."""

RENEWAL = 2 / 3
"""The part of a client certificate's life after which there is a next one; as of cert-manager."""

OVERDUE = 5 / 6
"""The part of it after which an app is not ready any more because there is no next one."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation that is due."""

    expected_version: int  # it is not done if somebody else replaced this one first
    request: str | None  # the value of the annotation, or None where the period asked for it


def requests(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the requests that stand in the annotations, by kind.

    Any new value is a request, and the last one is kept with the app's secret. A long one is known
    by its digest: an annotation may have 256 KiB, and that row is read in every run.
    """
    found = {kind: annotations.get(name, "") for kind, name in _ANNOTATIONS.items()}
    return {
        kind: value
        if len(value) <= LONGEST_REQUEST
        else f"sha256:{sha256(value.encode()).hexdigest()}"
        for kind, value in found.items()
        if value
    }


def due_rotation(
    secrets: SecretRecord,
    asked: Mapping[str, str],
    period_seconds: int,
    now: datetime,
    issuer: str = "",
) -> Rotation | None:
    """Return the rotation that was asked for, or that is due by itself.

    That is by the period, or because the app logs in to MongoDB otherwise than it should: with a
    certificate that ends, that another authority signed, or instead of a password. ``issuer`` is
    the authority; empty, where apps have passwords.
    """
    version, request = secrets.current.version, asked.get(ROTATE)
    if request is not None and request != secrets.handled.get(ROTATE):
        return Rotation(version, request)
    certificate = secrets.current.certificate
    if (certificate.issuer if certificate else "") != issuer:
        return Rotation(version, None)
    due = _next_version(secrets, period_seconds)
    return Rotation(version, None) if due is not None and due <= now else None


def not_renewed(secrets: SecretRecord, now: datetime) -> bool:
    """Say whether the certificate that an app logs in with has been due for long."""
    overdue = secrets.current.certificate_at(OVERDUE)
    return overdue is not None and overdue <= now


def asked_revocation(secrets: SecretRecord, asked: Mapping[str, str]) -> str | None:
    """Return the request to end all earlier versions that was not served yet, or None."""
    request = asked.get(REVOKE_PREVIOUS)
    return None if request == secrets.handled.get(REVOKE_PREVIOUS) else request


def next_due(secrets: SecretRecord, period_seconds: int) -> datetime | None:
    """Return the next time at which a version ends or begins, of which nobody else will tell."""
    times = (_next_version(secrets, period_seconds), secrets.next_expiry)
    return min((time for time in times if time is not None), default=None)


def _next_version(secrets: SecretRecord, period_seconds: int) -> datetime | None:
    """Return when the current version is to be replaced, or None."""
    renewal = secrets.current.certificate_at(RENEWAL)
    if not period_seconds:
        return renewal
    end = secrets.current.created_at + timedelta(seconds=period_seconds)
    return end if renewal is None else min(end, renewal)
