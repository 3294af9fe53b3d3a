"""MdbApps: listed, read, and given a status, a finalizer or an annotation.

The spec is the user's and is never written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from mdb_engine.registry.models.app import Owner
from mdb_operator.exceptions import Conflict, Forbidden, Invalid, NotFound
from mdb_operator.kubernetes.client import (
    JSON_PATCH,
    PAGE_SIZE,
    KubeClient,
    KubeObject,
    metadata_of,
)
from mdb_operator.kubernetes.resources import MDBAPPS

__all__ = ["MdbAppStore", "app_ref"]


def app_ref(obj: Mapping[str, Any]) -> Owner:
    """Return which MdbApp the object is."""
    metadata = metadata_of(obj)
    return Owner(metadata["namespace"], metadata["name"], metadata["uid"])


class MdbAppStore:
    """MdbApps of the API server, in the watched namespaces; empty for all but the excluded."""

    def __init__(
        self,
        client: KubeClient,
        namespaces: tuple[str, ...] = (),
        excluded: tuple[str, ...] = (),
    ) -> None:
        self._client = client
        self._namespaces = namespaces
        self._excluded = frozenset(excluded)

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """The namespaces that are watched, or None alone for all of the cluster."""
        return self._namespaces or (None,)

    async def list_all(self, namespace: str | None = None) -> AsyncIterator[KubeObject]:
        """Yield the MdbApps of a namespace, or of all watched ones, page by page."""
        scopes: tuple[str | None, ...] = (namespace,) if namespace else self.scopes
        for scope in scopes:
            async for page in self._pages(scope):
                for item in page["items"]:
                    yield item

    async def metadata_pages(
        self, namespace: str | None, *, limit: int = PAGE_SIZE
    ) -> AsyncIterator[KubeObject]:
        """Yield the pages of a list, one at least, of what is in the metadata alone."""
        async for page in self._pages(namespace, metadata_only=True, limit=limit):
            yield page

    async def _pages(self, namespace: str | None, **options: Any) -> AsyncIterator[KubeObject]:
        async for page in self._client.pages(MDBAPPS, namespace, **options):
            if self._excluded:
                page["items"] = [
                    one
                    for one in page["items"]
                    if metadata_of(one)["namespace"] not in self._excluded
                ]
            yield page

    async def get(self, namespace: str, name: str) -> KubeObject | None:
        """Read an MdbApp; None if there is none."""
        try:
            return await self._client.get(MDBAPPS, namespace, name)
        except NotFound:
            return None

    async def has_vanished(self, owner: Owner) -> bool:
        """Tell whether an MdbApp is gone, or another one has its name."""
        if owner.is_standalone:
            return False  # which no API server knows
        try:
            found = await self.get(owner.namespace, owner.name)
        except Forbidden:
            return False  # a namespace that is not this operator's to look at
        return found is None or app_ref(found).uid != owner.uid

    async def apply_status(
        self,
        app: Owner,
        current: Mapping[str, Any],
        desired: Mapping[str, Any],
        *,
        resource_version: str | None = None,
    ) -> KubeObject | None:
        """Write the whole status, if it differs; return the MdbApp as it is then, else None.

        The UID is a precondition: an MdbApp created again under the name is not hit. Without a
        resource version as another, a change of spec or annotations in between does not disturb;
        nobody but the operator writes the status.

        Raises
        ------
        Conflict
            If the precondition did not hold.
        NotFound
            If the MdbApp is gone.
        """
        if current == desired:
            return None
        identity = {"uid": app.uid}
        if resource_version is not None:
            identity["resourceVersion"] = resource_version
        # Not a merge patch: on /status of a custom resource the API server ignores the uid in one
        # and would write the status of a deleted app to its successor of the same name.
        patch: list[KubeObject] = [
            *({"op": "test", "path": f"/metadata/{k}", "value": v} for k, v in identity.items()),
            {"op": "add", "path": "/status", "value": dict(desired)},
        ]
        try:
            return await self._client.patch(
                MDBAPPS,
                app.namespace,
                app.name,
                patch,
                content_type=JSON_PATCH,
                subresource="status",
            )
        except Invalid:
            # A failed test and a status against the schema look the same from here.
            found = metadata_of(await self._client.get(MDBAPPS, app.namespace, app.name))
            if any(found.get(key) != value for key, value in identity.items()):
                raise Conflict(
                    f"MdbApp {app.namespace}/{app.name} changed since it was read"
                ) from None
            raise

    async def add_finalizer(self, obj: KubeObject, finalizer: str) -> KubeObject | None:
        """Add a finalizer to the object as it was read; None if it is there already.

        Raises
        ------
        Conflict
            If the object changed since: the list is replaced whole, so another's could be lost.
        """
        finalizers = list(metadata_of(obj).get("finalizers") or [])
        if finalizer in finalizers:
            return None
        return await self._set_finalizers(obj, [*finalizers, finalizer])

    async def remove_finalizer(self, obj: KubeObject, finalizer: str) -> KubeObject | None:
        """Remove a finalizer from the object as it was read; None if it is not there."""
        finalizers = list(metadata_of(obj).get("finalizers") or [])
        if finalizer not in finalizers:
            return None
        return await self._set_finalizers(obj, [item for item in finalizers if item != finalizer])

    async def _set_finalizers(self, obj: KubeObject, finalizers: list[str]) -> KubeObject:
        metadata = metadata_of(obj)
        return await self._client.patch(
            MDBAPPS,
            metadata["namespace"],
            metadata["name"],
            {
                "metadata": {
                    "uid": metadata["uid"],
                    "resourceVersion": metadata["resourceVersion"],
                    "finalizers": finalizers,
                }
            },
        )
