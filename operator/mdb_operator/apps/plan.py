"""What the operator saw of one app, and what it means to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mdb_engine.models.app import AppRecord, Owner
from mdb_engine.models.secret import SecretRecord
from mdb_engine.models.spec import MdbAppSpec
from mdb_operator.apps.resource import MdbAppResource

__all__ = ["Observation", "Plan", "Rotation", "Step"]


class Step(StrEnum):
    """What is done for an app, in the order in which it is done.

    The order makes every point a safe one to be killed at: nothing is handed out before it works,
    and nothing stops working before its successor was handed out.
    """

    HOLD = "hold"
    """Put the finalizer on, before anything exists that a deletion would have to remove."""
    CLAIM = "claim"
    COLLECTIONS = "collections"
    SECRET = "secret"  # noqa: S105 - the name of a step
    ROTATE = "rotate"
    REVOKE_PREVIOUS = "revoke-previous"
    EXPIRE = "expire"
    GRANTS = "grants"
    DATABASE_USER = "database-user"
    PROJECT = "project"
    RETIRE = "retire"
    """Remove the Secret of an earlier name, after the one of the new name is there."""
    RESTART = "restart"

    REVOKE = "revoke"
    """First step of a deletion: end all access."""
    DROP_USERS = "drop-users"
    ERASE = "erase"
    UNPROJECT = "unproject"
    LET_GO = "let-go"
    """Take the finalizer off."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of one app, in MongoDB and in the API server.

    Parameters
    ----------
    app
        The resource.
    spec
        Its spec, validated.
    record
        What is registered under its slug, whoever it belongs to.
    secrets
        The sealed credentials under its slug.
    """

    app: MdbAppResource
    spec: MdbAppSpec
    record: AppRecord | None = None
    secrets: SecretRecord | None = None

    @property
    def owner(self) -> Owner:
        """Whom the registry knows the resource as."""
        return Owner(self.app.key.namespace, self.app.key.name, self.app.uid)

    @property
    def registered(self) -> bool:
        """Whether the registration under the slug is this very resource's."""
        return self.record is not None and self.record.owner == self.owner

    @property
    def own_secrets(self) -> SecretRecord | None:
        """The credentials, if they are of this registration and not of an earlier one."""
        record, secrets = self.record, self.secrets
        if record is None or secrets is None or not self.registered:
            return None
        return secrets if secrets.incarnation == record.incarnation else None


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation that is due.

    Parameters
    ----------
    expected_version
        The version that it replaces: it is not done if somebody else did it first.
    request
        The value of the annotation that asked for it, or None where the period did.
    """

    expected_version: int
    request: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for one app.

    Parameters
    ----------
    steps
        In order. Each is idempotent and finds out by itself whether there is something to write.
    handled
        Requests that count as served if the credentials are generated now, by kind.
    rotation
        The rotation that is due, or None.
    revocation
        The value of the request to end all earlier versions, or None.
    retire
        The name of an earlier Secret to remove, or None.
    wake_at
        When something is due next that nobody will tell of, or None.
    """

    steps: tuple[Step, ...] = ()
    handled: dict[str, str] = field(default_factory=dict)
    rotation: Rotation | None = None
    revocation: str | None = None
    retire: str | None = None
    wake_at: datetime | None = None
