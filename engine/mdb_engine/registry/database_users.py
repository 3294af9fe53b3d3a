"""One MongoDB user and role per app: the wall that holds without the library.

The role follows the published grants: what it must lose goes before anything is added, so it is
never wider for a moment on the way. A user belongs to one version of the app's credentials: both
versions of an overlap have one, and a version that ended has none. Reading comes before writing,
and nothing is written where nothing differs; what somebody changed by hand therefore differs, and
is repaired. Whether a user logs in by password or by certificate is a property of the version that
it is of, so both are there in the overlap of a change from one to the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from mdb_engine.connection.control import control_view
from mdb_engine.connection.driver import RawDatabase
from mdb_engine.constants import MAX_ATTEMPTS, MAX_SECRET_VERSIONS
from mdb_engine.core.clock import Clock, utcnow
from mdb_engine.core.secret import Credentials, RevealedSecrets, SecretRecord
from mdb_engine.exceptions import DatabaseUnavailable, VersionConflict
from mdb_engine.models.naming import app_key
from mdb_engine.registry.models.app import AppRecord, GrantOutcome
from mdb_engine.registry.models.privileges import (
    Privileges,
    app_privileges,
    role_name,
    slug_of_role,
    user_name,
    user_subject,
)
from mdb_engine.registry.storage.grants import GrantStore
from mdb_engine.registry.storage.users import (
    EXTERNAL,
    MANAGED_BY,
    MECHANISM,
    DatabaseRole,
    DatabaseUser,
    UserStore,
    is_external,
    matches_password,
)

__all__ = ["DatabaseUserService"]

RETIRE_AT: Final = "retireAt"
"""In a user's custom data: when it is dropped, after its app was switched to ``library``."""

RECENT_VERSIONS: Final = 2 * MAX_SECRET_VERSIONS
"""How many versions back users are looked for by name: twice as many as can be valid at once."""

BATCH: Final = 25
"""How many users or roles one command asks for. An answer may have 16 MiB, and a role that may read
a thousand collections has 0.4."""


