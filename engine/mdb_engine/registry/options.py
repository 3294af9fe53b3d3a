"""What a collection is made with: what its spec says, what there is, and what leads there.  Pure.

Nothing here ever loses a document: what MongoDB could only do by dropping some, or by making the
collection anew, is a conflict that says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import bson
from bson import json_util

from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.core.stamp import own_validator
from mdb_engine.models.spec import Collection
from mdb_engine.registry.models.layout import LayoutConflict
from mdb_engine.registry.storage.layout import FoundCollection

__all__ = ["OwnPart", "digest_of", "options_changes", "own_part"]

_GRANULARITIES: Final = ("seconds", "minutes", "hours")

_ROUNDED_TO: Final = 256
"""MongoDB rounds the size of a capped collection up to a multiple of it."""


@dataclass(frozen=True, slots=True)
class OwnPart:
    """What stands beside the stamp in a collection's validator.

    Parameters
    ----------
    validator
        What it has to be; empty where there is nothing.
    is_ours
        Whether it is from the spec, and goes when the spec says so.
    conflict
        Why it is not what the spec says, or None.
    """

    validator: Mapping[str, Any]
    is_ours: bool = False
    conflict: LayoutConflict | None = None


def digest_of(validator: Mapping[str, Any]) -> str:
    """Return by what a validator is recognised that was made from a spec."""
    text = json_util.dumps(validator, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def own_part(spec: Collection, found: FoundCollection | None, recorded: Iterable[str]) -> OwnPart:
    """Return what has to stand beside the stamp.

    Parameters
    ----------
    spec
        The collection, as it should be.
    found
        As it is, or None.
    recorded
        The digests of validators that were made from a spec.
    """
    there = own_validator(found.validator) if found else {}
    was_ours = bool(there) and digest_of(there) in recorded
    if spec.validator is None:
        return OwnPart({} if was_ours else there)
    try:
        wanted = _with_stamp(json_util.loads(spec.validator))
        bson.encode(wanted)
    except Exception:  # noqa: BLE001 - each type of extended JSON fails in another way
        conflict = _conflict(
            spec.name, "ValidatorMalformed", "its validator is no extended JSON; correct it"
        )
        return OwnPart(there, is_ours=was_ours, conflict=conflict)
    if there and not was_ours and digest_of(there) != digest_of(wanted):
        conflict = _conflict(
            spec.name,
            "OwnValidator",
            "it has a validator that was not made from the spec, which was left alone. Have an "
            "administrator remove that (collMod), or take it into the spec",
        )
        return OwnPart(there, conflict=conflict)
    return OwnPart(wanted, is_ours=True)


def options_changes(
    spec: Collection, found: FoundCollection
) -> tuple[list[dict[str, Any]], list[LayoutConflict]]:
    """Return the parts of ``collMod`` that lead to what the spec says, and what none leads to."""
    changes: list[dict[str, Any]] = []
    against: list[tuple[str, str]] = []
    options = found.options
    images = bool(options.get("changeStreamPreAndPostImages", {}).get("enabled"))
    if spec.pre_images is not None and found.type == "collection" and images != spec.pre_images:
        changes.append({"changeStreamPreAndPostImages": {"enabled": spec.pre_images}})
    if spec.capped is not None:
        _capped(spec, options, changes, against)
    if spec.time_series is not None:
        _time_series(spec, found, changes, against)
    if spec.collation is not None and found.type == "collection":
        wanted = spec.collation.document()
        there = options.get("collation", {"locale": "simple"})
        if any(there.get(name, value) != value for name, value in wanted.items()):
            text = f"its collation is that of {there['locale']!r} and cannot be changed"
            against.append(("CollationFixed", text))
    return changes, [_conflict(spec.name, reason, text) for reason, text in against]


def _capped(
    spec: Collection,
    options: Mapping[str, Any],
    changes: list[dict[str, Any]],
    against: list[tuple[str, str]],
) -> None:
    wanted = spec.capped
    assert wanted is not None  # noqa: S101 - the caller looked
    if not options.get("capped"):
        text = "it is not capped, and making it so would drop documents"
        against.append(("NotCapped", text))
        return
    size = -(-wanted.size_bytes // _ROUNDED_TO) * _ROUNDED_TO
    if options["size"] < size:
        changes.append({"cappedSize": size})
    elif options["size"] > size:
        against.append(("CappedShrinks", f"it has {options['size']} bytes; less would drop some"))
    limit, most = options.get("max") or 0, wanted.max_documents or 0
    if limit and (most == 0 or most > limit):
        changes.append({"cappedMax": most})
    elif most and (limit == 0 or most < limit):
        against.append(("CappedShrinks", "a lower maxDocuments would drop documents"))


def _time_series(
    spec: Collection,
    found: FoundCollection,
    changes: list[dict[str, Any]],
    against: list[tuple[str, str]],
) -> None:
    wanted = spec.time_series
    assert wanted is not None  # noqa: S101 - the caller looked
    if found.type != "timeseries":
        against.append(("NoTimeSeries", f"it is a {found.type} and cannot become a time series"))
        return
    there = found.options["timeseries"]
    if (there["timeField"], there.get("metaField")) != (wanted.time_field, wanted.meta_field):
        against.append(("TimeSeriesFixed", "timeField and metaField cannot be changed"))
        return
    now, then = (
        _GRANULARITIES.index(one)
        for one in (there.get("granularity", "seconds"), wanted.granularity)
    )
    # One step at a time, as MongoDB has it.
    changes += [{"timeseries": {"granularity": one}} for one in _GRANULARITIES[now + 1 : then + 1]]
    if then < now:
        against.append(("TimeSeriesFixed", "granularity cannot become finer"))
    if found.options.get("expireAfterSeconds") != wanted.expire_after_seconds:
        changes.append({"expireAfterSeconds": wanted.expire_after_seconds or "off"})


def _with_stamp(validator: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a validator that lets the stamp pass: a schema may list all fields that there are."""
    schema = validator.get("$jsonSchema")
    if not isinstance(schema, Mapping) or schema.get("additionalProperties") is not False:
        return validator
    properties = {**schema.get("properties", {}), APP_ID_FIELD: {}}
    return {**validator, "$jsonSchema": {**schema, "properties": properties}}


def _conflict(name: str, reason: str, text: str) -> LayoutConflict:
    message = f"Collection {name!r} is not what the spec says: {text}. Nothing in it was changed"
    return LayoutConflict(name, None, reason, message)
