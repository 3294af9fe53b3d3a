"""Documents and updates: what a writer may store, which is everything but another app's stamp.

Documents are copied, measured and stamped. An update document names the fields it writes, so naming
``app_id`` is refused. A pipeline can compute names (``$replaceWith``, ``$arrayToObject``), so
besides refusing what names it, the engine sets the stamp again in a last stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bson.objectid import ObjectId

from mdb_engine.access.model import Target
from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.exceptions import QueryRefused
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.rewrite.filters import check_pull
from mdb_engine.scoped.rewrite.operators import ARRAY_MODIFIERS, UPDATE_OPERATORS, known
from mdb_engine.scoped.rewrite.refusals import Position, refuse_app_id, refused, written
from mdb_engine.scoped.rewrite.stages import check_update_stages, stamp_stage
from mdb_engine.scoped.rewrite.values import (
    ENOUGH_FLAT,
    NO_CODECS,
    Codecs,
    flat_copy,
    plain_document,
    plain_value,
)

__all__ = ["scope_update", "stamp_document", "stamp_replacement"]


def scope_update(
    update: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    target: Target,
    limits: Limits,
    *,
    path: Position = "update",
    codecs: Codecs = NO_CODECS,
) -> dict[str, Any] | list[dict[str, Any]]:
    """Copy and check an update, which cannot move a document to another app.

    Parameters
    ----------
    update
        An update document or a pipeline; it is never changed.
    target
        The collection; the filter that goes with it has to be scoped as well.
    limits
        The limits of size, depth and stages.
    path
        How errors name the update.
    codecs
        The app's own type codecs.

    Raises
    ------
    QueryRefused
        If it writes ``app_id``, or holds JavaScript or an operator that is not on the list.
    LimitExceeded
        If it is too large, too deep or too long.
    """
    flat = _flat_update(update, limits)
    if flat is not None:
        return flat
    plain = plain_value(update, limits, path, limit="max_document_bytes", codecs=codecs)
    if isinstance(plain, list):
        if len(plain) > limits.max_stages:
            raise limits.exceeded("max_stages", f"{written(path)} has {len(plain)} stages", path)
        if not plain:
            raise QueryRefused("an update needs at least one stage", path=written(path))
        check_update_stages(plain, path, target.owner)
        return [*plain, stamp_stage(target.owner)]
    if not isinstance(plain, dict) or not plain:
        raise QueryRefused(
            "an update is a mapping of update operators or a pipeline", path=written(path)
        )
    for name, fields in plain.items():
        _check_update_operator(name, fields, (path, name), target.owner)
    return plain


def _flat_update(update: Any, limits: Limits) -> dict[str, Any] | None:
    """Copy an update of a few fields by scalars, none of which can be the stamp; else None."""
    if type(update) is not dict or limits.max_document_bytes < len(update) * ENOUGH_FLAT:
        return None
    copied = update.copy()
    for name, fields in copied.items():
        flat = flat_copy(fields, limits) if name in _OF_SCALARS else None
        if flat is None or APP_ID_FIELD in "".join(flat):
            return None
        copied[name] = flat
    return copied or None


_OF_SCALARS = frozenset({"$inc", "$max", "$min", "$mul", "$set", "$setOnInsert", "$unset"})
"""Update operators that make nothing of their values: neither names, nor filters, nor modifiers."""


def _check_update_operator(name: str, fields: Any, path: Position, owner: str) -> None:
    if not name.startswith("$"):
        raise refused(name, "an update needs operators; use replace_one for a whole document", path)
    known(name, UPDATE_OPERATORS, "update operator", path)
    if not isinstance(fields, dict):
        raise refused(name, "it needs a mapping of fields", path)
    for field, value in fields.items():
        below = (path, field)
        if name in {"$set", "$setOnInsert"} and field == APP_ID_FIELD and value == owner:
            continue  # a document that was just read; it is what it is
        _check_written_path(name, field, below)
        if name == "$rename":
            if not isinstance(value, str):
                raise refused(name, "it needs the new name of the field", below)
            _check_written_path(name, value, below)
        elif name == "$pull":
            check_pull(value, below)
        elif name in {"$push", "$addToSet"}:
            _check_modifiers(value, below)


def _check_written_path(operator: str, field: str, path: Position) -> None:
    refuse_app_id(operator, field, path)
    if field.startswith("$"):
        raise refused(field, "it is no field's name", path)


def _check_modifiers(value: Any, path: Position) -> None:
    if isinstance(value, dict) and "$each" in value:
        for name in value:
            known(name, ARRAY_MODIFIERS, "array modifier", (path, name))


def stamp_document(
    document: Mapping[str, Any],
    target: Target,
    limits: Limits,
    *,
    path: Position = "document",
    codecs: Codecs = NO_CODECS,
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
    codecs
        The app's own type codecs.

    Raises
    ------
    QueryRefused
        If it holds JavaScript or what BSON cannot hold.
    LimitExceeded
        If it is too large or too deep.
    """
    stamped = _stamped(document, target, limits, path, codecs)
    return stamped if "_id" in stamped else {"_id": ObjectId(), **stamped}


def stamp_replacement(
    document: Mapping[str, Any],
    target: Target,
    limits: Limits,
    *,
    path: Position = "replacement",
    codecs: Codecs = NO_CODECS,
) -> dict[str, Any]:
    """Copy a document that is to take another's place; as `stamp_document`, but no ``_id`` is made.

    Raises
    ------
    QueryRefused, LimitExceeded
        As `stamp_document`.
    """
    stamped = _stamped(document, target, limits, path, codecs)
    if "$" in "".join(stamped):
        for key in stamped:
            if key.startswith("$"):
                reason = "a replacement's field names do not begin with $, or it were an update"
                raise refused(key, reason, (path, key))
    return stamped


def _stamped(
    document: Mapping[str, Any], target: Target, limits: Limits, path: Position, codecs: Codecs
) -> dict[str, Any]:
    """Copy and stamp a document. The server takes names that begin with ``$`` where it inserts."""
    plain = plain_document(document, limits, path, codecs)
    if APP_ID_FIELD in "".join(plain):
        for key in plain:
            if key != APP_ID_FIELD:
                refuse_app_id(key, key, (path, key))
    plain[APP_ID_FIELD] = target.owner
    return plain
