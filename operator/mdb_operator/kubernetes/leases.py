"""The Lease that replicas of the operator contend for."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

from mdb_operator.exceptions import NotFound
from mdb_operator.kubernetes.client import KubeClient, KubeObject, metadata_of
from mdb_operator.kubernetes.resources import LEASES

__all__ = ["LeaseRecord", "LeaseStore"]


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A Lease as it was read or shall be written."""

    holder: str  # empty when it was released
    duration_seconds: int  # how long others wait after they last saw it renewed
    transitions: int  # how often it changed hands
    # The holder's clock, for people to read: nothing is ever decided by comparing it with ours.
    acquired_at: str
    renewed_at: str
    resource_version: str | None = None  # a write with an older one is refused; None: not there yet

    def renewed(self) -> LeaseRecord:
        """Return the record with the time of now."""
        return replace(self, renewed_at=_now())

    def taken_by(self, identity: str, duration_seconds: int) -> LeaseRecord:
        """Return the record with another holder."""
        now = _now()
        return replace(
            self,
            holder=identity,
            duration_seconds=duration_seconds,
            transitions=self.transitions + 1,
            acquired_at=now,
            renewed_at=now,
        )

    def released(self) -> LeaseRecord:
        """Return the record without a holder, which anybody may take at once."""
        return replace(self, holder="", duration_seconds=1, renewed_at=_now())

    @classmethod
    def first(cls, identity: str, duration_seconds: int) -> LeaseRecord:
        """Return the record of a Lease that nobody ever held."""
        now = _now()
        return cls(identity, duration_seconds, 0, now, now)


class LeaseStore:
    """One Lease, by name."""

    def __init__(self, client: KubeClient, namespace: str, name: str) -> None:
        self._client = client
        self.namespace = namespace
        self.name = name

    async def get(self) -> LeaseRecord | None:
        """Read the Lease; None if there is none."""
        try:
            return _parse(await self._client.get(LEASES, self.namespace, self.name))
        except NotFound:
            return None

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        """Create the Lease; `AlreadyExists` if another replica was faster."""
        return _parse(await self._client.create(LEASES, self.namespace, self._manifest(record)))

    async def replace(self, record: LeaseRecord) -> LeaseRecord:
        """Write the record over the version that it was read as; `Conflict` if that is old."""
        manifest = self._manifest(record)
        return _parse(await self._client.replace(LEASES, self.namespace, self.name, manifest))

    def _manifest(self, record: LeaseRecord) -> KubeObject:
        metadata: KubeObject = {"namespace": self.namespace, "name": self.name}
        if record.resource_version is not None:
            metadata["resourceVersion"] = record.resource_version
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": record.holder,
                "leaseDurationSeconds": record.duration_seconds,
                "leaseTransitions": record.transitions,
                "acquireTime": record.acquired_at,
                "renewTime": record.renewed_at,
            },
        }


def _parse(obj: KubeObject) -> LeaseRecord:
    spec = obj.get("spec") or {}
    return LeaseRecord(
        holder=spec.get("holderIdentity") or "",
        duration_seconds=int(spec.get("leaseDurationSeconds") or 1),
        transitions=int(spec.get("leaseTransitions") or 0),
        acquired_at=spec.get("acquireTime") or _now(),
        renewed_at=spec.get("renewTime") or _now(),
        resource_version=metadata_of(obj)["resourceVersion"],
    )


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
