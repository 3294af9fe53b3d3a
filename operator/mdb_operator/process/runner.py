"""The life of the operator's process: probes, then the Lease, then the controller, then the end.

The order matters. Probes answer before anything can fail, so that a failing start is seen as *not
ready* with a reason. The controller starts only as the leader. At the end the controller has
stopped writing before the Lease is given back.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeAlias

import structlog

from mdb_operator.backoff import Backoff
from mdb_operator.config import Config
from mdb_operator.exceptions import Forbidden, KubernetesError
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
from mdb_operator.process.probes import Heartbeat, ProbeServer, Readiness

__all__ = ["Controller", "run"]

Controller: TypeAlias = Callable[[Factory, asyncio.Event], Awaitable[None]]
"""Handles MdbApps until the event is set. It marks `READY_CONTROLLER` once it has started."""

_log = structlog.get_logger(__name__)


async def run(config: Config, controller: Controller) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Parameters
    ----------
    config
        The settings.
    controller
        What to do as the leader.

    Raises
    ------
    ConfigurationInvalid
        If the process cannot work with its settings.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = Metrics()
    heartbeat = Heartbeat(config.heartbeat_limit_seconds)
    readiness = Readiness(READY_KUBERNETES, READY_MASTER_KEY, READY_CONTROLLER)
    server = ProbeServer(
        heartbeat, readiness, metrics.registry, host=config.http_host, port=config.http_port
    )
    server.start()
    _log.info("Serving /healthz, /readyz and /metrics", port=server.port)
    try:
        files = ConnectionFiles(config)
        async with (
            _background(heartbeat.run()),
            _background(files.end_when_changed()),
            open_context(
                config, metrics=metrics, heartbeat=heartbeat, readiness=readiness
            ) as context,
        ):
            await _run_in(context, controller, stop)
    finally:
        server.stop()
    _log.info("Stopped")


async def _run_in(context: ProcessContext, controller: Controller, stop: asyncio.Event) -> None:
    factory = Factory(context)
    async with _background(_look_at_master_key(context)):
        if not await _unless(stop, _until_reachable(context, factory)):
            return
        if not context.config.leader_election:
            _log.warning("Leader election is off: nothing keeps a second operator from working")
            await _lead(context, controller, factory, stop)
            return
        thread = LeaderThread(
            partial(KubeClient.connect, kubeconfig=context.config.kubeconfig), factory.election
        )
        thread.start()
        try:
            context.readiness.hold(READY_CONTROLLER)
            _log.info("Waiting for the Lease", lease=context.config.lease_name)
            if await _unless(stop, thread.wait_leading()):
                context.readiness.fail(READY_CONTROLLER, "the controller is starting")
                await _lead(context, controller, factory, stop)
        finally:
            await thread.stop()


async def _lead(
    context: ProcessContext, controller: Controller, factory: Factory, stop: asyncio.Event
) -> None:
    context.metrics.leader.set(1)
    try:
        await controller(factory, stop)
    finally:
        context.metrics.leader.set(0)


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
            async for _ in store.list_all(scope):
                break
            return
    async for _ in store.list_all(last):
        break


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


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work; return False if the stop came first."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        task.result()
        return not stop.is_set()
    finally:
        for one in (task, stopped):
            one.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run endless work beside the body; if it fails, the body is cancelled and fails with it."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            try:
                yield
            finally:
                task.cancel()
    except BaseExceptionGroup as failures:
        # One failed first; whoever maps errors to exit codes asks for that one, not for a group.
        raise _first(failures) from None


def _first(failure: BaseException) -> BaseException:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
