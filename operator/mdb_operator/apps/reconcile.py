"""The reconcile of one MdbApp, from top to bottom. Level-based: it asks what is, not what was.

Access comes first, then what pods mount, then data. What withdraws (a rotation, a revocation, the
end of an overlap, a consent that is taken back, a deletion) therefore waits for MongoDB and for the
Secret and for nothing else: no index, no workload and no object of somebody else stands before it.
Each line owns one condition and fails alone; those that do not depend on it go on.

Every line finds out by itself whether there is something to write, and nothing is written where
nothing differs, so it may run at any time, any number of times, and be killed anywhere: nothing is
handed out before it works, and nothing stops working before its successor was handed out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeGuard

import structlog

from mdb_engine.core.secret import RevealedSecrets
from mdb_engine.exceptions import DatabaseUnavailable, KeyManagerUnavailable, MdbEngineError
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.models.app import AppRecord, AppState, GrantOutcome, Revisions
from mdb_operator.apps.access import Access
from mdb_operator.apps.binding import Binding
from mdb_operator.apps.conditions import (
    ConditionType,
    Isolation,
    Reason,
    format_time,
    parse_time,
    transitions,
)
from mdb_operator.apps.database import SharedDatabase
from mdb_operator.apps.ownership import Others, Ownership
from mdb_operator.apps.requests import next_due, requests
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.apps.status import (
    UNSETTLED_RUNS,
    Report,
    Step,
    StepObserver,
    describe,
    tells_of_grants,
)
from mdb_operator.apps.verified import Verified
from mdb_operator.apps.workers import Again
from mdb_operator.constants import ANNOTATION_FORCE_DELETE, FINALIZER
from mdb_operator.exceptions import NotFound
from mdb_operator.kubernetes.events import EventRecorder
from mdb_operator.kubernetes.mdbapps import MdbAppStore
from mdb_operator.kubernetes.resources import AppKey
from mdb_operator.logging import redact
from mdb_operator.mongodb.certificates import Certificates
from mdb_operator.process.metrics import AppSnapshot, Metrics

__all__ = ["Reconciler"]

DELETION_RETRY_SECONDS = 10.0
"""How long a deletion that waits for MongoDB goes without another attempt."""

NEW_TROUBLE_SECONDS = 1.0
"""The longest delay of the first attempts after trouble that should pass."""

_TOLD = frozenset({ConditionType.READY, ConditionType.GRANTS_RESOLVED})
"""The conditions whose transitions are events; the others' are told by `Ready`."""

_log = structlog.get_logger(__name__)


