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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, Literal

import structlog

from mdb_engine.exceptions import (
    CollectionTaken,
    DatabaseUnavailable,
    MdbEngineError,
    OutdatedGeneration,
    SlugTaken,
)
from mdb_engine.models.app import AppRecord, AppState, Owner
from mdb_engine.models.secret import RevealedSecrets, RotationResult, SecretRecord
from mdb_engine.models.spec import MdbAppSpec
from mdb_operator.apps.cache import MdbAppCache
from mdb_operator.apps.conditions import (
    ConditionType,
    Isolation,
    Reason,
    format_time,
    parse_time,
    transitions,
)
from mdb_operator.apps.contention import Contention
from mdb_operator.apps.database import SharedDatabase
from mdb_operator.apps.failures import Failure
from mdb_operator.apps.projection import Address, projected_data
from mdb_operator.apps.requests import asked_revocation, due_rotation, next_due, requests
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.apps.status import UNSETTLED_RUNS, Report, describe
from mdb_operator.apps.workers import Again
from mdb_operator.constants import ANNOTATION_FORCE_DELETE, FINALIZER
from mdb_operator.exceptions import Forbidden, Invalid, NotFound
from mdb_operator.kubernetes.events import EventRecorder
from mdb_operator.kubernetes.mdbapps import MdbAppStore
from mdb_operator.kubernetes.resources import AppKey
from mdb_operator.kubernetes.secrets import DesiredSecret, Projection, SecretStore
from mdb_operator.kubernetes.workloads import Restart, WorkloadRestarter
from mdb_operator.logging import redact
from mdb_operator.mongodb.certificates import Certificates
from mdb_operator.process.metrics import AppSnapshot, Metrics

__all__ = ["Objects", "Reconciler", "Step", "StepObserver"]

SECRET_CONFLICT_RETRY_SECONDS = 15.0
"""A foreign Secret carries no label of ours, so nobody tells when it goes away."""

DELETION_RETRY_SECONDS = 10.0
"""How long a deletion that waits for MongoDB goes without another attempt."""

_NOT_PROJECTED = {
    Projection.CONFLICT: (
        "exists and is not this MdbApp's; it was not touched. Delete it, or set spec.secret.name to"
        " another name."
    ),
    Projection.HELD: (
        "is being deleted, and a finalizer that is not the operator's holds it. See to who put that"
        " on, or set spec.secret.name to another name."
    ),
}
"""What a person is told of a Secret that could not be written."""

_TOLD = frozenset({ConditionType.READY, ConditionType.GRANTS_RESOLVED})
"""The conditions whose transitions are events; the others' are told by `Ready`."""

_log = structlog.get_logger(__name__)


