"""Projected Secrets: written only where they are ours, repaired exactly, never shown.

MongoDB is the source of truth and a Secret is its projection, so a Secret of ours is always put
back to what MongoDB says. One that is not ours is never touched, whoever made it: overwriting it
would destroy data that nobody else has.
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mdb_engine.registry.models.app import Owner
from mdb_operator.constants import (
    ADDRESS_KEYS,
    API_VERSION,
    KIND,
    LABEL_MANAGED_BY,
    LABEL_OWNER_UID,
    MANAGER,
    SECRET_KEYS,
    SECRET_TYPE,
)
from mdb_operator.exceptions import AlreadyExists, Conflict, NotFound
from mdb_operator.kubernetes.client import KubeClient, KubeObject, metadata_of
from mdb_operator.kubernetes.resources import SECRETS

__all__ = [
    "DesiredSecret",
    "OwnWrites",
    "Projection",
    "SecretKey",
    "SecretMetadata",
    "SecretStore",
    "StoredSecret",
]

SecretKey: TypeAlias = tuple[str, str]
"""A Secret's namespace and name."""

OWN_WRITES_REMEMBERED = 4096
"""More than are ever on their way at once; a forgotten one costs one idle reconcile."""

LATEST_AHEAD = 10_000
"""By how many versions a Secret may be ahead of MongoDB, so that no number is taken to its end."""

MAX_ATTEMPTS = 5
"""How often a race with another writer is tried again before the caller is told to come back."""


class Projection(enum.Enum):
    """What `SecretStore.project` found and did."""

    CREATED = "Created"
    UNCHANGED = "Unchanged"
    REPAIRED = "Repaired"
    CONFLICT = "Conflict"
    """Somebody else's Secret has the name; nothing was written."""

    AHEAD = "Ahead"
    """It holds a later version than MongoDB has, which was restored; nothing was written."""

    ALTERED = "Altered"
    """It was written, and something changed it on its way: a mutating admission webhook."""

    HELD = "Held"
    """It is being deleted and somebody's finalizer holds it; until it is gone none can be made."""


@dataclass(frozen=True, slots=True)
class SecretMetadata:
    """What may be known of a Secret without reading its values."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owner_references: tuple[Mapping[str, Any], ...] = ()
    deleting: bool = False

    @classmethod
    def parse(cls, obj: Mapping[str, Any]) -> SecretMetadata:
        """Read it from a Secret or from a PartialObjectMetadata."""
        metadata = metadata_of(obj)
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            labels=metadata.get("labels") or {},
            annotations=metadata.get("annotations") or {},
            owner_references=tuple(metadata.get("ownerReferences") or ()),
            deleting=bool(metadata.get("deletionTimestamp")),
        )

    @property
    def owner_uid(self) -> str | None:
        """The UID in the label, None when the label is gone."""
        return self.labels.get(LABEL_OWNER_UID)

    @property
    def controller(self) -> Mapping[str, Any] | None:
        """The controller ownerReference, of which an object has one at most."""
        return next((ref for ref in self.owner_references if ref.get("controller")), None)

    def belongs_to(self, app_uid: str) -> bool:
        """Tell whether the Secret carries the MdbApp's label or its ownerReference.

        One of them may be lost, which is repaired. A controller ownerReference of somebody else
        wins over our label: two controllers that repair one object never come to an end.
        """
        controller = self.controller
        if controller is not None:
            return bool(controller.get("uid") == app_uid)
        owners = (self.owner_uid, *(ref.get("uid") for ref in self.owner_references))
        return app_uid in owners


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A Secret as it stands in the API server; its values are not part of its ``repr``."""

    metadata: SecretMetadata
    type: str
    immutable: bool
    data: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def parse(cls, obj: Mapping[str, Any]) -> StoredSecret:
        """Read it from the API server's object."""
        return cls(
            metadata=SecretMetadata.parse(obj),
            type=obj.get("type", "Opaque"),
            immutable=bool(obj.get("immutable")),
            data={
                key: base64.b64decode(value or "") for key, value in (obj.get("data") or {}).items()
            },
        )


