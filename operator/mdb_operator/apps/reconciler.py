"""Reconcile one MdbApp: observe, plan, apply, describe. Level-based: it asks what is, not what was.

Whatever woke it up, it looks at everything and brings it to what it has to be. Nothing is written
where nothing differs, so it may run at any time and any number of times.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from mdb_engine.core.clock import utcnow
from mdb_engine.exceptions import MdbEngineError, VersionConflict
from mdb_engine.models.app import Owner
from mdb_operator.apps.apply import Applier, Run
from mdb_operator.apps.cache import MdbAppCache
from mdb_operator.apps.conditions import ConditionType, Reason, parse_time, transitions
from mdb_operator.apps.deletion import Deletion
from mdb_operator.apps.describe import describe
from mdb_operator.apps.failures import failure_for
from mdb_operator.apps.observe import Observer
from mdb_operator.apps.outcome import Failure, Isolation, Outcome
from mdb_operator.apps.ownership import Others, Ownership
from mdb_operator.apps.planning import plan
from mdb_operator.apps.queue import WakeUps
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.apps.workers import Again
from mdb_operator.exceptions import Forbidden, KubernetesError, KubernetesUnavailable, NotFound
from mdb_operator.kubernetes.events import EventRecorder
from mdb_operator.kubernetes.mdbapps import MdbAppStore
from mdb_operator.kubernetes.resources import AppKey
from mdb_operator.mongodb.gate import DatabaseGate
from mdb_operator.process.metrics import AppSnapshot, Metrics

__all__ = ["Reconciler", "Tools"]

RACE_RETRY_SECONDS = 1.0
"""After a lost race the next look is soon: whoever won is done, and its state can be seen."""

FORBIDDEN_RETRY_SECONDS = 15.0
"""Only people give a right back: soon enough for those who wait, and no flood in the log."""

_TOLD = frozenset({ConditionType.READY, ConditionType.GRANTS_RESOLVED})
"""The conditions whose transitions are events; the others' are told by `Ready`."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tools:
    """What a reconciler works with.

    Parameters
    ----------
    cache
        The MdbApps that there are.
    ownership
        Which of them are this installation's.
    gate
        Whether MongoDB can be used.
    observer, applier, deletion
        The parts of a reconcile.
    mdbapps
        Where the status is written.
    events
        Where transitions are told.
    wakeups
        Where other apps are woken up.
    metrics
        Where it is counted.
    isolation
        Which wall the operator is set to build.
    resync_seconds
        After how long an app is looked at although nothing happened.
    """

    cache: MdbAppCache
    ownership: Ownership
    gate: DatabaseGate
    observer: Observer
    applier: Applier
    deletion: Deletion
    mdbapps: MdbAppStore
    events: EventRecorder
    wakeups: WakeUps
    metrics: Metrics
    isolation: Isolation
    resync_seconds: float


