"""The registry of apps: who holds which slug and which collections, and what becomes of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from types import EllipsisType

from mdb_engine.connection.control import control_view
from mdb_engine.connection.driver import Driver, RawDatabase
from mdb_engine.constants import MAX_ATTEMPTS
from mdb_engine.core.clock import Clock, utcnow
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.secret import CertificateIssuer, RotationOutcome, SecretRecord
from mdb_engine.exceptions import NotRegistered, VersionConflict
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.adoption import Progress
from mdb_engine.registry.claims import ClaimService
from mdb_engine.registry.grants import GrantService
from mdb_engine.registry.layout import BUILD_SECONDS, LOOK_SECONDS, LayoutService
from mdb_engine.registry.legacy import LegacyService
from mdb_engine.registry.master_key import MasterKeyRotation
from mdb_engine.registry.models.app import AppRecord, GrantOutcome, Owner, Revisions
from mdb_engine.registry.models.layout import CollectionsOutcome, IndexesOutcome, LayoutConflict
from mdb_engine.registry.removal import RemovalService
from mdb_engine.registry.search import ensure_search_indexes
from mdb_engine.registry.secrets import SecretService
from mdb_engine.registry.storage.apps import AppStore
from mdb_engine.registry.storage.audit import AuditStore
from mdb_engine.registry.storage.grants import GrantStore
from mdb_engine.registry.storage.layout import LayoutStore
from mdb_engine.registry.storage.legacy import LegacyStore
from mdb_engine.registry.storage.revisions import RevisionStore
from mdb_engine.registry.storage.secrets import SecretStore

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
    conflicts
        What of its collections and indexes is not as its spec says, and why; all else is done.
    """

    record: AppRecord
    grants: GrantOutcome
    secret_version: int
    conflicts: tuple[LayoutConflict, ...] = ()


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
    clock
        The time by which versions of credentials begin and end.
    issuer
        Certifies new versions for MongoDB's login by X.509; None where users have passwords.

    Attributes
    ----------
    secrets
        The apps' credentials.
    grants
        The apps' grants.
    master_key
        The re-wrapping of all credentials under another master key.
    legacy
        What the earlier version of the library left in the database.
    """

    def __init__(
        self,
        database: RawDatabase,
        driver: Driver,
        encryption: EnvelopeEncryptionService,
        clock: Clock = utcnow,
        issuer: CertificateIssuer | None = None,
    ) -> None:
        view = control_view(database)
        secret_store, grant_store = SecretStore(view), GrantStore(view)
        self._apps = AppStore(view)
        self._secret_rows, self._grant_rows = secret_store, grant_store
        self.secrets = SecretService(secret_store, encryption, clock, issuer)
        self.grants = GrantService(self._apps, secret_store, grant_store, clock)
        self.master_key = MasterKeyRotation(secret_store, encryption, clock)
        self._layout_store = layout_store = LayoutStore(view, driver)
        self._layout = LayoutService(self._apps, layout_store)
        self.legacy = LegacyService(
            LegacyStore(view),
            self._apps,
            secret_store,
            secrets=self.secrets,
            layout=layout_store,
            prepare=self._layout.ensure_engine,
        )
        self._removal = RemovalService(
            self._apps,
            grant_store,
            layout=self._layout,
            secrets=self.secrets,
            grants=self.grants,
        )
        self._claims = ClaimService(self._apps, self._removal, self._layout)
        self._audit = AuditStore(database, driver)
        self._revisions = RevisionStore(database, driver)
        self._prepared = False

    async def prepare(self) -> None:
        """Make the engine's own collections and indexes; writes nothing where they exist.

        Raises
        ------
        LegacyDatabase
            If the earlier version of the library wrote what is in them.
        """
        await self.legacy.refuse()
        await self._layout.ensure_engine()
        self._prepared = True

    async def trim_audit(self) -> int:
        """Keep the audit trail under its bound; return how many events were removed.

        To be called from time to time by whoever registers apps.
        """
        return await self._audit.trim()

    async def damaged(self) -> list[str]:
        """Return which rows cannot be read, as ``collection/_id``: each costs its own app.

        To be called from time to time by whoever registers apps; a damaged row of the grants is
        written anew when its app is published next.
        """
        stores = (self._apps, self._secret_rows, self._grant_rows)
        return [row for store in stores for row in await store.damaged()]

    async def get(self, slug: str) -> AppRecord | None:
        """Return what is registered under a slug, tombstones included, or None."""
        app = await self._apps.get(slug)
        return app if app and app.slug == slug else None

    async def holder(self, slug: str) -> AppRecord | None:
        """Return what holds a slug: maybe under its other spelling, as ``-`` and ``_`` are one."""
        return await self._apps.get(slug)

    async def revisions(self, slug: str) -> Revisions | None:
        """Return at which revisions an app's rows are, with one command; None where one lacks.

        Where they are those of the last look, so is all that follows from the rows.
        """
        return await self._revisions.get(slug)

    async def all(self) -> list[AppRecord]:
        """Return everything that is registered, tombstones included, by slug."""
        return await self._apps.all()

    async def claim(
        self,
        spec: MdbAppSpec,
        owner: Owner,
        *,
        generation: int = 0,
        restored: bool = False,
        seen: AppRecord | EllipsisType | None = ...,
    ) -> AppRecord:
        """Take a slug and its collections for an owner, or update what it registered before.

        It makes and changes no collection and no index. Slug and collections are claimed in one
        write that a unique index guards: of two that want the same name at once, one wins. A
        tombstone of the same namespace comes back to life: with its data, but with a new
        incarnation and so a new secret.

        Parameters
        ----------
        spec
            What to register.
        owner
            For whom.
        generation
            The generation of the MdbApp that the spec is from.
        restored
            Take the spec although a later generation is registered: the caller has made sure that
            the API server itself has this one, from a backup.
        seen
            What `holder` has just returned, None included, so that it is not read again.

        Raises
        ------
        SlugTaken
            If another owner holds the slug, even one of the same name and another UID, or left it
            to another namespace. If its ``holder`` no longer exists, which only Kubernetes can
            say, call `bury` for that and claim again.
        CollectionTaken
            If a physical name is the engine's own or already another app's, or holds documents of
            another stamp.
        OutdatedGeneration
            If a later generation was registered.
        VersionConflict
            If the row changes faster than it can be read.
        """
        if not self._prepared:  # without the unique index nothing would guard the claims
            await self.prepare()
        return await self._claims.claim(
            spec, owner, generation=generation, restored=restored, seen=seen
        )

    async def forget_secret_names(self, slug: str, names: Collection[str]) -> AppRecord:
        """Note that no Secret of an app stands under these names any more.

        Raises
        ------
        NotRegistered
            If there is no active app of that slug.
        VersionConflict
            If the app was changed meanwhile.
        """
        app = await self._active(slug)
        left = app.secret_names - frozenset(names)
        if left == app.secret_names:
            return app
        return await self._apps.replace(replace(app, secret_names=left, updated_at=utcnow()))

    async def ensure_collections(
        self,
        app: str | AppRecord,
        *,
        seconds: float = LOOK_SECONDS,
        adopt: bool = True,
        tell: Progress = lambda _name, _done, _of: None,
    ) -> CollectionsOutcome:
        """Create an app's collections, and have MongoDB hold its stamp in them; no index work.

        Each collection gets a validator that refuses documents whose ``app_id`` is not the slug,
        beside whatever validator it has of its own. Where it stands and nothing else is in the
        collection, the record's `stamped` says so, and `publish` tells the pods.

        Do this before the app's database user can log in: who may insert could make a collection
        that is not there yet without the validator.

        Parameters
        ----------
        app
            Its slug, or its record where that was just read.
        seconds
            For how long each collection may be looked through, once, for documents of another
            stamp.
        adopt
            Whether collections that were there before may become the app's, where its spec says so.
        tell
            Told of each of those how many documents were stamped, and about how many there are.

        Returns
        -------
        CollectionsOutcome
            What was done, and the conflicts: one of a collection stops no other.

        Raises
        ------
        NotRegistered
            If there is no active app of that slug.
        VersionConflict
            If the app was registered anew meanwhile.
        """
        return await self._layout.ensure_collections(
            await self._active(app), seconds=seconds, adopt=adopt, tell=tell
        )

    async def plan_indexes(self, app: str | AppRecord) -> IndexesOutcome:
        """Say what `ensure_indexes` would do, without writing: one look at each collection.

        Raises
        ------
        NotRegistered
            If there is no active app of that slug.
        """
        return await self._layout.plan_indexes(await self._active(app))

    async def ensure_indexes(
        self, app: str | AppRecord, *, seconds: float = BUILD_SECONDS
    ) -> IndexesOutcome:
        """Build, change and drop an app's managed indexes until they are what its spec says.

        A new index is built beside the former one, which is dropped afterwards; what ``collMod``
        can change, it changes in place. Only indexes that are recorded as the registry's are ever
        changed or dropped, and none of a collection in which something could not be built.

        It takes as long as MongoDB takes: let it run in a task of its own. It may be cancelled and
        called again at any time.

        Parameters
        ----------
        app
            As in `ensure_collections`.
        seconds
            For how long one index may take, instead of the connection's limits. A
            ``pymongo.timeout`` around the call, or around the task's creation, still holds.

        Returns
        -------
        IndexesOutcome
            What was done, and the conflicts.

        Raises
        ------
        NotRegistered
            If there is no active app of that slug.
        VersionConflict
            If the app was registered anew meanwhile.
        """
        outcome = await self._layout.ensure_indexes(await self._active(app), seconds=seconds)
        against = await ensure_search_indexes(self._layout_store, outcome.record)
        return replace(outcome, conflicts=(*outcome.conflicts, *against))

    async def register(
        self, spec: MdbAppSpec, owner: Owner | None = None, *, generation: int = 0
    ) -> Registration:
        """Do all steps: claim, collections, secret, grants, and the indexes last.

        Parameters
        ----------
        spec
            What to register.
        owner
            For whom; by default for the app itself, without Kubernetes.
        generation
            As in `claim`.
        """
        owner = owner or Owner.standalone(spec.slug)
        for _ in range(MAX_ATTEMPTS):
            record = await self.claim(spec, owner, generation=generation)
            try:
                collections = await self.ensure_collections(record)
                secret = await self.secrets.ensure(collections.record)
                grants = await self.publish(record.slug)
                indexes = await self.ensure_indexes(collections.record)
            except VersionConflict:
                continue  # a process that starts at the same time registers the same
            return Registration(
                indexes.record,
                grants,
                secret.current.version,
                (*collections.conflicts, *indexes.conflicts),
            )
        raise VersionConflict(f"App {spec.slug!r} changes faster than it can be read")

    async def publish(self, slug: str) -> GrantOutcome:
        """Publish the grants of an app and of every app that names it.

        Returns
        -------
        GrantOutcome
            The app's own; `neighbours` says whose statuses may have changed with it.

        Raises
        ------
        NotRegistered
            If there is no active app of that slug.
        """
        naming = set(await self._apps.slugs_naming([slug]))
        outcomes = await self.grants.publish([slug, *naming])
        if slug not in outcomes:
            await self._active(slug)  # which says why
            raise NotRegistered(f"There is no app {slug!r} any more")
        readers = tuple(outcomes[name] for name in sorted(naming & outcomes.keys() - {slug}))
        changed = tuple(reader.slug for reader in readers if reader.changed)
        return replace(outcomes[slug], readers=readers, readers_changed=changed)

    async def neighbours(self, slug: str) -> list[AppRecord]:
        """Return the active apps that name an app in their read scopes or that it names."""
        found = {app.slug: app for app in await self._apps.naming([slug])}
        app = await self.get(slug)
        if app is not None:
            for owner in await self._apps.get_many(app.spec.read_scopes):
                if owner.active and owner.slug in app.spec.read_scopes:
                    found[owner.slug] = owner
        found.pop(slug, None)
        return [found[name] for name in sorted(found)]

    async def rotate(
        self, slug: str, *, expected_version: int, overlap_seconds: int, request: str | None = None
    ) -> RotationOutcome:
        """Rotate an app's secret and publish the new verifiers (see `SecretService.rotate`).

        The new version is accepted from pods before anyone can have it: hand it out after this.
        """
        outcome = await self.secrets.rotate(
            slug,
            expected_version=expected_version,
            overlap_seconds=overlap_seconds,
            request=request,
        )
        await self.grants.publish([slug])
        return outcome

    async def begin_overlap(
        self, seen: SecretRecord, *, overlap_seconds: int
    ) -> tuple[SecretRecord, GrantOutcome]:
        """Let the versions before one that was handed out end, and their verifiers with them.

        See `SecretService.begin_overlap`; also returns what was published with it.

        Raises
        ------
        NotRegistered
            If there is no active app of that slug.
        """
        changed = await self.secrets.begin_overlap(seen, overlap_seconds=overlap_seconds)
        outcomes = await self.grants.publish([seen.slug])
        if seen.slug not in outcomes:
            raise NotRegistered(f"There is no app {seen.slug!r} any more")
        return changed, outcomes[seen.slug]

    async def supersede(self, slug: str, *, issued: int) -> bool:
        """Supersede a version that is known elsewhere, and end all that are known here.

        See `SecretService.supersede`; the verifiers end with them.
        """
        changed = await self.secrets.supersede(slug, issued=issued)
        await self.grants.publish([slug])
        return changed

    async def revoke_previous(self, slug: str, *, request: str | None = None) -> bool:
        """End all earlier versions of an app's secret at once, and their verifiers.

        Returns
        -------
        bool
            Whether there were any.
        """
        changed = await self.secrets.revoke_previous(slug, request=request)
        await self.grants.publish([slug])
        return changed

    async def expire(self, slug: str) -> bool:
        """Remove earlier versions whose time is over, and their verifiers.

        Returns
        -------
        bool
            Whether there were any.
        """
        changed = await self.secrets.expire(slug)
        await self.grants.publish([slug])
        return changed

    async def revoke(self, slug: str, owner: Owner) -> bool:
        """First half of a deletion: end all access of the app, and of others to its data.

        Returns
        -------
        bool
            False if the slug is not (or no longer) this owner's: then there is nothing to do.

        Raises
        ------
        VersionConflict
            If the app was changed meanwhile; call it again.
        """
        return await self._removal.revoke(slug, owner)

    async def erase(self, slug: str, owner: Owner, *, delete_data: bool) -> bool:
        """Second half of a deletion, after the app's database users are gone.

        Destroys the secret; then drops the app's data and frees the slug, or leaves a tombstone
        that keeps both for the owner's namespace.

        Returns
        -------
        bool
            As `revoke`.

        Raises
        ------
        VersionConflict
            If the app was changed meanwhile; call it again.
        """
        return await self._removal.erase(slug, owner, delete_data=delete_data)

    async def deregister(self, slug: str, owner: Owner, *, delete_data: bool = False) -> bool:
        """Do both halves of a deletion.

        Returns
        -------
        bool
            As `revoke`.
        """
        return await self._removal.deregister(slug, owner, delete_data=delete_data)

    async def bury(self, slug: str, holder: Owner) -> bool:
        """End a registration whose owner vanished without deregistering.

        It becomes a tombstone, unless its deletion had begun and was to take the data with it.

        Parameters
        ----------
        slug
            The app.
        holder
            The owner that no longer exists (`SlugTaken.holder`).

        Returns
        -------
        bool
            As `revoke`.
        """
        return await self._removal.bury(slug, holder)

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
        SlugTaken
            If neither is given, but there is data: whoever came next would get it.
        """
        await self._removal.release(slug, heir=heir, delete_data=delete_data)

    async def _active(self, app: str | AppRecord) -> AppRecord:
        found = await self.get(app) if isinstance(app, str) else app
        if found is None or not found.active:
            slug = app if isinstance(app, str) else app.slug
            raise NotRegistered(f"There is no app {slug!r}")
        return found
