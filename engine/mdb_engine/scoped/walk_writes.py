"""Stages that write: into the app's own collections, stamped, changing nobody else's documents."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mdb_engine.access.model import Target
from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.exceptions import ScopeDenied
from mdb_engine.scoped.expressions import check_variables
from mdb_engine.scoped.refusals import refused
from mdb_engine.scoped.updates import check_update_stages, stamp_stage
from mdb_engine.scoped.walk import Handler, Spot, Stage, Walk
from mdb_engine.scoped.walk_shapes import options

__all__ = ["WRITES"]

_REPLACE: list[Stage] = [{"$replaceWith": "$$new"}]
_MERGE: list[Stage] = [{"$replaceWith": {"$mergeObjects": ["$$ROOT", "$$new"]}}]
_UNMATCHED = frozenset({"insert", "discard", "fail"})


def _out(walk: Walk, name: str, body: Any, spot: Spot) -> list[Stage]:
    target = _writable(walk, name, body, spot, spot.path)
    return [stamp_stage(target.owner), {name: target.physical}]


def _merge(walk: Walk, name: str, body: Any, spot: Spot) -> list[Stage]:
    given = {"into": body} if isinstance(body, str) else body
    stage = dict(options(given, name, "into on let whenMatched whenNotMatched", spot.path))
    if "into" not in stage:
        raise refused(name, "it needs into", spot.path)
    target = _writable(walk, name, stage["into"], spot, f"{spot.path}.into")
    if "on" in stage:
        _check_on(stage["on"], f"{spot.path}.on")
    unmatched = stage.get("whenNotMatched", "insert")
    if not isinstance(unmatched, str) or unmatched not in _UNMATCHED:
        raise refused(name, "it has to be insert, discard or fail", f"{spot.path}.whenNotMatched")
    stage["into"] = target.physical
    _scope_matched(walk, stage, target, spot)
    return [stamp_stage(target.owner), {name: stage}]


def _scope_matched(walk: Walk, stage: Stage, target: Target, spot: Spot) -> None:
    """Rewrite what ``$merge`` does with a document that is there already.

    All forms that change it become a pipeline, which is guarded and stamped.
    """
    matched = stage.get("whenMatched", "merge")
    path = f"{spot.path}.whenMatched"
    variables = stage.get("let", {})
    check_variables(variables, f"{spot.path}.let")
    if isinstance(matched, list):
        walk.count.add(len(matched), path)
        check_update_stages(matched, path, target.owner)
        if variables.get("new", "$$ROOT") != "$$ROOT":
            raise refused("$merge", "new is the server's variable", f"{spot.path}.let.new")
        body = matched
    elif variables:
        raise refused("$merge", "let needs whenMatched as a pipeline", f"{spot.path}.let")
    elif matched in ("fail", "keepExisting"):
        return
    elif matched in ("merge", "replace"):
        body = _MERGE if matched == "merge" else _REPLACE
    else:
        raise refused(
            "$merge", "it has to be replace, merge, keepExisting, fail or a pipeline", path
        )
    stage["let"] = {**variables, "new": "$$ROOT"}
    stage["whenMatched"] = [
        _guard(target.owner, collated=walk.collated),
        *body,
        stamp_stage(target.owner),
    ]


def _guard(owner: str, *, collated: bool) -> Stage:
    """Make the stage that stops a merge which matched a document that is not the owner's.

    A collection holds only its owner's documents unless somebody wrote past the engine. A stage has
    no way to raise an error but to compute what cannot be: here, a number from a sentence.
    """
    sentence = {"$concat": ["not a document of this app: ", {"$type": f"${APP_ID_FIELD}"}]}
    mine: Stage = {"$eq": [f"${APP_ID_FIELD}", {"$literal": owner}]}
    if collated:  # then $eq takes other stamps for the owner's, and bytes are compared instead
        stamp = {"$convert": {"input": f"${APP_ID_FIELD}", "to": "string", "onError": ""}}
        mine = {"$and": [mine, {"$regexMatch": {"input": stamp, "regex": rf"^{owner}\z"}}]}
    return {"$set": {APP_ID_FIELD: {"$cond": [mine, f"${APP_ID_FIELD}", {"$toInt": sentence}]}}}


def _writable(walk: Walk, name: str, into: Any, spot: Spot, path: str) -> Target:
    if not spot.last:
        raise refused(name, "it has to be the last stage of the outer pipeline", spot.path)
    target = walk.resolve(into, name, path)
    if not target.writable:
        raise ScopeDenied(
            f"{name} into {target.physical} is denied: an app writes only into its own "
            f"collections, with a handle that may write",
            path=path,
        )
    return target


def _check_on(fields: Any, path: str) -> None:
    names = fields if isinstance(fields, list) else [fields]
    if not names or not all(isinstance(name, str) and name[:1] not in ("", "$") for name in names):
        raise refused("$merge", "on is the name of a field, or a list of names", path)


WRITES: Mapping[str, Handler] = MappingProxyType({"$merge": _merge, "$out": _out})
"""What rewrites the stages that write."""
