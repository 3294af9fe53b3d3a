"""The life of the operator's process: probes, then the Lease, and at the end all that backwards.

The order matters. Probes answer before anything can fail, so that a failing start is seen as *not
ready* with a reason. Whoever works does so as the leader, and has stopped writing before the Lease
is given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import structlog

from mdb_operator.backoff import Backoff
from mdb_operator.config import Config
from mdb_operator.exceptions import ConfigurationInvalid, Forbidden, KubernetesError
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.mdbapps import MdbAppStore
from mdb_operator.process.context import (
    READY_CONTROLLER,
    READY_KUBERNETES,
    READY_MASTER_KEY,
    ProcessContext,
    open_context,
)
from mdb_operator.process.factory import Factory
from mdb_operator.process.files import ConnectionFiles
from mdb_operator.process.leader import LeaderThread
from mdb_operator.process.metrics import Metrics
from mdb_operator.process.probes import Heartbeat, ProbeServer, Readiness, ServerCertificate

__all__ = ["Background", "lead"]

_log = structlog.get_logger(__name__)


class Background:
    """Endless work beside kopf; the first that fails ends the process.

    No task group: one would cancel the task that it was made in, which is kopf's.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()  # set when the process has to end; kopf waits for it
        self.failure: BaseException | None = None  # why, None where nothing failed

    @asynccontextmanager
    async def running(self, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Run the work until the end of the block."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        failure = task.exception()
        while isinstance(failure, BaseExceptionGroup):
            # One failed first; whoever maps errors to exit codes asks for that one.
            failure = failure.exceptions[0]
        self.failure = self.failure or failure
        self.stop.set()


@asynccontextmanager
async def lead(config: Config, background: Background) -> AsyncIterator[Factory]:
    """Open what the process works with, and wait until it is the leader.

    Waiting here is the standby: nothing of kopf has begun, but probes answer, and the connections
    stand. At the end of the block the Lease is given back and everything is closed.

    Raises
    ------
    ConfigurationInvalid
        If the process cannot work with its settings.
    """
    metrics = Metrics(each_app=config.app_metrics)
    heartbeat = Heartbeat(config.heartbeat_limit_seconds)
    readiness = Readiness(READY_KUBERNETES, READY_MASTER_KEY, READY_CONTROLLER)
    server = ProbeServer(
        heartbeat,
        readiness,
        metrics.registry,
        host=config.http_host,
        port=config.http_port,
        certificate=_certificate(config),
        token_file=config.metrics_token_file,
    )
    server.start()
    tls = config.http_tls_certificate_file is not None
    _log.info("Serving /healthz, /readyz and /metrics", port=server.port, tls=tls)
    try:
        files = ConnectionFiles(config)
        async with (
            background.running(heartbeat.run()),
            background.running(files.end_when_changed()),
            open_context(
                config, metrics=metrics, heartbeat=heartbeat, readiness=readiness
            ) as context,
            background.running(_look_at_master_key(context)),
        ):
            factory = Factory(context)
            await _until_reachable(context, factory)
            async with _holding_lease(context, factory):
                yield factory
    finally:
        server.stop()
        # After a signal too: kopf waits 5 s for its own task that waits for this, then kills it.
        background.stop.set()


def _certificate(config: Config) -> ServerCertificate | None:
    if config.http_tls_certificate_file is None or config.http_tls_key_file is None:
        return None
    try:
        return ServerCertificate(config.http_tls_certificate_file, config.http_tls_key_file)
    except (OSError, ValueError) as error:  # what OpenSSL says of a file is an OSError, too
        raise ConfigurationInvalid(
            f"MDB_OPERATOR_HTTP_TLS_CERTIFICATE_FILE and MDB_OPERATOR_HTTP_TLS_KEY_FILE are no "
            f"certificate with its key, in PEM ({type(error).__name__})"
        ) from None


@asynccontextmanager
async def _holding_lease(context: ProcessContext, factory: Factory) -> AsyncIterator[None]:
    if not context.config.leader_election:
        _log.warning("Leader election is off: nothing keeps a second operator from working")
        context.metrics.leader.set(1)
        yield
        return
    thread = LeaderThread(
        partial(KubeClient.connect, kubeconfig=context.config.kubeconfig), factory.election
    )
    thread.start()
    try:
        context.readiness.hold(READY_CONTROLLER)
        _log.info("Waiting for the Lease", lease=context.config.lease_name)
        await thread.wait_leading()
        context.readiness.fail(READY_CONTROLLER, "the controller is starting")
        context.metrics.leader.set(1)
        yield
    finally:
        context.metrics.leader.set(0)
        await thread.stop()


async def _until_reachable(context: ProcessContext, factory: Factory) -> None:
    """Ask for MdbApps until the API server lets us: the CRD may be installed a moment later.

    One of several namespaces is enough. The others may be gone, and their watches tell of that.
    """
    backoff = Backoff(first=0.5, most=10)
    while True:
        try:
            await _list_one(factory.mdbapp_store())
        except KubernetesError as error:
            context.readiness.fail(READY_KUBERNETES, error.message)
            level = _log.error if isinstance(error, Forbidden) else _log.warning
            level("MdbApps cannot be listed yet", error=error.message)
            await asyncio.sleep(backoff.next())
        else:
            context.readiness.hold(READY_KUBERNETES)
            return


async def _list_one(store: MdbAppStore) -> None:
    """List the MdbApps of the first namespace that lets us."""
    *others, last = store.scopes
    for scope in others:
        with suppress(KubernetesError):
            async for _ in store.metadata_pages(scope, limit=1):
                return
    async for _ in store.metadata_pages(last, limit=1):
        return


async def _look_at_master_key(context: ProcessContext) -> None:
    backoff = Backoff(first=0.5, most=10)
    while True:
        try:
            await context.master_keys.refresh()
        except KubernetesError as error:
            context.readiness.fail(READY_MASTER_KEY, error.message)
            _log.warning("The master key could not be looked at", error=error.message)
            await asyncio.sleep(backoff.next())
        else:
            break
    context.readiness.hold(READY_MASTER_KEY)
    await context.master_keys.run()
