"""Decide what is to be done for an app, from what was seen and the time. Pure: no I/O, no clock.

Slugs, collections, versions and grants are the registry's to decide; whether a rotation was asked
for or is due, what a deletion or a suspension means, and when to look again is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256

from mdb_engine.models.secret import SecretRecord
from mdb_engine.services.secrets import REVOKE_PREVIOUS, ROTATE
from mdb_operator.apps.plan import Observation, Plan, Rotation, Step
from mdb_operator.constants import ANNOTATION_REVOKE_PREVIOUS, ANNOTATION_ROTATE_REQUESTED

__all__ = ["plan"]

_REQUESTS: Mapping[str, str] = {
    ROTATE: ANNOTATION_ROTATE_REQUESTED,
    REVOKE_PREVIOUS: ANNOTATION_REVOKE_PREVIOUS,
}

LONGEST_REQUEST = 128
"""Characters of a request that is kept as it is; a time, a name, a ticket's number."""

_DELETION = (Step.REVOKE, Step.DROP_USERS, Step.ERASE, Step.UNPROJECT, Step.LET_GO)


def plan(seen: Observation, now: datetime) -> Plan:
    """Return what to do.

    Parameters
    ----------
    seen
        What was observed.
    now
        The time, aware.
    """
    app, spec = seen.app, seen.spec
    if app.deleting:
        return Plan(steps=_DELETION if app.finalized else ())
    if spec.suspend:
        return Plan()
    asked = _requests(app.annotations)
    rotation = _rotation(seen, asked, now)
    revocation = _revocation(seen, asked)
    former = _former_secret(seen)
    expiring = _expiring(seen.own_secrets, now)
    wanted = {
        Step.HOLD: not app.finalized,
        Step.CLAIM: True,
        Step.COLLECTIONS: True,
        Step.SECRET: True,
        Step.EXPIRE: expiring,
        Step.ROTATE: rotation is not None,
        Step.REVOKE_PREVIOUS: revocation is not None,
        Step.GRANTS: True,
        Step.DATABASE_USER: True,
        Step.PROJECT: True,
        Step.RETIRE: former is not None,
        Step.RESTART: bool(spec.restart),
    }
    return Plan(
        steps=tuple(step for step, due in wanted.items() if due),
        handled=asked,
        rotation=rotation,
        revocation=revocation,
        retire=former,
        wake_at=_wake_at(seen, now),
    )


def _requests(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the requests that stand in the annotations, by kind.

    Any new value is a request, and the last one is kept with the app's secret. A long one is known
    by its digest: an annotation may have 256 KiB, and that row is read in every run.
    """
    found = {kind: annotations[name] for kind, name in _REQUESTS.items() if annotations.get(name)}
    return {kind: _short(value) for kind, value in found.items()}


def _short(request: str) -> str:
    if len(request) <= LONGEST_REQUEST:
        return request
    return f"sha256:{sha256(request.encode()).hexdigest()}"


def _rotation(seen: Observation, asked: Mapping[str, str], now: datetime) -> Rotation | None:
    secrets = seen.own_secrets
    if secrets is None:
        return None  # what is generated now counts as rotated, and its requests as served
    version = secrets.current.version
    request = asked.get(ROTATE)
    if request is not None and request != secrets.handled.get(ROTATE):
        return Rotation(expected_version=version, request=request)
    due = _period_due(seen)
    return Rotation(version, request=None) if due is not None and due <= now else None


def _revocation(seen: Observation, asked: Mapping[str, str]) -> str | None:
    secrets = seen.own_secrets
    request = asked.get(REVOKE_PREVIOUS)
    if secrets is None or request == secrets.handled.get(REVOKE_PREVIOUS):
        return None
    return request


def _former_secret(seen: Observation) -> str | None:
    """Return the name that the Secret had before ``spec.secret.name`` was changed."""
    name = (seen.app.status.get("binding") or {}).get("name")
    return name if name and name != seen.app.secret_name else None


def _expiring(secrets: SecretRecord | None, now: datetime) -> bool:
    return secrets is not None and secrets.next_expiry is not None and secrets.next_expiry <= now


def _period_due(seen: Observation) -> datetime | None:
    secrets, period = seen.own_secrets, seen.spec.secret.rotation_period_seconds
    if secrets is None or not period:
        return None
    return secrets.current.created_at + timedelta(seconds=period)


def _wake_at(seen: Observation, now: datetime) -> datetime | None:
    """Return the next of the times at which something ends or begins, if it is still to come."""
    secrets = seen.own_secrets
    times = (_period_due(seen), secrets.next_expiry if secrets else None)
    return min((time for time in times if time is not None and time > now), default=None)
