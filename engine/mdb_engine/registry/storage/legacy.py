"""What the earlier version of the library wrote into the engine's collections, and where it goes.

Its registrations are manifests: ``apps_config`` holds them under ids of MongoDB's making. Its
secrets are under the slug, two base64 strings without associated data. Neither has what a row of
this version cannot be without, by which they are told apart from one that was damaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo.errors import OperationFailure

from mdb_engine.connection.control import translated
from mdb_engine.connection.driver import RawDatabase
from mdb_engine.constants import (
    APPS_COLLECTION,
    GRANTS_COLLECTION,
    LEGACY_COLLECTION,
    SECRETS_COLLECTION,
)
from mdb_engine.core.clock import utcnow
from mdb_engine.models.naming import app_key

__all__ = ["LegacyRow", "LegacyStore", "is_legacy"]

_NAMESPACE_NOT_FOUND: Final = 26

_STATE: Final = "state"

_LEGACY: Final[Mapping[str, Mapping[str, Any]]] = {
    APPS_COLLECTION: {
        "slug": {"$type": "string"},
        "claims": {"$exists": False},
        "incarnation": {"$exists": False},
        "spec": {"$exists": False},
    },
    SECRETS_COLLECTION: {
        "encrypted_secret": {"$type": "string"},
        "encrypted_dek": {"$type": "string"},
        "verifier": {"$exists": False},
    },
}

_FENCE: Final[Mapping[str, Mapping[str, Any]]] = {
    APPS_COLLECTION: {"claims": {"$exists": True}},
    SECRETS_COLLECTION: {"verifier": {"$exists": True}},
}
"""What MongoDB refuses a row without, once the earlier version's are gone: its programs write their
manifest over whatever has their slug when they start, and one of them may still run somewhere."""


def is_legacy(document: Mapping[str, Any]) -> bool:
    """Say whether a row of the engine's is one of the earlier version's."""
    if isinstance(document.get("encrypted_secret"), str):
        return "verifier" not in document
    return isinstance(document.get("slug"), str) and not document.keys() & {
        *("claims", "incarnation", "spec", "verifiers", "identity"),
    }


@dataclass(frozen=True, slots=True)
class LegacyRow:
    """A row of the earlier version's.

    Parameters
    ----------
    collection
        Where it stood.
    document
        As it stood there.
    done
        Whether it was dealt with.
    """

    collection: str
    document: Mapping[str, Any] = field(repr=False)
    done: bool = False

    @property
    def slug(self) -> str:
        """The app that it is of."""
        return str(self.document.get("slug", self.document["_id"]))

    @property
    def key(self) -> dict[str, Any]:
        """Under which it is set aside."""
        return {"collection": self.collection, "id": self.document["_id"]}


class LegacyStore:
    """Finds, sets aside and puts back the rows of the earlier version.

    Parameters
    ----------
    database
        The driver's database, as `control_view` returns it.
    """

    def __init__(self, database: RawDatabase) -> None:
        self._database = database
        self._aside = database[LEGACY_COLLECTION]

    async def slugs(self, most: int) -> list[str]:
        """Return some of the slugs that rows of the earlier version are of, sorted."""
        found: set[str] = set()
        for collection, query in _LEGACY.items():
            with translated("look for rows of the earlier version"):
                rows = self._database[collection].find(query, {"slug": 1}).limit(most)
                found |= {LegacyRow(collection, row).slug async for row in rows}
        return sorted(found)[:most]

    async def state(self) -> str | None:
        """Return what was begun and not brought to its end: ``migrate``, ``undo``, or None."""
        with translated("look whether a migration was begun"):
            document = await self._aside.find_one({"_id": _STATE})
        return str(document["begun"]) if document else None

    async def begin(self, what: str) -> None:
        """Note what is begun, so that nobody else uses the database before its end."""
        with translated(f"begin to {what}"):
            await self._aside.replace_one({"_id": _STATE}, {"begun": what}, upsert=True)

    async def end(self) -> None:
        """Note that what was begun is at its end."""
        with translated("end a migration"):
            await self._aside.delete_one({"_id": _STATE})

    async def rows(self) -> list[LegacyRow]:
        """Return the rows that are still in place."""
        found: list[LegacyRow] = []
        for collection, query in _LEGACY.items():
            with translated("read the rows of the earlier version"):
                rows = self._database[collection].find(query).sort("_id", 1)
                found += [LegacyRow(collection, row) async for row in rows]
        return found

    async def aside(self) -> list[LegacyRow]:
        """Return the rows that were set aside."""
        with translated("read what was set aside"):
            rows = self._aside.find({"document": {"$exists": True}}).sort("_id", 1)
            return [
                LegacyRow(row["_id"]["collection"], row["document"], row["done"])
                async for row in rows
            ]

    async def set_aside(self, row: LegacyRow) -> None:
        """Copy a row aside."""
        kept = {"slug": row.slug, "document": row.document, "done": False, "at": utcnow()}
        with translated(f"set aside what the earlier version has of app {row.slug!r}"):
            await self._aside.replace_one({"_id": row.key}, kept, upsert=True)

    async def take_out(self, row: LegacyRow) -> None:
        """Remove a row that was set aside from where it stood."""
        query = {"_id": row.document["_id"], **_LEGACY[row.collection]}
        with translated(f"take out what the earlier version has of app {row.slug!r}"):
            await self._database[row.collection].delete_one(query)

    async def note_done(self, row: LegacyRow) -> None:
        """Note that a row that was set aside was dealt with."""
        with translated(f"note that app {row.slug!r} is migrated"):
            await self._aside.update_one({"_id": row.key}, {"$set": {"done": True}})

    async def put_back(self, row: LegacyRow) -> None:
        """Put a row back, in the place of whatever has its id."""
        with translated(f"put back what the earlier version has of app {row.slug!r}"):
            collection = self._database[row.collection]
            await collection.replace_one({"_id": row.document["_id"]}, row.document, upsert=True)

    async def remove_successors(self, slug: str) -> None:
        """Remove what this version has of an app: registration, secret and grants."""
        markers = {
            APPS_COLLECTION: "incarnation",
            SECRETS_COLLECTION: "verifier",
            GRANTS_COLLECTION: "verifiers",
        }
        for collection, marker in markers.items():
            query = {"_id": app_key(slug), marker: {"$exists": True}}
            with translated(f"remove the registration of app {slug!r}"):
                await self._database[collection].delete_one(query)

    async def forget(self, row: LegacyRow) -> None:
        """Remove the copy of a row that was put back."""
        with translated("remove what was set aside"):
            await self._aside.delete_one({"_id": row.key})

    async def registered(self) -> list[Mapping[str, Any]]:
        """Return slug, owner, state and ``migrated`` of what this version has registered."""
        wanted = {"slug": 1, "owner": 1, "state": 1, "migrated": 1}
        with translated("read registrations"):
            found = self._database[APPS_COLLECTION].find({"incarnation": {"$exists": True}}, wanted)
            return [row async for row in found.sort("_id", 1)]

    async def fence(self, *, up: bool) -> None:
        """Have MongoDB refuse rows of the earlier version, or not any more."""
        for collection, validator in _FENCE.items():
            command = {"collMod": collection, "validator": validator if up else {}}
            with translated(f"put the validator of {collection}"):
                try:
                    await self._database.command(command)
                except OperationFailure as error:
                    if error.code != _NAMESPACE_NOT_FOUND:  # as it is before the end of one
                        raise

    async def drop_indexes(self) -> None:
        """Drop the indexes that rows of the earlier version do not fit into."""
        with translated(f"drop the indexes of {APPS_COLLECTION}"):
            await self._database[APPS_COLLECTION].drop_indexes()
