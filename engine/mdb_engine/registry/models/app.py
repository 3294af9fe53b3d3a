"""What is registered of an app, and which scopes it was granted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mdb_engine.models.naming import ManagedName
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.owner import Owner

__all__ = ["AppRecord", "AppState", "DeniedScope", "GrantOutcome", "Owner", "Revisions"]


class AppState(StrEnum):
    """Where an app is in its life."""

    ACTIVE = "active"
    DELETING = "deleting"
    """Its grants are revoked; secret and data go next."""
    TOMBSTONE = "tombstone"
    """It is gone, but its slug and data are kept for its namespace."""


@dataclass(frozen=True, slots=True)
class AppRecord:
    """One app as it stands in the registry.

    Parameters
    ----------
    slug
        The app.
    owner
        Whose it is; of a tombstone: whose it was.
    state
        Where it is in its life.
    spec
        What was registered last.
    generation
        The generation of the MdbApp that ``spec`` is from; 0 for an app that registered itself.
    incarnation
        A random name, drawn anew each time that a tombstone comes back to life; secrets of
        another one are void.
    claims
        Physical names of all collections it ever declared; they stay its own while it exists.
    managed_indexes
        The indexes that the registry made, by logical collection.
    secret_names
        Names under which a Kubernetes Secret of the app may stand, the present one included: known
        before the Secret is written, so that none is forgotten when the name changes.
    former_uids
        UIDs of the MdbApps of the same namespace that had the slug before, the last of them at the
        end: a Secret that a backup brings back may carry one.
    stamped
        Logical names of the declared collections in which MongoDB holds the stamp: a validator
        refuses documents of another one, and none was there when it was put.
    validators
        By logical collection, the digests of the validators that were made from its spec: the
        one that stands, and while it is being changed the one that will.
    secret_floor
        The highest version that any earlier secret of this slug had.
    epoch_floor
        The highest epoch that any earlier grant of this slug had.
    migrated
        Of a tombstone: it was brought over from the earlier version and waits for its MdbApp, which
        comes into its data and its secret.
    revision
        Grows with every write of the row; the token of compare-and-set.
    created_at, updated_at
        UTC, aware.
    """

    slug: str
    owner: Owner
    state: AppState
    spec: MdbAppSpec
    generation: int
    incarnation: str
    claims: frozenset[str]
    created_at: datetime
    updated_at: datetime
    managed_indexes: Mapping[str, frozenset[ManagedName]] = field(default_factory=dict)
    secret_names: frozenset[str] = frozenset()
    former_uids: tuple[str, ...] = ()
    stamped: frozenset[str] = frozenset()
    validators: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    secret_floor: int = 0
    epoch_floor: int = 0
    migrated: bool = False
    revision: int = 1

    @property
    def active(self) -> bool:
        """Whether it is neither being deleted nor gone."""
        return self.state is AppState.ACTIVE


@dataclass(frozen=True, slots=True)
class Revisions:
    """At which revision each of an app's rows is: no row differs where these are the same.

    Parameters
    ----------
    incarnation
        Of the registration.
    registration, secret
        `AppRecord.revision` and that of the app's credentials.
    epoch
        Of its grants, which whoever changes a consent publishes anew.
    """

    incarnation: str
    registration: int
    secret: int
    epoch: int


@dataclass(frozen=True, slots=True, order=True)
class DeniedScope:
    """A scope that an app names but does not have.

    Parameters
    ----------
    slug
        The app whose data it wants to read.
    reason
        ``GrantPending``: there is no such app yet. ``NotGranted``: its owner has not consented,
        or one of the two denies all.
    message
        What would have to be done, and by whom.
    """

    slug: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class GrantOutcome:
    """What an app was granted at the last publication.

    Parameters
    ----------
    slug
        The app.
    granted
        The slugs that it may really read, its own included, sorted.
    denied
        The scopes that it names but does not have, sorted.
    epoch
        The epoch of its row of grants, or 0 where it has none (no secret, or not active).
    changed
        Whether this publication wrote the row.
    readers
        What was granted to each active app that names it in its read scopes, by slug.
    readers_changed
        Those of them whose rows this publication wrote.
    """

    slug: str
    granted: tuple[str, ...]
    denied: tuple[DeniedScope, ...]
    epoch: int
    changed: bool
    readers: tuple[GrantOutcome, ...] = ()
    readers_changed: tuple[str, ...] = ()
