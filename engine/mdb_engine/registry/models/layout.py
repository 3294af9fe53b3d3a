"""What an app's collections and indexes should become, and what became of them.  Pure.

An index is known by its definition rather than by its name: MongoDB can neither rename an index nor
hold two of one definition, and a name is free for anyone. So only what has a name *and* a
definition that the registry wrote down is ours to change or to drop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from bson import json_util

from mdb_engine.models.naming import ManagedName
from mdb_engine.registry.models.app import AppRecord

__all__ = [
    "CollectionsOutcome",
    "IndexAction",
    "IndexChange",
    "IndexesOutcome",
    "LayoutConflict",
    "fingerprint",
    "plan_indexes",
]

_COMPARED: Final[Mapping[str, Any]] = {
    "key": {},
    "unique": False,
    "sparse": False,
    "expireAfterSeconds": None,
    "partialFilterExpression": {},
    "collation": None,
    "weights": {},
    "default_language": None,
    "language_override": "language",
    "wildcardProjection": None,
    "bits": None,
    "min": None,
    "max": None,
}
"""The parts of an index that make it what it is, with what MongoDB leaves out meaning."""

_SIGNATURE: Final = ("key", "unique", "sparse", "partialFilterExpression", "collation")
"""What MongoDB tells indexes of one collection apart by: two that agree in all of it cannot stand
beside each other (``IndexOptionsConflict``)."""


@dataclass(frozen=True, slots=True)
class LayoutConflict:
    """Why a collection or an index is not what the spec says.

    Parameters
    ----------
    collection
        The collection's logical name.
    index
        The index's name in the spec, or None where it is the collection itself.
    reason
        One word: MongoDB's name of the error, or one of ``NameTaken``, ``DefinitionTaken``,
        ``ForeignDocuments``, ``NotLookedThrough``, ``OwnValidator``, ``NoCollection``,
        ``Unauthorized``, or what `options` and `adoption` call it.
    message
        What is wrong and what to do, free of data.
    """

    collection: str
    index: str | None
    reason: str
    message: str


class IndexAction(StrEnum):
    """What is done to one index."""

    BUILD = "build"
    """A new one, beside everything that is there."""
    MODIFY = "modify"
    """Changed in place, by ``collMod``."""
    REPLACE = "replace"
    """The former one has to go first, because MongoDB does not let the two stand side by side."""
    DROP = "drop"
    """One of ours that the spec does not have any more."""


@dataclass(frozen=True, slots=True)
class IndexChange:
    """One step from the indexes that there are to those that are wanted.

    Parameters
    ----------
    action
        What is done.
    collection
        The collection's logical name.
    name
        The index's name in MongoDB: the one that is built, changed or dropped.
    index
        Its name in the spec; of one that is dropped: as ``name``.
    definition
        What it becomes, for ``createIndexes``; of one that is dropped: what it was.
    former
        What is changed in place, or goes first.
    """

    action: IndexAction
    collection: str
    name: str
    index: str
    definition: Mapping[str, Any] = field(repr=False)
    former: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def managed(self) -> ManagedName:
        """How the registry writes it down."""
        return ManagedName(self.name, fingerprint(self.definition))


@dataclass(frozen=True, slots=True)
class CollectionsOutcome:
    """What ensuring an app's collections came to.

    Parameters
    ----------
    record
        The app as it stands now; its `stamped` says in which collections MongoDB holds the stamp.
    created
        Logical names of the collections that were made.
    validated
        Logical names of the collections that were given the validator.
    conflicts
        What stands against it, per collection; all others are done.
    wrote
        Whether anything was written.
    """

    record: AppRecord
    created: tuple[str, ...] = ()
    validated: tuple[str, ...] = ()
    conflicts: tuple[LayoutConflict, ...] = ()
    wrote: bool = False


@dataclass(frozen=True, slots=True)
class IndexesOutcome:
    """What ensuring an app's indexes came to.

    Parameters
    ----------
    record
        The app as it stands now.
    changes
        What was done, in this order.
    conflicts
        What stands against the rest. Where there is one, nothing is dropped from that collection.
    """

    record: AppRecord
    changes: tuple[IndexChange, ...] = ()
    conflicts: tuple[LayoutConflict, ...] = ()


def fingerprint(index: Mapping[str, Any]) -> str:
    """Return a digest of the parts that make an index what it is, whether asked for or listed."""
    text = json_util.dumps(_canonical(index), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(index: Mapping[str, Any]) -> dict[str, Any]:
    parts = {name: index.get(name, absent) for name, absent in _COMPARED.items()}
    weights = dict(parts["weights"])
    if weights:
        # MongoDB lists all text fields as one key, and their names among the weights alone.
        keys = [k for k in parts["key"].items() if k[0] not in {*weights, "_fts", "_ftsx"}]
    else:
        keys = list(parts["key"].items())
        parts["default_language"], parts["language_override"] = None, "language"
    # Keys are in order; and a direction may come back as a float of the same value.
    parts["key"] = [[name, int(d) if isinstance(d, float) else d] for name, d in keys]
    parts["weights"] = {name: int(weight) for name, weight in weights.items()}
    # As text, because to Python 1 and True are equal.
    parts["partialFilterExpression"] = json_util.dumps(
        parts["partialFilterExpression"], sort_keys=True
    )
    parts["collation"] = _collation(parts["collation"])
    parts["unique"], parts["sparse"] = bool(parts["unique"]), bool(parts["sparse"])
    if parts["expireAfterSeconds"] is not None:
        parts["expireAfterSeconds"] = int(parts["expireAfterSeconds"])
    return parts


def _collation(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what a spec can say of a collation: MongoDB lists all, and some vary by locale."""
    if not found or found.get("locale") == "simple":
        return None
    absent = {"locale": "", "strength": 3, "caseLevel": False, "numericOrdering": False}
    return {name: found.get(name, value) for name, value in absent.items()}