@dataclass(frozen=True, slots=True)
class DesiredSecret:
    """What the projected Secret of one MdbApp has to be."""

    owner: Owner
    name: str
    # For each of `SECRET_KEYS`, empty where one does not apply.
    data: Mapping[str, str] = field(repr=False)
    # UIDs that the MdbApp had before it was restored from a backup, or made anew.
    former_uids: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a key set that is not the constant one, naming the keys only."""
        wrong = sorted(set(self.data) ^ set(SECRET_KEYS))
        if wrong not in ([], sorted(ADDRESS_KEYS)):
            raise ValueError(f"a projected Secret has a constant key set; wrong: {wrong}")

    @property
    def encoded(self) -> dict[str, bytes]:
        """The values as the API server stores them."""
        return {key: value.encode() for key, value in self.data.items()}

    @property
    def labels(self) -> dict[str, str]:
        """The labels that are ours; others on the object are left alone."""
        return {LABEL_OWNER_UID: self.owner.uid, LABEL_MANAGED_BY: MANAGER}

    @property
    def owner_reference(self) -> dict[str, Any]:
        """The controller ownerReference, so that the garbage collector cleans up after us.

        ``blockOwnerDeletion`` stays false: setting it needs the right to update the owner's
        finalizers, and nothing waits for it.
        """
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.owner.name,
            "uid": self.owner.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }

    def manifest(self, observed: SecretMetadata | None = None) -> KubeObject:
        """Return the object to create, or the one to replace ``observed`` with.

        Labels, annotations and plain ownerReferences of others are kept on a replacement.
        """
        metadata: KubeObject = {
            "namespace": self.owner.namespace,
            "name": self.name,
            "labels": self.labels,
            "ownerReferences": [self.owner_reference],
        }
        if observed is not None:
            ours = {self.owner.uid, *self.former_uids}
            others = [r for r in observed.owner_references if r.get("uid") not in ours]
            metadata |= {
                "uid": observed.uid,
                "resourceVersion": observed.resource_version,
                "labels": {**observed.labels, **self.labels},
                "annotations": dict(observed.annotations),
                "ownerReferences": [*others, self.owner_reference],
            }
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": SECRET_TYPE,
            "data": {key: base64.b64encode(value).decode() for key, value in self.encoded.items()},
        }

    def is_ours(self, stored: StoredSecret) -> bool:
        """Tell whether the Secret may be written: the MdbApp's, or its own from a backup.

        A tool that restores a namespace gives all objects new UIDs, and the Secret still carries
        the old one. It is the app's where MongoDB says that the MdbApp of that UID had this slug in
        this namespace, and type, labels and content are those of a Secret of that slug's. Anything
        else somebody has made, and it stays as it is.
        """
        metadata = stored.metadata
        if metadata.belongs_to(self.owner.uid):
            return True
        uid, controller = metadata.owner_uid, metadata.controller
        data = self.encoded
        return (
            uid in self.former_uids
            and (controller is None or controller.get("uid") == uid)
            and metadata.labels.get(LABEL_MANAGED_BY) == MANAGER
            and stored.type == SECRET_TYPE
            and all(stored.data.get(key) == data[key] for key in ("provider", "app-slug"))
            and {"app-secret", "secret-version", "username", "uri"} <= stored.data.keys()
        )

    def is_behind(self, stored: StoredSecret) -> bool:
        """Tell whether the Secret is one that the operator wrote later than what MongoDB has.

        Then MongoDB was restored from a backup. All entries have to agree on it: a version that
        somebody changed by hand stands beside credentials that are known.
        """
        mine, there = self.encoded, stored.data
        version, later = mine["secret-version"], there.get("secret-version", b"")
        if not (version.isdigit() and later.isdigit()):
            return False
        if not 0 < int(later) - int(version) <= LATEST_AHEAD:
            return False
        suffix, username = b".v" + version, mine["username"]
        if username.endswith(suffix):  # else it is one that all apps share
            username = username.removesuffix(suffix) + b".v" + later
        return there.get("username") == username and all(
            there.get(key) not in (None, b"", mine[key], mine[f"{key}-previous"])
            for key in ("app-secret", "session-key")
        )

    def matches(self, stored: StoredSecret) -> bool:
        """Tell whether the Secret is already what it has to be."""
        metadata = stored.metadata
        return (
            stored.type == SECRET_TYPE
            and not stored.immutable
            and dict(stored.data) == self.encoded
            and self.labels.items() <= metadata.labels.items()
            and self.owner_reference in [dict(ref) for ref in metadata.owner_references]
        )


class OwnWrites:
    """Remembers the resource versions that our own writes made, so that they wake nobody."""

    def __init__(self) -> None:
        self._versions: dict[SecretKey, str] = {}
        self._under_way: dict[SecretKey, list[tuple[str, Callable[[], None]]]] = {}

    @contextmanager
    def writing(self, namespace: str, name: str) -> Iterator[None]:
        """Put off what is seen of the Secret until the block, a write of it, has ended.

        A watch is often faster than the answer to the write, which alone says what it made.
        """
        key = (namespace, name)
        self._under_way[key] = []
        try:
            yield
        finally:
            for version, tell in self._under_way.pop(key, []):
                if self._versions.get(key) != version:
                    tell()

    def note(self, namespace: str, name: str, resource_version: str) -> None:
        """Remember a write."""
        self._versions.pop((namespace, name), None)
        self._versions[namespace, name] = resource_version
        while len(self._versions) > OWN_WRITES_REMEMBERED:
            del self._versions[next(iter(self._versions))]

    def made(self, seen: SecretMetadata) -> bool:
        """Tell whether this state of the Secret is what we wrote last."""
        return self._versions.get((seen.namespace, seen.name)) == seen.resource_version

    def unless_made(self, seen: SecretMetadata, tell: Callable[[], None]) -> None:
        """Call unless this state of the Secret is what we wrote last, or are just writing."""
        waiting = self._under_way.get((seen.namespace, seen.name))
        if waiting is not None:
            waiting.append((seen.resource_version, tell))
        elif not self.made(seen):
            tell()


class SecretStore:
    """Secrets of the API server; a watch that has the same `OwnWrites` tells of no write of it."""

    def __init__(self, client: KubeClient, own_writes: OwnWrites | None = None) -> None:
        self._client = client
        self._own_writes = own_writes or OwnWrites()

    async def read(self, namespace: str, name: str) -> StoredSecret | None:
        """Read a Secret with its values; None if there is none."""
        try:
            return StoredSecret.parse(await self._client.get(SECRETS, namespace, name))
        except NotFound:
            return None

    async def get_metadata(self, namespace: str, name: str) -> SecretMetadata | None:
        """Read a Secret without its values; None if there is none."""
        try:
            obj = await self._client.get(SECRETS, namespace, name, metadata_only=True)
        except NotFound:
            return None
        return SecretMetadata.parse(obj)

    async def create(self, namespace: str, manifest: KubeObject) -> StoredSecret:
        """Create a Secret; `AlreadyExists` if the name is taken, whoever took it."""
        with self._own_writes.writing(namespace, metadata_of(manifest)["name"]):
            return self._written(await self._client.create(SECRETS, namespace, manifest))

    async def replace(self, manifest: KubeObject) -> StoredSecret:
        """Replace a Secret, if it is still the one whose uid and version the manifest holds.

        Raises
        ------
        Conflict
            If somebody changed it, or deleted and created it again, in between.
        NotFound
            If it is gone.
        """
        metadata = metadata_of(manifest)
        namespace, name = metadata["namespace"], metadata["name"]
        with self._own_writes.writing(namespace, name):
            return self._written(await self._client.replace(SECRETS, namespace, name, manifest))

    async def set_entries(self, seen: SecretMetadata, entries: Mapping[str, bytes | None]) -> None:
        """Set single entries of a Secret that people own too, or remove those that are None.

        Raises
        ------
        Conflict
            If the Secret changed since it was seen.
        """
        await self._client.patch(
            SECRETS,
            seen.namespace,
            seen.name,
            {
                "metadata": {"uid": seen.uid, "resourceVersion": seen.resource_version},
                "data": {
                    key: None if value is None else base64.b64encode(value).decode()
                    for key, value in entries.items()
                },
            },
        )

    async def project(self, desired: DesiredSecret) -> Projection:
        """Make the Secret what it has to be, unless somebody else holds its name.

        Without a difference nothing is written.

        Raises
        ------
        Conflict
            If another writer kept winning; observe again later.
        KubernetesError
            If the API server refuses or does not answer.

        Notes
        -----
        The read only saves a write: creation is decided by the POST alone, replacement and
        deletion by uid and resource version, so a race with another writer is always noticed.
        """
        namespace = desired.owner.namespace
        for _ in range(MAX_ATTEMPTS):
            stored = await self.read(namespace, desired.name)
            try:
                if stored is None:
                    written = await self.create(namespace, desired.manifest())
                    return Projection.CREATED if desired.matches(written) else Projection.ALTERED
                if not desired.is_ours(stored):
                    return Projection.CONFLICT
                if stored.metadata.deleting:
                    return Projection.HELD
                if desired.is_behind(stored):
                    return Projection.AHEAD
                if desired.matches(stored):
                    return Projection.UNCHANGED
                if stored.type == SECRET_TYPE and not stored.immutable:
                    written = await self.replace(desired.manifest(stored.metadata))
                else:
                    # Neither the type nor an immutable Secret can be changed in place.
                    await self._delete(stored.metadata)
                    written = await self.create(namespace, desired.manifest())
            except (AlreadyExists, Conflict, NotFound):
                continue
            return Projection.REPAIRED if desired.matches(written) else Projection.ALTERED
        raise Conflict(
            f"Secret {namespace}/{desired.name} kept changing while it was written; "
            "find out who else writes it"
        )

    async def delete_if_ours(self, namespace: str, name: str, owner_uid: str) -> bool:
        """Delete the Secret if it belongs to the MdbApp with this UID; whether one was deleted."""
        for _ in range(MAX_ATTEMPTS):
            metadata = await self.get_metadata(namespace, name)
            if metadata is None or not metadata.belongs_to(owner_uid):
                return False
            try:
                await self._delete(metadata)
            except NotFound:
                return False
            except Conflict:
                continue
            return True
        raise Conflict(f"Secret {namespace}/{name} kept changing while it was deleted")

    async def _delete(self, metadata: SecretMetadata) -> None:
        await self._client.delete(
            SECRETS,
            metadata.namespace,
            metadata.name,
            uid=metadata.uid,
            resource_version=metadata.resource_version,
        )

    def _written(self, obj: KubeObject) -> StoredSecret:
        stored = StoredSecret.parse(obj)
        metadata = stored.metadata
        self._own_writes.note(metadata.namespace, metadata.name, metadata.resource_version)
        return stored
