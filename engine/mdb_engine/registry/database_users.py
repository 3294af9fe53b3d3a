"""One MongoDB user and role per app: the wall that holds without the library.

The role follows the published grants: what it must lose goes before anything is added, so it is
never wider for a moment on the way. A user belongs to one version of the app's credentials: both
versions of an overlap have one, and a version that ended has none. Reading comes before writing,
and nothing is written where nothing differs; what somebody changed by hand therefore differs, and
is repaired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from mdb_engine.connection.control import control_view
from mdb_engine.connection.driver import RawDatabase
from mdb_engine.constants import MAX_ATTEMPTS
from mdb_engine.core.clock import utcnow
from mdb_engine.core.secret import Credentials, RevealedSecrets
from mdb_engine.exceptions import DatabaseUnavailable, VersionConflict
from mdb_engine.models.naming import app_key
from mdb_engine.registry.models.app import AppRecord, GrantOutcome
from mdb_engine.registry.models.privileges import (
    Privileges,
    app_privileges,
    role_name,
    slug_of_role,
    user_name,
)
from mdb_engine.registry.storage.grants import GrantStore
from mdb_engine.registry.storage.users import (
    MANAGED_BY,
    MECHANISM,
    DatabaseUser,
    UserStore,
    matches_password,
)

__all__ = ["DatabaseUserService"]

RETIRE_AT: Final = "retireAt"
"""In a user's custom data: when it is dropped, after its app was switched to ``library``."""