def _stand_beside(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    left, right = _canonical(one), _canonical(other)
    if left["weights"] and right["weights"]:
        return False  # a collection has one text index
    return any(left[part] != right[part] for part in _SIGNATURE)


def _can_modify(former: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Say whether ``collMod`` leads from one index to the other: another expiry, or now unique."""
    left, right = _canonical(former), _canonical(wanted)
    differing = {part for part in left if left[part] != right[part]}
    if not differing:  # but for an earlier change to unique that did not come to its end
        return bool(former.get("prepareUnique")) and not right["unique"]
    return (
        differing <= {"expireAfterSeconds", "unique"}
        and ("unique" not in differing or right["unique"])
        and ("expireAfterSeconds" not in differing or right["expireAfterSeconds"] is not None)
    )


def plan_indexes(
    collection: str,
    wanted: Iterable[Mapping[str, Any]],
    found: Mapping[str, Mapping[str, Any]],
    managed: frozenset[ManagedName],
) -> tuple[list[IndexChange], list[LayoutConflict]]:
    """Say what leads from the indexes that there are to those that are wanted.

    Parameters
    ----------
    collection
        The collection's logical name.
    wanted
        The specifications of the indexes that should be there, for ``createIndexes``.
    found
        The indexes that there are, by name.
    managed
        The ones that the registry made; all others are left alone.

    Returns
    -------
    tuple
        The changes, those that drop last, and what stands against the rest.

    Notes
    -----
    A new index is built beside the old, under another name where the old one has that which it
    should have, and only then the old one is dropped: a unique index that cannot be built leaves
    the former one in place. Where MongoDB does not let two stand side by side (two text indexes;
    two that differ in their expiry alone, of which one has none), the former one goes first.
    """
    digests = {name: fingerprint(index) for name, index in found.items()}
    ours = {name for name, digest in digests.items() if ManagedName(name, digest) in managed}
    stale = set(ours)
    open_ones: list[Mapping[str, Any]] = []
    changes: list[IndexChange] = []
    conflicts: list[LayoutConflict] = []
    for index in wanted:
        digest, name = fingerprint(index), index["name"]
        same = [one for one in sorted(found, key=lambda n: n != name) if digests[one] == digest]
        kept = next((one for one in same if one in ours or one == name), None)
        if kept is None:
            open_ones.append(index)
        else:
            if kept in ours and _can_modify(found[kept], index):
                changes.append(_change(IndexAction.MODIFY, collection, kept, index, found[kept]))
            stale.discard(kept)
    for index in open_ones:
        name = index["name"]
        candidates = sorted(
            (one for one in stale if _can_modify(found[one], index)), key=lambda n: n != name
        )
        if candidates:
            stale.discard(candidates[0])
            former = found[candidates[0]]
            change = _change(IndexAction.MODIFY, collection, candidates[0], index, former)
            changes.append(change)
            continue
        if name in found and name not in ours:
            conflicts.append(
                LayoutConflict(
                    collection,
                    name,
                    "NameTaken",
                    f"Index {name!r} of collection {collection!r} is not built: there is another "
                    "of that name, which was not made from the spec. It was left alone; drop it, "
                    "or give the index of the spec another name",
                )
            )
            continue
        against = [one for one in found if not _stand_beside(found[one], index)]
        if foreign := [one for one in against if one not in stale]:
            conflicts.append(
                LayoutConflict(
                    collection,
                    name,
                    "DefinitionTaken",
                    f"Index {name!r} of collection {collection!r} is not built: MongoDB does not "
                    f"let it stand beside {foreign[0]!r}, which was left alone; drop that one, or "
                    "take the index out of the spec",
                )
            )
            continue
        # Never the name that goes: of two workers that replace one, the second drops nothing then.
        target = name if name not in found else f"{name}_{fingerprint(index)[:8]}"
        if against:
            stale.discard(against[0])
            former = found[against[0]]
            changes.append(_change(IndexAction.REPLACE, collection, target, index, former))
        else:
            changes.append(_change(IndexAction.BUILD, collection, target, index, None))
    changes += [
        IndexChange(IndexAction.DROP, collection, name, name, found[name]) for name in sorted(stale)
    ]
    return changes, conflicts


def _change(
    action: IndexAction,
    collection: str,
    target: str,
    index: Mapping[str, Any],
    former: Mapping[str, Any] | None,
) -> IndexChange:
    definition = {**index, "name": target}
    return IndexChange(action, collection, target, index["name"], definition, former)
