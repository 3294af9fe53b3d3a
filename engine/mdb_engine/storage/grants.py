"""``_mdb_engine_grants``: one document per app, which pods read and only the registry writes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping
from datetime import datetime
from types import UnionType
from typing import Any, Final

from pymongo.errors import DuplicateKeyError

from mdb_engine.constants import GRANTS_COLLECTION
from mdb_engine.driver import RawDatabase
from mdb_engine.exceptions import GrantMalformed, VersionConflict
from mdb_engine.models.access import Grant, Verifier
from mdb_engine.models.naming import app_key
from mdb_engine.storage.base import damaged_rows, translated

__all__ = ["GrantStore", "grant_from_document"]

_log = logging.getLogger(__name__)

_LONGEST_KEY: Final = 100
"""How much of a row's key an error repeats; a slug has at most 48 characters."""


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


def grant_from_document(document: Mapping[str, Any]) -> Grant:
    """Read a document of the collection.

    Parameters
    ----------
    document
        As MongoDB gives it to a client whose dates are aware (``tz_aware=True``).

    Raises
    ------
    GrantMalformed
        If it is not what the registry writes; the message names the row, and no value of it.
    """
    field = ""

    def take(source: Mapping[str, Any], name: str, kind: type | UnionType) -> Any:
        nonlocal field
        field = name
        value = source[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError
        return value

    def texts(name: str) -> frozenset[str]:
        entries = take(document, name, list)
        if not all(isinstance(entry, str) for entry in entries):
            raise TypeError
        return frozenset(entries)

    try:
        grant = Grant(
            slug=take(document, "slug", str),
            verifiers=tuple(
                Verifier(
                    sha256=bytes(take(entry, "sha256", bytes)),
                    version=take(entry, "version", int),
                    not_after=take(entry, "not_after", datetime | None),
                )
                for entry in take(document, "verifiers", list)
            ),
            read_scopes=texts("read_scopes"),
            write_scope=take(document, "write_scope", str),
            collections=texts("collections"),
            epoch=take(document, "epoch", int),
            stamped=texts("stamped") if "stamped" in document else frozenset(),
        )
        field = "_id"
        if app_key(grant.slug) != document["_id"]:
            raise ValueError  # noqa: TRY301 - as the wrong types above
    except (KeyError, TypeError, ValueError):
        # `from None`: what the row holds instead is nobody's business.
        raise GrantMalformed(
            f"row {str(document.get('_id'))[:_LONGEST_KEY]!r} of {GRANTS_COLLECTION} is malformed "
            f"(field {field!r}); remove it, and the next reconcile of the app (without Kubernetes: "
            "its next start) writes it anew"
        ) from None
    return grant
