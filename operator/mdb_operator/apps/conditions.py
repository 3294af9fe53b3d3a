"""The conditions of an MdbApp: a closed list of types and reasons, and how they change.

They follow the conventions of the Kubernetes API: a list that is a map keyed by type, the
generation that was looked at in each, a reason of one CamelCase word, and a transition time that
moves only when the status does. A reason is part of the interface (people alert on it), so the list
is closed and nothing outside of this module invents one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

__all__ = [
    "CONDITION_ORDER",
    "Condition",
    "ConditionStatus",
    "ConditionType",
    "Isolation",
    "Reason",
    "format_time",
    "merge_conditions",
    "parse_time",
    "transitions",
]

ConditionStatus = Literal["True", "False", "Unknown"]

Isolation = Literal["library", "database"]
"""Which wall the operator is set to build."""

MESSAGE_LIMIT = 1024
"""Characters of a message. Events allow 1,024 as well, and a person reads less."""


class ConditionType(StrEnum):
    """What is said about an MdbApp."""

    READY = "Ready"
    REGISTERED = "Registered"
    GRANTS_RESOLVED = "GrantsResolved"
    SECRET_PROJECTED = "SecretProjected"  # noqa: S105 - the name of a condition
    DATABASE_USER_READY = "DatabaseUserReady"
    WORKLOADS_RESTARTED = "WorkloadsRestarted"
    COLLECTIONS_READY = "CollectionsReady"
    STALLED = "Stalled"
    """kstatus' word (Flux): nothing goes on before a person has mended what `Ready` says.

    There only while it is so.
    """


CONDITION_ORDER = tuple(ConditionType)
"""The order in which conditions stand in the status, so that equal states are equal bytes."""


class Reason(StrEnum):
    """Why a condition is what it is. The whole list, for every condition."""

    PROVISIONED = "Provisioned"
    DATABASE_UNAVAILABLE = "DatabaseUnavailable"
    SECRET_CONFLICT = "SecretConflict"  # noqa: S105 - the name of a reason
    SLUG_TAKEN = "SlugTaken"
    COLLECTION_TAKEN = "CollectionTaken"
    INDEX_CONFLICT = "IndexConflict"
    """An index or a validator cannot be built on the data or beside the indexes that there are."""
    INDEX_BUILDING = "IndexBuilding"
    COLLECTION_ADOPTING = "CollectionAdopting"
    """Documents that were there before the app are given its stamp."""
    GRANT_PENDING = "GrantPending"
    NOT_GRANTED = "NotGranted"
    KEY_UNAVAILABLE = "KeyUnavailable"
    KUBERNETES_UNAVAILABLE = "KubernetesUnavailable"
    """The API server, or a webhook that it asks, failed several times in a row."""
    CONTENDED = "Contended"
    """Somebody else keeps undoing what the operator writes."""
    RESTART_FAILED = "RestartFailed"
    SUSPENDED = "Suspended"
    DELETING = "Deleting"


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement about an MdbApp."""

    type: ConditionType
    status: ConditionStatus  # ``Unknown`` where it could not be found out
    reason: Reason
    message: str  # what is so and, where something is to be done, what to do next; free of secrets
    observed_generation: int
    last_transition: datetime | None = None  # when ``status`` last changed (UTC, whole seconds)

    def to_dict(self) -> dict[str, Any]:
        """Return the condition as it stands in the resource's status."""
        return {
            "type": self.type.value,
            "status": self.status,
            "reason": self.reason.value,
            "message": self.message[:MESSAGE_LIMIT],
            "observedGeneration": self.observed_generation,
            "lastTransitionTime": format_time(self.last_transition or datetime.now(UTC)),
        }


def format_time(moment: datetime) -> str:
    """Return a time as the Kubernetes API writes it: UTC, whole seconds, ``Z``."""
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def parse_time(text: str) -> datetime:
    """Return the aware time that the Kubernetes API wrote."""
    return datetime.fromisoformat(text)


def merge_conditions(
    old: Iterable[Mapping[str, Any]], new: Iterable[Condition], now: datetime
) -> list[dict[str, Any]]:
    """Return the conditions to store, with transition times kept where the status did not change.

    They stand in the order of `CONDITION_ORDER` and are equal to ``old`` if nothing changed, so
    that comparing the two tells whether to write. Types that are not in ``new`` are dropped.
    """
    before = {condition.get("type"): condition for condition in old}
    merged = []
    for condition in sorted(new, key=lambda item: CONDITION_ORDER.index(item.type)):
        row = condition.to_dict()
        previous = before.get(condition.type.value)
        unchanged = previous is not None and previous.get("status") == condition.status
        kept = previous.get("lastTransitionTime") if previous is not None and unchanged else None
        row["lastTransitionTime"] = kept or format_time(now)
        merged.append(row)
    return merged


def transitions(
    old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return those of the new conditions whose status or reason differs from the old ones'.

    A message alone is no transition: it may name a time or a list that grows, and an event for each
    would drown the ones that matter.
    """
    before = {row.get("type"): (row.get("status"), row.get("reason")) for row in old}
    return [row for row in new if before.get(row["type"]) != (row["status"], row["reason"])]
