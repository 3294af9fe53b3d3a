"""Makes stores and services from what lives as long as the process.

The controller and every command get theirs here, so that none of them knows how one is made.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from tempfile import NamedTemporaryFile

from pydantic import SecretStr
from pymongo.errors import OperationFailure

from mdb_engine.connection.control import control_view
from mdb_engine.core.clock import Clock, utcnow
from mdb_engine.core.secret import CertificateIssuer
from mdb_engine.key_managers import KeyManagerUri
from mdb_engine.registry.registry import Registry
from mdb_engine.registry.storage.installation import InstallationStore
from mdb_operator.config import KEYRING_SECRET
from mdb_operator.constants import MANAGER
from mdb_operator.exceptions import ConfigurationInvalid
from mdb_operator.keys.source import SecretKeySource
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.events import EventRecorder
from mdb_operator.kubernetes.leases import LeaseStore
from mdb_operator.kubernetes.mdbapps import MdbAppStore
from mdb_operator.kubernetes.secret_watch import (
    IsApp,
    OnChange,
    SecretPoll,
    SecretWatch,
    Watcher,
)
from mdb_operator.kubernetes.secrets import SecretKey, SecretStore
from mdb_operator.kubernetes.workloads import WorkloadRestarter
from mdb_operator.mongodb.certificates import CertificateFiles
from mdb_operator.mongodb.installation import InstallationGuard, identify
from mdb_operator.mongodb.issuer import AppCertificates
from mdb_operator.process.context import ProcessContext, connect_mongodb
from mdb_operator.process.leader import ElectionTimes, LeaderElection

__all__ = ["Factory"]


class Factory:
    """Makes short-lived objects for one process."""

    def __init__(self, context: ProcessContext) -> None:
        self.context = context

    async def ping_anew(self) -> None:
        """Have MongoDB answer through a connection that is made for that alone."""
        context = self.context
        client = connect_mongodb(context.driver, context.config)
        try:
            await client[context.config.mongodb_database].command("ping")
        finally:
            await context.driver.close(client)

    def registry(self, clock: Clock = utcnow, issuer: CertificateIssuer | None = None) -> Registry:
        """Return the engine's registry over the shared database, which goes by a clock."""
        context = self.context
        return Registry(
            context.database, context.driver, context.master_keys.encryption, clock, issuer
        )

    def certificate_issuer(
        self, certificates: CertificateFiles, clock: Clock
    ) -> AppCertificates | None:
        """Return what certifies apps for their login to MongoDB; None where they have passwords."""
        config = self.context.config
        if config.mongodb_apps_issuer_dir is None:
            return None
        return AppCertificates(
            lambda: certificates.issuer,
            config.mongodb_database,
            timedelta(seconds=config.mongodb_apps_certificate_seconds),
            clock,
            self._ping_with_certificate,
        )

    async def _ping_with_certificate(self, pem: SecretStr) -> None:
        """Have MongoDB answer a client with this certificate, whoever it is there.

        Raises
        ------
        PyMongoError
            If it does not answer one.
        """
        context = self.context
        with NamedTemporaryFile("w", suffix=".pem") as file:  # of mode 0600
            file.write(pem.get_secret_value())
            file.flush()
            client = connect_mongodb(
                context.driver, context.config, tls=True, tlsCertificateKeyFile=file.name
            )
            try:
                await client[context.config.mongodb_database].command("ping")
            except OperationFailure:
                pass  # the operator logs in by a certificate itself, and this one has no user
            finally:
                await context.driver.close(client)

    def installation_guard(
        self, on_adoption: Callable[[], None] = lambda: None
    ) -> InstallationGuard:
        """Return what keeps the database to one installation, as `InstallationGuard`."""
        context, config = self.context, self.context.config
        return InstallationGuard(
            InstallationStore(control_view(context.database)),
            partial(
                identify, context.kube, config.namespace, config.lease_name, config.installation
            ),
            config.mongodb_database,
            partial(context.metrics.count_write, "mongodb", "installation"),
            on_adoption,
        )

    def secret_store(self) -> SecretStore:
        """Return the Secrets; what it writes is noted, so that the watch wakes nobody for it."""
        return SecretStore(self.context.kube, self.context.own_writes)

    def mdbapp_store(self) -> MdbAppStore:
        """Return the MdbApps of the watched namespaces."""
        config = self.context.config
        return MdbAppStore(self.context.kube, config.watch_namespaces, config.exclude_namespaces)

    def event_recorder(self) -> EventRecorder:
        """Return what posts events about MdbApps."""
        return EventRecorder(
            self.context.kube, component=MANAGER, instance=self.context.config.pod_name
        )

    def workload_restarter(self) -> WorkloadRestarter:
        """Return what restarts workloads."""
        return WorkloadRestarter(self.context.kube)

    def master_key_secret(self) -> SecretKeySource:
        """Return the Secret that holds the keyring, to change it.

        Raises
        ------
        ConfigurationInvalid
            If another key manager wraps, which is not the operator's to change.
        """
        config = self.context.config
        active = config.key_managers[0]
        if active != KEYRING_SECRET:
            raise ConfigurationInvalid(
                f"the master key is not in the Secret but in {KeyManagerUri.parse(active)}: rotate "
                "it there. The operator notices within a minute and does the rest; to wait for it, "
                "run `mdb-operator rotate-master-key --resume`."
            )
        return SecretKeySource(self.secret_store(), config.namespace, config.master_key_secret)

    def secret_watchers(
        self, targets: Callable[[], Iterable[SecretKey]], on_change: OnChange, is_app: IsApp
    ) -> list[Watcher]:
        """Return what notices changes of projected Secrets, by the settings; run them all.

        Only polling needs to know the targets, and only the watch whose Secrets are followed.
        """
        context = self.context
        if not context.config.secret_watch:
            interval = context.config.secret_poll_seconds
            return [
                SecretPoll(self.secret_store(), targets, on_change, context.own_writes, interval)
            ]
        return [
            SecretWatch(
                context.kube,
                namespace,
                on_change,
                context.own_writes,
                is_app,
                context.metrics.count_watch_restart,
            )
            for namespace in context.config.watch_namespaces or (None,)
        ]

    def election(self, client: KubeClient) -> LeaderElection:
        """Return an election for the Lease, on a connection of its own thread."""
        config = self.context.config
        return LeaderElection(
            LeaseStore(client, config.namespace, config.lease_name),
            # The random part tells a restarted container from its predecessor in the same pod.
            f"{config.pod_name}_{secrets.token_hex(4)}",
            ElectionTimes(
                lease=config.lease_seconds,
                renew_deadline=config.lease_renew_deadline_seconds,
                retry=config.lease_retry_seconds,
            ),
        )
