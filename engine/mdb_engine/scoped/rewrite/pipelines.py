"""Pipelines: what an app may compute, over the documents that it may read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON, InvalidDocument

from mdb_engine.access.model import Access, Target
from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.rewrite.filters import check_filter, narrow
from mdb_engine.scoped.rewrite.operators import known
from mdb_engine.scoped.rewrite.refusals import Position, refused, written
from mdb_engine.scoped.rewrite.stages import (
    CHANGE_STREAM_STAGES,
    Walk,
    check_stage_body,
    stage_parts,
)
from mdb_engine.scoped.rewrite.values import NO_CODECS, Codecs, plain_value

__all__ = [
    "pipeline_key",
    "rewrite_pipeline",
    "scope_change_stream_pipeline",
    "scope_pipeline",
    "writes",
]

LARGEST_KEY_BYTES: Final = 8192
"""The largest pipeline (as BSON) whose rewriting is remembered. People write smaller ones; one with
a long list of values is sent once."""

_KEY_OPTIONS: Final[CodecOptions[Any]] = CodecOptions(
    uuid_representation=UuidRepresentation.UNSPECIFIED
)


def scope_pipeline(
    pipeline: Sequence[Mapping[str, Any]],
    target: Target,
    access: Access,
    limits: Limits,
    *,
    path: Position = "pipeline",
    collated: bool = False,
    codecs: Codecs = NO_CODECS,
) -> list[dict[str, Any]]:
    """Rewrite a pipeline so that it sees and writes only what the app may.

    Parameters
    ----------
    pipeline
        The caller's pipeline; it is never changed.
    target
        The collection that it runs on.
    access
        Resolves the other collections that it names.
    limits
        The limits of size, depth and stages.
    path
        How errors name the pipeline.
    collated
        Whether it compares strings by a collation.
    codecs
        The app's own type codecs.

    Returns
    -------
    list
        A new pipeline with physical collection names, the scope in every read and the stamp
        before every write.

    Raises
    ------
    QueryRefused
        If a stage, operator, variable or option is refused or unknown; the error has its path.
    ScopeDenied
        If it names a collection that the app may not read, or may not write where it writes.
    LimitExceeded
        If it is too large, too deep or too long.
    """
    plain = plain_value(pipeline, limits, path, codecs=codecs)
    return rewrite_pipeline(plain, target, access, limits, path=path, collated=collated)


def rewrite_pipeline(
    plain: Any,
    target: Target,
    access: Access,
    limits: Limits,
    *,
    path: Position = "pipeline",
    collated: bool = False,
) -> list[dict[str, Any]]:
    """Rewrite a pipeline that is the engine's own copy already; as `scope_pipeline`."""
    walk = Walk(access=access, limits=limits, writes=writes(plain), collated=collated)
    return walk.collection(plain, target, path, top=True)


def pipeline_key(plain: Any, *, collated: bool) -> bytes | None:
    """Return what tells a copied pipeline from all that are sent otherwise: its BSON.

    Returns
    -------
    bytes or None
        None for one that is too large to be remembered, or whose BSON depends on the collection's
        codec, as that of a UUID does.
    """
    try:
        key = bson.encode({"collated": collated, "": plain}, codec_options=_KEY_OPTIONS)
    except (InvalidBSON, InvalidDocument, ValueError):
        return None
    return key if len(key) <= LARGEST_KEY_BYTES else None


def writes(pipeline: Any) -> bool:
    """Say whether a pipeline ends in a write, and so belongs on a primary and returns nothing."""
    last = pipeline[-1] if isinstance(pipeline, list | tuple) and pipeline else None
    return isinstance(last, Mapping) and ("$out" in last or "$merge" in last)


def scope_change_stream_pipeline(
    pipeline: Sequence[Mapping[str, Any]] | None,
    target: Target,
    limits: Limits,
    *,
    path: Position = "pipeline",
    collated: bool = False,
    full_document: bool = False,
    codecs: Codecs = NO_CODECS,
) -> list[dict[str, Any]]:
    """Rewrite the pipeline of a change stream of one collection.

    Events that carry the document are matched by its stamp. Deletions carry none, nor do updates
    unless it is looked up: where MongoDB does not hold the stamp, it has to be, for the scope's
    sake. Of a document that is gone by then an update tells no more than its deletion will.

    Parameters
    ----------
    pipeline
        The caller's pipeline; it is never changed.
    target
        The collection.
    limits
        The limits of size, depth and stages.
    path
        How errors name the pipeline.
    collated
        Whether it compares strings by a collation.
    full_document
        Whether the caller asks for the documents of updates.
    codecs
        The app's own type codecs.

    Raises
    ------
    QueryRefused, LimitExceeded
        As `scope_pipeline`.
    """
    stages = plain_value([] if pipeline is None else pipeline, limits, path, codecs=codecs)
    if not isinstance(stages, list):
        raise refused("pipeline", "a pipeline is a list of stages", path)
    if len(stages) > limits.max_stages:
        raise limits.exceeded("max_stages", f"{written(path)} has {len(stages)} stages", path)
    for index, stage in enumerate(stages):
        name, body = stage_parts(stage, (path, index))
        below = ((path, index), name)
        known(name, CHANGE_STREAM_STAGES, "stage of a change stream", below)
        if name == "$match":
            check_filter(body, below, text=False)
        elif name == "$changeStreamSplitLargeEvent":
            if body != {} or index != len(stages) - 1:
                raise refused(name, "it is empty, and the last stage", below)
        else:
            check_stage_body(name, body, below)
    scope = _event_scope(target.owner, collated=collated)
    if target.stamped:
        return [scope, *stages]
    return [scope, _as_asked(full_document=full_document), *stages]


def _event_scope(owner: str, *, collated: bool) -> dict[str, Any]:
    (stamp,) = narrow({}, owner, collated=collated).values()
    carried = {f"fullDocument.{APP_ID_FIELD}": stamp}
    bare = {"operationType": {"$nin": ["insert", "replace"]}, "fullDocument": None}
    if not collated:
        before = {f"fullDocumentBeforeChange.{APP_ID_FIELD}": {"$in": [owner, None]}}
        return {"$match": {"$or": [carried, bare], **before}}
    earlier = f"fullDocumentBeforeChange.{APP_ID_FIELD}"
    return {
        "$match": {
            "$and": [{"$or": [carried, bare]}, {"$or": [{earlier: stamp}, {earlier: None}]}],
        }
    }


def _as_asked(*, full_document: bool) -> dict[str, Any]:
    """Make the stage that takes back what was looked up for the scope's sake alone."""
    update = {"$eq": ["$operationType", "update"]}
    unknown = {"$and": [update, {"$eq": [{"$ifNull": ["$fullDocument", None]}, None]}]}
    shape = {"updateDescription": {"$cond": [unknown, "$$REMOVE", "$updateDescription"]}}
    if not full_document:
        shape["fullDocument"] = {"$cond": [update, "$$REMOVE", "$fullDocument"]}
    return {"$set": shape}