class Reconciler:
    """Reconciles MdbApps by key.

    Parameters
    ----------
    tools
        What it works with.
    clock
        The time.
    """

    def __init__(self, tools: Tools, clock: Callable[[], datetime] = utcnow) -> None:
        self._tools = tools
        self._clock = clock

    async def reconcile(self, key: AppKey) -> Again:
        """Bring one app to what it has to be; return when to look at it again."""
        with self._tools.metrics.time_reconcile() as timer:
            try:
                again, wrote = await self._reconcile(key)
            except NotFound:
                # It was deleted under our hands; the watch tells of that by itself.
                timer.result = "unchanged"
                return Again()
            except Forbidden as error:
                timer.result = "waiting"
                _log.warning(
                    "The operator has no right to finish this; if the namespace is being deleted,"
                    " its Role went first: see 'A deletion hangs' in docs/operations.md",
                    namespace=key[0],
                    app=key[1],
                    error=error.message,
                )
                return Again(seconds=FORBIDDEN_RETRY_SECONDS, failed=True)
            except KubernetesUnavailable as error:
                timer.result = "waiting"
                _log.info(
                    "The API server does not answer; the app is looked at later each time",
                    namespace=key[0],
                    app=key[1],
                    error=error.message,
                )
                return Again(failed=True, not_before=error.retry_after or 0.0)
            except (KubernetesError, VersionConflict) as error:
                timer.result = "waiting"
                _log.info("Looked at again soon", namespace=key[0], app=key[1], error=error.message)
                return Again(seconds=RACE_RETRY_SECONDS, failed=True)
            timer.result = "waiting" if again.failed else "changed" if wrote else "unchanged"
            return again

    async def _reconcile(self, key: AppKey) -> tuple[Again, bool]:
        gone = self._tools.cache.gone(key)
        if gone is not None:
            return await self._bury(gone)
        app = self._tools.cache.get(key)
        if app is None:
            return Again(), False
        try:
            claimed = await self._tools.ownership.claim(app)
            if isinstance(claimed, Others):
                wrote = claimed.release and await self._hand_over(app)
                return Again(seconds=self._tools.ownership.look_again(app)), wrote
        except MdbEngineError as error:
            if failure_for(error) is None:
                raise
            return Again(failed=True), False
        return await self._reconcile_ours(claimed)

    async def _reconcile_ours(self, app: MdbAppResource) -> tuple[Again, bool]:
        key = app.key
        if app.deleting:
            return await self._delete(app)
        try:
            seen = await self._tools.observer.observe(app)
        except MdbEngineError as error:
            failure = failure_for(error)
            if failure is None:
                raise
            wrote = await self._tell(app, self._failed(failure))
            return self._again(failure), wrote
        now = self._clock()
        todo = plan(seen, now)
        if seen.spec.suspend:
            outcome = Outcome(isolation=self._tools.isolation, suspended=True)
            return Again(), await self._tell(app, outcome)
        run = await self._tools.applier.apply(seen, todo)
        if run.relations_changed:
            self._wake_relations(app)
        wrote = await self._tell(self._tools.cache.get(key) or app, run.outcome)
        return self._when(run), wrote

    async def _hand_over(self, app: MdbAppResource) -> bool:
        """End what an app of another class has here, and release it for whom it is meant."""
        self._tools.gate.require()
        await self._tools.deletion.bury(app)
        await self._tools.ownership.release(app)
        self._wake_relations(app)
        return True

    async def _delete(self, app: MdbAppResource) -> tuple[Again, bool]:
        failure = await self._tools.deletion.delete(app)
        if failure is not None:
            wrote = await self._tell(app, self._failed(failure))
            return self._again(failure), wrote
        self._wake_relations(app)
        return Again(), True

    async def _bury(self, app: MdbAppResource) -> tuple[Again, bool]:
        """End what a resource left behind that went away past our finalizer."""
        try:
            self._tools.gate.require()
            buried = await self._tools.deletion.bury(app)
        except MdbEngineError as error:
            if failure_for(error) is None:
                raise
            return Again(failed=True), False
        if buried:
            _log.warning(
                "An MdbApp went away without its finalizer; its access was revoked",
                namespace=app.key.namespace,
                app=app.key.name,
                slug=app.slug,
            )
        self._tools.cache.buried(app)
        self._wake_relations(app)
        # The name may have been taken by a new object in the meantime.
        return Again(seconds=0 if self._tools.cache.get(app.key) else None), buried

    def _failed(self, failure: Failure) -> Outcome:
        return Outcome(isolation=self._tools.isolation, failure=failure)

    def _wake_relations(self, app: MdbAppResource) -> None:
        """Wake the apps that name this one, that it names, or that want its slug."""
        for other in self._tools.cache.related(app):
            self._tools.wakeups.wake(other.key)

    async def _tell(self, app: MdbAppResource, outcome: Outcome) -> bool:
        """Write the status if it differs, and post an event for each transition in it."""
        tools, ref = self._tools, Owner(*app.key, app.uid)
        status = describe(app, outcome, self._clock())
        written = await tools.mdbapps.apply_status(ref, app.status, status)
        if written is not None:
            tools.metrics.count_write("kubernetes", "status")
            tools.cache.absorb(written)
        known = tools.cache.get(app.key)
        if known is not None and known.uid == app.uid:  # else its series went with it meanwhile
            tools.metrics.show_app(app.key, _snapshot(app, status))
        for reason, note in outcome.events:
            await tools.events.record(ref, "Normal", reason=reason, action=reason, note=note)
        for row in transitions(app.status.get("conditions") or (), status["conditions"]):
            if row["type"] in _TOLD and not _is_silent(row, app):
                await tools.events.record(
                    ref,
                    "Normal" if row["status"] == "True" else "Warning",
                    reason=row["reason"],
                    action=row["type"],
                    note=row["message"],
                )
        return written is not None

    def _again(self, failure: Failure) -> Again:
        if failure.retry:
            return Again(seconds=failure.retry_seconds, failed=True)
        return Again(seconds=self._resync())

    def _when(self, run: Run) -> Again:
        """Return when the app is to be looked at next: at the next time that something is due."""
        failure = run.outcome.failure
        if failure is not None:
            return self._again(failure)
        if run.key_problem is not None:
            return Again(failed=True)
        now = self._clock()
        after = plan(replace(run.seen, record=run.record, secrets=run.secrets), now)
        times = [time for time in (after.wake_at, run.outcome.waiting_until) if time is not None]
        waits = [max(0.0, (time - now).total_seconds()) for time in times]
        return Again(seconds=min([*waits, self._resync()]))

    def _resync(self) -> float:
        """Return the time of a resync, spread so that a start does not repeat itself as a burst."""
        return self._tools.resync_seconds * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load


def _is_silent(row: Mapping[str, Any], app: MdbAppResource) -> bool:
    """Whether nobody has to hear of a transition: an app's first and good state of its grants."""
    return (
        row["type"] == ConditionType.GRANTS_RESOLVED
        and row["reason"] != Reason.NOT_GRANTED
        and row["reason"] != Reason.GRANT_PENDING
        and not app.status.get("conditions")
    )


def _snapshot(app: MdbAppResource, status: Mapping[str, Any]) -> AppSnapshot:
    secret = status.get("secret") or {}
    rotated_at = secret.get("rotatedAt")
    return AppSnapshot(
        slug=app.slug,
        conditions={row["type"]: (row["status"], row["reason"]) for row in status["conditions"]},
        secret_version=secret.get("version"),
        rotated_at=parse_time(rotated_at).timestamp() if rotated_at else None,
    )
