"""The app's own user in MongoDB, as far as the reconciler needs to know of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from mdb_engine.models.app import AppRecord, GrantOutcome
from mdb_engine.models.secret import RevealedSecrets

__all__ = ["DatabaseUsers", "NoDatabaseUsers"]


class DatabaseUsers(Protocol):
    """Brings users and roles of MongoDB up to what the registry says."""

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

    async def refresh_roles(self, slugs: Iterable[str]) -> bool:
        """Bring the roles of apps up to their published grants; whether something was written."""

    async def drop(self, slug: str) -> bool:
        """Drop role and users of an app that is being deleted; whether there were any."""


class NoDatabaseUsers:
    """``isolation: library``: apps share the operator's user, so there is nothing to do."""

    async def ensure(
        self, app: AppRecord, grants: GrantOutcome, credentials: RevealedSecrets
    ) -> bool:
        """Write nothing."""
        del app, grants, credentials
        return False

    async def refresh_roles(self, slugs: Iterable[str]) -> bool:
        """Write nothing."""
        del slugs
        return False

    async def drop(self, slug: str) -> bool:
        """Write nothing."""
        del slug
        return False
