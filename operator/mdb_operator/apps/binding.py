"""What an app's pods mount, and that they take it up: the second part of the reconcile."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NoReturn

import structlog

from mdb_engine.core.secret import RevealedSecrets, SecretRecord
from mdb_engine.exceptions import KeyManagerUnavailable
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.models.app import AppRecord
from mdb_operator.apps.conditions import ConditionType, Reason, format_time
from mdb_operator.apps.contention import Contention
from mdb_operator.apps.database import SharedDatabase
from mdb_operator.apps.projection import Address, projected_data
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.apps.status import Report, Step
from mdb_operator.constants import SECRET_TYPE
from mdb_operator.exceptions import Conflict, Forbidden, Invalid
from mdb_operator.kubernetes.resources import AppKey
from mdb_operator.kubernetes.secrets import DesiredSecret, Projection, SecretStore
from mdb_operator.kubernetes.workloads import Restart, WorkloadRestarter
from mdb_operator.mongodb.certificates import Certificates

__all__ = ["Binding"]

SECRET_CONFLICT_RETRY_SECONDS = 15.0
"""A foreign Secret carries no label of ours, so nobody tells when it goes away."""

ALTERED_RETRY_SECONDS = 5.0
"""The least time after which a Secret is written again that a webhook changes at each write."""

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


_log = structlog.get_logger(__name__)


class Binding:
    """Projects Secrets and restarts what cannot read them again."""

    def __init__(
        self,
        database: SharedDatabase,
        secrets: SecretStore,
        restarter: WorkloadRestarter,
        address: Address,
        certificates: Callable[[], Certificates],  # those of apps for TLS
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._restarter = restarter
        self._address = address
        self.certificates = certificates
        self._contention = Contention()

    async def project(
        self, app: MdbAppResource, record: AppRecord, revealed: RevealedSecrets, report: Report
    ) -> None:
        """Make the app's Secret what it has to be, then remove those of earlier names."""
        data = projected_data(self._address, revealed, self.certificates())
        former = frozenset(record.former_uids)
        desired = DesiredSecret(app.owner, app.secret_name, data, former)
        result = await self._secrets.project(desired)
        if result in _NOT_PROJECTED:
            report.unbound = True
            report.fail(
                ConditionType.SECRET_PROJECTED,
                Reason.SECRET_CONFLICT,
                f"Secret {app.secret_name} {_NOT_PROJECTED[result]}",
                retry_seconds=SECRET_CONFLICT_RETRY_SECONDS,
            )
            return
        if result is Projection.AHEAD:
            await self._supersede(app, desired, report)
        if result is Projection.ALTERED:
            self._say_altered(app, report)
            return
        report.did(Step.PROJECT, wrote=result is not Projection.UNCHANGED)
        self._say_bound(app, report)
        self._watch_for_contention(app, result, report)
        await self._delete_former_secrets(app, record, report)

    def _say_altered(self, app: MdbAppResource, report: Report) -> None:
        """Say that what was written is not what stands there, and write it again ever later."""
        report.did(Step.PROJECT, wrote=True)
        pause = max(self._contention.repaired(app.key), ALTERED_RETRY_SECONDS)
        self._database.queue.hold(app.key, pause)
        report.fail(
            ConditionType.SECRET_PROJECTED,
            Reason.CONTENDED,
            f"Secret {app.secret_name} is changed while it is written, by a mutating admission"
            " webhook or policy: pods that mount it may not reach MongoDB. Have it leave Secrets of"
            f" the type {SECRET_TYPE} alone (kubectl get mutatingwebhookconfigurations). It is"
            " written again by itself, later each time.",
            retry_seconds=pause,
        )

    async def _supersede(
        self, app: MdbAppResource, desired: DesiredSecret, report: Report
    ) -> NoReturn:
        """Have a version made that is later than the one in the Secret, for the next run."""
        slug = desired.data["app-slug"]
        stored = await self._secrets.read(app.key.namespace, app.secret_name)
        if stored is not None and desired.is_behind(stored):
            issued = int(stored.data["secret-version"])
            wrote = await self._database.registry.supersede(slug, issued=issued)
            report.did(Step.ROTATE, wrote=wrote)
            if wrote:
                note = (
                    f"MongoDB was restored to before version {issued} of the secret: all versions"
                    " that it knew have ended, and there is a new one."
                )
                report.events.append(("Rotated", note))
                _log.warning(note, namespace=app.key.namespace, app=app.key.name)
        raise Conflict(f"The secret of app {slug!r} is being made anew")

    async def keep(self, app: MdbAppResource, error: KeyManagerUnavailable, report: Report) -> None:
        """Leave the app's Secret as it is while no key manager says what it has to hold.

        That it is the app's, and holds the current version, can be told without one: MongoDB has
        the token's digest.

        Raises
        ------
        KeyManagerUnavailable
            If it is not there, not the app's, or holds something else.
        """
        assert report.secrets is not None  # noqa: S101 - the caller looked
        current = report.secrets.current
        stored = await self._secrets.read(app.key.namespace, app.secret_name)
        if (
            stored is None
            or stored.metadata.deleting
            or not stored.metadata.belongs_to(app.uid)
            or stored.data.get("secret-version") != str(current.version).encode()
            or hashlib.sha256(stored.data.get("app-secret", b"")).digest() != current.verifier
        ):
            raise error
        self._say_bound(app, report)

    @staticmethod
    def _say_bound(app: MdbAppResource, report: Report) -> None:
        report.binding = app.secret_name
        message = f"Secret {app.secret_name} holds the app's values."
        if report.key_manager_problem:
            message += f" A rotation that is due waits: {report.key_manager_problem}."
        if report.waiting_until is not None:
            message += (
                " The requested rotation waits until"
                f" {format_time(report.waiting_until)}, when an earlier version ends; to end all"
                " earlier versions now set the annotation mdb-engine.dev/revoke-previous."
            )
        report.holding[ConditionType.SECRET_PROJECTED] = message

    def _watch_for_contention(
        self, app: MdbAppResource, result: Projection, report: Report
    ) -> None:
        """Slow down where somebody keeps undoing what is written, and say so."""
        secrets, told = report.secrets, app.status.get("secret") or {}
        is_new = secrets is None or told.get("version") != secrets.current.version
        if result is Projection.UNCHANGED or is_new:  # a new version is written once: no repair
            pause = self._contention.settled(app.key)
        else:
            pause = self._contention.repaired(app.key)
        if pause:
            self._database.queue.hold(app.key, pause)
            report.fail(
                ConditionType.SECRET_PROJECTED,
                Reason.CONTENDED,
                f"Secret {app.secret_name} was put back several times in a row: something else"
                " keeps changing or deleting it. It is repaired more rarely now; find out who"
                " writes it (kubectl get secret --show-managed-fields), a webhook or a tool"
                " that syncs Secrets for example.",
                retry_seconds=pause,
            )

    async def _delete_former_secrets(
        self, app: MdbAppResource, record: AppRecord, report: Report
    ) -> None:
        """Delete the Secrets of earlier names, after the one of the new name is there."""
        former = {*record.secret_names, *_bound(app)} - {app.secret_name}
        for name in sorted(former):
            wrote = await self._secrets.delete_if_ours(app.key.namespace, name, app.uid)
            report.did(Step.FORMER_SECRET, wrote=wrote)
        if former & record.secret_names:
            await self._database.registry.forget_secret_names(record.slug, former)

    async def restart_workloads(
        self, app: MdbAppResource, spec: MdbAppSpec, secrets: SecretRecord, report: Report
    ) -> None:
        """Restart the workloads of ``spec.restart`` that may hold an earlier version."""
        if report.binding is None:
            return
        failed: list[str] = []
        for target in spec.restart:
            name = f"{target.kind}/{target.name}"
            try:
                result = await self._restarter.restart(
                    app.key.namespace,
                    target.kind,
                    target.name,
                    slug=spec.slug,
                    version=secrets.current.version,
                    incarnation=secrets.incarnation,
                    rotated_at=secrets.current.created_at,
                )
            except Forbidden:
                failed.append(f"{name} (not allowed: see the chart's workloadRestart.enabled)")
                continue
            except Invalid:  # a stored object that today's validation, or a webhook, refuses
                failed.append(f"{name} (the API server refuses the change)")
                continue
            if result is Restart.MISSING:
                failed.append(f"{name} (there is none)")
            elif result is Restart.RESTARTED:
                note = f"{name} restarts with version {secrets.current.version} of the secret."
                report.events.append(("Restarted", note))
            report.did(Step.RESTART, wrote=result is Restart.RESTARTED)
        if failed:
            report.fail(
                ConditionType.WORKLOADS_RESTARTED,
                Reason.RESTART_FAILED,
                f"Not restarted in {app.key.namespace}: {', '.join(failed)}. Correct"
                " spec.restart, or restart them by hand after a rotation.",
            )
            return
        text = "Every workload of spec.restart has the current version of the secret."
        report.holding[ConditionType.WORKLOADS_RESTARTED] = (
            text if spec.restart else "spec.restart names no workload."
        )

    async def delete_secrets(
        self, app: MdbAppResource, names: frozenset[str] | None, report: Report
    ) -> None:
        """Delete the Secrets of an app that ends, under all the names that they may have."""
        wrote = False
        for name in sorted({app.secret_name, *_bound(app), *(names or ())}):
            try:
                wrote |= await self._secrets.delete_if_ours(app.key.namespace, name, app.uid)
            except Forbidden:
                # Where the namespace is being deleted our Role in it may be gone already; the
                # garbage collector then removes the Secret, of which the app is the owner.
                continue
        report.did(Step.DELETE_SECRET, wrote=wrote)

    def forget(self, key: AppKey) -> None:
        """Forget an app that is gone."""
        self._contention.forget(key)


def _bound(app: MdbAppResource) -> tuple[str, ...]:
    """Return the Secret's name in the status: of installations that kept no other account of it."""
    name = (app.status.get("binding") or {}).get("name")
    return (name,) if name else ()
