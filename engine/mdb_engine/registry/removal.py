"""How an app ends: access first, then its secret, then, by policy, its data and its slug.

Each step is idempotent and leaves the registration behind until the last, so that a deletion that
was interrupted anywhere is simply begun again.
"""

from __future__ import annotations

import dataclasses

from mdb_engine.core.clock import utcnow
from mdb_engine.exceptions import NotRegistered, SlugTaken
from mdb_engine.models.naming import app_key
from mdb_engine.registry.grants import GrantService
from mdb_engine.registry.layout import LayoutService
from mdb_engine.registry.models.app import AppRecord, AppState, Owner
from mdb_engine.registry.secrets import SecretService
from mdb_engine.registry.storage.apps import AppStore
from mdb_engine.registry.storage.grants import GrantStore

__all__ = ["RemovalService"]


class RemovalService:
    """Ends apps.

    Parameters
    ----------
    apps, grant_rows
        The stores whose rows it changes.
    layout, secrets, grants
        The services that do a step each.
    """

    def __init__(
        self,
        apps: AppStore,
        grant_rows: GrantStore,
        *,
        layout: LayoutService,
        secrets: SecretService,
        grants: GrantService,
    ) -> None:
        self._apps = apps
        self._grant_rows = grant_rows
        self._layout = layout
        self._secrets = secrets
        self._grants = grants

    async def revoke(self, slug: str, owner: Owner) -> bool:
        """First half: end all access of the app, and of others to its data."""
        app = await self._owned(slug, owner)
        if app is None:
            return False
        rows = await self._grant_rows.get_many([app.slug])
        row = rows.get(app_key(app.slug))
        floor = max(app.epoch_floor, row.epoch if row else 0)
        if app.state is not AppState.DELETING or floor != app.epoch_floor:
            await self._apps.replace(
                dataclasses.replace(
                    app, state=AppState.DELETING, epoch_floor=floor, updated_at=utcnow()
                )
            )
        readers = await self._apps.slugs_naming([app.slug])
        await self._grants.publish([app.slug, *readers])
        return True

    async def erase(self, slug: str, owner: Owner, *, delete_data: bool) -> bool:
        """Second half: destroy the secret, then data and slug, or leave a tombstone."""
        app = await self._owned(slug, owner)
        if app is None:
            return False
        secret = await self._secrets.get(app.slug)
        if secret is not None:
            # Kept before the secret goes: whoever comes back must not repeat a version.
            if secret.current.version > app.secret_floor:
                app = await self._apps.replace(
                    dataclasses.replace(app, secret_floor=secret.current.version)
                )
            await self._secrets.destroy(app.slug)
        if delete_data:
            await self._layout.remove(app)
            await self._apps.remove(app)
        else:
            await self._apps.replace(
                dataclasses.replace(app, state=AppState.TOMBSTONE, updated_at=utcnow())
            )
        return True

    async def deregister(self, slug: str, owner: Owner, *, delete_data: bool) -> bool:
        """Do both halves."""
        return await self.revoke(slug, owner) and await self.erase(
            slug, owner, delete_data=delete_data
        )

    async def bury(self, slug: str, holder: Owner) -> bool:
        """End a registration whose owner vanished: as a tombstone, or as its deletion had begun."""
        app = await self._owned(slug, holder)
        if app is None:
            return False
        had_begun = app.state is AppState.DELETING
        if not had_begun and app.spec.deletion_policy == "Delete":
            # If this is interrupted, it must not look like a deletion that was to take the data.
            kept = app.spec.model_copy(update={"deletion_policy": "Retain"})
            await self._apps.replace(dataclasses.replace(app, spec=kept, updated_at=utcnow()))
        delete_data = had_begun and app.spec.deletion_policy == "Delete"
        return await self.deregister(slug, holder, delete_data=delete_data)

    async def release(self, slug: str, *, heir: str | None, delete_data: bool) -> None:
        """Release the slug of a tombstone: to a namespace, or, without its data, to anyone."""
        app = await self._apps.get(slug)
        if app is None or app.state is not AppState.TOMBSTONE or app.slug != slug:
            raise NotRegistered(f"There is no app {slug!r} that was deleted and retained")
        if heir is not None and not delete_data:
            owner = Owner(namespace=heir, name=app.owner.name, uid="")
            handed_on = dataclasses.replace(app, owner=owner, former_uids=(), updated_at=utcnow())
            await self._apps.replace(handed_on)
            return
        if not delete_data and not await self._layout.is_empty(app):
            raise SlugTaken(
                f"App {slug!r} was deleted, but its data was retained: name the namespace that "
                "inherits it, or ask for its deletion",
                holder=app.owner,
            )
        await self._secrets.destroy(app.slug)  # one that was migrated has one
        await self._layout.remove(app)
        await self._apps.remove(app)

    async def _owned(self, slug: str, owner: Owner) -> AppRecord | None:
        app = await self._apps.get(slug)
        if app is None or app.owner != owner or app.state is AppState.TOMBSTONE:
            return None
        return app
