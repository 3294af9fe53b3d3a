"""Bring an app's collections and indexes to what its spec says, and remove them with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from mdb_engine.constants import (
    APP_ID_FIELD,
    APPS_COLLECTION,
    AUDIT_COLLECTION,
    AUDIT_TIME_FIELD,
    AUDIT_TTL_SECONDS,
    GRANTS_COLLECTION,
    SECRETS_COLLECTION,
)
from mdb_engine.core.clock import utcnow
from mdb_engine.core.stamp import own_validator, stamped_validator
from mdb_engine.exceptions import DatabaseForbidden, DatabaseUnavailable, VersionConflict
from mdb_engine.models.collections import options_document
from mdb_engine.models.naming import ManagedName, is_engine_collection, longest_owner, physical_name
from mdb_engine.models.spec import Collection
from mdb_engine.registry.adoption import AdoptionService, Progress
from mdb_engine.registry.models.app import AppRecord
from mdb_engine.registry.models.layout import (
    CollectionsOutcome,
    IndexAction,
    IndexChange,
    IndexesOutcome,
    LayoutConflict,
    fingerprint,
    plan_indexes,
)
from mdb_engine.registry.options import OwnPart, digest_of, options_changes, own_part
from mdb_engine.registry.storage.apps import CLAIMS_INDEX, SCOPES_INDEX, AppStore
from mdb_engine.registry.storage.layout import (
    FoundCollection,
    IndexRefusedError,
    LayoutStore,
    OptionsRefusedError,
)

__all__ = ["BUILD_SECONDS", "LOOK_SECONDS", "LayoutService"]

BUILD_SECONDS: Final = 24 * 3600.0
"""How long one index may take to build: a day, which a collection of a billion documents needs. The
connection's own limit (30 s in the operator) is for answers, and would cut a build off."""

