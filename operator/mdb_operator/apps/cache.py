"""The MdbApps as the watch last showed them, so that looking one up costs no request.

Everything that is decided is decided on what MongoDB holds; this cache only says which MdbApps
there are and what they ask for. It is fed by kopf's watch and by the answers to the operator's own
writes, so that their echo is recognised and wakes nobody up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mdb_engine.models.naming import app_key
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.kubernetes.resources import AppKey, older

__all__ = ["MdbAppCache"]


class MdbAppCache:
    """MdbApps by key."""

    def __init__(self) -> None:
        self._apps: dict[AppKey, MdbAppResource] = {}
        self._keys: dict[str, AppKey] = {}
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
        self._apps[resource.key] = resource
        self._keys[resource.uid] = resource.key
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
            del self._apps[resource.key]
            del self._keys[known.uid]
        self._gone.setdefault(resource.key, []).append(resource)

    def drop(self, resource: MdbAppResource) -> None:
        """Forget an MdbApp that is there and not this installation's."""
        known = self._apps.get(resource.key)
        if known is not None and known.uid == resource.uid:
            del self._apps[resource.key]
            del self._keys[known.uid]

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
        own, named = app_key(app.slug), {app_key(slug) for slug in app.read_scopes}
        return [
            other
            for other in self._apps.values()
            if other.uid != app.uid
            and (app_key(other.slug) in named or own in map(app_key, other.read_scopes))
        ]
