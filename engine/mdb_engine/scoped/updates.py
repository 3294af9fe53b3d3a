"""Updates: what a writer may change in its own documents, which is everything but their stamp.

An update document names the fields it writes, so naming ``app_id`` is refused. A pipeline can
compute names (``$replaceWith``, ``$arrayToObject``), so besides refusing what names it, the engine
sets the stamp again in a last stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mdb_engine.access.model import Target
from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.exceptions import QueryRefused
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.operators import known
from mdb_engine.scoped.operators_update import ARRAY_MODIFIERS, UPDATE_OPERATORS, UPDATE_STAGES
from mdb_engine.scoped.refusals import refuse_app_id, refused, shown
from mdb_engine.scoped.values import plain_value
from mdb_engine.scoped.walk_filters import check_pull
from mdb_engine.scoped.walk_shapes import check_stage_body, refuse_stamping

__all__ = ["check_update_stages", "scope_update", "stamp_stage"]


def scope_update(
    update: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    target: Target,
    limits: Limits,
    *,
    path: str = "update",
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

    Raises
    ------
    QueryRefused
        If it writes ``app_id``, or holds JavaScript or an operator that is not on the list.
    LimitExceeded
        If it is too large, too deep or too long.
    """
    plain = plain_value(update, limits, path, limit="max_document_bytes")
    if isinstance(plain, list):
        if len(plain) > limits.max_stages:
            raise limits.exceeded("max_stages", f"{path} has {len(plain)} stages", path)
        if not plain:
            raise QueryRefused("an update needs at least one stage", path=path)
        check_update_stages(plain, path, target.owner)
        return [*plain, stamp_stage(target.owner)]
    if not isinstance(plain, dict) or not plain:
        raise QueryRefused("an update is a mapping of update operators or a pipeline", path=path)
    for name, fields in plain.items():
        _check_update_operator(name, fields, f"{path}.{shown(name)}", target.owner)
    return plain


def stamp_stage(owner: str) -> dict[str, Any]:
    """Make the stage that stamps what leaves a pipeline with its owner."""
    return {"$set": {APP_ID_FIELD: {"$literal": owner}}}


def check_update_stages(stages: list[Any], path: str, owner: str) -> None:
    """Walk the stages of an update or of ``$merge.whenMatched``, after which comes the stamp."""
    for index, stage in enumerate(stages):
        below = f"{path}[{index}]"
        if not isinstance(stage, dict) or len(stage) != 1:
            raise refused(type(stage).__name__, "a stage is a mapping with one key", below)
        ((name, body),) = stage.items()
        below = f"{below}.{shown(name)}"
        known(name, UPDATE_STAGES, "stage of an update", below)
        refuse_stamping(name, body, below, writes=True, stamp=owner)
        check_stage_body(name, body, below)


def _check_update_operator(name: str, fields: Any, path: str, owner: str) -> None:
    if not name.startswith("$"):
        raise refused(name, "an update needs operators; use replace_one for a whole document", path)
    known(name, UPDATE_OPERATORS, "update operator", path)
    if not isinstance(fields, dict):
        raise refused(name, "it needs a mapping of fields", path)
    for field, value in fields.items():
        below = f"{path}.{shown(field)}"
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


def _check_written_path(operator: str, field: str, path: str) -> None:
    refuse_app_id(operator, field, path)
    if field.startswith("$"):
        raise refused(field, "it is no field's name", path)


def _check_modifiers(value: Any, path: str) -> None:
    if isinstance(value, dict) and "$each" in value:
        for name in value:
            known(name, ARRAY_MODIFIERS, "array modifier", f"{path}.{shown(name)}")
