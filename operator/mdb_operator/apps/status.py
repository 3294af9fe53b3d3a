"""What a reconcile found out, and the status that it makes of an MdbApp.

A `Report` is filled in line by line while the reconcile runs; `describe` turns it into the status.
Every condition is always there, so that ``kubectl wait`` has something to wait for, but for
``Stalled``, which kstatus wants to be there only while it holds. A message says
what to do next wherever something is to be done, and holds no figure that changes by itself: the
status of an app that does not change must not change.

A status speaks of the object that the reconcile read, and of nothing else: a condition that could
not be looked at this time keeps what it said, with the generation that it said it of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

import structlog

from mdb_engine.core.secret import SecretRecord
from mdb_engine.exceptions import DatabaseUnavailable, MdbEngineError
from mdb_engine.registry.models.app import AppRecord, GrantOutcome
from mdb_operator.apps.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Isolation,
    Reason,
    format_time,
    merge_conditions,
)
from mdb_operator.apps.failures import Failure, failure_for, sentence
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.exceptions import Forbidden, KubernetesError

__all__ = ["Report", "Step", "StepObserver", "describe", "tells_of_grants"]

_NEEDED = (
    ConditionType.REGISTERED,
    ConditionType.SECRET_PROJECTED,
    ConditionType.DATABASE_USER_READY,
    ConditionType.COLLECTIONS_READY,
)
"""What `Ready` sums up. A denied foreign scope is not among it (the app works with what it has),
nor a workload that could not be restarted, nor an index that is still being built."""

_FOR_A_PERSON = frozenset(
    {
        Reason.SLUG_TAKEN,
        Reason.COLLECTION_TAKEN,
        Reason.INDEX_CONFLICT,
        Reason.KEY_UNAVAILABLE,
        Reason.SECRET_CONFLICT,
    }
)
"""Why an app is not ready that does not pass by itself. Suspended is none: nothing is broken."""

_BLOCKS_NOTHING = frozenset({ConditionType.COLLECTIONS_READY, ConditionType.WORKLOADS_RESTARTED})
"""No other line waits for these."""

_SUMS = frozenset({ConditionType.READY, ConditionType.STALLED})
"""What is made of the others, and has no line of its own."""

_NOT_ITS_OWN = frozenset({Reason.SLUG_TAKEN, Reason.COLLECTION_TAKEN})
"""Why an app is not registered at all: nothing of what stood in its status is its own."""

_REASONS = frozenset(Reason)


class Step(StrEnum):
    """What is written, as metrics name it."""

    FINALIZER_ADD = "finalizer-add"
    CLAIM = "claim"
    SECRET = "secret"  # noqa: S105 - the name of a step
    EXPIRE = "expire"
    ROTATE = "rotate"
    BEGIN_OVERLAP = "begin-overlap"
    REVOKE_PREVIOUS = "revoke-previous"
    GRANTS = "grants"
    READERS = "readers"
    DATABASE_USER = "database-user"
    PROJECT = "project"
    FORMER_SECRET = "former-secret"  # noqa: S105 - as above
    RESTART = "restart"
    COLLECTIONS = "collections"

    DEREGISTER = "deregister"
    DROP_USERS = "drop-users"
    DELETE_SECRET = "delete-secret"  # noqa: S105 - as above
    ERASE = "erase"
    FINALIZER_REMOVE = "finalizer-remove"

    @property
    def target(self) -> Literal["kubernetes", "mongodb"]:
        """Where it is written to."""
        return "kubernetes" if self in _IN_KUBERNETES else "mongodb"


_IN_KUBERNETES = frozenset(
    {
        Step.FINALIZER_ADD,
        Step.PROJECT,
        Step.FORMER_SECRET,
        Step.RESTART,
        Step.DELETE_SECRET,
        Step.FINALIZER_REMOVE,
    }
)

StepObserver = Callable[[Step, bool], None]
"""Told after every step, with whether it wrote something."""


UNSETTLED_RUNS = 3
"""After so many runs in a row that failed for a reason that should pass, about four seconds, the
status says so. Before, it would only flicker."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Report:
    """What one reconcile of an app found out."""

    app: MdbAppResource  # as it was read: the status is about that one and its generation
    isolation: Isolation = "library"
    suspended: bool = False  # nothing was looked at because the spec says so
    # The conditions that hold, each with what is said of it.
    holding: dict[ConditionType, str] = field(default_factory=dict)
    # Why others do not, in the order in which it was found out.
    failures: dict[ConditionType, Failure] = field(default_factory=dict)
    # The lines that failed for a reason that should pass.
    unsettled: dict[ConditionType, Exception] = field(default_factory=dict)
    # What the app was granted, None where that was not found out.
    grants: GrantOutcome | None = None
    record: AppRecord | None = None  # the registration as it is now, None as above
    # Sealed, as they are now; None where that was not found out.
    secrets: SecretRecord | None = None
    binding: str | None = None  # the Secret that holds the app's values, or None
    unbound: bool = False  # the Secret turned out not to be this app's: nobody may mount it
    # When a requested rotation can be served that has to wait.
    waiting_until: datetime | None = None
    # Why a rotation that is due waits for a key manager, empty where none does.
    key_manager_problem: str = ""
    told: Mapping[str, Any] | None = None  # the status that was made of it
    events: list[tuple[str, str]] = field(default_factory=list)  # reason and note
    wrote: bool = False
    on_step: StepObserver | None = None
    _database_down: DatabaseUnavailable | None = None

    @property
    def all_right(self) -> bool:
        """Whether every line was run, and found or made everything as it has to be."""
        return (
            not (self.suspended or self.app.deleting or self.failures or self.unsettled)
            and not self.key_manager_problem
            and self.grants is not None
            and self.holding.keys() >= set(_NEEDED)
        )

    def line(self, condition: ConditionType) -> _Line:
        """Return a context in which a line of the reconcile fails alone.

        What it raises becomes its condition, and the lines that do not depend on it go on. A
        MongoDB that does not answer is asked once in a run and not once in a line.
        """
        return _Line(self, condition)

    def _failed_with(self, condition: ConditionType, error: Exception) -> None:
        # A right that is missing or a row that is damaged is no outage (so no `isinstance`), and
        # what a build meets may be its own trouble, a lock or a limit of its collection's.
        if type(error) is DatabaseUnavailable and condition is not ConditionType.COLLECTIONS_READY:
            self._database_down = error
        failure = failure_for(error)
        if isinstance(error, Forbidden):
            _log.warning(
                "The operator has no right to finish this; if the namespace is being deleted,"
                " its Role went first: see 'A deletion hangs' in docs/operations.md",
                namespace=self.app.key.namespace,
                app=self.app.key.name,
                error=error.message,
            )
        if failure is not None:
            self.failures.setdefault(condition, failure)
            return
        self.unsettled.setdefault(condition, error)
        where = {
            "namespace": self.app.key.namespace,
            "app": self.app.key.name,
            "condition": condition.value,
        }
        if isinstance(error, KubernetesError | MdbEngineError):
            _log.info("Looked at again soon", error=error.message, **where)
        else:
            _log.error("A reconcile failed unexpectedly", exc_info=error, **where)

    def did(self, step: Step, *, wrote: bool) -> None:
        """Note that a step was done."""
        self.wrote |= wrote
        if self.on_step is not None:
            self.on_step(step, wrote)

    def require_database(self) -> None:
        """Raise what a line before met, where that was a MongoDB that does not answer."""
        if self._database_down is not None:
            raise self._database_down

    def fail(
        self,
        condition: ConditionType,
        reason: Reason,
        message: str,
        *,
        status: ConditionStatus = "False",
        retry_seconds: float | None = None,
    ) -> None:
        """Note why a condition does not hold, as `Failure`; of several reasons the first counts."""
        failure = Failure(reason, message, status, retry_seconds)
        self.failures.setdefault(condition, failure)

    @property
    def is_delivered(self) -> bool:
        """Whether the Secret holds the current version, or somebody else keeps it from doing so.

        The end of what came before waits for the operator's own delivery, however long that takes,
        and for nobody else's object, webhook or refusal.
        """
        failure = self.failures.get(ConditionType.SECRET_PROJECTED)
        return self.binding is not None or (
            failure is not None and failure.reason in {Reason.SECRET_CONFLICT, Reason.CONTENDED}
        )

    def failed(self, condition: ConditionType) -> bool:
        """Whether a line of this condition failed, for whatever reason."""
        return condition in self.failures or condition in self.unsettled

    @property
    def retry_seconds(self) -> float | None:
        """The longest delay until the failed lines are tried again, None where none should be."""
        times = [one.retry_seconds for one in self.failures.values()]
        return min((time for time in times if time is not None), default=None)

    def waits_for(self, away: set[Reason]) -> bool:
        """Whether what failed has to be tried again, and all of it for these reasons."""
        again = [one.reason for one in self.failures.values() if one.retry_seconds is not None]
        return bool(again) and not self.unsettled and away.issuperset(again)

    @property
    def not_before(self) -> float:
        """The least delay, where an API server that refused said so."""
        return max(
            (getattr(e, "retry_after", None) or 0.0 for e in self.unsettled.values()), default=0
        )


