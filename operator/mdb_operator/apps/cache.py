"""The MdbApps as the watch last showed them, so that looking one up costs no request.

Everything that is decided is decided on what MongoDB holds; this cache only says which MdbApps
there are and what they ask for. It is fed by kopf's watch and by the answers to the operator's own
writes, so that their echo is recognised and wakes nobody up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from mdb_engine.models.naming import app_key
from mdb_operator.apps.conditions import Reason
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.kubernetes.resources import AppKey, older

__all__ = ["MdbAppCache"]

_WAIT_FOR_NAMES = frozenset({Reason.SLUG_TAKEN, Reason.COLLECTION_TAKEN})


class MdbAppCache:
    """MdbApps by key, by UID, and by the slugs that they want or name."""

    def __init__(self) -> None:
        self._apps: dict[AppKey, MdbAppResource] = {}
        self._keys: dict[str, AppKey] = {}
        # Dictionaries as ordered sets; by the slug as the registry compares it.
        self._wanting: defaultdict[str, dict[AppKey, None]] = defaultdict(dict)
        self._naming: defaultdict[str, dict[AppKey, None]] = defaultdict(dict)
        self._waiting: dict[AppKey, None] = {}
        self._gone: dict[AppKey, list[MdbAppResource]] = {}

    def __len__(self) -> int:
        return len(self._apps)

    def __iter__(self) -> Iterator[MdbAppResource]:
        return iter(list(self._apps.values()))

    def get(self, key: AppKey) -> MdbAppResource | None:
        """Return what was last seen of an MdbApp, or None where it does not exist."""
        return self._apps.get(key)

    def key_of(self, uid: str) -> AppKey | None:
        """Return which MdbApp has the UID, or None where none has."""
        return self._keys.get(uid)

    def update(self, resource: MdbAppResource) -> bool:
        """Store what was seen and return whether it means something new.

        What is older than the stored state is ignored. One of another UID under the name means
        that the former was deleted, whether or not the watch told of it.
        """
        known = self._apps.get(resource.key)
        if known is not None and known.uid != resource.uid:
            self.remove(known)
            known = None
        if known is not None and older(resource.resource_version, known.resource_version):
            return False
        self._put(resource)
        return known is None or not known.means_the_same_as(resource)

    def absorb(self, body: Mapping[str, Any]) -> None:
        """Store the answer to a write of ours, unless the MdbApp was deleted in the meantime."""
        resource = MdbAppResource.from_body(body)
        known = self._apps.get(resource.key)
        if known is not None and known.uid == resource.uid:
            self.update(resource)

    def remove(self, resource: MdbAppResource) -> None:
        """Move an MdbApp that was deleted to those whose traces have to be looked for."""
        known = self._apps.get(resource.key)
        if known is not None and known.uid == resource.uid:
            self._take_out(known)
        self._gone.setdefault(resource.key, []).append(resource)

    def drop(self, resource: MdbAppResource) -> None:
        """Forget an MdbApp that is there and not this installation's."""
        known = self._apps.get(resource.key)
        if known is not None and known.uid == resource.uid:
            self._take_out(known)

    def gone(self, key: AppKey) -> MdbAppResource | None:
        """Return a deleted MdbApp of this name whose traces were not looked for yet."""
        waiting = self._gone.get(key)
        return waiting[0] if waiting else None

    def forget(self, resource: MdbAppResource) -> None:
        """Forget a deleted MdbApp for good."""
        left = [one for one in self._gone.get(resource.key, []) if one.uid != resource.uid]
        if left:
            self._gone[resource.key] = left
        else:
            self._gone.pop(resource.key, None)

    def related(self, app: MdbAppResource) -> list[MdbAppResource]:
        """Return the other MdbApps that want the app's slug, name it, or are named by it."""
        found = dict(self._naming.get(app_key(app.slug), {}))
        for slug in map(app_key, app.read_scopes):
            found |= self._wanting.get(slug, {})
        return [other for key in found if (other := self._apps[key]).uid != app.uid]

    def of_slug(self, slug: str) -> list[MdbAppResource]:
        """Return the MdbApps that want a slug."""
        return [self._apps[key] for key in self._wanting.get(app_key(slug), {})]

    def waiting_for_names(self) -> list[AppKey]:
        """Return the MdbApps whose slug or collections are another's, as their statuses say."""
        return list(self._waiting)

    def _put(self, app: MdbAppResource) -> None:
        known = self._apps.get(app.key)
        if known is not None and (known.uid, known.spec) != (app.uid, app.spec):
            self._take_out(known)
            known = None
        self._apps[app.key] = app
        rows = app.status.get("conditions") or ()
        if any(row.get("reason") in _WAIT_FOR_NAMES for row in rows):
            self._waiting[app.key] = None
        else:
            self._waiting.pop(app.key, None)
        if known is None:
            self._keys[app.uid] = app.key
            self._wanting[app_key(app.slug)][app.key] = None
            for slug in map(app_key, app.read_scopes):
                self._naming[slug][app.key] = None

    def _take_out(self, app: MdbAppResource) -> None:
        del self._apps[app.key]
        del self._keys[app.uid]
        self._waiting.pop(app.key, None)
        for index, slugs in (
            (self._wanting, (app.slug,)),
            (self._naming, app.read_scopes),
        ):
            for slug in map(app_key, slugs):
                index[slug].pop(app.key, None)
                if not index[slug]:
                    del index[slug]
