"""Compares what the watch of MdbApps has shown with a list of our own, now and then.

A watch can lose what happened while it was down: kopf's lists anew after an expired version (410)
and tells of no deletion in between. What is then still known is a ghost, with metrics for ever, and
a Secret that is created and collected in a loop. And a watch can hang: a connection that is up and
shows nothing looks like a cluster in which nothing happens.

The list is of metadata only, in pages: 20 requests for 10,000 apps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from mdb_operator.apps.cache import MdbAppCache
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.backoff import Backoff
from mdb_operator.exceptions import Forbidden, KubernetesError, OperatorError
from mdb_operator.kubernetes.client import metadata_of
from mdb_operator.kubernetes.mdbapps import MdbAppStore, app_ref
from mdb_operator.kubernetes.resources import AppKey, older
from mdb_operator.process.probes import Heartbeat

__all__ = ["Relist"]

REFUSED_SECONDS = 30.0
"""How soon after a refusal is listed again: a namespace that comes back is complete so soon."""

RESTORED = (
    "The API server shows an older state than before: it was restored. The process starts anew"
)

_log = structlog.get_logger(__name__)


class Relist:
    """Lists the MdbApps at the start and from time to time."""

    def __init__(
        self,
        store: MdbAppStore,
        cache: MdbAppCache,
        on_lost: Callable[[MdbAppResource], None],  # the watch did not tell that it is gone
        heartbeat: Heartbeat,  # told of a watch that hangs, since only a new process mends that
        *,
        interval: float,  # seconds between two lists
        # Seconds that the watch may be behind a list. Longer than kopf needs to notice a connection
        # that is dead (70 s), so that this finds only what kopf does not.
        limit: float,
    ) -> None:
        self._store = store
        self._cache = cache
        self._on_lost = on_lost
        self._heartbeat = heartbeat
        self._interval = interval
        self._limit = limit
        self._newest = ""
        self._refused = False
        self._found: dict[str, tuple[AppKey, str]] = {}
        self._shown: dict[str, str] = {}

    def shown(self, uid: str, version: str) -> None:
        """Take in what the watch shows, also of MdbApps that another installation handles."""
        self._shown[uid] = version

    def forget(self, uid: str) -> None:
        """Take in that the watch told of a deletion."""
        self._shown.pop(uid, None)

    def has(self, namespace: str, uid: str) -> bool:
        """Tell whether the namespace had an MdbApp of the UID in the last list."""
        found = self._found.get(uid)
        return found is not None and found[0].namespace == namespace

    async def run(self) -> None:
        """List again and again until cancelled.

        Raises
        ------
        OperatorError
            If the API server shows an older state than before. It was restored, and a watch from a
            version of the future shows nothing until the server gets there.
        """
        while True:
            pause = min(self._interval, REFUSED_SECONDS) if self._refused else self._interval
            await asyncio.sleep(pause)
            await self.look()

    async def look(self) -> None:
        """List, and see to what the watch has not shown."""
        await self.list()
        behind = {uid: seen for uid, seen in self._found.items() if self._is_behind(uid, *seen)}
        waited = 0.0
        while behind and waited < self._limit:
            pause = min(self._interval, self._limit - waited)
            await asyncio.sleep(pause)
            waited += pause
            await self.list()  # what else a list finds, a restore above all, does not wait
            behind = {uid: seen for uid, seen in behind.items() if self._is_behind(uid, *seen)}
        behind = {uid: seen for uid, seen in behind.items() if await self._exists(uid, seen[0])}
        if behind:
            self._heartbeat.problem = (
                f"the watch of MdbApps has not shown {len(behind)} changes for {self._limit:g} s"
            )
            _log.error("The watch hangs, and /healthz says so", changes=len(behind))
        else:
            self._heartbeat.problem = None

    async def list(self) -> None:
        """List once, and tell of what is gone."""
        self._refused = False
        found: dict[str, tuple[AppKey, str]] = {}
        for scope in self._store.scopes:
            listed = await self._list(scope)
            if listed is None:
                self._refused = True
                continue
            found |= listed
            for app in self._cache:
                if scope in (None, app.key.namespace):
                    _, version = listed.get(app.uid, (app.key, ""))
                    if not version or older(version, app.resource_version):
                        await self._look_for(app)
        self._found = found

    async def _list(self, scope: str | None) -> dict[str, tuple[AppKey, str]] | None:
        """Return the keys and versions by UID, or None where the list is refused."""
        backoff = Backoff(first=0.5, most=30.0)
        while True:
            found: dict[str, tuple[AppKey, str]] = {}
            try:
                async for page in self._store.metadata_pages(scope):
                    self._require_newer(metadata_of(page)["resourceVersion"])
                    for item in page["items"]:
                        ref, version = app_ref(item), metadata_of(item)["resourceVersion"]
                        found[ref.uid] = (AppKey(ref.namespace, ref.name), version)
            except Forbidden as error:
                _log.warning(
                    "A namespace cannot be watched; the others are served. If it was deleted, take"
                    " it out of watchNamespaces; else see to its Role and RoleBinding",
                    namespace=scope,
                    error=error.message,
                )
                return None
            except KubernetesError as error:
                _log.info("MdbApps are listed later", error=error.message)
                await asyncio.sleep(backoff.next())
            else:
                return found

    def _require_newer(self, version: str) -> None:
        if older(version, self._newest):
            raise OperatorError(RESTORED)
        self._newest = version

    async def _look_for(self, app: MdbAppResource) -> None:
        """Tell of the MdbApp if it is gone or older: it may only be newer than the list."""
        try:
            now = await self._store.get(*app.key)
        except KubernetesError as error:
            _log.info("An MdbApp is looked for later", error=error.message)
            return
        if now is not None and app_ref(now).uid == app.uid:
            if older(metadata_of(now)["resourceVersion"], app.resource_version):
                raise OperatorError(RESTORED)
            return
        known = self._cache.get(app.key)
        if known is not None and known.uid == app.uid:
            _log.warning("The watch did not tell of a deletion", app="/".join(app.key))
            self._on_lost(app)

    def _is_behind(self, uid: str, key: AppKey, version: str) -> bool:
        known, shown = self._cache.get(key), self._shown.get(uid)
        if shown is not None and not older(shown, version):
            return False
        return known is None or known.uid != uid or older(known.resource_version, version)

    async def _exists(self, uid: str, key: AppKey) -> bool:
        """Tell whether the MdbApp is still there: of one that went there is nothing to show."""
        try:
            now = await self._store.get(*key)
        except KubernetesError:
            return False
        return now is not None and app_ref(now).uid == uid