class DatabaseUserService:
    """Brings users and roles up to what the registry says.

    Parameters
    ----------
    database
        The driver's database, as a user that may manage users and roles in it.

    Notes
    -----
    A password cannot be read back, so whether a user still has ours is computed from what MongoDB
    keeps to check it by. That is slow by design; the outcome is remembered for the process, and is
    looked up again by the very salt and keys, which change with every change of the password.
    """

    def __init__(self, database: RawDatabase) -> None:
        view = control_view(database)
        self._users = UserStore(view)
        self._grants = GrantStore(view)
        self._checked: dict[str, tuple[str, int]] = {}

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
        valid = (credentials.current, *credentials.earlier)
        wrote = await self.drop_ended(app.slug, [version.version for version in valid])
        wrote |= await self.refresh_roles([app.slug])
        for _ in range(MAX_ATTEMPTS):
            found = {user.name: user for user in await self._users.users(app.slug)}
            changed, lost = await self._ensure_users(app, valid, found)
            wrote |= changed
            if not lost:
                return wrote
        raise VersionConflict(f"The database users of app {app.slug!r} change too fast")

    async def refresh_roles(self, slugs: Iterable[str]) -> bool:
        """Bring roles up to the published grants; drop those of apps that have none.

        Returns
        -------
        bool
            Whether something was written.
        """
        wrote = False
        for slug in sorted(set(slugs)):
            wrote |= await self._refresh_role(slug)
        return wrote

    async def drop(self, slug: str) -> bool:
        """Drop users and role of an app; whether there were any."""
        wrote = False
        for user in await self._users.users(slug):
            wrote |= await self._drop_user(user.name)
        return await self._users.drop_role(role_name(slug)) or wrote

    async def drop_ended(self, slug: str, valid: Collection[int]) -> bool:
        """Drop the users of all versions but the valid ones, which needs no master key.

        Returns whether something was written.
        """
        kept, wrote = {user_name(slug, version) for version in valid}, False
        for user in await self._users.users(slug):
            if user.name not in kept:
                wrote |= await self._drop_user(user.name)
        return wrote

    async def follow_grants(self, slugs: Iterable[str]) -> bool:
        """Bring the roles that there are up to the published grants, and make none.

        Where isolation was given up, a role stays for as long as its users, and must lose what its
        app loses meanwhile. Returns whether something was written.
        """
        wrote = False
        for slug in sorted(set(slugs)):
            wrote |= await self._refresh_role(slug, create=False)
        return wrote

    async def retire(self, app: AppRecord, *, now: datetime | None = None) -> bool:
        """Let an app's users end after its overlap, because it shares another user from now on.

        Returns
        -------
        bool
            Whether something was written.
        """
        at = now or utcnow()
        later = at + timedelta(seconds=app.spec.secret.overlap_seconds)
        wrote, left = False, False
        for user in await self._users.users(app.slug):
            due = user.custom_data.get(RETIRE_AT)
            if due is None:
                marked = {**user.custom_data, RETIRE_AT: later}
                wrote |= await self._users.mark_user(user.name, marked)
                left = True
            elif due <= at:
                wrote |= await self._drop_user(user.name)
            else:
                left = True
        if left:
            return await self.follow_grants([app.slug]) or wrote
        if await self._users.role(role_name(app.slug)) is not None:
            wrote |= await self._users.drop_role(role_name(app.slug))
        return wrote

    async def sweep(self, active: Callable[[], Awaitable[Collection[str]]]) -> list[str]:
        """Drop users and roles of ours whose app is not there any more.

        Parameters
        ----------
        active
            Returns the slugs of all apps that are registered and active. It is asked after the
            users were read: an app has no user before it is registered, so none is missed.

        Returns
        -------
        list of str
            What was dropped, sorted.
        """
        users, roles = await self._users.names(), await self._users.role_names()
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

    async def _refresh_role(self, slug: str, *, create: bool = True) -> bool:
        """Write a role until it is what the rows say that are read after the writing.

        Another process may narrow a grant between our reading and our writing; it looks after it
        has written, and so do we, so the last of the two leaves the narrower role.
        """
        name, wrote = role_name(slug), False
        for _ in range(MAX_ATTEMPTS):
            wanted = await self._wanted(slug)
            found = await self._users.role(name)
            if wanted is None:
                return await self._users.drop_role(name) if found else wrote
            if found is None:
                if not create:
                    return wrote
                wrote |= await self._users.create_role(name, wanted)
            elif found.inherits or found.privileges != wanted:
                await self._users.change_role(found, wanted)
                wrote = True
            else:
                return wrote
        raise VersionConflict(f"The grants of app {slug!r} change faster than its role can follow")

    async def _wanted(self, slug: str) -> Privileges | None:
        rows = await self._grants.get_many([slug])
        own = rows.get(app_key(slug))
        if own is None or own.slug != slug:
            return None
        owners = await self._grants.get_many(own.read_scopes)
        granted = [row for row in owners.values() if row.slug in own.read_scopes]
        return app_privileges(slug, own.collections, granted)

    async def _ensure_users(
        self, app: AppRecord, valid: Iterable[Credentials], found: Mapping[str, DatabaseUser]
    ) -> tuple[bool, bool]:
        """Return whether something was written, and whether somebody was faster."""
        role, wrote = role_name(app.slug), False
        for version in valid:
            name = user_name(app.slug, version.version)
            custom_data = {
                "managedBy": MANAGED_BY,
                "slug": app.slug,
                "version": version.version,
            }
            user = found.get(name) or await self._stripped(name, role)
            if user is not None and user.roles - {(self._users.database_name, role)}:
                # It was given more by hand. To revoke that may take rights in other databases.
                await self._drop_user(name)
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

    async def _stripped(self, name: str, role: str) -> DatabaseUser | None:
        """Return a user of ours that lost its custom data, known by the role that it still has.

        Raises
        ------
        DatabaseUnavailable
            If there is a user of that name that is nothing of ours.
        """
        user = await self._users.user(name)
        if user is None or user.custom_data.get("managedBy") == MANAGED_BY:
            return user
        database = self._users.database_name
        if (database, role) in user.roles:
            return user
        raise DatabaseUnavailable(
            f"MongoDB has a user {name!r} in database {database!r} that is not ours; drop it, or "
            "give it another name"
        )

    async def _is_right(
        self, user: DatabaseUser, version: Credentials, custom_data: Mapping[str, Any]
    ) -> bool:
        database = self._users.database_name
        if (
            user.roles != {(database, role_name(custom_data["slug"]))}
            or dict(user.custom_data) != custom_data
            or user.mechanisms != {MECHANISM}
        ):
            return False
        # The stored key is a digest under a random salt, so it is no secret; the password's own
        # hash stands in for the password, which is not kept here.
        seen = (str(user.credential.get("storedKey")), hash(version.database_password))
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