@dataclass(frozen=True, slots=True)
class _Line:
    """See `Report.line`."""

    report: Report
    condition: ConditionType

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> bool:
        """Note an error and go on; what ends the task or the process is no error of the line."""
        if not isinstance(error, Exception):
            return False
        self.report._failed_with(self.condition, error)  # noqa: SLF001 - its own half
        return True


def describe(
    report: Report, current: Mapping[str, Any], now: datetime, runs: int = 1
) -> dict[str, Any]:
    """Return the whole status of an MdbApp.

    From the current one transition times are kept, and what could not be found out this time.
    ``now`` is the time of what changed; ``runs`` says how many runs in a row failed for a reason
    that should pass, this one included.
    """
    old = {row.get("type"): row for row in current.get("conditions") or ()}
    rows = dict(_suspended(report, old)) if report.suspended else _looked_at(report, old, runs)
    status: dict[str, Any] = {} if not report.suspended else dict(current)
    status["observedGeneration"] = report.app.generation
    status["conditions"] = merge_conditions(old.values(), rows.values(), now)
    return status if report.suspended else status | _facts(report, current)


def _looked_at(
    report: Report, old: Mapping[Any, Mapping[str, Any]], runs: int
) -> dict[ConditionType, Condition]:
    rows: dict[ConditionType, Condition] = {}
    for kind in ConditionType:
        if kind not in _SUMS:
            rows[kind] = _row(report, kind, old.get(kind.value), runs)
    rows[ConditionType.READY] = _ready(report, rows, old.get(ConditionType.READY.value))
    ready = rows[ConditionType.READY]
    if ready.status == "False" and ready.reason in _FOR_A_PERSON:
        rows[ConditionType.STALLED] = replace(ready, type=ConditionType.STALLED, status="True")
    return rows