LOOK_SECONDS: Final = 10.0
"""How long a collection is looked through for documents of another stamp. A million documents take
about half a second; with an index on ``app_id`` no number takes longer."""

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
    """Creates, changes and drops collections and indexes.

    Parameters
    ----------
    apps
        Where it is kept which indexes the registry made, and where the validators stand.
    store
        What it changes.
    """

    def __init__(self, apps: AppStore, store: LayoutStore) -> None:
        self._apps = apps
        self._store = store
        self._adoption = AdoptionService(apps, store)

    async def ensure_engine(self) -> None:
        """Make the engine's own collections and indexes; writes nothing where they exist."""
        existing = await self._store.collections(_ENGINE_INDEXES.keys())
        for name, indexes in _ENGINE_INDEXES.items():
            if name not in existing:
                await self._store.create(name)
            if not indexes:
                continue
            found = await self._store.indexes(name) if name in existing else {}
            # All of them are the engine's, whoever made them: no app can reach this collection.
            ours = frozenset(ManagedName(n, fingerprint(index)) for n, index in found.items())
            wanted = {str(index["name"]) for index in indexes}
            changes, _ = plan_indexes(name, indexes, found, ours)
            for change in changes:
                if change.action is IndexAction.DROP and change.name not in wanted:
                    continue
                try:
                    await self._carry_out(name, change)
                except IndexRefusedError as error:
                    raise DatabaseUnavailable(
                        f"The engine's own index {change.index!r} cannot be built on {name!r}: "
                        f"{error.reason}; have an administrator see to what is in it"
                    ) from None

    async def ensure_collections(
        self,
        app: AppRecord,
        *,
        seconds: float = LOOK_SECONDS,
        adopt: bool = True,
        tell: Progress = lambda _name, _done, _of: None,
    ) -> CollectionsOutcome:
        """Make an app's collections, and have MongoDB refuse documents of another stamp in them.

        Parameters
        ----------
        app
            The app.
        seconds
            For how long each collection that is given the validator may be looked through.
        adopt
            Whether collections that were there before may be made the app's.
        tell
            Told how far that is.

        Raises
        ------
        VersionConflict
            If the app was changed meanwhile.
        """
        conflicts: list[LayoutConflict] = []
        adopted, wrote = await self._adopt(app, tell, conflicts, allowed=adopt)
        physical = {one.name: physical_name(app.slug, one.name) for one in app.spec.collections}
        found = await self._store.collections(physical.values())
        parts = {
            one.name: own_part(one, found.get(physical[one.name]), app.validators.get(one.name, ()))
            for one in app.spec.collections
        }
        conflicts += [part.conflict for part in parts.values() if part.conflict is not None]
        before = app.revision
        # Ours are known before they stand, and what does not hold the stamp any more is not relied
        # on before it does again and was looked at.
        app = await self._note(
            app,
            {
                name
                for name in app.stamped
                if _holds_stamp(app.slug, found.get(physical.get(name, "")))
            },
            {name: (*app.validators.get(name, ()), *_ours(part)) for name, part in parts.items()},
        )
        created: list[str] = []
        validated: list[str] = []
        stamped = set(app.stamped)
        settled: set[str] = set()
        for spec in app.spec.collections:
            name = spec.name
            there, own = found.get(physical[name]), parts[name].validator
            if there is None:
                settled.add(name)
                if await self._create(app.slug, spec, own, conflicts):
                    created.append(name)
                    if spec.time_series is None:
                        stamped.add(name)
                continue  # or somebody else was faster, perhaps without a validator
            wrote |= await self._change_options(physical[name], spec, there, conflicts)
            if there.type == "timeseries" and spec.time_series is not None:
                continue
            validator = stamped_validator(app.slug, own, collated=there.collated)
            if not _stands(there, validator):
                if not await self._validate(app.slug, parts[name], name, there, conflicts):
                    continue
                validated.append(name)
            settled.add(name)
            if name not in stamped:
                conflict = await self._looked_through(
                    app, name, seconds, tell if name in adopted else None
                )
                if conflict is None:
                    stamped.add(name)
                else:
                    conflicts.append(conflict)
        final = {name: _ours(parts[name]) for name in settled}
        app = await self._note(app, stamped, {**app.validators, **final})
        wrote |= bool(created or validated) or app.revision != before
        return CollectionsOutcome(app, tuple(created), tuple(validated), tuple(conflicts), wrote)

    async def _adopt(
        self, app: AppRecord, tell: Progress, conflicts: list[LayoutConflict], *, allowed: bool
    ) -> tuple[set[str], bool]:
        adopted: set[str] = set()
        wrote = False
        for one in app.spec.collections:
            if one.adopt is None:
                continue
            changed, conflict = await self._adoption.adopt(app, one, tell, allowed=allowed)
            wrote |= changed
            if conflict is None:
                adopted.add(one.name)
            else:
                conflicts.append(conflict)
        return adopted, wrote

    async def _create(
        self,
        slug: str,
        spec: Collection,
        own: Mapping[str, Any],
        conflicts: list[LayoutConflict],
    ) -> bool:
        """Make a collection; where MongoDB does not take what the spec says, with the stamp alone.

        It has to be there before anyone may write to it.
        """
        physical, options = physical_name(slug, spec.name), options_document(spec)
        collated = spec.collation is not None and spec.collation.locale != "simple"
        validator = stamped_validator(slug, own, collated=collated)
        try:
            return await self._store.create(
                physical, None if spec.time_series is not None else validator, options
            )
        except DatabaseForbidden:
            if not options:
                raise
            conflicts.append(_not_allowed(spec.name))
            return False
        except OptionsRefusedError as error:
            conflicts.append(_options_refused(spec.name, error.reason))
        return await self._store.create(physical, stamped_validator(slug, {}))

    async def _change_options(
        self,
        physical: str,
        spec: Collection,
        there: FoundCollection,
        conflicts: list[LayoutConflict],
    ) -> bool:
        changes, against = options_changes(spec, there)
        conflicts += against
        for change in changes:
            try:
                await self._store.modify(physical, change)
            except DatabaseForbidden:
                conflicts.append(_not_allowed(spec.name))
            except OptionsRefusedError as error:
                conflicts.append(_options_refused(spec.name, error.reason))
        return bool(changes)

    async def _validate(
        self,
        slug: str,
        part: OwnPart,
        name: str,
        there: FoundCollection,
        conflicts: list[LayoutConflict],
    ) -> bool:
        if conflict := _in_the_way(name, there, is_ours=part.is_ours):
            conflicts.append(conflict)
            return False
        physical = physical_name(slug, name)
        wanted, kept = (
            stamped_validator(slug, own, collated=there.collated)
            for own in (part.validator, own_validator(there.validator))
        )
        try:
            await self._store.validate(physical, wanted)
        except DatabaseForbidden:
            conflicts.append(_not_allowed(name))
        except OptionsRefusedError as error:
            # The stamp has to stand whatever becomes of the rest.
            conflicts.append(_options_refused(name, error.reason))
            if not _stands(there, kept):
                await self._store.validate(physical, kept)
        else:
            return True
        return False

    async def plan_indexes(self, app: AppRecord) -> IndexesOutcome:
        """Say what `ensure_indexes` would do; writes nothing."""
        changes, conflicts = await self._plan(app)
        return IndexesOutcome(app, tuple(changes), tuple(conflicts))

    async def ensure_indexes(
        self, app: AppRecord, *, seconds: float = BUILD_SECONDS
    ) -> IndexesOutcome:
        """Make an app's managed indexes what its spec says.

        Parameters
        ----------
        app
            The app.
        seconds
            For how long each of them may take.

        Raises
        ------
        VersionConflict
            If the app was changed meanwhile: what was built stays, and is found at the next call.
        """
        changes, conflicts = await self._plan(app)
        # Ours are known before they are made: after a crash none is left that nobody would drop.
        planned: dict[str, set[ManagedName]] = {n: set(m) for n, m in app.managed_indexes.items()}
        for change in changes:
            if change.action is not IndexAction.DROP:
                planned.setdefault(change.collection, set()).add(change.managed)
        app = await self._manage(app, planned)
        done: list[IndexChange] = []
        blocked = {conflict.collection for conflict in conflicts}
        for change in changes:
            physical = physical_name(app.slug, change.collection)
            if change.action is IndexAction.DROP:
                if change.collection in blocked:
                    continue
                await self._check_unchanged(app)
            try:
                await self._carry_out(physical, change, seconds)
            except IndexRefusedError as error:
                conflicts.append(_refused(change, error.reason))
                blocked.add(change.collection)
            else:
                done.append(change)
        left: dict[str, set[ManagedName]] = {}
        for name, managed in planned.items():
            there = await self._store.indexes(physical_name(app.slug, name)) if changes else None
            left[name] = managed if there is None else managed & _named(there)
        app = await self._manage(app, left)
        return IndexesOutcome(app, tuple(done), tuple(conflicts))

    async def occupied(self, slug: str, physical: Iterable[str]) -> str | None:
        """Return the first of these collections that holds documents of another stamp, or None.

        One that cannot be looked through in time counts as well: whose it is, is not known then.
        """
        for name in sorted(await self._store.collections(list(physical))):
            if (
                await self._store.holds_other_stamps(
                    name, slug, missing=False, seconds=LOOK_SECONDS
                )
                is not False
            ):
                return name
        return None

    async def is_empty(self, app: AppRecord) -> bool:
        """Say whether none of an app's collections holds a document."""
        return await self._store.is_empty(await self._store.names(f"{app.slug}_"))

    async def remove(self, app: AppRecord) -> None:
        """Drop an app's collections, and its documents in collections that it never declared."""
        slugs = [other.slug for other in await self._apps.all()]
        for physical in sorted(await self._store.names(f"{app.slug}_")):
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

    async def _plan(self, app: AppRecord) -> tuple[list[IndexChange], list[LayoutConflict]]:
        changes: list[IndexChange] = []
        conflicts: list[LayoutConflict] = []
        for collection in app.spec.collections:
            managed = app.managed_indexes.get(collection.name, frozenset())
            if not collection.indexes and not managed:
                continue
            found = await self._store.indexes(physical_name(app.slug, collection.name))
            wanted = [index.document(collection.collation) for index in collection.indexes]
            more, against = plan_indexes(collection.name, wanted, found, managed)
            changes += more
            conflicts += against
        return changes, conflicts

    async def _carry_out(
        self, physical: str, change: IndexChange, seconds: float | None = None
    ) -> None:
        former = change.former
        if change.action is IndexAction.DROP:
            await self._drop(physical, change.definition)
        elif former is None:
            await self._store.create_index(physical, change.definition, seconds)
        elif change.action is IndexAction.MODIFY:
            try:
                await self._store.modify_index(physical, former, change.definition, seconds)
            except DatabaseForbidden:
                raise IndexRefusedError("Unauthorized") from None
        else:
            await self._drop(physical, former)
            try:
                await self._store.create_index(physical, change.definition, seconds)
            except IndexRefusedError:
                await self._store.create_index(physical, former, seconds)
                raise

    async def _drop(self, physical: str, index: Mapping[str, Any]) -> None:
        """Drop an index, unless it is another by now: built for a later spec, or by the app."""
        there = (await self._store.indexes(physical)).get(index["name"])
        if there is not None and fingerprint(there) == fingerprint(index):
            await self._store.drop_index(physical, index["name"])

    async def _check_unchanged(self, app: AppRecord) -> None:
        known = await self._apps.get(app.slug)
        if known is None or known.revision != app.revision:
            raise VersionConflict(f"The registration of app {app.slug!r} was changed meanwhile")

    async def _looked_through(
        self, app: AppRecord, name: str, seconds: float, stamp: Progress | None
    ) -> LayoutConflict | None:
        """Say why the stamp cannot be relied on; one that was adopted is stamped to the end."""
        physical = physical_name(app.slug, name)
        if stamp is not None and (conflict := await self._adoption.stamp_rest(app, name, stamp)):
            return conflict
        strays = await self._store.holds_other_stamps(
            physical, app.slug, missing=True, seconds=seconds
        )
        if strays is False:
            return None
        if strays is None:
            return LayoutConflict(
                name,
                None,
                "NotLookedThrough",
                f"Collection {name!r} could not be looked through in {seconds:g} s for documents "
                f"of another stamp; create an index on {APP_ID_FIELD!r}, or wait for a quieter "
                "time. MongoDB refuses new ones already",
            )
        return LayoutConflict(
            name,
            None,
            "ForeignDocuments",
            f"Collection {name!r} holds documents whose {APP_ID_FIELD!r} is not {app.slug!r}, from "
            "before MongoDB refused them; set it in those of the app, and remove the others",
        )

    async def _note(
        self, app: AppRecord, stamped: Iterable[str], validators: Mapping[str, tuple[str, ...]]
    ) -> AppRecord:
        known = {name: tuple(dict.fromkeys(one)) for name, one in validators.items() if one}
        noted = dataclasses.replace(app, stamped=frozenset(stamped), validators=known)
        if noted == app:
            return app
        return await self._apps.replace(dataclasses.replace(noted, updated_at=utcnow()))

    async def _manage(
        self, app: AppRecord, indexes: Mapping[str, Iterable[ManagedName]]
    ) -> AppRecord:
        managed = {name: frozenset(one) for name, one in indexes.items() if one}
        if managed == app.managed_indexes:
            return app
        return await self._apps.replace(
            dataclasses.replace(app, managed_indexes=managed, updated_at=utcnow())
        )


