"""The apps' users in MongoDB, as far as the reconciler needs to know of them, in either isolation.

With ``isolation: database`` the engine's own service does it. With ``isolation: library`` nobody
has a user; those that an earlier ``database`` made end, as far as MongoDB allows it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Protocol, TypeVar

import structlog

from mdb_engine.core.secret import RevealedSecrets, SecretRecord
from mdb_engine.exceptions import DatabaseForbidden
from mdb_engine.registry.database_users import DatabaseUserService
from mdb_engine.registry.models.app import AppRecord, GrantOutcome

__all__ = ["DatabaseUsers", "RetiringUsers"]

_Result = TypeVar("_Result")

_log = structlog.get_logger(__name__)


class DatabaseUsers(Protocol):
    """Brings users and roles of MongoDB up to what the registry says."""

    async def prepare(self) -> None:
        """Find out what an earlier time left, before anything else is asked."""

    async def ensure(
        self, app: AppRecord, grants: GrantOutcome, credentials: RevealedSecrets
    ) -> bool:
        """Make role and users of an app what they have to be; drop those of ended versions.

        Called after the grants were published and before the Secret is projected, so that whatever
        is handed out works. Returns whether something was written.

        Raises
        ------
        MdbEngineError
            If MongoDB refuses or cannot be reached.
        """

    async def end_former(self, app: AppRecord) -> bool:
        """Let those users of an app end in time that its Secret does not name any more.

        Called after the Secret was projected. Returns whether something was written.
        """

    async def drop_ended(self, secrets: SecretRecord) -> bool:
        """Drop the users of all versions but the valid ones; whether there were any."""

    async def refresh_roles(self, slugs: Iterable[str]) -> list[str]:
        """Bring the roles of apps up to their published grants; return whose were written."""

    async def altered(self) -> list[str]:
        """Return the apps whose users somebody else changed since they were right."""

    def is_settled(self, slug: str) -> bool:
        """Whether none of an app's users waits for its end."""

    async def drop(self, slug: str) -> bool:
        """Drop role and users of an app that is being deleted; whether there were any."""

    async def sweep(
        self,
        active: Callable[[], Awaitable[Collection[str]]],
        *,
        known: Collection[str] | None = None,
    ) -> list[str]:
        """Drop users and roles of ours whose app is not active any more; return their names."""


class RetiringUsers:
    """``isolation: library``: apps share the operator's user, and those of their own end.

    An app's users go on working for its overlap, which begins when the Secret has the shared user:
    pods read it only later. Where the operator's user may not manage users, there is nothing that
    it could do about them; it says so once, and no app fails for it.
    """

    def __init__(self, service: DatabaseUserService) -> None:
        self._service = service
        self._left: bool | None = None  # of an earlier ``database``: nobody makes any here

    async def prepare(self) -> None:
        """Find out whether any of them log in by certificate."""
        await self._service.prepare()

    async def ensure(
        self, app: AppRecord, grants: GrantOutcome, credentials: RevealedSecrets
    ) -> bool:
        """Drop the app's users whose time is over, if it has any."""
        del grants, credentials
        return await self._where_allowed(
            lambda: self._service.drop_retired(app.slug), otherwise=False
        )

    async def end_former(self, app: AppRecord) -> bool:
        """Let the app's users end, if it has any that work without an end."""
        return self._service.is_to_retire(app.slug) and await self._where_allowed(
            lambda: self._service.retire(app), otherwise=False
        )

    async def drop_ended(self, secrets: SecretRecord) -> bool:
        """Drop the users of versions that ended, if any are left."""
        return await self._where_allowed(lambda: self._service.drop_ended(secrets), otherwise=False)

    async def refresh_roles(self, slugs: Iterable[str]) -> list[str]:
        """Bring the roles that are left up to the published grants."""
        names = list(slugs)
        return await self._where_allowed(lambda: self._service.follow_grants(names), otherwise=[])

    async def altered(self) -> list[str]:
        """Return none: those that are left are on their way out."""
        return []

    def is_settled(self, slug: str) -> bool:
        """Whether no user of an earlier ``database`` is left for a while."""
        return self._service.is_settled(slug)

    async def drop(self, slug: str) -> bool:
        """Drop what is left of an app's users and role."""
        return await self._where_allowed(lambda: self._service.drop(slug), otherwise=False)

    async def sweep(
        self,
        active: Callable[[], Awaitable[Collection[str]]],
        *,
        known: Collection[str] | None = None,
    ) -> list[str]:
        """Drop what is left of apps that are not active any more."""
        if self._left:
            self._left = None  # the last of them may have ended
        return await self._where_allowed(
            lambda: self._service.sweep(active, known=known), otherwise=[]
        )

    async def _where_allowed(
        self, work: Callable[[], Awaitable[_Result]], *, otherwise: _Result
    ) -> _Result:
        if self._left is False:
            return otherwise
        try:
            if self._left is None:
                self._left = await self._service.any()
            return await work() if self._left else otherwise
        except DatabaseForbidden:
            self._left = False
            _log.info(
                "The operator's MongoDB user may not manage users. Those that isolation: database"
                " made earlier, if any, stay; drop them by hand"
            )
            return otherwise