class Step(StrEnum):
    """What is written, as metrics name it."""

    FINALIZER_ADD = "finalizer-add"
    CLAIM = "claim"
    SECRET = "secret"  # noqa: S105 - the name of a step
    EXPIRE = "expire"
    ROTATE = "rotate"
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


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of the API server that are written.

    Parameters
    ----------
    mdbapps, secrets, restarter, events
        By kind.
    """

    mdbapps: MdbAppStore
    secrets: SecretStore
    restarter: WorkloadRestarter
    events: EventRecorder


class Reconciler:
    """Reconciles the MdbApps of one database.

    Parameters
    ----------
    database
        The database that their data is in.
    cache
        The MdbApps that there are.
    objects
        What is written in the API server.
    address
        Where apps reach MongoDB.
    certificates
        Returns those that apps are given for TLS to MongoDB.
    metrics
        Where it is counted.
    resync_seconds
        After how long an app is looked at although nothing happened.
    observer
        Told after every step.
    """

    def __init__(
        self,
        database: SharedDatabase,
        *,
        cache: MdbAppCache,
        objects: Objects,
        address: Address,
        certificates: Callable[[], Certificates],
        metrics: Metrics,
        resync_seconds: float,
        observer: StepObserver | None = None,
    ) -> None:
        self._database = database
        self._registry = database.registry
        self._cache = cache
        self._objects = objects
        self._address = address
        self._certificates = certificates
        self._metrics = metrics
        self._resync_seconds = resync_seconds
        self._observer = observer
        self._contention = Contention()
        self._unsettled: dict[AppKey, int] = {}
        self._narrowed: dict[AppKey, tuple[str, int]] = {}

    @property
    def _isolation(self) -> Isolation:
        return self._address.isolation

    async def reconcile(self, key: AppKey) -> Again:
        """Bring one app to what it has to be; return when to look at it again."""
        with self._metrics.time_reconcile() as timer:
            left_behind = not await self._end_vanished(key)
            app = self._cache.get(key)
            if app is None:
                self._forget(key)
                timer.result = "waiting" if left_behind else "unchanged"
                return Again(failed=left_behind)
            report = Report(app, self._isolation)
            try:
                if app.deleting:
                    await self._deregister(app, report)
                else:
                    await self._provision(app, report)
            finally:
                await self._tell(report)
            again = self._again(report)
            if left_behind and not again.failed:
                again = replace(again, failed=True)
            timer.result = "waiting" if again.failed else "changed" if report.wrote else "unchanged"
            return again

    # --- the story

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
            await self._add_finalizer(app, report)
            record = await self._claim(app, spec, report)
            report.holding[ConditionType.REGISTERED] = "Slug and collections are this app's."
        if record is None:
            return
        asked = requests(app.annotations)

        # Access: what may be used, by whom, until when. What withdraws needs no master key.
        with report.line(ConditionType.SECRET_PROJECTED):
            report.secrets = await self._ensure_secret(record, asked, report)
        if report.secrets is not None:
            with report.line(ConditionType.SECRET_PROJECTED):
                await self._expire(report)
            with report.line(ConditionType.SECRET_PROJECTED):
                await self._rotate_and_revoke(spec, asked, report)
        if is_new := not record.stamped.issuperset(record.spec.collection_names):
            # A collection has to be there before anyone may write to it. One that is new holds
            # nothing up, and an old one that cannot be made right only for a moment.
            with report.line(ConditionType.COLLECTIONS_READY):
                await self._collections(app, record, report)
        with report.line(ConditionType.GRANTS_RESOLVED):
            await self._publish(record, report)
        if report.secrets is not None:
            with report.line(ConditionType.SECRET_PROJECTED):
                revealed = self._registry.secrets.open(report.secrets)
            with report.line(ConditionType.DATABASE_USER_READY):
                await self._database_users(record, report, revealed)

        # What pods mount: only what works by now.
        usable = not report.failed(ConditionType.GRANTS_RESOLVED) and not report.failed(
            ConditionType.DATABASE_USER_READY
        )
        if revealed is not None and usable:
            with report.line(ConditionType.SECRET_PROJECTED):
                await self._project(app, record, revealed, report)
        if report.binding is not None and report.secrets is not None:
            with report.line(ConditionType.WORKLOADS_RESTARTED):
                await self._restart_workloads(app, spec, report.secrets, report)

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
        waits = Failure(
            Reason.DELETING,
            "It is being deleted.",
            retry_seconds=DELETION_RETRY_SECONDS,
        )
        with report.line(ConditionType.REGISTERED):
            try:
                names = await self._end_access(app, report)
                await self._delete_secrets(app, names, report)
                if names is not None:
                    await self._erase(app, report)
            except DatabaseUnavailable as error:
                if not forced:
                    report.fail(
                        ConditionType.REGISTERED,
                        Failure(
                            Reason.DELETING,
                            f"The deletion waits for MongoDB: {error.message.rstrip('.')}. It goes"
                            " on by itself. To finish it without revoking the app's access in"
                            f' MongoDB set the annotation {ANNOTATION_FORCE_DELETE}: "true".',
                            status="Unknown",
                            retry_seconds=DELETION_RETRY_SECONDS,
                        ),
                    )
                    return
                await self._delete_secrets(app, None, report)
            if set(app.finalizers) != {FINALIZER}:
                held = ", ".join(sorted(set(app.finalizers) - {FINALIZER}))
                report.fail(
                    ConditionType.REGISTERED,
                    replace(waits, message=f"It is deregistered; held by the finalizer of {held}."),
                )
                report.unbound = True
                await self._tell(report)
            await self._remove_finalizer(app, report)
            report.failures.clear()

    # --- claim

    async def _add_finalizer(self, app: MdbAppResource, report: Report) -> None:
        """Hold the MdbApp before anything exists that a deletion would have to remove."""
        if app.finalized:
            return
        obj = {
            "metadata": {
                "namespace": app.key.namespace,
                "name": app.key.name,
                "uid": app.uid,
                "resourceVersion": app.resource_version,
                "finalizers": list(app.finalizers),
            }
        }
        written = await self._objects.mdbapps.add_finalizer(obj, FINALIZER)
        if written is not None:
            self._absorb(report.app, written)
        self._did(Step.FINALIZER_ADD, report, wrote=written is not None)

    async def _claim(self, app: MdbAppResource, spec: MdbAppSpec, report: Report) -> AppRecord:
        """Take slug and names, or find what is registered; nothing that waits for data."""
        before = await self._registry.holder(spec.slug)
        try:
            record = await self._claim_spec(app, spec)
        except SlugTaken:
            if before is None or not await self._vanished(before.owner):
                raise
            await self._end_registration(before)
            record = await self._claim_spec(app, spec)
        except CollectionTaken as error:
            if before is None or before.owner != app.owner or before.state is not AppState.ACTIVE:
                raise
            # What it had stays its own; above all what it withdraws must not wait for a name.
            report.fail(
                ConditionType.COLLECTIONS_READY,
                Failure(
                    Reason.COLLECTION_TAKEN,
                    f"{error.message}. Until then the collections are those of before; rename the"
                    " collection in spec.collections.",
                ),
            )
            kept = spec.model_copy(update={"collections": before.spec.collections})
            record = await self._claim_spec(app, kept)
        wrote = before is None or record.revision != before.revision
        self._did(Step.CLAIM, report, wrote=wrote)
        if wrote:
            self._wake_related(app)
        return record

    async def _claim_spec(self, app: MdbAppResource, spec: MdbAppSpec) -> AppRecord:
        try:
            return await self._registry.claim(spec, app.owner, generation=app.generation)
        except OutdatedGeneration:
            # Seen late, or of an API server that was restored from a backup: only it can tell.
            obj = await self._objects.mdbapps.get(*app.key)
            if obj is None or obj["metadata"]["uid"] != app.uid:
                raise
            if obj["metadata"].get("generation") != app.generation:
                raise
            return await self._registry.claim(
                spec, app.owner, generation=app.generation, restored=True
            )

    async def _vanished(self, owner: Owner) -> bool:
        """Tell whether the MdbApp that holds a slug is gone, without having been deregistered."""
        if owner.is_standalone:
            return False  # which no API server knows
        try:
            obj = await self._objects.mdbapps.get(owner.namespace, owner.name)
        except Forbidden:
            return False  # another operator's namespace
        return obj is None or obj["metadata"]["uid"] != owner.uid

    # --- access

    async def _ensure_secret(
        self, record: AppRecord, asked: Mapping[str, str], report: Report
    ) -> SecretRecord:
        """Return the app's credentials; generate those of a new registration."""
        secrets = self._registry.secrets
        found = await secrets.get(record.slug)
        wrote = found is None or found.incarnation != record.incarnation
        if wrote:
            await self._database.keys.require()
            found = await secrets.ensure(record, handled=asked)
            self._wake_related(report.app)
        assert found is not None  # noqa: S101 - generated where there was none
        self._did(Step.SECRET, report, wrote=wrote)
        return found

    async def _expire(self, report: Report) -> None:
        """Remove the versions whose overlap is over."""
        assert report.secrets is not None  # noqa: S101 - the line before
        slug, expiry = report.secrets.slug, report.secrets.next_expiry
        if expiry is not None and expiry <= self._database.clock():
            wrote = await self._registry.expire(slug)
            report.secrets = await self._registry.secrets.get(slug)
            self._did(Step.EXPIRE, report, wrote=wrote)

    async def _rotate_and_revoke(
        self, spec: MdbAppSpec, asked: Mapping[str, str], report: Report
    ) -> None:
        """Rotate what is to be rotated, then end all earlier versions where that was asked for."""
        assert report.secrets is not None  # noqa: S101 - the lines before
        registry, slug, period = self._registry, spec.slug, spec.secret.rotation_period_seconds
        rotation = due_rotation(report.secrets, asked, period, self._database.clock())
        revocation = asked_revocation(report.secrets, asked)
        rotated = rotation is None
        try:
            if rotation is not None:
                # A key that does not open the current version must not seal the next one.
                registry.secrets.open(report.secrets)
                rotate = partial(
                    registry.rotate,
                    slug,
                    expected_version=rotation.expected_version,
                    overlap_seconds=spec.secret.overlap_seconds,
                    request=rotation.request,
                )
                outcome = await rotate()
                if outcome.result is RotationResult.WAITING and revocation is not None:
                    # Ending the earlier versions, which was asked for too, makes room.
                    await registry.revoke_previous(slug)
                    outcome = await rotate()
                wrote = outcome.result is RotationResult.ROTATED
                rotated = outcome.result is not RotationResult.WAITING
                report.waiting_until = outcome.retry_at
                if wrote:
                    note = f"The secret is at version {outcome.version}."
                    report.events.append(("Rotated", note))
                self._did(Step.ROTATE, report, wrote=wrote)
        finally:
            if revocation is not None:
                # Where the rotation that was asked for with it has failed, the request stays: the
                # version that it wants to be rid of is still the current one.
                wrote = await registry.revoke_previous(
                    slug, request=revocation if rotated else None
                )
                if wrote:
                    note = "All versions of the secret before the current one have ended."
                    report.events.append(("PreviousRevoked", note))
                self._did(Step.REVOKE_PREVIOUS, report, wrote=wrote)
            if rotation is not None or revocation is not None:
                report.secrets = await registry.secrets.get(slug)

    async def _publish(self, record: AppRecord, report: Report) -> None:
        """Publish the grants of the app and of its readers, and narrow the readers' roles.

        The readers' roles are brought up to the grants here: what an owner withdraws waits for
        nobody's own run. Until that was done for what the owner says now it is done again.
        """
        report.require_database()
        report.grants = grants = await self._registry.publish(record.slug)
        self._did(Step.GRANTS, report, wrote=grants.changed or bool(grants.readers_changed))
        if grants.changed or grants.readers_changed:
            self._wake_related(report.app)
        said = (report.app.uid, report.app.generation)
        if self._narrowed.get(report.app.key) == said and not grants.readers_changed:
            return
        self._narrowed.pop(report.app.key, None)
        wrote = await self._database.users.refresh_roles(grants.readers)
        self._did(Step.READERS, report, wrote=wrote)
        if wrote:
            self._wake_related(report.app)
        self._narrowed[report.app.key] = said

    async def _database_users(
        self, record: AppRecord, report: Report, revealed: RevealedSecrets | None
    ) -> None:
        """Make the app's role and users what they have to be."""
        report.require_database()
        assert report.secrets is not None  # noqa: S101 - the caller looked
        users, slug = self._database.users, record.slug
        if revealed is None or report.grants is None:
            # Without the key nothing can be made, but what has ended can be dropped.
            wrote = await users.drop_ended(slug, [v.version for v in report.secrets.versions])
            wrote |= await users.refresh_roles([slug])
            self._did(Step.DATABASE_USER, report, wrote=wrote)
            return
        wrote = await users.ensure(record, report.grants, revealed)
        self._did(Step.DATABASE_USER, report, wrote=wrote)
        report.holding[ConditionType.DATABASE_USER_READY] = (
            "The app has a database user and role of its own."
            if self._isolation == "database"
            else "isolation: library - the app shares the operator's database user, so only the"
            " library keeps apps apart, not MongoDB. Install with isolation: database for a user"
            " of its own."
        )

    # --- what pods mount

    async def _project(
        self, app: MdbAppResource, record: AppRecord, revealed: RevealedSecrets, report: Report
    ) -> None:
        data = projected_data(self._address, revealed, self._certificates())
        desired = DesiredSecret(app.owner, app.secret_name, data)
        result = await self._objects.secrets.project(desired)
        if result in _NOT_PROJECTED:
            report.unbound = True
            report.fail(
                ConditionType.SECRET_PROJECTED,
                Failure(
                    Reason.SECRET_CONFLICT,
                    f"Secret {app.secret_name} {_NOT_PROJECTED[result]}",
                    retry_seconds=SECRET_CONFLICT_RETRY_SECONDS,
                ),
            )
            return
        self._did(Step.PROJECT, report, wrote=result is not Projection.UNCHANGED)
        report.binding = app.secret_name
        message = f"Secret {app.secret_name} holds the app's values."
        if report.waiting_until is not None:
            message += (
                " The requested rotation waits until"
                f" {format_time(report.waiting_until)}, when an earlier version ends; to end all"
                " earlier versions now set the annotation mdb-engine.dev/revoke-previous."
            )
        report.holding[ConditionType.SECRET_PROJECTED] = message
        self._watch_for_contention(app, result, report)
        await self._delete_former_secrets(app, record, report)

    def _watch_for_contention(
        self, app: MdbAppResource, result: Projection, report: Report
    ) -> None:
        """Slow down where somebody keeps undoing what is written, and say so."""
        if result is Projection.UNCHANGED:
            self._contention.settled(app.key)
            return
        secrets, told = report.secrets, app.status.get("secret") or {}
        if secrets is None or told.get("version") != secrets.current.version:
            return  # a new version is written once, and that is no repair
        pause = self._contention.repaired(app.key)
        if pause:
            self._database.queue.hold(app.key, pause)
            report.fail(
                ConditionType.SECRET_PROJECTED,
                Failure(
                    Reason.CONTENDED,
                    f"Secret {app.secret_name} was put back several times in a row: something else"
                    " keeps changing or deleting it. It is repaired more rarely now; find out who"
                    " writes it (kubectl get secret --show-managed-fields), a webhook or a tool"
                    " that syncs Secrets for example.",
                    retry_seconds=pause,
                ),
            )

    async def _delete_former_secrets(
        self, app: MdbAppResource, record: AppRecord, report: Report
    ) -> None:
        """Delete the Secrets of earlier names, after the one of the new name is there."""
        former = {*record.secret_names, *_bound(app)} - {app.secret_name}
        for name in sorted(former):
            wrote = await self._objects.secrets.delete_if_ours(app.key.namespace, name, app.uid)
            self._did(Step.FORMER_SECRET, report, wrote=wrote)
        if former & record.secret_names:
            await self._registry.forget_secret_names(record.slug, former)

    async def _restart_workloads(
        self, app: MdbAppResource, spec: MdbAppSpec, secrets: SecretRecord, report: Report
    ) -> None:
        failed: list[str] = []
        for target in spec.restart:
            name = f"{target.kind}/{target.name}"
            try:
                result = await self._objects.restarter.restart(
                    app.key.namespace,
                    target.kind,
                    target.name,
                    slug=spec.slug,
                    version=secrets.current.version,
                    incarnation=secrets.incarnation,
                    rotated_at=secrets.current.created_at,
                )
            except Forbidden:
                failed.append(f"{name} (RBAC does not allow it)")
                continue
            except Invalid:  # a stored object that today's validation, or a webhook, refuses
                failed.append(f"{name} (the API server refuses the change)")
                continue
            if result is Restart.MISSING:
                failed.append(f"{name} (there is none)")
            elif result is Restart.RESTARTED:
                note = f"{name} restarts with version {secrets.current.version} of the secret."
                report.events.append(("Restarted", note))
            self._did(Step.RESTART, report, wrote=result is Restart.RESTARTED)
        if failed:
            report.fail(
                ConditionType.WORKLOADS_RESTARTED,
                Failure(
                    Reason.RESTART_FAILED,
                    f"Not restarted in {app.key.namespace}: {', '.join(failed)}. Correct"
                    " spec.restart, or restart them by hand after a rotation.",
                ),
            )
            return
        text = "Every workload of spec.restart has the current version of the secret."
        report.holding[ConditionType.WORKLOADS_RESTARTED] = (
            text if spec.restart else "spec.restart names no workload."
        )

    # --- data

    async def _collections(self, app: MdbAppResource, record: AppRecord, report: Report) -> None:
        report.require_database()
        outcome = await self._database.builds.ensure(app.key, record)
        if isinstance(outcome, datetime):
            report.fail(
                ConditionType.COLLECTIONS_READY,
                Failure(
                    Reason.INDEX_BUILDING,
                    f"Indexes are being built since {format_time(outcome)}, which goes on by"
                    " itself; the app can be used meanwhile.",
                ),
            )
            return
        self._did(Step.COLLECTIONS, report, wrote=outcome.wrote)
        if outcome.record.stamped != record.stamped and report.grants is not None:
            self._database.queue.wake(app.key)  # pods are told where MongoDB holds the stamp
        if outcome.conflicts:
            report.fail(
                ConditionType.COLLECTIONS_READY,
                Failure(
                    Reason.INDEX_CONFLICT,
                    redact(" ".join(f"{one.message}." for one in outcome.conflicts)),
                ),
            )
            return
        report.holding[ConditionType.COLLECTIONS_READY] = (
            "Collections and indexes are what spec.collections says."
        )

    # --- deletion

    async def _end_access(self, app: MdbAppResource, report: Report) -> frozenset[str] | None:
        """End all access of the app and to its data; None where the slug is not the app's."""
        self._database.gate.require()
        record = await self._registry.holder(app.slug)
        if not await self._registry.revoke(app.slug, app.owner):
            return None  # the slug is not this app's, or everything was done before
        self._did(Step.DEREGISTER, report, wrote=True)
        readers = await self._registry.neighbours(app.slug)
        wrote = await self._database.users.drop(app.slug)
        wrote |= await self._database.users.refresh_roles(
            reader.slug for reader in readers if app.slug in reader.spec.read_scopes
        )
        self._did(Step.DROP_USERS, report, wrote=wrote)
        return record.secret_names if record is not None else frozenset()

    async def _delete_secrets(
        self, app: MdbAppResource, names: frozenset[str] | None, report: Report
    ) -> None:
        wrote = False
        for name in sorted({app.secret_name, *_bound(app), *(names or ())}):
            try:
                wrote |= await self._objects.secrets.delete_if_ours(
                    app.key.namespace, name, app.uid
                )
            except Forbidden:
                # Where the namespace is being deleted our Role in it may be gone already; the
                # garbage collector then removes the Secret, of which the app is the owner.
                continue
        self._did(Step.DELETE_SECRET, report, wrote=wrote)

    async def _erase(self, app: MdbAppResource, report: Report) -> None:
        delete_data = app.spec.get("deletionPolicy") == "Delete"
        wrote = await self._registry.erase(app.slug, app.owner, delete_data=delete_data)
        self._did(Step.ERASE, report, wrote=wrote)

    async def _remove_finalizer(self, app: MdbAppResource, report: Report) -> None:
        obj = await self._objects.mdbapps.get(*app.key)
        if obj is not None and obj["metadata"]["uid"] == app.uid:
            written = await self._objects.mdbapps.remove_finalizer(obj, FINALIZER)
            self._did(Step.FINALIZER_REMOVE, report, wrote=written is not None)
        self._wake_related(app, waiting=True)

    async def _end_vanished(self, key: AppKey) -> bool:
        """End what MdbApps of this name left behind that went away past our finalizer.

        Returns False where that could not be done yet; a successor of the name goes on without.
        """
        while (gone := self._cache.gone(key)) is not None:
            try:
                self._database.gate.require()
                record = await self._registry.holder(gone.slug)
                ended = (
                    record is not None
                    and record.owner == gone.owner
                    and record.state is not AppState.TOMBSTONE
                )
                if record is not None and ended:
                    await self._end_registration(record)
            except MdbEngineError as error:
                _log.info(
                    "What a deleted MdbApp left behind is ended later",
                    namespace=key.namespace,
                    app=key.name,
                    error=error.message,
                )
                return False
            self._cache.buried(gone)
            self._wake_related(gone, waiting=True)
        return True

    async def _end_registration(self, record: AppRecord) -> None:
        """Revoke a registration whose MdbApp vanished; its data stays, as a tombstone."""
        await self._database.end_vanished(record)

    # --- what is told

    async def _tell(self, report: Report) -> None:
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
        status = describe(report, current, self._database.clock(), runs)
        try:
            written = await self._objects.mdbapps.apply_status(app.owner, current, status)
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
            await self._objects.events.record(
                app.owner, "Normal", reason=reason, action=reason, note=note
            )
        report.events.clear()
        for row in transitions(current.get("conditions") or (), status["conditions"]):
            if row["type"] in _TOLD and not _is_silent(row, current):
                await self._objects.events.record(
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

    def _again(self, report: Report) -> Again:
        """Return when the app is to be looked at next: at the next time that something is due."""
        if report.app.deleting and not report.failures and not report.unsettled:
            return Again()
        self._remember_what_is_due(report)
        if report.unsettled:
            return Again(seconds=report.retry_seconds, failed=True, not_before=report.not_before)
        if report.retry_seconds is not None:
            return Again(seconds=report.retry_seconds, failed=True)
        return Again(seconds=self._resync())

    def _remember_what_is_due(self, report: Report) -> None:
        """Have the app looked at when a version of its secret ends or begins, whatever failed."""
        if report.secrets is None or report.suspended:
            return
        period = (report.app.spec.get("secret") or {}).get("rotationPeriodSeconds") or 0
        for time in (report.waiting_until, next_due(report.secrets, period)):
            if time is not None:
                seconds = (time - self._database.clock()).total_seconds()
                self._database.queue.wake(report.app.key, after=max(0.01, seconds), urgent=True)

    def _resync(self) -> float:
        """Return the time of a resync, spread so that a start does not repeat itself as a burst."""
        return self._resync_seconds * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load

    def _wake_related(self, app: MdbAppResource, *, waiting: bool = False) -> None:
        """Wake the apps that name this one, that it names, or that want its slug.

        Parameters
        ----------
        app
            Of which something changed.
        waiting
            Wake those that wait for a name as well: it may have become free.
        """
        for other in self._cache.related(app):
            self._database.queue.wake(other.key, urgent=True)
        if waiting:
            for other in self._cache:
                rows = other.status.get("conditions") or ()
                if any(row.get("reason") in _WAIT_FOR_NAMES for row in rows):
                    self._database.queue.wake(other.key)

    def _did(self, step: Step, report: Report, *, wrote: bool) -> None:
        report.wrote |= wrote
        if wrote:
            self._metrics.count_write(step.target, step.value)
        if self._observer is not None:
            self._observer(step, wrote)

    def _forget(self, key: AppKey) -> None:
        self._unsettled.pop(key, None)
        self._narrowed.pop(key, None)
        self._contention.forget(key)


_WAIT_FOR_NAMES = frozenset({Reason.SLUG_TAKEN, Reason.COLLECTION_TAKEN})


def _bound(app: MdbAppResource) -> tuple[str, ...]:
    """Return the Secret's name in the status: of installations that kept no other account of it."""
    name = (app.status.get("binding") or {}).get("name")
    return (name,) if name else ()


def _is_silent(row: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    """Whether nobody has to hear of a transition: an app's first and good state of its grants."""
    return (
        row["type"] == ConditionType.GRANTS_RESOLVED
        and row["reason"] != Reason.NOT_GRANTED
        and row["reason"] != Reason.GRANT_PENDING
        and not current.get("conditions")
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
