"""Bring over what the earlier version of the library registered, and back.

Each app becomes a tombstone that keeps its secret and waits for its MdbApp, which then finds data,
credentials and indexes as if it had always been there. The token that its programs have now is the
previous version of its secret, for an overlap. Every step can be repeated, and what was begun is
noted, so that nobody uses a database of which a half is migrated.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from pydantic import SecretStr

from mdb_engine.constants import APPS_COLLECTION, COLLECTION_PATTERN, SECRETS_COLLECTION
from mdb_engine.core.aead import decrypt
from mdb_engine.core.clock import utcnow
from mdb_engine.core.stamp import own_validator, stamped_validator
from mdb_engine.exceptions import LegacyDatabase, ManifestInvalid, VersionConflict
from mdb_engine.models.lenient import read_leniently
from mdb_engine.models.mdbapp import mdbapp_name
from mdb_engine.models.naming import ManagedName, app_key, longest_owner, physical_name
from mdb_engine.models.spec import MAX_COLLECTIONS, MdbAppSpec
from mdb_engine.models.spec import Collection as SpecCollection
from mdb_engine.registry.models.app import AppRecord, AppState, Owner
from mdb_engine.registry.models.layout import fingerprint
from mdb_engine.registry.secrets import SecretService
from mdb_engine.registry.storage.apps import AppStore
from mdb_engine.registry.storage.layout import LayoutStore
from mdb_engine.registry.storage.legacy import LegacyRow, LegacyStore
from mdb_engine.registry.storage.secrets import SecretStore

__all__ = ["LegacyApp", "LegacyPlan", "LegacyService", "open_legacy_secret"]

COMMAND: Final = "mdb-operator migrate --from-legacy"

_NAMED: Final = 5
"""How many apps an error names."""

_COLLECTION: Final = re.compile(COLLECTION_PATTERN)

_LOOK_SECONDS: Final = 2.0
"""How long a collection is looked through for what has to be said of it."""


@dataclass(frozen=True, slots=True)
class LegacyApp:
    """An app of the earlier version, and what becomes of it.

    Parameters
    ----------
    slug
        The app.
    spec
        What is registered of it.
    token
        What its programs prove themselves with; None where it never had a secret.
    made_at
        Since when.
    notes
        What was left out and what else there is to know, each in a sentence.
    """

    slug: str
    spec: MdbAppSpec
    token: SecretStr | None
    made_at: datetime
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LegacyPlan:
    """What a migration would do.

    Parameters
    ----------
    apps
        What it would bring over.
    problems
        What stands against it; nothing is written while there is one.
    rows
        The rows that it deals with.
    """

    apps: tuple[LegacyApp, ...]
    problems: tuple[str, ...]
    rows: tuple[LegacyRow, ...] = field(repr=False)


def open_legacy_secret(document: Mapping[str, Any], master_key: bytes) -> SecretStr | None:
    """Open a secret as the earlier version sealed it; None where the key is another.

    Both are base64 of nonce, ciphertext and tag: the DEK under the master key, the secret under the
    DEK, AES-256-GCM without associated data.
    """
    try:
        sealed_dek, sealed = (
            base64.b64decode(document[name], validate=True)
            for name in ("encrypted_dek", "encrypted_secret")
        )
        dek = decrypt(master_key, sealed_dek, b"")
        return SecretStr(decrypt(dek, sealed, b"").decode("utf-8"))
    except (binascii.Error, InvalidTag, KeyError, TypeError, ValueError):
        return None


class LegacyService:
    """Migrates a database of the earlier version.

    Parameters
    ----------
    rows
        Its rows.
    apps, secret_rows
        Where they go.
    secrets
        Makes the credentials.
    layout
        Looks at the collections.
    prepare
        Makes the engine's own collections and indexes, once there is nothing in their way.
    """

    def __init__(
        self,
        rows: LegacyStore,
        apps: AppStore,
        secret_rows: SecretStore,
        *,
        secrets: SecretService,
        layout: LayoutStore,
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        self._rows = rows
        self._apps = apps
        self._secret_rows = secret_rows
        self._secrets = secrets
        self._layout = layout
        self._prepare = prepare

    async def refuse(self) -> None:
        """Return if there is nothing of the earlier version, nor a migration that has not ended.

        Raises
        ------
        LegacyDatabase
            If there is; it names the apps, and what to run.
        """
        begun = await self._rows.state()
        if begun is not None:
            undo = " --undo" if begun == "undo" else ""
            raise LegacyDatabase(
                "The migration of this database from the earlier version was interrupted; run it "
                f"again: {COMMAND}{undo}"
            )
        slugs = await self._rows.slugs(_NAMED + 1)
        if slugs:
            more = ", ..." if len(slugs) > _NAMED else ""
            raise LegacyDatabase(
                f"This database holds apps of the earlier version of the library "
                f"({', '.join(slugs[:_NAMED])}{more}), which nothing was changed of. Bring them "
                f"over: {COMMAND} (see Migrate in the documentation)"
            )

    async def plan(
        self, master_key: bytes | None = None, *, leave_out: Collection[str] = ()
    ) -> LegacyPlan:
        """Look at everything, and write nothing.

        Parameters
        ----------
        master_key
            What the earlier version sealed secrets with; None where it made none.
        leave_out
            Slugs of apps that are set aside and not brought over.
        """
        problems: list[str] = []
        if await self._rows.state() == "undo":
            problems.append(f"An undo was interrupted; finish it first: {COMMAND} --undo")
        in_place = await self._rows.rows()
        there = {(row.collection, str(row.document["_id"])) for row in in_place}
        rows = [
            row
            for row in await self._rows.aside()
            if not row.done and (row.collection, str(row.document["_id"])) not in there
        ] + in_place
        registered = {str(one["slug"]): one for one in await self._rows.registered()}
        by_slug: dict[str, list[LegacyRow]] = defaultdict(list)
        for row in rows:
            by_slug[row.slug].append(row)
        wanted = {slug: found for slug, found in by_slug.items() if slug not in leave_out}
        problems += _clashes(wanted, registered)
        apps: list[LegacyApp] = []
        slugs = [*wanted, *registered]
        for slug, found in sorted(wanted.items()):
            app = await self._planned(slug, found, slugs, master_key, problems)
            if app is not None:
                apps.append(app)
        problems += _taken_twice(app.spec for app in apps)
        return LegacyPlan(tuple(apps), tuple(problems), tuple(rows))

    async def migrate(self, plan: LegacyPlan, *, namespace: str, overlap: int) -> None:
        """Do what a plan says; what was done before is passed over.

        Parameters
        ----------
        plan
            One without problems.
        namespace
            Where the MdbApps will be.
        overlap
            For how many seconds from now the old tokens still work.

        Raises
        ------
        VersionConflict
            If somebody registers the same app meanwhile.
        MasterKeyError
            If there is no key to seal with.
        """
        if not plan.rows and await self._rows.state() is None:
            return
        await self._rows.begin("migrate")
        for row in plan.rows:
            await self._rows.set_aside(row)
        for row in plan.rows:
            await self._rows.take_out(row)
        for app in plan.apps:
            await self._register(app, namespace, overlap)
        for row in plan.rows:
            await self._rows.note_done(row)
        await self._prepare()
        await self._rows.fence(up=True)
        await self._rows.end()

    async def waiting(self) -> list[AppRecord]:
        """Return the apps that were brought over and that no MdbApp has taken up yet."""
        return [app for app in await self._apps.all() if app.migrated]

    async def undo(self, *, dry_run: bool = False) -> tuple[list[str], list[str]]:
        """Put everything back as it was.

        Returns
        -------
        tuple
            The slugs that go back, and what stands against it; then nothing was written.
        """
        aside = await self._rows.aside()
        slugs = sorted({row.slug for row in aside})
        problems = [
            f"App {one['slug']!r} is registered for MdbApp "
            f"{one['owner']['namespace']}/{one['owner']['name']}; delete that first, its data stays"
            for one in await self._rows.registered()
            if one["state"] != AppState.TOMBSTONE or one["slug"] not in slugs
        ]
        if problems or dry_run or not aside:
            return slugs, problems
        await self._rows.begin("undo")
        await self._rows.fence(up=False)
        await self._rows.drop_indexes()
        for slug in slugs:
            await self._rows.remove_successors(slug)
            await self._take_stamps_off(slug)
        for row in aside:
            await self._rows.put_back(row)
        for row in aside:
            await self._rows.forget(row)
        await self._rows.end()
        return slugs, []

    async def _register(self, app: LegacyApp, namespace: str, overlap: int) -> None:
        if await self._apps.get(app.slug) is not None:
            return
        now = utcnow()
        incarnation = secrets.token_hex(8)
        if app.token is not None:
            made = await self._secrets.carry_over(
                app.slug,
                app.token,
                incarnation=incarnation,
                made_at=app.made_at,
                overlap=overlap,
            )
            if not await self._secret_rows.insert(made):
                found = await self._secret_rows.get(app.slug)  # of a run that was interrupted
                incarnation = found.incarnation if found else incarnation
        spec = app.spec.normalised()
        record = AppRecord(
            slug=app.slug,
            owner=Owner(namespace, mdbapp_name(app.slug), ""),
            state=AppState.TOMBSTONE,
            spec=spec,
            generation=0,
            incarnation=incarnation,
            claims=frozenset(physical_name(app.slug, name) for name in spec.collection_names),
            managed_indexes=await self._made_from_it(spec),
            migrated=True,
            created_at=app.made_at,
            updated_at=now,
        )
        if not await self._apps.insert(record):
            raise VersionConflict(f"App {app.slug!r} was registered meanwhile")

    async def _made_from_it(self, spec: MdbAppSpec) -> dict[str, frozenset[ManagedName]]:
        """Return the indexes that the earlier version made, under names of its own."""
        made: dict[str, frozenset[ManagedName]] = {}
        for collection in spec.collections:
            wanted = {fingerprint(index.document()) for index in collection.indexes}
            if not wanted:
                continue
            there = await self._layout.indexes(physical_name(spec.slug, collection.name))
            digests = {name: fingerprint(index) for name, index in there.items()}
            same = frozenset(ManagedName(n, d) for n, d in digests.items() if d in wanted)
            if same:
                made[collection.name] = same
        return made

    async def _planned(
        self,
        slug: str,
        rows: Iterable[LegacyRow],
        slugs: Collection[str],
        master_key: bytes | None,
        problems: list[str],
    ) -> LegacyApp | None:
        manifest: Mapping[str, Any] = {"slug": slug}
        sealed: Mapping[str, Any] | None = None
        notes: list[str] = []
        for row in rows:
            if row.collection == SECRETS_COLLECTION:
                sealed = row.document
            else:
                manifest = row.document
        if sealed is None:
            notes.append("it never had a secret; it gets its first one")
        if not any(row.collection == APPS_COLLECTION for row in rows):
            notes.append("there is a secret and no manifest; its collections were looked for")
        try:
            read, left_out = read_leniently(manifest)
            spec = read.to_spec()
        except ManifestInvalid as error:
            problems.append(f"App {slug!r} cannot be brought over: {error.message}")
            return None
        notes += [f"left out: {one}" for one in left_out]
        token = None
        if sealed is not None:
            token = open_legacy_secret(sealed, master_key) if master_key is not None else None
            if token is None:
                why = "there is none" if master_key is None else "it is not the key that sealed it"
                problems.append(
                    f"The secret of app {slug!r} does not open with the old master key: {why}"
                )
        spec = await self._with_found(spec, slugs, notes, problems)
        made_at = (sealed or {}).get("created_at")
        if not isinstance(made_at, datetime):
            made_at = utcnow()
        made_at = made_at if made_at.tzinfo else made_at.replace(tzinfo=UTC)
        return LegacyApp(slug, spec, token, made_at, tuple(notes))

    async def _with_found(
        self, spec: MdbAppSpec, slugs: Collection[str], notes: list[str], problems: list[str]
    ) -> MdbAppSpec:
        """Declare the collections that there are: the earlier version needed no declaration."""
        slug = spec.slug
        prefixed = await self._layout.names(f"{slug}_")
        own = sorted(name for name in prefixed if longest_owner(name, slugs) == slug)
        found = await self._layout.collections(own)
        collections = list(spec.collections)
        for physical in own:
            name = physical.removeprefix(f"{slug}_")
            if found[physical].type != "collection":
                notes.append(f"{physical} is a {found[physical].type}, and was left alone")
                continue
            if name not in spec.collection_names:
                if not _COLLECTION.fullmatch(name):
                    notes.append(
                        f"collection {physical} cannot be declared under its name; give it another "
                        "in spec.collections with adopt: {from: ...}"
                    )
                    continue
                collections.append(SpecCollection(name=name))
            if await self._layout.holds_other_stamps(
                physical, slug, missing=True, seconds=_LOOK_SECONDS
            ):
                notes.append(
                    f"collection {physical} holds documents whose app_id is not {slug!r}, or that "
                    "have none; the app does not see them"
                )
        if len(collections) > MAX_COLLECTIONS:
            problems.append(
                f"App {slug!r} has {len(collections)} collections, and an MdbApp at most "
                f"{MAX_COLLECTIONS}; drop what it does not need"
            )
            collections = collections[:MAX_COLLECTIONS]
        return spec.model_copy(update={"collections": tuple(collections)})

    async def _take_stamps_off(self, slug: str) -> None:
        found = await self._layout.collections(await self._layout.names(f"{slug}_"))
        for physical, one in sorted(found.items()):
            own = own_validator(one.validator)
            stamped = stamped_validator(slug, own, collated=one.collated)
            if one.type == "collection" and one.validator == stamped:
                await self._layout.validate(physical, own)


def _clashes(wanted: Collection[str], registered: Mapping[str, Any]) -> list[str]:
    """Say which slugs are one, or are somebody's already."""
    keys: dict[str, list[str]] = defaultdict(list)
    for slug in sorted(wanted):
        keys[app_key(slug)].append(slug)
    taken = {app_key(slug): slug for slug, one in registered.items() if not one.get("migrated")}
    said = [
        f"Apps {' and '.join(map(repr, slugs))} are one, as - and _ count as one character; leave "
        "one out"
        for slugs in keys.values()
        if len(slugs) > 1
    ]
    return said + [
        f"App {slugs[0]!r} cannot be brought over: {taken[key]!r} is registered here already"
        for key, slugs in keys.items()
        if key in taken
    ]


def _taken_twice(specs: Iterable[MdbAppSpec]) -> list[str]:
    """Say which collections two apps declare under one name in MongoDB."""
    holders: dict[str, list[str]] = defaultdict(list)
    for spec in specs:
        for name in spec.collection_names:
            holders[physical_name(spec.slug, name)].append(spec.slug)
    return [
        f"Collection {physical!r} is one of the apps {' and '.join(slugs)}: leave one of them out, "
        "or take it out of a manifest"
        for physical, slugs in sorted(holders.items())
        if len(slugs) > 1
    ]
