"""The registry of apps: who holds which slug and which collections, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.driver import Driver
from mdb_engine.models.app import AppRecord, GrantOutcome, Owner
from mdb_engine.models.secret import RotationOutcome
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.services.grants import GrantService
from mdb_engine.services.secrets import SecretService

__all__ = ["Registration", "Registry"]


@dataclass(frozen=True, slots=True)
class Registration:
    """What registering an app came to.

    Parameters
    ----------
    record
        The app as it stands now.
    grants
        What it was granted.
    secret_version
        The version of its credentials.
    """

    record: AppRecord
    grants: GrantOutcome
    secret_version: int


class Registry:
    """Registers apps in one database.

    Parameters
    ----------
    database
        The driver's database.
    driver
        The driver that it is of.
    encryption
        The keys for the apps' credentials.
    """

    secrets: SecretService
    grants: GrantService

    def __init__(
        self, database: Any, driver: Driver, encryption: EnvelopeEncryptionService
    ) -> None:
        raise NotImplementedError

    async def prepare(self) -> None:
        """Make the engine's own collections and indexes; writes nothing where they exist."""

    async def get(self, slug: str) -> AppRecord | None:
        """Return what is registered under a slug, tombstones included, or None."""
        raise NotImplementedError

    async def all(self) -> list[AppRecord]:
        """Return everything that is registered, tombstones included, by slug."""
        raise NotImplementedError

    async def claim(self, spec: MdbAppSpec, owner: Owner, *, generation: int = 0) -> AppRecord:
        """Take a slug and its collections for an owner, or update what it registered before.

        Slug and collections are claimed in one write that a unique index guards: of two that want
        the same name at once, one wins. A registration whose owner was replaced by another object
        of the same namespace and name, and a tombstone of the same namespace, come back to life:
        with their data, but with a new incarnation and so a new secret.

        Parameters
        ----------
        spec
            What to register.
        owner
            For whom.
        generation
            The generation of the MdbApp that the spec is from.

        Raises
        ------
        SlugTaken
            If another owner holds the slug, is being deleted, or left it to another namespace. If
            its ``holder`` no longer exists, call `deregister` for that and claim again.
        CollectionTaken
            If a physical name is the engine's own or already another app's.
        VersionConflict
            If a later generation was registered, or the row changes faster than it can be read.
        """
        raise NotImplementedError

    async def ensure_collections(self, slug: str) -> None:
        """Create an app's collections and indexes; rebuild and drop the managed ones that changed.

        Data that exists is kept. Indexes that the app made itself are left alone.

        Raises
        ------
        NotRegistered
            If there is no active app of that slug.
        CollectionTaken
            If an index cannot be built on the data that is there (its message says why).
        """
        raise NotImplementedError

    async def register(
        self, spec: MdbAppSpec, owner: Owner | None = None, *, generation: int = 0
    ) -> Registration:
        """Do all steps: claim, collections, secret, grants.

        Parameters
        ----------
        spec
            What to register.
        owner
            For whom; by default for the app itself, without Kubernetes.
        generation
            As in `claim`.
        """
        raise NotImplementedError

    async def publish(self, slug: str) -> GrantOutcome:
        """Publish the grants of an app and of every app that names it or that it names.

        Returns
        -------
        GrantOutcome
            The app's own; `neighbours` says whose statuses may have changed with it.
        """
        raise NotImplementedError

    async def neighbours(self, slug: str) -> list[AppRecord]:
        """Return the active apps that name an app in their read scopes or that it names."""
        raise NotImplementedError

    async def rotate(
        self, slug: str, *, expected_version: int, overlap_seconds: int, request: str | None = None
    ) -> RotationOutcome:
        """Rotate an app's secret and publish the new verifiers (see `SecretService.rotate`)."""
        raise NotImplementedError

    async def revoke_previous(self, slug: str, *, request: str | None = None) -> bool:
        """End all earlier versions of an app's secret at once, verifiers first.

        Returns
        -------
        bool
            Whether there was something to end.
        """
        raise NotImplementedError

    async def expire(self, slug: str) -> bool:
        """Remove earlier versions whose time is over, and their verifiers.

        Returns
        -------
        bool
            Whether there were any.
        """
        raise NotImplementedError

    async def revoke(self, slug: str, owner: Owner) -> bool:
        """First half of a deletion: end all access of the app, and of others to its data.

        Returns
        -------
        bool
            False if the slug is not (or no longer) this owner's: then there is nothing to do.
        """
        raise NotImplementedError

    async def erase(self, slug: str, owner: Owner, *, delete_data: bool) -> bool:
        """Second half of a deletion, after the app's database users are gone.

        Destroys the secret; then drops the app's data and frees the slug, or leaves a tombstone that
        keeps both for the owner's namespace.

        Returns
        -------
        bool
            As `revoke`.
        """
        raise NotImplementedError

    async def deregister(self, slug: str, owner: Owner, *, delete_data: bool = False) -> bool:
        """Do both halves of a deletion.  For an owner that vanished, too.

        Returns
        -------
        bool
            As `revoke`.
        """
        raise NotImplementedError

    async def release(
        self, slug: str, *, heir: str | None = None, delete_data: bool = False
    ) -> None:
        """Release the slug of a tombstone, as an administrator.

        Parameters
        ----------
        slug
            Whose slug.
        heir
            The namespace that may have slug and data from now on.
        delete_data
            Drop the data, and free the slug for anyone.

        Raises
        ------
        NotRegistered
            If there is no tombstone of that slug.
        VersionConflict
            If neither is given, but there is data: whoever came next would get it.
        """
        raise NotImplementedError