def _stands(found: FoundCollection, validator: Mapping[str, Any]) -> bool:
    # By digest, as a time may come back with or without its zone.
    return found.enforced and digest_of(found.validator) == digest_of(validator)


def _named(found: Mapping[str, Mapping[str, Any]]) -> set[ManagedName]:
    return {ManagedName(name, fingerprint(index)) for name, index in found.items()}


def _ours(part: OwnPart) -> tuple[str, ...]:
    return (digest_of(part.validator),) if part.is_ours else ()


def _holds_stamp(slug: str, found: FoundCollection | None) -> bool:
    """Say whether a collection refuses other stamps, whatever else it refuses."""
    if found is None:
        return False
    own = own_validator(found.validator)
    return _stands(found, stamped_validator(slug, own, collated=found.collated))


def _options_refused(name: str, reason: str) -> LayoutConflict:
    return LayoutConflict(
        name,
        None,
        reason,
        f"Collection {name!r}: MongoDB does not take what the spec says of it ({reason}); correct "
        "its validator or its options. Until then it is as it was, and holds the stamp",
    )


def _in_the_way(
    name: str, found: FoundCollection, *, is_ours: bool = False
) -> LayoutConflict | None:
    """Say why a collection cannot be given the validator, or None."""
    if found.type != "collection":
        return LayoutConflict(
            name,
            None,
            "NoCollection",
            f"Collection {name!r} is a {found.type}, which MongoDB lets have no validator: an app "
            "that bypasses the library can write any stamp into it; give it another name",
        )
    if own_validator(found.validator) and not found.enforced and not is_ours:
        return LayoutConflict(
            name,
            None,
            "OwnValidator",
            f"Collection {name!r} has a validator of its own that only warns, or passes over old "
            "documents; with the stamp beside it, it would refuse. Have an administrator set its "
            "level to strict and its action to error, or remove it (collMod)",
        )
    return None


def _not_allowed(name: str) -> LayoutConflict:
    return LayoutConflict(
        name,
        None,
        "Unauthorized",
        f"Collection {name!r} was not given its validator: the registry's MongoDB user lacks the "
        "right collMod; the operator's role has it (mdb-operator mongodb-role), as has dbAdmin",
    )


def _refused(change: IndexChange, reason: str) -> LayoutConflict:
    kept = "" if change.former is None else " The former one is in place."
    return LayoutConflict(
        change.collection,
        change.index,
        reason,
        f"Index {change.index!r} cannot be built on {change.collection!r}: {reason}.{kept} Change "
        "the index, or the data or the index of other name that stands against it",
    )
