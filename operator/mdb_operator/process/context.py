"""What lives as long as the operator's process: connections, keys and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pymongo.errors import PyMongoError

from mdb_engine.connection.driver import Driver, get_driver
from mdb_engine.exceptions import MasterKeyError
from mdb_engine.key_managers import KeyManagerUri
from mdb_engine.key_managers.choice import open_remote
from mdb_operator.config import KEYRING_SECRET, Config
from mdb_operator.exceptions import ConfigurationInvalid
from mdb_operator.keys.source import (
    DirectoryKeySource,
    KeySource,
    MasterKeys,
    RemoteKeySource,
    SecretKeySource,
)
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.secrets import OwnWrites, SecretStore
from mdb_operator.mongodb.certificates import driver_options
from mdb_operator.mongodb.hosted import require_supported
from mdb_operator.process.metrics import Metrics
from mdb_operator.process.probes import Heartbeat, Readiness

__all__ = [
    "READY_CONTROLLER",
    "READY_DATABASE",
    "READY_KUBERNETES",
    "READY_MASTER_KEY",
    "ProcessContext",
    "connect_mongodb",
    "open_context",
]

READY_KUBERNETES = "kubernetes"
"""Holds once the API server has answered with these credentials."""

READY_MASTER_KEY = "master_key"
"""Holds once the keyring was looked at, usable or not: an unusable one is the apps' condition."""

READY_DATABASE = "database"
"""Holds unless another installation manages the database."""

READY_CONTROLLER = "controller"
"""Holds while waiting for the Lease, and as the leader once the controller has started."""

MONGO_OPTIONS: dict[str, Any] = {"retryWrites": True, "w": "majority", "tz_aware": True}
"""Majority, so that no failover loses a secret. They hold whatever the URI says."""

MONGO_DEFAULTS: dict[str, Any] = {
    "appname": "mdb-operator",
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 5_000,
    "socketTimeoutMS": 30_000,
    "serverMonitoringMode": "poll",
}
"""Fail within seconds, so that a condition says so, unless the URI has another idea.

A failed login takes the server out of the driver's view until its monitor has heard from it again.
A monitor that streams waits ten seconds for that, one that polls is woken by whoever needs it.
"""


@dataclass(frozen=True, slots=True)
class ProcessContext:
    """Shared by everything in the process; `open_context` makes and closes it."""

    config: Config
    metrics: Metrics
    heartbeat: Heartbeat
    readiness: Readiness
    kube: KubeClient  # counts its requests in ``metrics``
    own_writes: OwnWrites  # which changes of Secrets were our own
    master_keys: MasterKeys
    driver: Driver
    mongo: Any  # connects lazily, so a MongoDB that is down stops no start

    @property
    def database(self) -> Any:
        """The driver's database that the apps share."""
        return self.mongo[self.config.mongodb_database]


@asynccontextmanager
async def open_context(
    config: Config,
    *,
    metrics: Metrics | None = None,
    heartbeat: Heartbeat | None = None,
    readiness: Readiness | None = None,
) -> AsyncIterator[ProcessContext]:
    """Open all connections of a process and close them afterwards.

    What tells about the process is given where it is served before the connections stand.

    Raises
    ------
    ConfigurationInvalid
        If there is no way to the API server, the MongoDB URI cannot be read, or there is no such
        key manager.
    """
    metrics = metrics or Metrics()
    # PyMongo's own client: unlike Motor it is still developed, and it needs no thread per request.
    driver = get_driver("pymongo")
    mongo = connect_mongodb(driver, config)
    kube = await KubeClient.connect(kubeconfig=config.kubeconfig, observer=metrics.count_request)
    master_keys: MasterKeys | None = None
    try:
        master_keys = MasterKeys(
            _key_sources(config, kube),
            interval=config.master_key_reload_seconds,
            show=metrics.show_key_manager,
        )
        yield ProcessContext(
            config=config,
            metrics=metrics,
            heartbeat=heartbeat or Heartbeat(config.heartbeat_limit_seconds),
            readiness=readiness or Readiness(),
            kube=kube,
            own_writes=OwnWrites(),
            master_keys=master_keys,
            driver=driver,
            mongo=mongo,
        )
    finally:
        if master_keys is not None:
            await master_keys.aclose()
        await driver.close(mongo)
        await kube.aclose()


def connect_mongodb(driver: Driver, config: Config, **options: Any) -> Any:
    """Return a client that connects when it is first used; options go over the settings.

    Raises
    ------
    ConfigurationInvalid
        If the URI or the certificates cannot be used, or it leads to a service that lacks what
        the isolation needs.
    """
    uri, tls = config.read_mongodb_uri().get_secret_value(), driver_options(config)
    require_supported(uri, config.isolation)
    try:
        return driver.connect(uri, **{**_defaults(uri), **MONGO_OPTIONS, **tls, **options})
    except (PyMongoError, ValueError, OSError) as error:
        # `from None`: a driver's complaint about a URI may repeat parts of it.
        raise ConfigurationInvalid(
            f"the MongoDB URI, its options or the certificates cannot be used"
            f" ({type(error).__name__}); a user name or password in the URI must be percent-encoded"
        ) from None


def _defaults(uri: str) -> dict[str, Any]:
    """Return the defaults of which the URI says nothing; an option's name is no matter of case."""
    stated = {name.lower() for name, _ in parse_qsl(urlsplit(uri).query, keep_blank_values=True)}
    return {name: value for name, value in MONGO_DEFAULTS.items() if name.lower() not in stated}


def _key_sources(config: Config, kube: KubeClient) -> list[KeySource]:
    return [_key_source(entry, config, kube) for entry in config.key_managers]


def _key_source(entry: str, config: Config, kube: KubeClient) -> KeySource:
    if entry == KEYRING_SECRET:
        return SecretKeySource(SecretStore(kube), config.namespace, config.master_key_secret)
    uri = KeyManagerUri.parse(entry)
    if uri.scheme == "file":
        return DirectoryKeySource(uri.directory)
    try:
        return RemoteKeySource(open_remote(uri))
    except MasterKeyError as error:
        raise ConfigurationInvalid(f"MDB_OPERATOR_MASTER_KEY_URI: {error.message}") from None
