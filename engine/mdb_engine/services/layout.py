"""Bring an app's collections and indexes to what its spec says, and remove them with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mdb_engine.constants import (
    APPS_COLLECTION,
    AUDIT_COLLECTION,
    AUDIT_TIME_FIELD,
    AUDIT_TTL_SECONDS,
    GRANTS_COLLECTION,
    SECRETS_COLLECTION,
)
from mdb_engine.core.clock import utcnow
from mdb_engine.exceptions import VersionConflict
from mdb_engine.models.app import AppRecord
from mdb_engine.models.naming import is_engine_collection, longest_owner, physical_name
from mdb_engine.storage.apps import CLAIMS_INDEX, SCOPES_INDEX, AppStore
from mdb_engine.storage.layout import LayoutStore

__all__ = ["LayoutService"]

_ENGINE_INDEXES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    APPS_COLLECTION: (CLAIMS_INDEX, SCOPES_INDEX),
    SECRETS_COLLECTION: (),
    GRANTS_COLLECTION: (),
    AUDIT_COLLECTION: (
        {
            "key": {AUDIT_TIME_FIELD: 1},
            "name": "expiry",
            "expireAfterSeconds": AUDIT_TTL_SECONDS,
        },
    ),
}


class LayoutService:
    """Creates and drops collections and indexes.

    Parameters
    ----------
    apps
        Where it is kept which indexes the registry made.
    store
        What it changes.
    """

    def __init__(self, apps: AppStore, store: LayoutStore) -> None:
        self._apps = apps
        self._store = store

    async def ensure_engine(self) -> None:
        """Make the engine's own collections and indexes; writes nothing where they exist."""
        existing = await self._store.collections()
        for name, indexes in _ENGINE_INDEXES.items():
            await self._ensure(name, {str(index["name"]): index for index in indexes}, existing)

    async def ensure(self, app: AppRecord) -> AppRecord:
        """Make an app's collections and managed indexes what its spec says.

        Returns
        -------
        AppRecord
            The app, with the names of the indexes that the registry now manages.

        Raises
        ------
        CollectionTaken
            If an index cannot be built on the data that is there.
        VersionConflict
            If the app was changed meanwhile.
        """
        wanted = {
            collection.name: {i.effective_name: i.document() for i in collection.indexes}
            for collection in app.spec.collections
        }
        before = app.managed_indexes
        names = {name: frozenset(indexes) for name, indexes in wanted.items()}
        # Ours are known before they are made: after a crash none is left that nobody would drop.
        both = {
            name: before.get(name, frozenset()) | names.get(name, frozenset())
            for name in {*before, *names}
        }
        app = await self._manage(app, both)
        existing = await self._store.collections(f"{app.slug}_")
        for name, indexes in wanted.items():
            physical = physical_name(app.slug, name)
            stale = before.get(name, frozenset()) - names[name]
            await self._ensure(physical, indexes, existing, stale)
        return await self._manage(app, {**both, **names})

    async def is_empty(self, app: AppRecord) -> bool:
        """Say whether none of an app's collections holds a document."""
        return await self._store.is_empty(await self._store.collections(f"{app.slug}_"))

    async def remove(self, app: AppRecord) -> None:
        """Drop an app's collections, and its documents in collections that it never declared."""
        slugs = [other.slug for other in await self._apps.all()]
        for physical in sorted(await self._store.collections(f"{app.slug}_")):
            await self._fence(app)
            if physical in app.claims:
                await self._store.drop(physical)
            elif not is_engine_collection(physical):
                await self._store.remove_documents(physical, app.slug)
                is_own = longest_owner(physical, slugs) == app.slug
                if (
                    is_own
                    and await self._apps.holder_of(physical) is None
                    and await self._store.is_empty([physical])
                ):
                    await self._store.drop(physical)

    async def _fence(self, app: AppRecord) -> None:
        """Raise `VersionConflict` unless the row is still the one of the app that is removed.

        MongoDB cannot drop a collection on a condition. Looked at before each one, the time in
        which a process that was suspended could drop what a successor of the app has made meanwhile
        is that of one command.
        """
        found = await self._apps.get(app.slug)
        if found is None or (found.incarnation, found.state) != (app.incarnation, app.state):
            raise VersionConflict(f"App {app.slug!r} was registered anew; nothing more is dropped")

    async def _ensure(
        self,
        physical: str,
        wanted: Mapping[str, Mapping[str, Any]],
        existing: set[str],
        stale: frozenset[str] = frozenset(),
    ) -> None:
        if physical not in existing:
            if not wanted:  # an index brings its collection with it
                await self._store.create(physical)
            found: Mapping[str, Mapping[str, Any]] = {}
        elif wanted or stale:
            found = await self._store.indexes(physical)
        else:
            return
        for name in sorted(stale & set(found)):
            await self._store.drop_index(physical, name)
        for index in wanted.values():
            await self._store.ensure_index(physical, index, found)

    async def _manage(self, app: AppRecord, names: Mapping[str, frozenset[str]]) -> AppRecord:
        managed = {name: indexes for name, indexes in names.items() if indexes}
        if managed == app.managed_indexes:
            return app
        return await self._apps.replace(
            dataclasses.replace(app, managed_indexes=managed, updated_at=utcnow())
        )