def _row(
    report: Report, kind: ConditionType, old: Mapping[str, Any] | None, runs: int
) -> Condition:
    """Return a condition: what its own line found, or what it said before, or whom it waits for."""
    generation = report.app.generation
    if kind in report.failures:
        failure = report.failures[kind]
        return Condition(kind, failure.status, failure.reason, failure.message, generation)
    if kind in report.unsettled:
        kept = _kept(kind, old)
        if runs < UNSETTLED_RUNS and kept is not None:
            return kept
        text = f"{sentence(report.unsettled[kind])} It is tried again by itself, later each time."
        return Condition(kind, "Unknown", Reason.KUBERNETES_UNAVAILABLE, text, generation)
    if kind is ConditionType.GRANTS_RESOLVED and report.grants is not None:
        return _grants(report.grants, generation)
    if kind in report.holding:
        return Condition(kind, "True", Reason.PROVISIONED, report.holding[kind], generation)
    for blocker, failure in report.failures.items():
        if blocker in _BLOCKS_NOTHING:
            continue
        status: ConditionStatus = "Unknown" if failure.status == "Unknown" else "False"
        message = f"Waits for {blocker.value}: {failure.message}"
        return Condition(kind, status, failure.reason, message, generation)
    kept = _kept(kind, old)
    if kept is not None:
        return kept
    text = "Not looked at yet; it is tried again by itself."
    return Condition(kind, "Unknown", Reason.KUBERNETES_UNAVAILABLE, text, generation)


def _kept(kind: ConditionType, old: Mapping[str, Any] | None) -> Condition | None:
    """Return what a condition said before, of the generation that it was said of."""
    if old is None or old.get("reason") not in _REASONS:
        return None  # not there, or of another version of the operator, or not the operator's
    return Condition(
        kind, old["status"], Reason(old["reason"]), old["message"], old["observedGeneration"]
    )


