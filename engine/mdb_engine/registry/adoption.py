"""Make a collection that was there before the app one of its own.

Its documents are stamped where they are, in batches, so that whoever uses it by its old name can
go on meanwhile; then it is renamed, which is one step, and the app sees all of it at once. How far
that is, the collections themselves say: killed anywhere, the next run goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mdb_engine.models.naming import is_engine_collection, longest_owner, physical_name
from mdb_engine.models.spec import Collection
from mdb_engine.registry.models.app import AppRecord
from mdb_engine.registry.models.layout import LayoutConflict
from mdb_engine.registry.storage.apps import AppStore
from mdb_engine.registry.storage.layout import LayoutStore, OptionsRefusedError

__all__ = ["AdoptionService", "Progress"]

Progress = Callable[[str, int, int], Any]
"""Told a collection, how many of its documents were looked at, and about how many it has."""

_LOOK_SECONDS: Final = 600.0
"""How long a collection is looked through for documents of another stamp before any is stamped."""


class AdoptionService:
    """Adopts collections.

    Parameters
    ----------
    apps
        Who has claimed what.
    store
        What it changes.
    """

    def __init__(self, apps: AppStore, store: LayoutStore) -> None:
        self._apps = apps
        self._store = store

    async def adopt(
        self, app: AppRecord, collection: Collection, tell: Progress, *, allowed: bool
    ) -> tuple[bool, LayoutConflict | None]:
        """Bring a collection over, if that was not done before.

        Returns
        -------
        tuple
            Whether anything was written, and what stands against it.
        """
        assert collection.adopt is not None  # noqa: S101 - the caller looked
        source, name = collection.adopt.source, collection.name
        target = physical_name(app.slug, name)
        if source == target:
            return False, None
        found = await self._store.collections([source, target])
        if source not in found:
            text = f"there is no collection {source!r}"
            return False, None if target in found else _conflict(name, "NothingToAdopt", text)
        if not allowed:
            text = "the operator adopts none; an administrator can allow it (adoptCollections)"
            return False, _conflict(name, "AdoptionNotAllowed", text)
        if found[source].type != "collection":
            return False, _conflict(name, "NoCollection", f"{source!r} is a {found[source].type}")
        conflict = await self._in_the_way(app, name, source, target if target in found else None)
        if conflict is not None:
            return False, conflict
        conflict = await self._stamp(app, name, source, tell)
        return True, conflict or await self._move(name, source, target)

    async def _in_the_way(
        self, app: AppRecord, name: str, source: str, target: str | None
    ) -> LayoutConflict | None:
        if holder := await self._holder(app, source):
            return _conflict(name, "CollectionTaken", f"{source!r} is {holder}'s")
        if target is not None and not await self._store.is_empty([target]):
            text = (
                f"both {source!r} and {target!r} hold documents: have an administrator move those "
                "of one into the other, or take adopt out of the spec"
            )
            return _conflict(name, "TargetNotEmpty", text)
        return await self._other_stamps(app, name, source)

    async def _move(self, name: str, source: str, target: str) -> LayoutConflict | None:
        if not await self._store.drop_if_empty(target) or not await self._store.rename(
            source, target
        ):
            return _conflict(name, "TargetNotEmpty", f"{target!r} was written to meanwhile")
        return None

    async def stamp_rest(self, app: AppRecord, name: str, tell: Progress) -> LayoutConflict | None:
        """Stamp what came by the old name between the stamping and the renaming."""
        target = physical_name(app.slug, name)
        conflict = await self._other_stamps(app, name, target)
        return conflict or await self._stamp(app, name, target, tell)

    async def _holder(self, app: AppRecord, source: str) -> str | None:
        """Return whose a collection is, if it is not free to be adopted."""
        if is_engine_collection(source):
            return "the engine"
        holder = await self._apps.holder_of(source)
        if holder is not None and holder != app.slug:
            return f"app {holder!r}"
        prefix = longest_owner(source, [other.slug for other in await self._apps.all()])
        return None if prefix in (None, app.slug) else f"app {prefix!r}"

    async def _other_stamps(
        self, app: AppRecord, name: str, physical: str
    ) -> LayoutConflict | None:
        others = await self._store.holds_other_stamps(
            physical, app.slug, missing=False, seconds=_LOOK_SECONDS
        )
        if others is False:
            return None
        if others is None:
            text = f"{physical!r} cannot be looked through in time; make an index on app_id"
            return _conflict(name, "NotLookedThrough", text)
        text = f"{physical!r} holds documents with the stamp of another app"
        return _conflict(name, "ForeignDocuments", text)

    async def _stamp(
        self, app: AppRecord, name: str, physical: str, tell: Progress
    ) -> LayoutConflict | None:
        try:
            await self._store.stamp(physical, app.slug, lambda done, of: tell(name, done, of))
        except OptionsRefusedError as error:
            text = (
                f"MongoDB refuses the stamp in {physical!r} ({error.reason}): its validator has to "
                "let app_id pass, and its documents have to be valid"
            )
            return _conflict(name, error.reason, text)
        return None


def _conflict(name: str, reason: str, text: str) -> LayoutConflict:
    message = f"Collection {name!r} was not adopted: {text}. No document was lost or moved"
    return LayoutConflict(name, None, reason, message)
