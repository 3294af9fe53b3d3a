"""Carry out a plan, step by step, and report what was reached.

Every step finds out by itself whether there is something to write, so running all of them again
after a crash, or for nothing, is right and cheap. A step that fails ends the run; what it means to
the user stands in `mdb_operator.errors`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from mdb_engine.exceptions import CollectionTaken, MasterKeyError, SlugTaken
from mdb_engine.models.app import AppRecord, GrantOutcome, Owner
from mdb_engine.models.secret import RevealedSecrets, RotationResult, SecretRecord
from mdb_engine.services.registry import Registry
from mdb_operator.constants import FINALIZER
from mdb_operator.errors import failure_for
from mdb_operator.exceptions import Forbidden, Invalid
from mdb_operator.models.conditions import ConditionType, Reason
from mdb_operator.models.outcome import Failure, Outcome, SecretFacts
from mdb_operator.models.plan import Observation, Plan, Step
from mdb_operator.services.cache import MdbAppCache
from mdb_operator.services.database_users import DatabaseUsers
from mdb_operator.services.key_check import KeyCheck
from mdb_operator.services.projection import Address, Certificates, projected_data
from mdb_operator.storage.mdbapps import MdbAppStore
from mdb_operator.storage.secrets import AppRef, DesiredSecret, Projection, SecretStore
from mdb_operator.storage.workloads import Restart, WorkloadRestarter

_log = structlog.get_logger(__name__)

__all__ = ["Applier", "Objects", "Run", "StepObserver"]

StepObserver = Callable[[Step, bool], None]
"""Told after every step, with whether it wrote something; a test kills the process here."""

BUILD_SECONDS = 30.0
"""How long a run waits for one index."""

SECRET_CONFLICT_RETRY_SECONDS = 15.0
"""A foreign Secret carries no label of ours, so nobody tells when it goes away."""

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


@dataclass(slots=True)
class Run:
    """The state of one run through the steps.

    Parameters
    ----------
    seen
        What it began with.
    plan
        What is to be done.
    outcome
        What was reached so far.
    record, secrets, grants
        What the steps learned.
    key_problem
        A master key's fault that must not keep the grants from being published.
    relations_changed
        Whether the apps that this one names, or that name it, have to be looked at again.
    """

    seen: Observation
    plan: Plan
    outcome: Outcome
    record: AppRecord | None = None
    secrets: SecretRecord | None = None
    grants: GrantOutcome | None = None
    key_problem: MasterKeyError | None = None
    relations_changed: bool = False

    @property
    def slug(self) -> str:
        """The app's slug."""
        return self.seen.spec.slug

    @property
    def ref(self) -> AppRef:
        """The resource, as the stores of Kubernetes objects know it."""
        return AppRef(*self.seen.app.key, self.seen.app.uid)


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of the API server that are written.

    Parameters
    ----------
    mdbapps, secrets, restarter
        By kind.
    """

    mdbapps: MdbAppStore
    secrets: SecretStore
    restarter: WorkloadRestarter


class Applier:
    """Carries out plans.

    Parameters
    ----------
    registry
        Decides about slugs, secrets and grants.
    users
        The apps' users in MongoDB.
    keys
        Whether the active master key is the right one.
    address
        Where apps reach MongoDB.
    certificates
        Returns those that apps are given for TLS to MongoDB.
    objects
        Those of the API server.
    cache
        Learns of the operator's own writes, so that their echo wakes nobody.
    observer
        Told after every step.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        users: DatabaseUsers,
        keys: KeyCheck,
        address: Address,
        certificates: Callable[[], Certificates],
        objects: Objects,
        cache: MdbAppCache,
        observer: StepObserver,
    ) -> None:
        self._registry = registry
        self._users = users
        self._keys = keys
        self._address = address
        self._certificates = certificates
        self._mdbapps = objects.mdbapps
        self._secrets = objects.secrets
        self._restarter = objects.restarter
        self._cache = cache
        self._observer = observer
        self._steps: dict[Step, Callable[[Run], Awaitable[bool]]] = {
            Step.HOLD: self._hold,
            Step.CLAIM: self._claim,
            Step.COLLECTIONS: self._collections,
            Step.SECRET: self._secret,
            Step.EXPIRE: self._expire,
            Step.ROTATE: self._rotate,
            Step.REVOKE_PREVIOUS: self._revoke_previous,
            Step.GRANTS: self._grants,
            Step.DATABASE_USER: self._database_user,
            Step.PROJECT: self._project,
            Step.RETIRE: self._retire,
            Step.RESTART: self._restart,
        }

    async def apply(self, seen: Observation, plan: Plan) -> Run:
        """Do all steps of a plan, up to the first that fails.

        Raises
        ------
        VersionConflict, Conflict, KubernetesUnavailable, NotFound
            Where somebody else was faster or did not answer: nothing is to be told to the user,
            and the app is to be looked at again.
        """
        run = Run(seen, plan, Outcome(isolation=self._address.isolation))
        for step in plan.steps:
            try:
                wrote = await self._steps[step](run)
            except Exception as error:
                failure = failure_for(error)
                if failure is None:
                    raise
                run.outcome.failure = failure
            else:
                self._observer(step, wrote)
            if run.outcome.failure is not None:
                break
        return run

    async def _hold(self, run: Run) -> bool:
        app = run.seen.app
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
            self._cache.absorb(written)
        return written is not None

    async def _claim(self, run: Run) -> bool:
        seen = run.seen
        try:
            run.record = await self._claim_once(run)
        except SlugTaken as error:
            if not await self._vanished(error.holder):
                raise
            await self._users.drop(run.slug)
            await self._registry.bury(run.slug, error.holder)
            run.relations_changed = True
            run.record = await self._claim_once(run)
        before = seen.record.revision if seen.record else 0
        wrote = run.record.revision != before
        run.relations_changed |= wrote
        return wrote

    async def _claim_once(self, run: Run) -> AppRecord:
        seen = run.seen
        return await self._registry.claim(seen.spec, seen.owner, generation=seen.app.generation)

    async def _vanished(self, holder: Owner) -> bool:
        """Tell whether the MdbApp that holds a slug is gone, without having been deregistered."""
        if not holder.namespace:
            return False  # a standalone app, which no API server knows
        try:
            obj = await self._mdbapps.get(holder.namespace, holder.name)
        except Forbidden:
            return False  # another operator's namespace
        return obj is None or obj["metadata"]["uid"] != holder.uid

    async def _collections(self, run: Run) -> bool:
        before = run.record
        assert before is not None  # noqa: S101 - the claim came before
        made = await self._registry.ensure_collections(before)
        # No longer than any answer is waited for: a worker is held meanwhile.
        built = await self._registry.ensure_indexes(made.record, seconds=BUILD_SECONDS)
        run.record = built.record
        for conflict in made.conflicts:
            _log.warning(conflict.message, slug=run.slug, reason=conflict.reason)
        if built.conflicts:
            # An index that cannot be built must not keep a withdrawn consent from taking hold.
            if run.seen.own_secrets is not None:
                await self._grants(run)
                await self._narrow_readers(run)
            raise CollectionTaken(built.conflicts[0].message)
        run.outcome.registered = True
        return made.wrote or bool(built.changes) or run.record != before

    async def _secret(self, run: Run) -> bool:
        record = run.record
        assert record is not None  # noqa: S101 - the claim came before
        if run.seen.own_secrets is None:
            await self._keys.require()
        run.secrets = await self._registry.secrets.ensure(record, handled=run.plan.handled)
        before = run.seen.own_secrets
        wrote = before is None or before.incarnation != run.secrets.incarnation
        run.relations_changed |= wrote
        return wrote

    async def _expire(self, run: Run) -> bool:
        return await self._registry.expire(run.slug)

    async def _rotate(self, run: Run) -> bool:
        rotation = run.plan.rotation
        assert rotation is not None  # noqa: S101 - the plan has the step only with it
        try:
            # A key that does not open the current version must not seal the next one.
            await self._registry.secrets.reveal(run.slug)
            outcome = await self._registry.rotate(
                run.slug,
                expected_version=rotation.expected_version,
                overlap_seconds=run.seen.spec.secret.overlap_seconds,
                request=rotation.request,
            )
            if outcome.result is RotationResult.WAITING and run.plan.revocation is not None:
                # Both were asked for: ending the earlier versions makes room for the new one.
                await self._registry.revoke_previous(run.slug)
                outcome = await self._registry.rotate(
                    run.slug,
                    expected_version=rotation.expected_version,
                    overlap_seconds=run.seen.spec.secret.overlap_seconds,
                    request=rotation.request,
                )
        except MasterKeyError as error:
            run.key_problem = error
            return False
        if outcome.result is RotationResult.ROTATED:
            run.outcome.events.append(("Rotated", f"The secret is at version {outcome.version}."))
        run.outcome.waiting_until = outcome.retry_at
        return outcome.result is RotationResult.ROTATED

    async def _revoke_previous(self, run: Run) -> bool:
        request = run.plan.revocation
        wrote = await self._registry.revoke_previous(run.slug, request=request)
        if wrote:
            note = "All versions of the secret before the current one have ended."
            run.outcome.events.append(("PreviousRevoked", note))
        return wrote

    async def _grants(self, run: Run) -> bool:
        run.grants = run.outcome.grants = await self._registry.publish(run.slug)
        run.relations_changed |= run.grants.changed
        return run.grants.changed

    async def _database_user(self, run: Run) -> bool:
        # First, because it needs no master key.
        wrote = await self._narrow_readers(run)
        revealed = await self._reveal(run)
        assert run.record is not None  # noqa: S101 - the steps before
        assert run.grants is not None  # noqa: S101 - the steps before
        wrote |= await self._users.ensure(run.record, run.grants, revealed)
        run.outcome.database_user = True
        return wrote

    async def _narrow_readers(self, run: Run) -> bool:
        """Bring the readers' roles up to their grants: a revocation waits for nobody's own run."""
        if not run.relations_changed:
            return False
        around = await self._registry.neighbours(run.slug)
        readers = [app.slug for app in around if run.slug in app.spec.read_scopes]
        return await self._users.refresh_roles(readers)

    async def _reveal(self, run: Run) -> RevealedSecrets:
        if run.key_problem is not None:
            raise run.key_problem
        revealed = await self._registry.secrets.reveal(run.slug)
        run.outcome.secret = SecretFacts(
            version=revealed.version,
            key_id=revealed.key_id,
            rotated_at=revealed.rotated_at,
            previous_expires_at=revealed.previous_expires_at,
        )
        return revealed

    async def _project(self, run: Run) -> bool:
        app = run.seen.app
        revealed = await self._reveal(run)
        data = projected_data(self._address, revealed, self._certificates())
        desired = DesiredSecret(run.ref, app.secret_name, data)
        result = await self._secrets.project(desired)
        if result in _NOT_PROJECTED:
            run.outcome.failure = Failure(
                ConditionType.SECRET_PROJECTED,
                Reason.SECRET_CONFLICT,
                f"Secret {app.secret_name} {_NOT_PROJECTED[result]}",
                retry_seconds=SECRET_CONFLICT_RETRY_SECONDS,
            )
            return False
        run.outcome.binding = app.secret_name
        return result is not Projection.UNCHANGED

    async def _retire(self, run: Run) -> bool:
        app, former = run.seen.app, run.plan.retire
        assert former is not None  # noqa: S101 - the plan has the step only with it
        return await self._secrets.delete_if_ours(app.key.namespace, former, app.uid)

    async def _restart(self, run: Run) -> bool:
        facts, secrets = run.outcome.secret, run.secrets
        assert facts is not None  # noqa: S101 - the Secret was projected
        assert secrets is not None  # noqa: S101 - the same
        wrote, missing = False, []
        for target in run.seen.spec.restart:
            name = f"{target.kind}/{target.name}"
            try:
                result = await self._restarter.restart(
                    run.seen.app.key.namespace,
                    target.kind,
                    target.name,
                    slug=run.slug,
                    version=facts.version,
                    incarnation=secrets.incarnation,
                    rotated_at=facts.rotated_at,
                )
            except Forbidden:
                missing.append(f"{name} (RBAC does not allow it)")
                continue
            except Invalid:  # a stored object that today's validation, or a webhook, refuses
                missing.append(f"{name} (the API server refuses the change)")
                continue
            if result is Restart.MISSING:
                missing.append(f"{name} (there is none)")
            elif result is Restart.RESTARTED:
                wrote = True
                note = f"{name} restarts with version {facts.version} of the secret."
                run.outcome.events.append(("Restarted", note))
        run.outcome.missing_targets = tuple(missing)
        return wrote