class Reconciler:
    """Reconciles the MdbApps of one database."""

    def __init__(
        self,
        database: SharedDatabase,
        *,
        ownership: Ownership,
        binding: Binding,
        mdbapps: MdbAppStore,
        events: EventRecorder,
        isolation: Isolation,
        metrics: Metrics,
        observer: StepObserver | None = None,
    ) -> None:
        self._database = database
        self._registry = database.registry
        self._cache = database.apps
        self._ownership = ownership
        self._binding = binding
        self._mdbapps = mdbapps
        self._events = events
        self._isolation = isolation
        self._metrics = metrics
        self._observer = observer
        self._access = Access(database, mdbapps, isolation, self._absorb, self._wake_readers)
        self._verified = Verified(binding.certificates, database.clock)
        self._unsettled: dict[AppKey, int] = {}

    async def reconcile(self, key: AppKey) -> Again:
        """Bring one app to what it has to be; return when to look at it again."""
        with self._metrics.time_reconcile() as timer:
            left_behind = not await self._end_vanished(key)
            app = self._cache.get(key)
            if app is None:
                self._forget(key)  # at once: whoever comes meanwhile is woken after it
                await self._database.builds.end(key)
                timer.result = "waiting" if left_behind else "unchanged"
                parked = left_behind and not self._database.gate.up
                return Again(failed=left_behind, transient=left_behind, parked=parked)
            if self._database.queue.is_routine(key) and await self._is_as_verified(app):
                timer.result = "unchanged"
                return Again(seconds=self._resync(), routine=True)
            self._verified.forget(key)
            started, certificates = self._database.clock(), self._verified.certificates
            report = Report(app, self._isolation, on_step=self._did)
            with report.line(ConditionType.REGISTERED):
                claimed = await self._ownership.claim(app)
                if isinstance(claimed, Others):
                    if claimed.release:
                        await self._hand_over(app)
                    timer.result = "changed" if claimed.release else "unchanged"
                    return Again(seconds=self._ownership.look_again(app), failed=left_behind)
                report.app = claimed
            if not report.failed(ConditionType.REGISTERED):  # else not this installation's to tell
                try:
                    work = self._deregister if report.app.deleting else self._provision
                    await work(report.app, report)
                finally:
                    with report.line(ConditionType.READY):
                        await self._write_status(report)
            self._note_if_right(report, certificates)
            again = self._again(report, started)
            if left_behind and not again.failed:
                again = replace(again, failed=True, transient=True)
            timer.result = "waiting" if again.failed else "changed" if report.wrote else "unchanged"
            return again

    async def _is_as_verified(self, app: MdbAppResource) -> bool:
        """Whether nothing can differ from what the last full look found right; see `Verified`."""
        if not self._verified.covers(app):
            return False
        if self._verified.is_fresh(app.key):
            return True
        try:
            self._database.gate.require()
            revisions = await self._registry.revisions(app.slug)
        except DatabaseUnavailable:
            return False  # which the full look then says
        return self._verified.holds(app.key, revisions)

    def _note_if_right(self, report: Report, certificates: Certificates) -> None:
        """Remember a full look that found everything as it has to be, or made it so."""
        record, secrets, grants = report.record, report.secrets, report.grants
        now = self._cache.get(report.app.key)
        if (
            record is not None
            and secrets is not None
            and grants is not None
            and report.all_right
            and self._database.users.is_settled(record.slug)
            # Its status is what this run has told, and nobody changed the rest meanwhile.
            and now is not None
            and now.asks_the_same_as(report.app)
            and now.status == report.told
        ):
            revisions = Revisions(
                record.incarnation, record.revision, secrets.revision, grants.epoch
            )
            due = next_due(secrets, _period(report.app))
            self._verified.note(now, revisions, certificates, due)

    async def _provision(self, app: MdbAppResource, report: Report) -> None:
        """Give an app what it asks for, and take from it what it may not have any more."""
        record: AppRecord | None = None
        revealed: RevealedSecrets | None = None
        with report.line(ConditionType.REGISTERED):
            spec = MdbAppSpec.parse(app.spec)
            if spec.suspend:
                report.suspended = True
                return
            self._database.gate.require()
            await self._access.add_finalizer(app, report)
            record = report.record = await self._access.claim(app, spec, report)
            report.holding[ConditionType.REGISTERED] = "Slug and collections are this app's."
        if record is None:
            return
        asked = requests(app.annotations)

        # Access: what may be used, by whom, until when. What withdraws needs no master key.
        with report.line(ConditionType.SECRET_PROJECTED):
            report.secrets = await self._access.ensure_secret(record, asked, report)
        if report.secrets is not None:
            with report.line(ConditionType.SECRET_PROJECTED):
                await self._access.expire(report)
            with report.line(ConditionType.SECRET_PROJECTED):
                await self._access.rotate_and_revoke(spec, asked, report)
        if is_new := not record.stamped.issuperset(record.spec.collection_names):
            # A collection has to be there before anyone may write to it. One that is new holds
            # nothing up, and an old one that cannot be made right only for a moment.
            with report.line(ConditionType.COLLECTIONS_READY):
                await self._collections(app, record, report)
        with report.line(ConditionType.GRANTS_RESOLVED):
            await self._access.publish(record, report)
        if report.secrets is not None:
            with report.line(ConditionType.SECRET_PROJECTED):
                try:
                    revealed = await self._registry.secrets.open(report.secrets)
                except KeyManagerUnavailable as error:
                    await self._binding.keep(app, error, report)
            with report.line(ConditionType.DATABASE_USER_READY):
                await self._access.database_users(record, report, revealed)

        # What pods mount: only what works by now.
        usable = not report.failed(ConditionType.GRANTS_RESOLVED) and not report.failed(
            ConditionType.DATABASE_USER_READY
        )
        if revealed is not None and usable:
            with report.line(ConditionType.SECRET_PROJECTED):
                await self._binding.project(app, record, revealed, report)
        if report.secrets is not None:
            with report.line(ConditionType.SECRET_PROJECTED):
                await self._access.begin_overlap(record, report)
            with report.line(ConditionType.WORKLOADS_RESTARTED):
                await self._binding.restart_workloads(app, spec, report.secrets, report)

        # Data, which may take its time.
        if not is_new:
            with report.line(ConditionType.COLLECTIONS_READY):
                await self._collections(app, record, report)

    async def _deregister(self, app: MdbAppResource, report: Report) -> None:
        """End an app: its access first, then its Secret, then by policy its data.

        Whatever an interrupted deletion leaves behind opens nothing any more. With MongoDB down it
        waits, because a registration that nobody can revoke would go on working; an administrator
        can force it with an annotation, and the sweep then revokes what is left.
        """
        if FINALIZER not in app.finalizers:
            return
        forced = app.annotations.get(ANNOTATION_FORCE_DELETE) == "true"
        with report.line(ConditionType.REGISTERED):
            try:
                names = await self._access.end_access(app, report)
                await self._binding.delete_secrets(app, names, report)
                if names is not None:
                    await self._database.builds.end(app.key)  # else it makes anew what goes
                    await self._erase(app, report)
            except DatabaseUnavailable as error:
                if not forced:
                    report.fail(
                        ConditionType.REGISTERED,
                        Reason.DELETING,
                        f"The deletion waits for MongoDB: {error.message.rstrip('.')}. It goes"
                        " on by itself. To finish it without revoking the app's access in"
                        f' MongoDB set the annotation {ANNOTATION_FORCE_DELETE}: "true".',
                        status="Unknown",
                        retry_seconds=DELETION_RETRY_SECONDS,
                    )
                    return
                await self._binding.delete_secrets(app, None, report)
            if set(app.finalizers) != {FINALIZER}:
                held = ", ".join(sorted(set(app.finalizers) - {FINALIZER}))
                text = (
                    f"It is deregistered, and held by a finalizer that is somebody else's: {held}."
                )
                report.fail(ConditionType.REGISTERED, Reason.DELETING, text)
                report.unbound = True
                await self._write_status(report)  # before nobody may hold it back for that any more
            await self._remove_finalizer(app, report)
            report.failures.clear()

    async def _hand_over(self, app: MdbAppResource) -> None:
        """End what an app of another class has here, and release it for whom it is meant."""
        self._database.gate.require()
        record = await self._registry.holder(app.slug)
        if _is_held_by(record, app):
            await self._database.end_vanished(record)
        # While it is still ours: it may be that nobody is of its class, who would let it go.
        if app.finalized and (obj := await self._mdbapps.get(*app.key)) is not None:
            now = MdbAppResource.from_body(obj)
            if (now.uid, now.installation) != (app.uid, app.installation):
                return
            app = MdbAppResource.from_body(
                await self._mdbapps.remove_finalizer(obj, FINALIZER) or obj
            )
        with suppress(NotFound):  # it was to be deleted, and nothing else held it
            await self._ownership.release(app)
        self._wake_related(app)

    def _under_way(self, record: AppRecord, since: datetime) -> tuple[Reason, str]:
        """Say what a build does that began at a time."""
        adopting = self._database.adopting(record)
        if adopting is None:
            return (
                Reason.INDEX_BUILDING,
                (
                    f"Indexes are being built since {format_time(since)}, which goes on by"
                    " itself; the app can be used meanwhile."
                ),
            )
        name, tenths = adopting
        return (
            Reason.COLLECTION_ADOPTING,
            (
                f"Collection {name!r} is being adopted since {format_time(since)}:"
                f" {tenths * 10} % of its documents have the app's stamp. It goes on by"
                " itself; until then the app does not see them."
            ),
        )

    async def _collections(self, app: MdbAppResource, record: AppRecord, report: Report) -> None:
        report.require_database()
        outcome = await self._database.builds.ensure(app.key, record)
        if isinstance(outcome, datetime):
            reason, message = self._under_way(record, outcome)
            report.fail(ConditionType.COLLECTIONS_READY, reason, message)
            return
        report.did(Step.COLLECTIONS, wrote=outcome.wrote)
        report.record = outcome.record
        if outcome.record.stamped != record.stamped and report.grants is not None:
            self._database.queue.wake(app.key)  # pods are told where MongoDB holds the stamp
        if outcome.conflicts:
            report.fail(
                ConditionType.COLLECTIONS_READY,
                Reason.INDEX_CONFLICT,
                redact(" ".join(f"{one.message}." for one in outcome.conflicts)),
            )
            return
        report.holding[ConditionType.COLLECTIONS_READY] = (
            "Collections and indexes are what spec.collections says."
        )

    async def _erase(self, app: MdbAppResource, report: Report) -> None:
        delete_data = app.spec.get("deletionPolicy") == "Delete"
        wrote = await self._registry.erase(app.slug, app.owner, delete_data=delete_data)
        report.did(Step.ERASE, wrote=wrote)

    async def _remove_finalizer(self, app: MdbAppResource, report: Report) -> None:
        obj = await self._mdbapps.get(*app.key)
        if obj is not None and obj["metadata"]["uid"] == app.uid:
            written = await self._mdbapps.remove_finalizer(obj, FINALIZER)
            report.did(Step.FINALIZER_REMOVE, wrote=written is not None)
        self._wake_related(app, waiting=True)

    async def _end_vanished(self, key: AppKey) -> bool:
        """End what MdbApps of this name left behind that went away past our finalizer.

        Returns False where that could not be done yet; a successor of the name goes on without.
        """
        while (gone := self._cache.gone(key)) is not None:
            try:
                self._database.gate.require()
                record = await self._registry.holder(gone.slug)
                if _is_held_by(record, gone):
                    await self._database.builds.end(key)
                    await self._database.end_vanished(record)
            except MdbEngineError as error:
                _log.info(
                    "What a deleted MdbApp left behind is ended later",
                    namespace=key.namespace,
                    app=key.name,
                    error=error.message,
                )
                return False
            self._cache.forget(gone)
            self._wake_related(gone, waiting=True)
        return True

    async def _write_status(self, report: Report) -> None:
        """Write the status if it differs, and post an event for each transition in it."""
        key, app = report.app.key, report.app
        runs = self._unsettled.get(key, 0) + 1 if report.unsettled else 0
        if runs:
            self._unsettled[key] = runs
        else:
            self._unsettled.pop(key, None)
        known = self._cache.get(key)
        current = known.status if known is not None and known.uid == app.uid else app.status
        if app.deleting and not report.failures and not report.unsettled:
            return
        if report.unsettled and runs < UNSETTLED_RUNS and not current.get("conditions"):
            return  # a lost race of a new app is over before anyone could read of it
        status = report.told = describe(report, current, self._database.clock(), runs)
        try:
            written = await self._mdbapps.apply_status(app.owner, current, status)
        except NotFound:
            return  # it was deleted under our hands; the watch tells of that by itself
        if written is not None:
            self._metrics.count_write("kubernetes", "status")
            report.wrote = True
            self._absorb(app, written)
        known = self._cache.get(key)
        if known is not None and known.uid == app.uid:  # else its series went with it meanwhile
            self._metrics.show_app(key, _snapshot(app, status))
        for reason, note in report.events:
            await self._events.record(app.owner, "Normal", reason=reason, action=reason, note=note)
        report.events.clear()
        for row in transitions(current.get("conditions") or (), status["conditions"]):
            if row["type"] in _TOLD and not _is_silent(row, current):
                await self._events.record(
                    app.owner,
                    "Normal" if row["status"] == "True" else "Warning",
                    reason=row["reason"],
                    action=row["type"],
                    note=row["message"],
                )

    def _absorb(self, app: MdbAppResource, written: Mapping[str, Any]) -> None:
        """Learn from the answer to a write, whose echo then wakes nobody.

        Unless it shows that somebody changed the object meanwhile, of which the echo would have
        told.
        """
        self._cache.absorb(written)
        now = MdbAppResource.from_body(written)
        if (now.generation, now.annotations, now.deleting) != (
            app.generation,
            app.annotations,
            app.deleting,
        ):
            self._database.queue.wake(app.key, urgent=True)

    def _again(self, report: Report, started: datetime) -> Again:
        """Return when the app is to be looked at next: at the next time that something is due."""
        if report.app.deleting and not report.failures and not report.unsettled:
            return Again()
        transient = bool(report.unsettled) or any(
            one.reason is Reason.DATABASE_UNAVAILABLE for one in report.failures.values()
        )
        if transient:
            # What failed may be a withdrawal, which must not wait until a fight is over.
            self._database.queue.hold(report.app.key, 0)
        self._remember_what_is_due(report, started)
        if report.waits_for(self._database.away):
            # Nothing may be awaited between this and the parking: it might come back meanwhile.
            return Again(failed=True, transient=True, parked=True)
        if report.unsettled:
            seconds = report.retry_seconds
            if 0 < self._unsettled.get(report.app.key, 0) <= UNSETTLED_RUNS:
                # New trouble may be a withdrawal's; however often something else failed before.
                seconds = min(seconds or NEW_TROUBLE_SECONDS, NEW_TROUBLE_SECONDS)
            return Again(seconds, failed=True, transient=True, not_before=report.not_before)
        if report.retry_seconds is not None:
            return Again(report.retry_seconds, failed=True, transient=transient)
        return Again(seconds=self._resync(), routine=self._verified.has(report.app.key))

    def _remember_what_is_due(self, report: Report, started: datetime) -> None:
        """Have the app looked at when a version of its secret ends or begins, whatever failed.

        What was due when the run started was tried in it, and failed, or waits for another to end.
        """
        if report.secrets is None or report.suspended:
            return
        for time in (report.waiting_until, next_due(report.secrets, _period(report.app))):
            now = self._database.clock()
            if time is not None and time > min(started, now):
                seconds = (time - now).total_seconds()
                self._database.queue.wake(report.app.key, after=max(0.01, seconds), urgent=True)

    def _resync(self) -> float:
        """Return the time of a resync, spread so that a start does not repeat itself as a burst."""
        return self._database.resync_seconds * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load

    def _wake_related(self, app: MdbAppResource, *, waiting: bool = False) -> None:
        """Wake the apps that name this one, that it names, or that want its slug.

        With ``waiting`` those that wait for a name as well: it may have become free.
        """
        for other in self._cache.related(app):
            self._database.queue.wake(other.key, urgent=True)
        if waiting:
            for key in self._cache.waiting_for_names():
                self._database.queue.wake(key)

    def _wake_readers(self, grants: Iterable[GrantOutcome]) -> None:
        """Wake the apps whose status says something else than what they were granted.

        Or is about to say so, in a run that may have looked before.
        """
        queue = self._database.queue
        for outcome in grants:
            for app in self._cache.of_slug(outcome.slug):
                if queue.is_working(app.key) or not tells_of_grants(app.status, outcome):
                    queue.wake(app.key, urgent=True)

    def _did(self, step: Step, wrote: bool) -> None:  # noqa: FBT001 - an observer's argument
        if wrote:
            self._metrics.count_write(step.target, step.value)
        if self._observer is not None:
            self._observer(step, wrote)

    def _forget(self, key: AppKey) -> None:
        self._unsettled.pop(key, None)
        self._verified.forget(key)
        self._access.forget(key)
        self._binding.forget(key)
        self._database.queue.forget(key)


def _period(app: MdbAppResource) -> int:
    """Return after how many seconds the secret is to be rotated; 0 for never."""
    return int((app.spec.get("secret") or {}).get("rotationPeriodSeconds") or 0)


def _is_held_by(record: AppRecord | None, app: MdbAppResource) -> TypeGuard[AppRecord]:
    """Whether a slug is registered for this very MdbApp, and not given up yet."""
    return (
        record is not None and record.owner == app.owner and record.state is not AppState.TOMBSTONE
    )


def _is_silent(row: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    """Whether nobody has to hear of a transition.

    That is an app's first and good state of its grants; and an outage of MongoDB and its end, which
    all apps have at once: the conditions say so, the log and a metric, and ten thousand events less
    reach the API server while it is needed.
    """
    outage = Reason.DATABASE_UNAVAILABLE
    before = {one["type"]: one["reason"] for one in current.get("conditions") or ()}
    if before and (
        row["reason"] == outage or (row["status"], before.get(row["type"])) == ("True", outage)
    ):
        return True
    return (
        row["type"] == ConditionType.GRANTS_RESOLVED
        and row["reason"] != Reason.NOT_GRANTED
        and row["reason"] != Reason.GRANT_PENDING
        and not before
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
