"""The MdbApps as the watch last showed them, so that looking one up costs no request.

Everything that is decided is decided on what MongoDB holds; this cache only says which MdbApps there
are and what they ask for. It is fed by kopf's watch and by the answers to the operator's own writes,
so the echo of a write is recognised and wakes nobody up.
"""

from __future__ import annotations

from collections.abc import Iterator

from mdb_operator.models.resource import MdbAppResource
from mdb_operator.wakeups import AppKey

__all__ = ["MdbAppCache"]


class MdbAppCache:
    """MdbApps by key."""

    def __init__(self) -> None:
        self._apps: dict[AppKey, MdbAppResource] = {}

    def __len__(self) -> int:
        return len(self._apps)

    def __iter__(self) -> Iterator[MdbAppResource]:
        return iter(list(self._apps.values()))

    def get(self, key: AppKey) -> MdbAppResource | None:
        """Return what was last seen of an MdbApp, or None where it does not exist."""
        return self._apps.get(key)

    def update(self, resource: MdbAppResource) -> bool:
        """Store what was seen and return whether it means something new.

        What is older than the stored state is ignored: the answer to a write often overtakes the
        watch, which then tells of the state before it.
        """
        known = self._apps.get(resource.key)
        if known is not None and _older(resource.resource_version, known.resource_version):
            return False
        self._apps[resource.key] = resource
        return known is None or not known.means_the_same_as(resource)

    def absorb(self, resource: MdbAppResource) -> None:
        """Store the answer to a write of ours, unless the object was deleted in the meantime."""
        known = self._apps.get(resource.key)
        if known is not None and known.uid == resource.uid:
            self.update(resource)

    def remove(self, key: AppKey) -> None:
        """Forget an MdbApp that was deleted."""
        self._apps.pop(key, None)

    def naming(self, slug: str) -> list[MdbAppResource]:
        """Return the MdbApps that want the slug for themselves or want to read it."""
        wanted = canonical(slug)
        return [
            app
            for app in self._apps.values()
            if canonical(app.slug) == wanted or wanted in map(canonical, app.read_scopes)
        ]


def canonical(slug: str) -> str:
    """Return the form in which ``-`` and ``_`` count as one."""
    return slug.replace("-", "_")


def _older(version: str, than: str) -> bool:
    """Compare two resource versions of one object, which grow with every write of it.

    Kubernetes has them comparable as decimal numbers (KEP-5504); where a server's are not numbers,
    nothing is taken for older.
    """
    return version.isdigit() and than.isdigit() and int(version) < int(than)
