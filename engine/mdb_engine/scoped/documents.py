"""Documents on their way into a collection: copied, measured and stamped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.objectid import ObjectId

from mdb_engine.access.model import Target
from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.refusals import refuse_app_id, refused, shown
from mdb_engine.scoped.values import plain_document

__all__ = ["stamp_document", "stamp_replacement"]


def stamp_document(
    document: Mapping[str, Any], target: Target, limits: Limits, *, path: str = "document"
) -> dict[str, Any]:
    """Copy a document that is to be inserted, with an ``_id`` and the owner's stamp.

    Parameters
    ----------
    document
        The caller's document; it is never changed. The drivers put a generated ``_id`` into it: a
        collection that does so takes it from the result.
    target
        The collection.
    limits
        The limits of size and depth.
    path
        How errors name the document.

    Raises
    ------
    QueryRefused
        If it holds JavaScript or what BSON cannot hold.
    LimitExceeded
        If it is too large or too deep.
    """
    stamped = stamp_replacement(document, target, limits, path=path)
    return stamped if "_id" in stamped else {"_id": ObjectId(), **stamped}


def stamp_replacement(
    document: Mapping[str, Any], target: Target, limits: Limits, *, path: str = "replacement"
) -> dict[str, Any]:
    """Copy a document that is to take another's place; as `stamp_document`, but no ``_id`` is made.

    Raises
    ------
    QueryRefused, LimitExceeded
        As `stamp_document`.
    """
    plain = plain_document(document, limits, path)
    for key in plain:
        below = f"{path}.{shown(key)}"
        if key.startswith("$"):
            raise refused(key, "a document's field names do not begin with $", below)
        if key != APP_ID_FIELD:
            refuse_app_id(key, key, below)
    return {**plain, APP_ID_FIELD: target.owner}