def tells_of_grants(status: Mapping[str, Any], grants: GrantOutcome) -> bool:
    """Whether a status says what an app was granted; that it says nothing yet counts as well."""
    if not status.get("conditions"):
        return True  # its own first run will
    said = {row["type"]: row["message"] for row in status["conditions"]}
    wanted = _grants(grants, 0).message
    facts = _scopes(grants)
    return said.get(ConditionType.GRANTS_RESOLVED) == wanted and all(
        status.get(name) == value for name, value in facts.items()
    )


def _scopes(grants: GrantOutcome) -> dict[str, Any]:
    return {
        "grantedScopes": list(grants.granted),
        "deniedScopes": [{"slug": scope.slug, "reason": scope.reason} for scope in grants.denied],
    }


def _grants(grants: GrantOutcome, generation: int) -> Condition:
    kind, denied = ConditionType.GRANTS_RESOLVED, grants.denied
    if not denied:
        text = "Every scope in readScopes is granted."
        return Condition(kind, "True", Reason.PROVISIONED, text, generation)
    refused = any(scope.reason == Reason.NOT_GRANTED for scope in denied)
    text = " ".join(f"{scope.slug}: {scope.message}" for scope in denied)
    reason = Reason.NOT_GRANTED if refused else Reason.GRANT_PENDING
    return Condition(kind, "False", reason, text, generation)


def _ready(
    report: Report, rows: Mapping[ConditionType, Condition], old: Mapping[str, Any] | None
) -> Condition:
    generation = report.app.generation
    for kind in _NEEDED:
        row = rows[kind]
        if row.status != "True" and row.reason is not Reason.INDEX_BUILDING:
            message = row.message
            if kind in report.failures:
                message = report.failures[kind].message
            elif report.failures:
                message = next(iter(report.failures.values())).message
            return Condition(ConditionType.READY, "False", row.reason, message, generation)
    if any(rows[kind].observed_generation != generation for kind in _NEEDED):
        kept = _kept(ConditionType.READY, old)
        if kept is not None:
            return kept  # not everything of this generation was applied yet
    text = f"Mount the Secret {report.binding}."
    if report.binding is None and old is not None:
        text = str(old.get("message", ""))
    return Condition(ConditionType.READY, "True", Reason.PROVISIONED, text, generation)


def _facts(report: Report, current: Mapping[str, Any]) -> dict[str, Any]:
    """Return binding, secret and scopes: what holds, and what held where that is not known."""
    facts: dict[str, Any] = {}
    if report.app.installation is not None:
        facts["installation"] = report.app.installation
    registered = report.failures.get(ConditionType.REGISTERED)
    if registered is not None and registered.reason in _NOT_ITS_OWN:
        return facts
    if report.binding is not None:
        facts["binding"] = {"name": report.binding}
    elif "binding" in current and not report.unbound:
        facts["binding"] = current["binding"]
    if report.secrets is not None and (report.binding is not None or report.unbound):
        current_version, ending = report.secrets.current, report.secrets.previous[:1]
        facts["secret"] = {
            "version": current_version.version,
            "keyId": current_version.envelope.key_id,
            "rotatedAt": format_time(current_version.created_at),
        }
        if ending and ending[0].version == current_version.version - 1 and ending[0].expires_at:
            facts["secret"]["previousExpiresAt"] = format_time(ending[0].expires_at)
        if current_version.certificate is not None:
            expires_at = current_version.certificate.expires_at
            facts["secret"]["certificateExpiresAt"] = format_time(expires_at)
    elif "secret" in current:
        facts["secret"] = current["secret"]
    if report.grants is not None:
        facts |= _scopes(report.grants)
    else:
        facts |= {key: current[key] for key in ("grantedScopes", "deniedScopes") if key in current}
    return facts


def _suspended(
    report: Report, old: Mapping[Any, Mapping[str, Any]]
) -> Iterator[tuple[ConditionType, Condition]]:
    """Return the conditions of an app that nobody looks at: what was known; it may be old."""
    text = "spec.suspend is true: nothing is repaired or rotated. Set it to false to go on."
    generation = report.app.generation
    for kind in ConditionType:
        kept = _kept(kind, old.get(kind.value))
        if kind is ConditionType.STALLED and kept is None:
            continue
        if kind is ConditionType.READY or kept is None:
            status: ConditionStatus = "False" if kind is ConditionType.READY else "Unknown"
            yield kind, Condition(kind, status, Reason.SUSPENDED, text, generation)
        else:
            yield kind, Condition(kind, kept.status, kept.reason, kept.message, generation)
