"""``apps_config``: one document per app, and the unique index that guards every claim.

A document's ``claims`` hold the physical names of all the app's collections. The index on that
array is unique, so slug and collections are claimed together, by one write, or not at all. The
``_id`` is the slug with ``-`` as ``_``, which makes these two one character.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pymongo.errors import DuplicateKeyError

from mdb_engine.connection.control import translated
from mdb_engine.connection.driver import RawDatabase
from mdb_engine.constants import APPS_COLLECTION
from mdb_engine.exceptions import VersionConflict
from mdb_engine.models.naming import ManagedName, app_key
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.models.app import AppRecord, AppState, Owner
from mdb_engine.registry.storage.rows import damaged_rows, parsed, parsed_all

__all__ = ["CLAIMS_INDEX", "AppStore", "ClaimConflictError"]

CLAIMS_INDEX = {"key": {"claims": 1}, "name": "claims", "unique": True}
"""Multikey and unique: no two apps can claim one name. No document may lack the field or have it
empty, because MongoDB would index all of these as one value; so it holds the app's key as well."""

SCOPES_INDEX = {"key": {"spec.dataAccess.readScopes": 1}, "name": "read_scopes"}
"""Finds the apps that name an app."""


class ClaimConflictError(Exception):
    """Another app claimed one of the names first.

    Parameters
    ----------
    name
        The physical name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class AppStore:
    """Reads and writes registrations."""

    def __init__(self, database: RawDatabase) -> None:
        self._collection = database[APPS_COLLECTION]

    async def get(self, slug: str) -> AppRecord | None:
        """Return the app that holds the slug's key, whatever its state."""
        with translated(f"read the registration of app {slug!r}"):
            document = await self._collection.find_one({"_id": app_key(slug)})
        return parsed(APPS_COLLECTION, document, _record) if document else None

    async def get_many(self, slugs: Collection[str]) -> list[AppRecord]:
        """Return the apps that hold these slugs' keys; damaged rows are left out."""
        return await self._find({"_id": {"$in": sorted(set(map(app_key, slugs)))}})

    async def damaged(self) -> list[str]:
        """Return which registrations cannot be read."""
        return await damaged_rows(APPS_COLLECTION, self._collection, _record)

    async def all(self) -> list[AppRecord]:
        """Return all apps, by key; damaged rows are left out."""
        return await self._find({})

    async def naming(self, slugs: Collection[str]) -> list[AppRecord]:
        """Return the active apps that name one of these slugs; damaged rows are left out."""
        return await self._find(_naming(slugs))

    async def slugs_naming(self, slugs: Collection[str]) -> list[str]:
        """Return the slugs of the active apps that name one of these, also of damaged rows."""
        with translated("read registrations"):
            query = {**_naming(slugs), "state": {"$nin": [AppState.DELETING, AppState.TOMBSTONE]}}
            found = await self._collection.find(query, {"slug": 1}).to_list(None)
        return sorted(str(document.get("slug", document["_id"])) for document in found)

    async def holder_of(self, physical: str) -> str | None:
        """Return the slug of the app that claimed a physical name, or None."""
        with translated(f"look up who claimed {physical!r}"):
            document = await self._collection.find_one({"claims": physical}, {"slug": 1})
        return str(document.get("slug", document["_id"])) if document else None

    async def insert(self, record: AppRecord) -> bool:
        """Add an app; False if its key is taken already.

        Raises
        ------
        ClaimConflictError
            If another app claimed one of its names.
        """
        with translated(f"register app {record.slug!r}"):
            try:
                await self._collection.insert_one(_document(record))
            except DuplicateKeyError as error:
                _raise_claim_conflict(error, record)
                return False
        return True

    async def replace(self, record: AppRecord) -> AppRecord:
        """Write an app over the revision that it was made from; return it with the next one.

        Raises
        ------
        VersionConflict
            If somebody else wrote since.
        ClaimConflictError
            If another app claimed one of its names.
        """
        document = _document(record)
        document["revision"] = record.revision + 1
        known = {"_id": document["_id"], "revision": record.revision}
        with translated(f"update the registration of app {record.slug!r}"):
            try:
                result = await self._collection.replace_one(known, document)
            except DuplicateKeyError as error:
                _raise_claim_conflict(error, record)
                raise VersionConflict(f"App {record.slug!r} was registered anew") from None
        if result.matched_count == 0:
            raise VersionConflict(f"The registration of app {record.slug!r} was changed meanwhile")
        return _record(document)

    async def remove(self, record: AppRecord) -> None:
        """Remove an app at the revision that was read.

        Raises
        ------
        VersionConflict
            If somebody else wrote since.
        """
        known = {"_id": app_key(record.slug), "revision": record.revision}
        with translated(f"remove the registration of app {record.slug!r}"):
            result = await self._collection.delete_one(known)
        if result.deleted_count == 0:
            raise VersionConflict(f"The registration of app {record.slug!r} was changed meanwhile")

    async def _find(self, query: Mapping[str, Any]) -> list[AppRecord]:
        with translated("read registrations"):
            documents = await self._collection.find(query).sort("_id", 1).to_list(None)
        return parsed_all(APPS_COLLECTION, documents, _record)