class DatabaseUserService:
    """Brings users and roles up to what the registry says.

    Parameters
    ----------
    database
        The driver's database, as a user that may manage users and roles in it.
    clock
        The time by which users end that are not needed any more.
    certificates
        Whether apps log in by X.509, for which it has to manage users of ``$external`` as well.
        Otherwise it ends those that there are of an earlier time, where it may.

    Notes
    -----
    A password cannot be read back, so whether a user still has ours is computed from what MongoDB
    keeps to check it by. That is slow by design; the outcome is remembered for the process, and is
    looked up again by the very salt and keys, which change with every change of the password.
    """

    def __init__(
        self, database: RawDatabase, clock: Clock = utcnow, *, certificates: bool = False
    ) -> None:
        view = control_view(database)
        self._clock = clock
        self._external = certificates  # whether ``$external`` may have users of ours
        self._users = UserStore(view)
        self._grants = GrantStore(view)
        self._checked: dict[str, tuple[str, int]] = {}
        self._kept: dict[str, dict[str, DatabaseUser | None]] = {}  # as `ensure` left them
        self._retiring: set[str] = set()
        self._unmarked: set[str] = set()

    async def prepare(self) -> None:
        """Find out whether an earlier time left users by certificate, before anything is dropped.

        Where that cannot be read, none was made by these rights.
        """
        if not self._external:
            with suppress(DatabaseUnavailable):  # a server that is down is told of by others
                self._external = await self._users.any_external()

    async def ensure(
        self, app: AppRecord, grants: GrantOutcome, credentials: RevealedSecrets
    ) -> bool:
        """Make an app's role and its users what they have to be; drop those of ended versions.

        Parameters
        ----------
        app
            The app.
        grants
            What was published for it; only its slug counts, the rows are read again.
        credentials
            Its credentials: one user is kept for each version that is valid.

        Returns
        -------
        bool
            Whether something was written.

        Raises
        ------
        DatabaseUnavailable
            If MongoDB cannot be reached or refuses, or has a user of that name that is not ours.
        VersionConflict
            If grants or users change faster than they can be read.
        """
        del grants
        wanted = {
            self._name(
                app.slug, one.version, app.incarnation, certified=bool(one.client_certificate)
            ): one
            for one in (credentials.current, *credentials.earlier)
        }
        if any(map(is_external, wanted)):
            self._external = True
        numbers = [version.version for version in wanted.values()]
        names = self._recent_names(app.slug, numbers, app.incarnation)
        found = await self._users.named({*names, *wanted})
        wrote = await self._drop_all_but(app.slug, wanted, found)
        if any(is_external(name) and name not in found for name in wanted):
            wrote |= await self._drop_former_registrations(app.slug, {*names, *wanted})
        wrote |= bool(await self.refresh_roles([app.slug]))
        for _ in range(MAX_ATTEMPTS):
            changed, lost = await self._ensure_users(app, wanted, found)
            wrote |= changed
            if changed or lost:
                found = await self._users.named(wanted)
            if not lost:
                self._remember(app.slug, wanted, found)
                return wrote
        raise VersionConflict(f"The database users of app {app.slug!r} change too fast")

    async def refresh_roles(self, slugs: Iterable[str]) -> list[str]:
        """Bring roles up to the published grants; drop those of apps that have none.

        Returns
        -------
        list of str
            The apps for which something was written, sorted.
        """
        return await self._refresh(slugs, create=True)

    async def altered(self) -> list[str]:
        """Return the apps whose users are not those that `ensure` left, sorted.

        For whoever looks now and then whether somebody changed them: it costs a command for a
        hundred users, and no password is computed.
        """
        names = {name: slug for slug, kept in self._kept.items() for name in kept}
        altered: set[str] = set()
        for batch in _batches(names):
            found = await self._users.named(batch)
            for name in batch:
                kept = self._kept.get(names[name], {})
                # Else an end or a rotation was faster.
                if name in kept and (kept[name] is None or kept[name] != found.get(name)):
                    altered.add(names[name])
        return sorted(altered)

    async def drop(self, slug: str) -> bool:
        """Drop users and role of an app; whether there were any."""
        self._kept.pop(slug, None)
        self._retiring.discard(slug)
        self._unmarked.discard(slug)
        wrote = False
        for user in await self._users.users(slug, external=self._external):
            wrote |= await self._drop_user(user.name)
        return await self._users.drop_role(role_name(slug)) or wrote

    async def drop_ended(self, secrets: SecretRecord) -> bool:
        """Drop the users of all versions but the valid ones, which needs no master key.

        Returns whether something was written.
        """
        slug, incarnation = secrets.slug, secrets.incarnation
        valid = {
            self._name(slug, one.version, incarnation, certified=one.certificate is not None)
            for one in secrets.versions
        }
        numbers = [one.version for one in secrets.versions]
        names = self._recent_names(slug, numbers, incarnation)
        return await self._drop_all_but(slug, valid, await self._users.named(names))

    async def follow_grants(self, slugs: Iterable[str]) -> list[str]:
        """Bring the roles that there are up to the published grants, and make none.

        Where isolation was given up, a role stays for as long as its users, and must lose what its
        app loses meanwhile. Returns the apps for which something was written, sorted.
        """
        return await self._refresh(slugs, create=False)

    async def any(self) -> bool:
        """Say whether there is a user or a role of ours."""
        return bool(
            await self._users.role_names()
            or await self._users.names_without((), external=self._external)
        )

    async def end_former(self, app: AppRecord) -> bool:
        """Write nothing, and return False: each user ends with its version, by `ensure`."""
        del app
        return False

    async def retire(self, app: AppRecord, *, now: datetime | None = None) -> bool:
        """Let an app's users end after its overlap, because it shares another user from now on.

        Call it once that one was handed out; `drop_retired` then drops them.

        Returns
        -------
        bool
            Whether something was written.
        """
        later = (now or self._clock()) + timedelta(seconds=app.spec.secret.overlap_seconds)
        wrote = False
        for user in await self._users.users(app.slug, external=self._external):
            if RETIRE_AT not in user.custom_data:
                marked = {**user.custom_data, RETIRE_AT: later}
                wrote |= await self._users.mark_user(user.name, marked)
        self._unmarked.discard(app.slug)
        return wrote

    async def drop_retired(self, slug: str, *, now: datetime | None = None) -> bool:
        """Drop those of an app's users that `retire` has let be until now, and then its role.

        What the app loses meanwhile its role loses. Returns whether something was written.
        """
        at = now or self._clock()
        wrote, left = False, []
        for user in await self._users.users(slug, external=self._external):
            due = user.custom_data.get(RETIRE_AT)
            if due is not None and due <= at:
                wrote |= await self._drop_user(user.name)
            else:
                left.append(due)
        if None in left:
            self._unmarked.add(slug)
        if left:
            self._retiring.add(slug)
            return bool(await self.follow_grants([slug])) or wrote
        self._retiring.discard(slug)
        if await self._users.roles([role_name(slug)]):
            wrote |= await self._users.drop_role(role_name(slug))
        return wrote

    def is_to_retire(self, slug: str) -> bool:
        """Say whether `drop_retired` has found users of an app that nobody let end yet."""
        return slug in self._unmarked

    def is_settled(self, slug: str) -> bool:
        """Say whether `retire` has let no user of an app be for a while."""
        return slug not in self._retiring

    async def sweep(
        self,
        active: Callable[[], Awaitable[Collection[str]]],
        *,
        known: Collection[str] | None = None,
    ) -> list[str]:
        """Drop users and roles of ours whose app is not there any more.

        Parameters
        ----------
        active
            Returns the slugs of all apps that are registered and active. Where something seems to
            be left of another, it is asked again after the users were read: an app has no user
            before it is registered, so none is missed.
        known
            What it returned a moment ago.

        Returns
        -------
        list of str
            What was dropped, sorted.
        """
        kept = set(known if known is not None else await active())
        users = await self._users.names_without(kept, external=self._external)
        roles = await self._users.role_names()
        roles = [name for name in roles if slug_of_role(name) not in kept]
        if not users and not roles:
            return []
        kept = set(await active())
        dropped = [name for name, slug in users if slug not in kept and await self._drop_user(name)]
        dropped += [
            name
            for name in roles
            if slug_of_role(name) not in kept and await self._users.drop_role(name)
        ]
        return sorted(dropped)

    async def _refresh(self, slugs: Iterable[str], *, create: bool) -> list[str]:
        wrote: set[str] = set()
        for batch in _batches(sorted(set(slugs))):
            await self._refresh_batch(batch, wrote, create=create)
        return sorted(wrote)

    async def _refresh_batch(self, slugs: list[str], wrote: set[str], *, create: bool) -> None:
        """Write roles until they are what the rows say that are read after the writing.

        Another process may narrow a grant between our reading and our writing; it looks after it
        has written, and so do we, so the last of the two leaves the narrower role.
        """
        for _ in range(MAX_ATTEMPTS):
            wanted = await self._wanted(slugs)
            found = await self._users.roles(map(role_name, slugs))
            differing: list[str] = []
            for slug in slugs:
                role, rights = found.get(role_name(slug)), wanted.get(slug)
                if _is_right(role, rights) or (role is None and not create):
                    continue
                differing.append(slug)
                if await self._write_role(role_name(slug), role, rights):
                    wrote.add(slug)
            slugs = differing
            if not slugs:
                return
        raise VersionConflict(f"The grants of app {slugs[0]!r} change faster than its role")

    async def _write_role(
        self, name: str, found: DatabaseRole | None, wanted: Privileges | None
    ) -> bool:
        """Write a role that differs; False if somebody else was faster."""
        if wanted is None:
            return await self._users.drop_role(name)
        if found is None:
            return await self._users.create_role(name, wanted)
        await self._users.change_role(found, wanted)
        return True

    async def _wanted(self, slugs: Collection[str]) -> dict[str, Privileges]:
        rows = await self._grants.get_many(slugs)
        own = {slug: row for slug in slugs if (row := rows.get(app_key(slug))) and row.slug == slug}
        named = {scope for row in own.values() for scope in row.read_scopes}
        if others := [scope for scope in named if app_key(scope) not in rows]:
            rows |= await self._grants.get_many(others)
        wanted: dict[str, Privileges] = {}
        for slug, row in own.items():
            owners = (rows.get(app_key(scope)) for scope in row.read_scopes)
            granted = [owner for owner in owners if owner and owner.slug in row.read_scopes]
            wanted[slug] = app_privileges(slug, row.collections, granted)
        return wanted

    def _name(self, slug: str, version: int, incarnation: str, *, certified: bool) -> str:
        if certified:
            return user_subject(self._users.database_name, slug, version, incarnation)
        return user_name(slug, version)

    def _recent_names(self, slug: str, valid: Collection[int], incarnation: str) -> list[str]:
        """Return the names of an app's users: of its valid versions, and of those ended of late.

        Each ended version's user is dropped in the run that ends it, or in the next one that
        succeeds; more versions than these cannot end in between.
        """
        kinds = (False, True) if self._external else (False,)
        last = max(valid)
        first = max(1, min(*valid, last - RECENT_VERSIONS + 1))
        return [
            self._name(slug, version, incarnation, certified=certified)
            for version in range(first, last + 1)
            for certified in kinds
        ]

    async def _drop_former_registrations(self, slug: str, names: Collection[str]) -> bool:
        """Drop users by certificate of earlier registrations, which no name of this one leads to.

        A deletion has dropped them. Where it was prevented (the database was dropped, and its users
        stayed), they would come to life again with the role, which bears the same name.
        """
        wrote = False
        for user in await self._users.external_users(slug):
            if user.name not in names:
                wrote |= await self._drop_user(user.name)
        return wrote

    async def _drop_all_but(
        self, slug: str, kept: Collection[str], found: Mapping[str, DatabaseUser]
    ) -> bool:
        wrote = False
        for user in found.values():
            if user.name not in kept and self._is_ours(user, role_name(slug)):
                wrote |= await self._drop_user(user.name)
        return wrote

    async def _ensure_users(
        self, app: AppRecord, wanted: Mapping[str, Credentials], found: Mapping[str, DatabaseUser]
    ) -> tuple[bool, bool]:
        """Return whether something was written, and whether somebody was faster."""
        role, wrote = role_name(app.slug), False
        for name, version in wanted.items():
            custom_data = {
                "managedBy": MANAGED_BY,
                "slug": app.slug,
                "version": version.version,
            }
            if is_external(name):
                custom_data["database"] = self._users.database_name
            user = found.get(name)
            if user is not None and not self._is_ours(user, role):
                raise DatabaseUnavailable(
                    f"MongoDB has a user {name!r} in database {self._users.database_name!r} that is"
                    " not ours; drop it, or give it another name"
                )
            if user is not None and user.roles - {(self._users.database_name, role)}:
                # It was given more by hand. To revoke that may take rights in other databases.
                await self._drop_user(name)
                user = None
            if (
                user is not None
                and is_external(name)
                and not await self._is_right(user, version, custom_data)
            ):
                await self._drop_user(name)  # what is right of it is made again at once
                user = None
            if user is None:
                write = self._users.create_user
            elif not await self._is_right(user, version, custom_data):
                write = self._users.update_user
            else:
                continue
            if not await write(name, version.database_password, role, custom_data):
                return wrote, True
            wrote = True
        return wrote, False

    def _remember(
        self, slug: str, wanted: Mapping[str, Credentials], found: Mapping[str, DatabaseUser]
    ) -> None:
        """Remember users that are right, since they were looked at or have just been written."""
        kept: dict[str, DatabaseUser | None] = {}
        for name, version in wanted.items():
            user = kept[name] = found.get(name)
            if user is not None:
                self._checked[name] = _seen(user, version)
        self._kept[slug] = kept

    def _is_ours(self, user: DatabaseUser, role: str) -> bool:
        """Say whether a user is ours: one that lost its custom data is known by its role."""
        return (
            user.custom_data.get("managedBy") == MANAGED_BY
            or (self._users.database_name, role) in user.roles
        )

    async def _is_right(
        self, user: DatabaseUser, version: Credentials, custom_data: Mapping[str, Any]
    ) -> bool:
        database = self._users.database_name
        if (
            user.roles != {(database, role_name(custom_data["slug"]))}
            or dict(user.custom_data) != custom_data
            or user.mechanisms != {EXTERNAL if is_external(user.name) else MECHANISM}
        ):
            return False
        if is_external(user.name):
            return True  # MongoDB keeps nothing but the name
        seen = _seen(user, version)
        if self._checked.get(user.name) == seen:
            return True
        matches = await asyncio.to_thread(
            matches_password, user.credential, version.database_password
        )
        if matches:
            self._checked[user.name] = seen
        return matches

    async def _drop_user(self, name: str) -> bool:
        self._checked.pop(name, None)
        return await self._users.drop_user(name)


def _seen(user: DatabaseUser, version: Credentials) -> tuple[str, int]:
    """Return what a password is known by that was found right.

    The stored key is a digest under a random salt, so it is no secret; the password's own hash
    stands in for the password, which is not kept here.
    """
    return str(user.credential.get("storedKey")), hash(version.database_password)


def _is_right(role: DatabaseRole | None, wanted: Privileges | None) -> bool:
    if role is None:
        return wanted is None
    return not role.inherits and role.privileges == wanted


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    rest = list(names)
    for start in range(0, len(rest), BATCH):
        yield rest[start : start + BATCH]
