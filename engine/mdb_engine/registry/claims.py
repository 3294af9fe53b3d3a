"""Taking a slug and the names of its collections, so that no two apps ever hold one name."""

from __future__ import annotations

import dataclasses
import secrets
from types import EllipsisType

from mdb_engine.constants import APP_ID_FIELD, MAX_ATTEMPTS
from mdb_engine.core.clock import utcnow
from mdb_engine.exceptions import (
    CollectionTaken,
    OutdatedGeneration,
    SlugTaken,
    VersionConflict,
)
from mdb_engine.models.naming import is_engine_collection, physical_name
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.layout import LayoutService
from mdb_engine.registry.models.app import AppRecord, AppState, Owner
from mdb_engine.registry.removal import RemovalService
from mdb_engine.registry.storage.apps import AppStore, ClaimConflictError

__all__ = ["ClaimService"]

_INCARNATION_BYTES = 8

_FORMER_UIDS = 16
"""How many are kept: a backup older than so many lives of one app is of no use for its Secret."""


class ClaimService:
    """Registers apps' names and specs.

    Parameters
    ----------
    apps
        Where they are registered.
    removal
        What brings an interrupted deletion to its end.
    layout
        Looks into collections.
    """

    def __init__(self, apps: AppStore, removal: RemovalService, layout: LayoutService) -> None:
        self._apps = apps
        self._removal = removal
        self._layout = layout

    async def claim(
        self,
        spec: MdbAppSpec,
        owner: Owner,
        *,
        generation: int,
        restored: bool = False,
        seen: AppRecord | EllipsisType | None = ...,
    ) -> AppRecord:
        """Do what `Registry.claim` says."""
        spec = spec.normalised()
        _refuse_engine_names(spec)
        for _ in range(MAX_ATTEMPTS):
            found = await self._apps.get(spec.slug) if isinstance(seen, EllipsisType) else seen
            seen = ...
            try:
                if found is not None and _began_to_end_itself(found, owner):
                    await self._removal.bury(found.slug, owner)
                    continue
                return await self._write(spec, owner, generation, found, restored=restored)
            except ClaimConflictError as conflict:
                holder = await self._apps.holder_of(conflict.name)
                raise CollectionTaken(
                    f"Collection {conflict.name!r} of app {spec.slug!r} is already "
                    f"{f'one of app {holder!r}' if holder else 'taken'}; choose another name",
                    path="collections",
                ) from None
            except _Lost:
                continue
        raise VersionConflict(f"App {spec.slug!r} changes faster than it can be read")

    async def _write(
        self,
        spec: MdbAppSpec,
        owner: Owner,
        generation: int,
        found: AppRecord | None,
        *,
        restored: bool,
    ) -> AppRecord:
        now = utcnow()
        names = frozenset(physical_name(spec.slug, name) for name in spec.collection_names)
        # Claimed as well, so that no two apps adopt one collection, and none declares it meanwhile.
        sources = frozenset(one.adopt.source for one in spec.collections if one.adopt is not None)
        if found is None:
            await self._refuse_occupied(spec, names)
            made = AppRecord(
                slug=spec.slug,
                owner=owner,
                state=AppState.ACTIVE,
                spec=spec,
                generation=generation,
                incarnation=secrets.token_hex(_INCARNATION_BYTES),
                claims=names | sources,
                secret_names=_secret_names(spec, owner),
                created_at=now,
                updated_at=now,
            )
            if await self._apps.insert(made):
                return made
            raise _Lost
        _refuse_taken(spec, owner, found)
        if found.active and generation < found.generation and not restored:
            raise OutdatedGeneration(
                f"Generation {found.generation} of app {spec.slug!r} is registered already, "
                f"and this is {generation}"
            )
        wanted = dataclasses.replace(
            found,
            owner=owner,
            state=AppState.ACTIVE,
            spec=spec,
            generation=generation,
            claims=found.claims | names | sources,
            secret_names=found.secret_names | _secret_names(spec, owner),
            former_uids=_former_uids(found, owner),
            incarnation=(
                found.incarnation
                if found.active or found.migrated
                else secrets.token_hex(_INCARNATION_BYTES)
            ),
            migrated=False,
        )
        if wanted == found:
            return found
        await self._refuse_occupied(spec, names - found.claims)
        try:
            return await self._apps.replace(dataclasses.replace(wanted, updated_at=now))
        except VersionConflict:
            raise _Lost from None

    async def _refuse_occupied(self, spec: MdbAppSpec, names: frozenset[str]) -> None:
        """Refuse collections that somebody wrote into without declaring them."""
        taken = await self._layout.occupied(spec.slug, names)
        if taken is not None:
            raise CollectionTaken(
                f"Collection {taken!r} of app {spec.slug!r} holds documents that are not stamped "
                f"as this app's, or cannot be looked through in time (an index on "
                f"{APP_ID_FIELD!r} helps); choose another name, or have them moved away",
                path="collections",
            )


class _Lost(Exception):
    """Somebody else wrote first: look again."""


def _secret_names(spec: MdbAppSpec, owner: Owner) -> frozenset[str]:
    """Return the name of the app's Secret in Kubernetes, or nothing for one without."""
    if owner.is_standalone:
        return frozenset()
    return frozenset({spec.secret.name or f"{owner.name}-mdb"})


def _former_uids(found: AppRecord, owner: Owner) -> tuple[str, ...]:
    before = found.owner
    if before.namespace != owner.namespace:
        return ()
    if before.uid in {"", owner.uid}:
        return found.former_uids
    kept = [uid for uid in found.former_uids if uid not in {before.uid, owner.uid}]
    return (*kept, before.uid)[-_FORMER_UIDS:]


def _refuse_engine_names(spec: MdbAppSpec) -> None:
    for index, collection in enumerate(spec.collections):
        source = collection.adopt.source if collection.adopt is not None else ""
        if is_engine_collection(source):
            raise CollectionTaken(
                f"Collection {source!r} is the engine's own, and no app can adopt it",
                path=f"collections[{index}].adopt.from",
            )
    for index, name in enumerate(spec.collection_names):
        physical = physical_name(spec.slug, name)
        if is_engine_collection(physical):
            raise CollectionTaken(
                f"Collection {name!r} of app {spec.slug!r} would be {physical!r}, which is the "
                "engine's own; choose another name",
                path=f"collections[{index}].name",
            )


def _began_to_end_itself(found: AppRecord, owner: Owner) -> bool:
    """Say whether an app's deletion of itself was interrupted: nobody else will end that."""
    return owner.is_standalone and found.owner == owner and found.state is AppState.DELETING


def _refuse_taken(spec: MdbAppSpec, owner: Owner, found: AppRecord) -> None:
    if found.state is AppState.TOMBSTONE:
        if found.owner.namespace == owner.namespace and found.slug == spec.slug:
            return
        reason = (
            "was brought over from the earlier version for another namespace; apply its MdbApp "
            "there, or have an administrator release it"
            if found.migrated
            else "was deleted elsewhere and is retained, until an administrator releases it"
        )
    elif found.owner == owner and found.state is AppState.DELETING:
        raise VersionConflict(f"App {spec.slug!r} is being deleted")
    elif found.owner == owner and found.slug == spec.slug:
        return
    elif found.state is AppState.DELETING:
        reason = "is being deleted by its owner; try again when that is done"
    else:
        reason = "is another owner's; choose another slug"
    same = "" if found.slug == spec.slug else f" (as {found.slug!r}: - and _ count as one)"
    raise SlugTaken(f"Slug {spec.slug!r}{same} {reason}", holder=found.owner)
