"""``_mdb_engine_grants``: one document per app, which pods read and only the registry writes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping
from typing import Any

from pymongo.errors import DuplicateKeyError

from mdb_engine.access.model import Grant
from mdb_engine.access.rows import grant_from_document
from mdb_engine.connection.control import translated
from mdb_engine.connection.driver import RawDatabase
from mdb_engine.constants import GRANTS_COLLECTION
from mdb_engine.exceptions import GrantMalformed, VersionConflict
from mdb_engine.models.naming import app_key
from mdb_engine.registry.storage.rows import damaged_rows

__all__ = ["GrantStore"]

_log = logging.getLogger(__name__)


class GrantStore:
    """Reads and writes grants; every write is compare-and-set on ``epoch``."""

    def __init__(self, database: RawDatabase) -> None:
        self._collection = database[GRANTS_COLLECTION]

    async def get_many(self, slugs: Collection[str]) -> dict[str, Grant]:
        """Return grants by the key of their app.

        Of a damaged row only its epoch counts: it grants nothing, and differs from any that is
        wanted, so the next publication writes it anew.
        """
        query = {"_id": {"$in": sorted(set(map(app_key, slugs)))}}
        with translated("read grants"):
            documents = await self._collection.find(query).to_list(None)
        return {document["_id"]: _read(document) for document in documents}

    async def write(self, grant: Grant, over: Grant | None) -> None:
        """Write a grant over the one that was read, or where there was none.

        Raises
        ------
        VersionConflict
            If somebody else wrote since.
        """
        document = _document(grant)
        with translated(f"publish the grants of app {grant.slug!r}"):
            if over is None:
                try:
                    await self._collection.insert_one(document)
                except DuplicateKeyError:
                    raise VersionConflict(_changed(grant.slug)) from None
                return
            # A damaged row may have no epoch; those that were written begin with 1.
            epoch = over.epoch or {"$not": {"$gte": 1}}
            known = {"_id": document["_id"], "epoch": epoch}
            result = await self._collection.replace_one(known, document)
        if result.matched_count == 0:
            raise VersionConflict(_changed(grant.slug))

    async def damaged(self) -> list[str]:
        """Return which rows of grants cannot be read."""
        return await damaged_rows(GRANTS_COLLECTION, self._collection, grant_from_document)

    async def remove(self, slug: str) -> None:
        """Remove an app's grants, if there are any."""
        with translated(f"revoke the grants of app {slug!r}"):
            await self._collection.delete_one({"_id": app_key(slug)})


def _read(document: Mapping[str, Any]) -> Grant:
    try:
        return grant_from_document(document)
    except GrantMalformed as error:
        _log.error("%s", error.message)
        key, epoch = str(document["_id"]), document.get("epoch")
        return Grant(
            slug=str(document.get("slug", key)),
            verifiers=(),
            read_scopes=frozenset(),
            write_scope="",
            collections=frozenset(),
            epoch=epoch if isinstance(epoch, int) and epoch > 0 else 0,
        )


def _changed(slug: str) -> str:
    return f"The grants of app {slug!r} were changed meanwhile"


def _document(grant: Grant) -> dict[str, Any]:
    return {
        "_id": app_key(grant.slug),
        "slug": grant.slug,
        "verifiers": [dataclasses.asdict(verifier) for verifier in grant.verifiers],
        "read_scopes": sorted(grant.read_scopes),
        "write_scope": grant.write_scope,
        "collections": sorted(grant.collections),
        "stamped": sorted(grant.stamped),
        "epoch": grant.epoch,
    }
