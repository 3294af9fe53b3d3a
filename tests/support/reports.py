"""Statuses of MdbApps as the operator writes them, one for each thing that it can say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mdb_engine.core.secret import Envelope, SealedVersion, SecretRecord
from mdb_engine.exceptions import (
    CollectionTaken,
    DatabaseUnavailable,
    MasterKeyError,
    SlugTaken,
)
from mdb_engine.registry.models.app import DeniedScope, GrantOutcome, Owner
from mdb_operator.apps.conditions import ConditionType, Reason
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.apps.status import Report, describe
from mdb_operator.crd.render import crd
from mdb_operator.exceptions import KubernetesUnavailable

__all__ = ["STATUSES", "app_of"]

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 13, 0, tzinfo=UTC)

GENERATION = 4

SECRETS = SecretRecord(
    slug="orders",
    incarnation="i",
    current=SealedVersion(3, Envelope("k1", "d", b"", {}), b"", NOW),
    previous=(SealedVersion(2, Envelope("k1", "d", b"", {}), b"", NOW, LATER),),
    rotation_count=2,
    created_at=NOW,
    updated_at=NOW,
)

HELD = (
    ConditionType.REGISTERED,
    ConditionType.SECRET_PROJECTED,
    ConditionType.DATABASE_USER_READY,
    ConditionType.WORKLOADS_RESTARTED,
    ConditionType.COLLECTIONS_READY,
)


def _app(generation: int = GENERATION, **metadata: Any) -> MdbAppResource:
    identity = {"namespace": "shop", "name": "orders", "uid": "u", "generation": generation}
    return MdbAppResource.from_body(
        {"metadata": {**identity, **metadata}, "spec": {"slug": "orders"}, "status": {}}
    )


def _report(without: ConditionType | None = None, denied: tuple[DeniedScope, ...] = ()) -> Report:
    return Report(
        _app(),
        "database",
        grants=GrantOutcome("orders", ("orders",), denied, 1, changed=False),
        secrets=SECRETS,
        binding="orders-mdb",
        holding={kind: "It holds." for kind in HELD if kind is not without},
    )


def _failing(kind: ConditionType, error: Exception) -> dict[str, Any]:
    report = _report(kind)
    with report.line(kind):
        raise error
    return describe(report, {}, NOW, runs=9)


def _told(kind: ConditionType, reason: Reason) -> dict[str, Any]:
    report = _report(kind)
    report.fail(kind, reason, "It is said.")
    return describe(report, {}, NOW)


_READY = describe(_report(), {}, NOW)

_PENDING = (DeniedScope("a", "GrantPending", "m"),)

_DENIED = (DeniedScope("b", "NotGranted", "m"),)

STATUSES: Mapping[str, dict[str, Any]] = {
    "ready": _READY,
    "a scope is denied": describe(_report(denied=_DENIED), {}, NOW),
    "a scope's owner is missing": describe(_report(denied=_PENDING), {}, NOW),
    "an index is being built": _told(ConditionType.COLLECTIONS_READY, Reason.INDEX_BUILDING),
    "a collection is adopted": _told(ConditionType.COLLECTIONS_READY, Reason.COLLECTION_ADOPTING),
    "a restart failed": _told(ConditionType.WORKLOADS_RESTARTED, Reason.RESTART_FAILED),
    "new": crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"][
        "default"
    ],
    "changed": {**_READY, "observedGeneration": GENERATION - 1},
    "suspended": describe(Report(_app(), "database", suspended=True), _READY, NOW),
    "DatabaseUnavailable": _failing(
        ConditionType.REGISTERED, DatabaseUnavailable("MongoDB is away")
    ),
    "KubernetesUnavailable": _failing(
        ConditionType.SECRET_PROJECTED, KubernetesUnavailable("no answer")
    ),
    "Contended": _told(ConditionType.SECRET_PROJECTED, Reason.CONTENDED),
    "SlugTaken": _failing(
        ConditionType.REGISTERED, SlugTaken("taken", holder=Owner("x", "y", "z"))
    ),
    "CollectionTaken": _failing(ConditionType.REGISTERED, CollectionTaken("taken")),
    "IndexConflict": _told(ConditionType.COLLECTIONS_READY, Reason.INDEX_CONFLICT),
    "SecretConflict": _told(ConditionType.SECRET_PROJECTED, Reason.SECRET_CONFLICT),
    "KeyUnavailable": _failing(ConditionType.SECRET_PROJECTED, MasterKeyError("missing")),
    "Deleting": _told(ConditionType.REGISTERED, Reason.DELETING),
}
"""By what has happened."""


def app_of(name: str) -> dict[str, Any]:
    """Return the whole MdbApp that has one of the statuses."""
    metadata: dict[str, Any] = {
        "namespace": "shop",
        "name": "orders",
        "uid": "u",
        "generation": GENERATION,
    }
    if name == "Deleting":
        metadata |= {"deletionTimestamp": "2026-03-01T12:00:00Z", "finalizers": ["a/b"]}
    spec: dict[str, Any] = {"slug": "orders"}
    if name == "suspended":
        spec["suspend"] = True
    return {
        "apiVersion": "mdb-engine.dev/v1",
        "kind": "MdbApp",
        "metadata": metadata,
        "spec": spec,
        "status": STATUSES[name],
    }
