"""Who may use what, until when, and as whom: the registration, the secret, the grants, the users.

The first half of the reconcile, in its order. What withdraws needs no master key and waits for
nothing but MongoDB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from types import EllipsisType
from typing import Any

from mdb_engine.core.secret import RevealedSecrets, RotationResult, SecretRecord
from mdb_engine.exceptions import (
    CollectionTaken,
    KeyManagerUnavailable,
    OutdatedGeneration,
    SlugTaken,
)
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.models.app import AppRecord, AppState, GrantOutcome
from mdb_operator.apps.conditions import ConditionType, Isolation, Reason
from mdb_operator.apps.database import SharedDatabase
from mdb_operator.apps.requests import asked_revocation, due_rotation, not_renewed
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.apps.status import Report, Step
from mdb_operator.constants import FINALIZER
from mdb_operator.kubernetes.mdbapps import MdbAppStore
from mdb_operator.kubernetes.resources import AppKey

__all__ = ["Access"]


class Access:
    """Gives apps what they may use, and takes it from them."""

    def __init__(
        self,
        database: SharedDatabase,
        mdbapps: MdbAppStore,
        isolation: Isolation,
        # Told the object before and after a write of ours.
        absorb: Callable[[MdbAppResource, Mapping[str, Any]], None],
        # Told what apps were granted in somebody else's run.
        on_grants: Callable[[Iterable[GrantOutcome]], None],
    ) -> None:
        self._database = database
        self._registry = database.registry
        self._mdbapps = mdbapps
        self._isolation = isolation
        self._absorb = absorb
        self._on_grants = on_grants
        self._narrowed: dict[AppKey, tuple[str, int]] = {}

    async def add_finalizer(self, app: MdbAppResource, report: Report) -> None:
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
        written = await self._mdbapps.add_finalizer(obj, FINALIZER)
        if written is not None:
            self._absorb(report.app, written)
        report.did(Step.FINALIZER_ADD, wrote=written is not None)

    async def claim(self, app: MdbAppResource, spec: MdbAppSpec, report: Report) -> AppRecord:
        """Take slug and names, or find what is registered; nothing that waits for data."""
        before = await self._registry.holder(spec.slug)
        try:
            record = await self._claim_spec(app, spec, before)
        except SlugTaken:
            if before is None or not await self._mdbapps.has_vanished(before.owner):
                raise
            await self._database.end_vanished(before)
            record = await self._claim_spec(app, spec)
        except CollectionTaken as error:
            if before is None or before.owner != app.owner or before.state is not AppState.ACTIVE:
                raise
            # What it had stays its own; above all what it withdraws must not wait for a name.
            report.fail(
                ConditionType.COLLECTIONS_READY,
                Reason.COLLECTION_TAKEN,
                f"{error.message}. Until then the collections are those of before; rename the"
                " collection in spec.collections.",
            )
            kept = spec.model_copy(update={"collections": before.spec.collections})
            record = await self._claim_spec(app, kept)
        wrote = before is None or record.revision != before.revision
        report.did(Step.CLAIM, wrote=wrote)
        return record

    async def _claim_spec(
        self, app: MdbAppResource, spec: MdbAppSpec, seen: AppRecord | EllipsisType | None = ...
    ) -> AppRecord:
        try:
            return await self._registry.claim(spec, app.owner, generation=app.generation, seen=seen)
        except OutdatedGeneration:
            # Seen late, or of an API server that was restored from a backup: only it can tell.
            obj = await self._mdbapps.get(*app.key)
            if obj is None or obj["metadata"]["uid"] != app.uid:
                raise
            if obj["metadata"].get("generation") != app.generation:
                raise
            return await self._registry.claim(
                spec, app.owner, generation=app.generation, restored=True
            )

    async def ensure_secret(
        self, record: AppRecord, asked: Mapping[str, str], report: Report
    ) -> SecretRecord:
        """Return the app's credentials; generate those of a new registration."""
        secrets = self._registry.secrets
        found = await secrets.get(record.slug)
        wrote = found is None or found.incarnation != record.incarnation
        if wrote:
            await self._database.keys.require()
            found = await secrets.ensure(record, handled=asked, seen=found)
        assert found is not None  # noqa: S101 - generated where there was none
        report.did(Step.SECRET, wrote=wrote)
        return found

    async def expire(self, report: Report) -> None:
        """Remove the versions whose overlap is over."""
        assert report.secrets is not None  # noqa: S101 - the line before
        slug, expiry = report.secrets.slug, report.secrets.next_expiry
        if expiry is not None and expiry <= self._database.clock():
            wrote = await self._registry.expire(slug)
            report.secrets = await self._registry.secrets.get(slug)
            report.did(Step.EXPIRE, wrote=wrote)

    async def rotate_and_revoke(
        self, spec: MdbAppSpec, asked: Mapping[str, str], report: Report
    ) -> None:
        """Rotate what is to be rotated, then end all earlier versions where that was asked for."""
        assert report.secrets is not None  # noqa: S101 - the lines before
        registry, slug, period = self._registry, spec.slug, spec.secret.rotation_period_seconds
        now, issuer = self._database.clock(), self._database.certificates.read().issuer
        rotation = due_rotation(report.secrets, asked, period, now, issuer)
        revocation = asked_revocation(report.secrets, asked)
        rotated = rotation is None
        try:
            if rotation is not None:
                # A key that does not open the current version must not seal the next one.
                await registry.secrets.open(report.secrets)
                rotate = partial(
                    registry.secrets.rotate,  # which `publish` tells of, before any pod has it
                    slug,
                    expected_version=rotation.expected_version,
                    overlap_seconds=None,
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
                report.did(Step.ROTATE, wrote=wrote)
        except KeyManagerUnavailable as error:
            report.key_manager_problem = error.message  # what there is works on meanwhile
            if not_renewed(report.secrets, now):
                raise  # but not for much longer
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
                report.did(Step.REVOKE_PREVIOUS, wrote=wrote)
            if rotation is not None or revocation is not None:
                report.secrets = await registry.secrets.get(slug)

    async def begin_overlap(self, record: AppRecord, report: Report) -> None:
        """Let what the Secret does not hold any more end after the overlap.

        Not before: an operator that is away in between, for however long, leaves no pod without
        access.
        """
        assert report.secrets is not None  # noqa: S101 - the caller looked
        if not report.is_delivered:
            return
        if await self._database.users.end_former(record):
            report.did(Step.DATABASE_USER, wrote=True)
        if not report.secrets.awaits_overlap:
            return
        report.secrets, grants = await self._registry.begin_overlap(
            report.secrets, overlap_seconds=record.spec.secret.overlap_seconds
        )
        if report.grants is not None:
            report.grants = replace(report.grants, epoch=grants.epoch)
        report.did(Step.BEGIN_OVERLAP, wrote=True)

    async def publish(self, record: AppRecord, report: Report) -> None:
        """Publish the grants of the app and of its readers, and narrow the readers' roles.

        The readers' roles are brought up to the grants here: what an owner withdraws waits for
        nobody's own run. Until that was done for what the owner says now it is done again.
        """
        report.require_database()
        report.grants = grants = await self._registry.publish(record.slug)
        report.did(Step.GRANTS, wrote=grants.changed or bool(grants.readers_changed))
        self._on_grants(grants.readers)
        said = (report.app.uid, report.app.generation)
        if self._narrowed.get(report.app.key) == said and not grants.readers_changed:
            return
        self._narrowed.pop(report.app.key, None)
        wrote = await self._database.users.refresh_roles(reader.slug for reader in grants.readers)
        report.did(Step.READERS, wrote=bool(wrote))
        self._narrowed[report.app.key] = said

    async def database_users(
        self, record: AppRecord, report: Report, revealed: RevealedSecrets | None
    ) -> None:
        """Make the app's role and users what they have to be."""
        report.require_database()
        assert report.secrets is not None  # noqa: S101 - the caller looked
        users, slug = self._database.users, record.slug
        if revealed is None or report.grants is None:
            # Without the key nothing can be made, but what has ended can be dropped.
            wrote = await users.drop_ended(report.secrets)
            wrote |= bool(await users.refresh_roles([slug]))
            report.did(Step.DATABASE_USER, wrote=wrote)
            return
        wrote = await users.ensure(record, report.grants, revealed)
        report.did(Step.DATABASE_USER, wrote=wrote)
        report.holding[ConditionType.DATABASE_USER_READY] = (
            "The app has a database user and role of its own."
            if self._isolation == "database"
            else "isolation: library - the app shares the operator's database user, so only the"
            " library keeps apps apart, not MongoDB. Install with isolation: database for a user"
            " of its own."
        )

    async def end_access(self, app: MdbAppResource, report: Report) -> frozenset[str] | None:
        """End all access of the app and to its data; None where the slug is not the app's."""
        self._database.gate.require()
        record = await self._registry.holder(app.slug)
        if not await self._registry.revoke(app.slug, app.owner):
            return None  # the slug is not this app's, or everything was done before
        report.did(Step.DEREGISTER, wrote=True)
        readers = await self._registry.neighbours(app.slug)
        wrote = await self._database.users.drop(app.slug)
        former = [reader.slug for reader in readers if app.slug in reader.spec.read_scopes]
        wrote |= bool(await self._database.users.refresh_roles(former))
        report.did(Step.DROP_USERS, wrote=wrote)
        return record.secret_names if record is not None else frozenset()

    def forget(self, key: AppKey) -> None:
        """Forget an app that is gone."""
        self._narrowed.pop(key, None)