def _naming(slugs: Collection[str]) -> dict[str, Any]:
    return {
        "spec.dataAccess.readScopes": {"$in": sorted(slugs)},
        "state": str(AppState.ACTIVE),
    }


def _raise_claim_conflict(error: DuplicateKeyError, record: AppRecord) -> None:
    """Raise if it was the index on claims that refused, rather than the one on ``_id``."""
    details: Any = error.details or {}
    if "claims" in details.get("keyPattern", {}):
        name = str(details.get("keyValue", {}).get("claims", ""))
        if name != f":{app_key(record.slug)}":
            raise ClaimConflictError(name) from None


def _document(record: AppRecord) -> dict[str, Any]:
    key = app_key(record.slug)
    return {
        "_id": key,
        "slug": record.slug,
        "owner": {
            "namespace": record.owner.namespace,
            "name": record.owner.name,
            "uid": record.owner.uid,
        },
        "state": str(record.state),
        "spec": record.spec.normalised().dump(),  # what the index on scopes finds
        "generation": record.generation,
        "incarnation": record.incarnation,
        # A colon stands in no collection's name, so that the key can never collide with one.
        "claims": [f":{key}", *sorted(record.claims)],
        "managed_indexes": [
            {"collection": name, "indexes": [index._asdict() for index in sorted(indexes)]}
            for name, indexes in sorted(record.managed_indexes.items())
        ],
        "secret_names": sorted(record.secret_names),
        "former_uids": list(record.former_uids),
        "stamped": sorted(record.stamped),
        "validators": {name: list(one) for name, one in sorted(record.validators.items())},
        "secret_floor": record.secret_floor,
        "epoch_floor": record.epoch_floor,
        "migrated": record.migrated,
        "revision": record.revision,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def _record(document: Mapping[str, Any]) -> AppRecord:
    return AppRecord(
        slug=document["slug"],
        owner=Owner(**document["owner"]),
        state=AppState(document["state"]),
        spec=MdbAppSpec.parse_stored(document["spec"]),
        generation=document["generation"],
        incarnation=document["incarnation"],
        claims=frozenset(name for name in document["claims"] if not name.startswith(":")),
        managed_indexes={
            entry["collection"]: frozenset(ManagedName(**index) for index in entry["indexes"])
            for entry in document["managed_indexes"]
            if "indexes" in entry
        },
        secret_names=frozenset(document.get("secret_names", ())),  # added after the first release
        former_uids=tuple(document.get("former_uids", ())),  # as above
        stamped=frozenset(document.get("stamped", ())),
        validators={name: tuple(one) for name, one in document.get("validators", {}).items()},
        secret_floor=document["secret_floor"],
        epoch_floor=document["epoch_floor"],
        migrated=document.get("migrated", False),
        revision=document["revision"],
        created_at=document["created_at"],
        updated_at=document["updated_at"],
    )
