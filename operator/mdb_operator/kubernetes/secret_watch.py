"""Notices within a moment that a projected Secret was deleted, edited or stripped.

Our own watch, not kopf's: kopf lists every Secret of the cluster with its data and copies data into
annotations. This one asks for metadata only and only for Secrets that carry our label, so no value
ever enters this process on this way. It tells which app to look at and decides nothing itself.

Anybody who may write a Secret can put our label on it, and 256 KiB of annotations. So lists come in
pages of a bounded size, and of a Secret whose owner is no MdbApp that there is nothing is kept; of
the others, a version and who owns them.

With ``secretWatch: false`` the operator has no right to list Secrets; `SecretPoll` then asks for
each one by name, which finds the same changes later and costs a request per app and round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from http.client import TOO_MANY_REQUESTS
from typing import NamedTuple, Protocol, TypeAlias

import structlog

from mdb_operator.backoff import Backoff
from mdb_operator.constants import KIND, LABEL_OWNER_UID
from mdb_operator.exceptions import Expired, Forbidden, KubernetesError
from mdb_operator.kubernetes.client import KubeClient, metadata_of
from mdb_operator.kubernetes.resources import SECRETS
from mdb_operator.kubernetes.secrets import OwnWrites, SecretKey, SecretMetadata, SecretStore

__all__ = [
    "IsApp",
    "OnChange",
    "SecretChange",
    "SecretPoll",
    "SecretWatch",
    "Watcher",
]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SecretChange:
    """A Secret that is no longer as it was."""

    namespace: str
    name: str
    owner_uid: str  # of the MdbApp that it belonged to when it was last seen
    owner_name: str | None  # None when the ownerReference was never seen
    gone: bool  # deleted, or lost its label; otherwise it was edited or is new


OnChange: TypeAlias = Callable[[SecretChange], None]
"""Called in the watch's event loop; must not block."""

IsApp: TypeAlias = Callable[[str, str], bool]
"""Tells whether a namespace has an MdbApp of a UID."""


class _Seen(NamedTuple):
    """What is kept of a Secret: its version, and the UIDs and names of the MdbApps that own it."""

    version: str
    owners: dict[str, str | None]


class Watcher(Protocol):
    """What `SecretWatch` and `SecretPoll` have in common."""

    async def run(self) -> None:
        """Watch until cancelled."""

    async def wait_synced(self) -> None:
        """Wait until changes from now on will be noticed."""


