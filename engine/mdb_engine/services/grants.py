"""Who may read whose data, and the rows by which every pod learns it."""

from __future__ import annotations

from collections.abc import Iterable

from mdb_engine.models.app import GrantOutcome

__all__ = ["GrantService"]


class GrantService:
    """Resolves and publishes grants."""

    async def publish(self, slugs: Iterable[str]) -> dict[str, GrantOutcome]:
        """Bring the rows of these apps up to what registry and secrets say now.

        A row is written only if it differs; it is removed if its app is not active. Its epoch grows
        with every write.

        Returns
        -------
        dict
            The outcome of each active app, by slug.

        Raises
        ------
        VersionConflict
            If the rows change faster than they can be read.
        """
        raise NotImplementedError

    async def get(self, slug: str) -> GrantOutcome | None:
        """Say what an app was granted, without writing, or None if it is not active."""
        raise NotImplementedError
