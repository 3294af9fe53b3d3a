"""Decide what a collection's name means to one app, from cached grants and without I/O.

``db.clicks`` may be an app's own collection, ``db["click_tracker_clicks"]`` another app's. A name
that could be taken for either is refused rather than guessed: a wrong guess reads nothing, or the
wrong app's data, and neither is noticed. Slugs are unique with ``-`` and ``_`` counting as one
character, so names are compared that way as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from mdb_engine.access.model import GrantTable, Target
from mdb_engine.constants import COLLECTION_PATTERN, ENGINE_COLLECTIONS, SLUG_PATTERN
from mdb_engine.exceptions import QueryRefused, ScopeDenied
from mdb_engine.models.naming import longer_slug, physical_name

__all__ = ["GrantedAccess", "NameIndex"]

_SLUG: Final = re.compile(SLUG_PATTERN)
_COLLECTION: Final = re.compile(COLLECTION_PATTERN)
_PHYSICAL: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,96}")
"""A slug, an underscore and a logical name: at most 97 characters."""

_SHOWN = 100
"""How many characters of a refused name an error repeats."""


def _folded(name: str) -> str:
    return name.replace("-", "_")


def _shown(name: object) -> str:
    text = repr(name)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


@dataclass(frozen=True, slots=True)
class NameIndex:
    """Which slug the physical collection names belong to; made once for every state of the grants.

    Parameters
    ----------
    grants
        All known grants.
    named
        Slugs that count as known although they have no grant, because a manifest names them: a
        collection of theirs is then denied instead of being taken for one of the asking app's own.
    """

    grants: GrantTable
    named: frozenset[str] = frozenset()
    _declared: dict[str, str] = field(init=False, repr=False)
    _slugs: dict[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        declared = {
            f"{slug}_{name}": slug
            for slug, grant in self.grants.items()
            for name in grant.collections
        }
        slugs = set(self.named)
        for slug, grant in self.grants.items():
            slugs.update((slug, *grant.read_scopes))
        object.__setattr__(self, "_declared", declared)
        object.__setattr__(self, "_slugs", {_folded(slug): slug for slug in sorted(slugs)})

    def owner(self, physical: str) -> str | None:
        """Return the slug that a physical name belongs to, or None if it begins with no slug.

        That is the app that declared it, else the one with the longest slug that it begins with.
        """
        declared = self._declared.get(physical)
        if declared is not None:
            return declared
        folded = _folded(physical)
        end = folded.rfind("_")
        while end > 0:
            slug = self._slugs.get(folded[:end])
            if slug is not None:
                return slug
            end = folded.rfind("_", 0, end)
        return None


class GrantedAccess:
    """What one app may reach: its grant, narrowed by the caller.

    Parameters
    ----------
    slug
        The app that asks.
    index
        The state of all grants. The app must have one.
    read_scopes
        Slugs to narrow reading to; what of them is not granted is left out. None: all granted.
    read_only
        Whether the handle gives up writing.
    """

    __slots__ = ("_index", "_read_scopes", "_slug", "_write_scope")

    def __init__(
        self,
        slug: str,
        index: NameIndex,
        *,
        read_scopes: Iterable[str] | None = None,
        read_only: bool = False,
    ) -> None:
        grant = index.grants[slug]
        self._slug = slug
        self._index = index
        asked = grant.read_scopes if read_scopes is None else frozenset(read_scopes)
        self._read_scopes = grant.read_scopes & asked
        self._write_scope = None if read_only or grant.write_scope != slug else slug

    @property
    def slug(self) -> str:
        """The app that asks."""
        return self._slug

    @property
    def read_scopes(self) -> frozenset[str]:
        """The slugs that this handle may read: granted, then narrowed by the caller."""
        return self._read_scopes

    @property
    def write_scope(self) -> str | None:
        """The app's own slug, or None for a handle narrowed to reading."""
        return self._write_scope

    def resolve(self, name: str, *, app: str | None = None) -> Target:
        """Say which collection a name means to this app.

        Parameters
        ----------
        name
            A logical name (``clicks``: the app's own), or another app's physical one
            (``click_tracker_clicks``); with ``app``, a logical name of that app.
        app
            The slug of the app whose collection is meant.

        Raises
        ------
        ScopeDenied
            If the collection belongs to an app that this handle may not read, or is the engine's.
        QueryRefused
            If the name is malformed, or it is not declared and could be another app's.
        """
        _check_name(name)
        if app is not None:
            return self._resolve_of(app, name)
        own = name in self._index.grants[self._slug].collections
        owner = None if own else self._index.owner(name)
        if owner is None:
            return self._resolve_of(self._slug, name)
        if not name.startswith(f"{owner}_"):
            raise QueryRefused(
                f"collection {_shown(name)} reads like one of app {owner!r} with '-' and '_' "
                f"confused; write {owner}_{name[len(owner) + 1 :]!s}, or name your own collection "
                "differently"
            )
        return self._resolve_of(owner, name[len(owner) + 1 :])

    def _resolve_of(self, app: str, name: str) -> Target:
        _check_slug(app)
        _check_logical(name)
        target = self._target(app, name)
        if not target.declared:
            # Refused whether or not there is such an app: else a registration would take over, or
            # lock up, what was written before.
            longer = longer_slug(app, name)
            if longer is not None:
                raise QueryRefused(
                    f"collection {_shown(name)} of app {app!r} is not declared, and its name in "
                    f"MongoDB, {target.physical}, could be one of an app {longer!r}: declare it in "
                    "the app's manifest, or choose a name without '_' and '-'"
                )
        return target

    def _target(self, owner: str, name: str) -> Target:
        physical = physical_name(owner, name)
        if physical in ENGINE_COLLECTIONS:
            raise _engine_owned(physical)
        if owner not in self._read_scopes or owner not in self._index.grants:
            raise ScopeDenied(
                f"app {self._slug!r} may not read app {owner!r} (collection {physical}): name it "
                "in data_access.read_scopes, and its owner must consent; a handle narrowed by "
                "read_scopes= reads only those"
            )
        writable = owner == self._slug and self._write_scope == self._slug
        grant = self._index.grants[owner]
        return Target(
            physical=physical,
            owner=owner,
            writable=writable,
            declared=name in grant.collections,
            stamped=name in grant.stamped,
            implied=owner == self._slug and name in grant.stamped,
        )


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise QueryRefused(f"a collection's name must be a string, not {type(name).__name__}")
    if name in ENGINE_COLLECTIONS or name.startswith(("_", "system.")):
        raise _engine_owned(name)
    if _PHYSICAL.fullmatch(name) is None:
        raise QueryRefused(
            f"collection name {_shown(name)} is malformed: letters, digits, '-' and '_' only, "
            "beginning with a letter or digit"
        )


def _check_slug(app: object) -> None:
    if not isinstance(app, str) or _SLUG.fullmatch(app) is None:
        raise QueryRefused(f"{_shown(app)} is not a slug; it must match {SLUG_PATTERN}")


def _check_logical(name: str) -> None:
    if _COLLECTION.fullmatch(name) is None:
        raise QueryRefused(
            f"collection name {_shown(name)} is malformed: it must match {COLLECTION_PATTERN}"
        )


def _engine_owned(name: str) -> ScopeDenied:
    return ScopeDenied(
        f"collection {_shown(name)} belongs to the engine or to MongoDB, not to an app"
    )