class SecretWatch:
    """A metadata-only, label-selected watch of one namespace or of the whole cluster.

    `on_change` is told of every change that was not our own write.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str | None,
        on_change: OnChange,
        own_writes: OwnWrites,
        is_app: IsApp,  # whose Secrets are followed
        on_restart: Callable[[str], None] | None = None,  # told the reason, for a metric
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._on_change = on_change
        self._own_writes = own_writes
        self._is_app = is_app
        self._on_restart = on_restart
        self._known: dict[SecretKey, _Seen] = {}
        self._first_list = True
        self._synced = asyncio.Event()

    async def wait_synced(self) -> None:
        """Wait until the first list is complete: from then on no change is missed."""
        await self._synced.wait()

    async def run(self) -> None:
        """List, watch, and start anew after every end, until cancelled."""
        backoff = Backoff()
        version: str | None = None
        while True:
            try:
                if version is None:
                    version = await self._list()
                    backoff.reset()
                async for event in self._client.watch(
                    SECRETS,
                    self._namespace,
                    resource_version=version,
                    label_selector=LABEL_OWNER_UID,
                    metadata_only=True,
                ):
                    obj = event["object"]
                    version = metadata_of(obj)["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        secret = SecretMetadata.parse(obj)
                        self._see(secret, self._seen(secret), gone=event["type"] == "DELETED")
                    backoff.reset()
                # The server ended the watch in good order. A server that ends it at once each
                # time must not be asked in a tight loop, so this counts as an attempt too.
                await asyncio.sleep(backoff.next())
            except Expired:
                version = None
                self._restarting("expired")
            except KubernetesError as error:
                if isinstance(error, Forbidden):
                    _log.error(
                        "The Secret watch is not allowed; install the chart with "
                        "secretWatch.enabled=true or set MDB_OPERATOR_SECRET_WATCH=false",
                        error=error.message,
                        namespace=self._namespace,
                    )
                    if self._namespace is not None:
                        # The namespace may be gone: the others must not wait for it. Should it come
                        # back, all its Secrets are told of, since none was followed until then.
                        self._first_list = False
                        self._synced.set()
                else:
                    _log.info("The Secret watch starts anew", error=error.message)
                if error.status not in (0, TOO_MANY_REQUESTS):
                    # The server refused this watch; only a new list leads out of that for sure.
                    version = None
                self._restarting(error.code)
                await asyncio.sleep(backoff.next())

    async def _list(self) -> str:
        left, version = set(self._known), ""
        async for page in self._client.pages(
            SECRETS, self._namespace, label_selector=LABEL_OWNER_UID, metadata_only=True
        ):
            version = metadata_of(page)["resourceVersion"]
            for item in page["items"]:
                secret = SecretMetadata.parse(item)
                key = (secret.namespace, secret.name)
                left.discard(key)
                now = self._seen(secret)
                if not self._first_list:
                    self._see(secret, now, gone=False)
                elif now.owners:
                    # Nobody is told: every app is reconciled at start anyway.
                    self._known[key] = now
        self._first_list = False
        for key in left:
            before = self._known.pop(key, None)
            if before is not None:
                self._notify(key, before.owners, gone=True)
        self._synced.set()
        return version

    def _seen(self, secret: SecretMetadata) -> _Seen:
        owners = {
            uid: name
            for uid, name in _owners(secret).items()
            if self._is_app(secret.namespace, uid)
        }
        return _Seen(secret.resource_version, owners)

    def _see(self, secret: SecretMetadata, now: _Seen, *, gone: bool) -> None:
        key = (secret.namespace, secret.name)
        before = self._known.pop(key, None)
        if not gone:
            if now.owners:
                self._known[key] = now
            if before is not None and before.version == now.version:
                return
            self._own_writes.unless_made(
                secret, partial(self._notify, key, _both(before, now), gone=False)
            )
            return
        self._notify(key, _both(before, now), gone=True)

    def _notify(self, key: SecretKey, owners: dict[str, str | None], *, gone: bool) -> None:
        for uid, name in owners.items():
            self._on_change(SecretChange(*key, uid, name, gone=gone))

    def _restarting(self, reason: str) -> None:
        if self._on_restart is not None:
            self._on_restart(reason)


class SecretPoll:
    """Asks for each projected Secret by name, over and over: the watch's poor relation."""

    def __init__(
        self,
        store: SecretStore,
        targets: Callable[[], Iterable[SecretKey]],  # which Secrets there should be
        on_change: OnChange,  # told of every change that was not our own write
        own_writes: OwnWrites,
        interval: float,  # seconds of one round, over which its requests are spread
    ) -> None:
        self._store = store
        self._targets = targets
        self._on_change = on_change
        self._own_writes = own_writes
        self._interval = interval
        self._known: dict[SecretKey, _Seen] = {}

    async def wait_synced(self) -> None:
        """Return at once: a change is noticed in the next round, whenever it was made."""

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            targets = list(dict.fromkeys(self._targets()))
            for key in self._known.keys() - set(targets):
                del self._known[key]
            for key in targets:
                await self._look(key)
                await asyncio.sleep(self._interval / len(targets))
            if not targets:
                await asyncio.sleep(self._interval)

    async def _look(self, key: SecretKey) -> None:
        try:
            secret = await self._store.get_metadata(*key)
        except KubernetesError as error:
            _log.info("A Secret could not be looked at", secret=key[1], error=error.message)
            return
        before = self._known.pop(key, None)
        now: _Seen | None = None
        if secret is not None:
            now = self._known[key] = _Seen(secret.resource_version, _owners(secret))
            if before is not None and before.version == now.version:
                return
        if before is None:
            return

        def tell() -> None:
            for uid, name in _both(before, now).items():
                self._on_change(SecretChange(*key, uid, name, gone=now is None))

        if secret is None:
            tell()
        else:
            self._own_writes.unless_made(secret, tell)


def _owners(secret: SecretMetadata) -> dict[str, str | None]:
    """Return the UIDs of the MdbApps that the Secret says it belongs to, with their names."""
    owners: dict[str, str | None] = {}
    if secret.owner_uid is not None:
        owners[secret.owner_uid] = None
    for ref in secret.owner_references:
        if ref.get("kind") == KIND and ref.get("uid"):
            owners[ref["uid"]] = ref.get("name")
    return owners


def _both(before: _Seen | None, now: _Seen | None) -> dict[str, str | None]:
    """Return every app that the Secret belonged to before or belongs to now."""
    owners: dict[str, str | None] = {}
    for seen in (before, now):
        for uid, name in (seen.owners if seen is not None else {}).items():
            owners[uid] = name or owners.get(uid)
    return owners
