"""kopf's part: it watches MdbApps, logs in, reconnects, and hands every event on. Nothing else.

Only ``on.event`` is used, on purpose. kopf's change handlers keep the last seen spec and their own
progress in annotations: two more writes for every change of every app, exception texts where anyone
can read them, every object handled anew when that layout changes, and nothing for a change that is
not in the object itself (a Secret, MongoDB, another app, the time). Reconciling is level-based and
needs none of that: an event only says *look at this app*, `WakeUps` coalesces and delays, and after
a restart everything is looked at once. What kopf would drop (a failed event handler) cannot fail.

With listed namespaces each is watched apart. One of them may be deleted, and the Role with it; kopf
ends on what it may not watch, and the other namespaces have to be served on.

kopf runs in a thread and a loop of its own: at its end it cancels every task of its loop that it
does not know, and it takes the process's signal handlers where it runs in the main thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import kopf
import structlog

from mdb_operator.apps.controller import Controller
from mdb_operator.backoff import Backoff
from mdb_operator.config import Config
from mdb_operator.constants import GROUP, PLURAL, VERSION
from mdb_operator.exceptions import KubernetesError, OperatorError
from mdb_operator.kubernetes.mdbapps import MdbAppStore, app_ref
from mdb_operator.process.factory import Factory

__all__ = ["MdbAppWatch", "run_controller", "watch_settings"]

OnEvent = Callable[[str | None, Mapping[str, Any]], None]
"""Told of every event: its type (None while listing) and the object."""

OnList = Callable[[str, Collection[str]], None]
"""Told, before a namespace is watched (again), of the UIDs of all MdbApps that are in it."""

_log = structlog.get_logger(__name__)

STOP_SECONDS = 2.0
"""How long the end of kopf is waited for."""

STEADY_SECONDS = 60.0
"""A watch that lasted this long was a good one: the next pause is a short one again."""

KOPF_FINALIZER = f"{GROUP}/unused-by-kopf"
"""Never put on anything. It must not be ours: kopf takes *its* finalizer off every object for which
it has no deletion handler, and we have none with it."""


async def run_controller(factory: Factory, stop: asyncio.Event) -> None:
    """Handle MdbApps until the event is set; what the runner runs as the leader."""
    controller = Controller(factory)
    await controller.wait_for_database(stop)
    if stop.is_set():
        return
    watch = MdbAppWatch(
        factory.context.config, factory.mdbapp_store(), controller.see, controller.listed
    )
    await controller.run(partial(watch.run, stop))


def watch_settings() -> kopf.OperatorSettings:
    """Return kopf's settings."""
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = KOPF_FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP, v1=False)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP, v1=False)
    settings.posting.enabled = (
        False  # its events quote exceptions; ours are conditions' transitions
    )
    settings.posting.loggers = False
    settings.peering.standalone = True  # the Lease decides who works
    settings.scanning.disabled = True  # no right to list CRDs and namespaces is needed
    settings.queueing.idle_timeout = 1  # an event is handed on at once; nothing is kept for more
    settings.queueing.exit_timeout = 0.5
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 660
    settings.watching.inactivity_timeout = (
        70  # a dead connection is noticed: bookmarks are minutely
    )
    settings.watching.connect_timeout = 30
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    return settings


class MdbAppWatch:
    """Watches MdbApps with kopf, in a thread, and calls back in the caller's loop.

    Parameters
    ----------
    config
        Which namespaces, and with which credentials.
    store
        The MdbApps, to find out whether a namespace can be watched.
    on_event, on_list
        Called in the loop that `run` is called in.
    """

    def __init__(
        self, config: Config, store: MdbAppStore, on_event: OnEvent, on_list: OnList
    ) -> None:
        self._config = config
        self._store = store
        self._on_event = on_event
        self._on_list = on_list

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until the event is set.

        Raises
        ------
        OperatorError
            If kopf ended by itself in a whole cluster: without its watch the operator is blind and
            has to start anew.
        """
        _quieten()
        if self._config.kubeconfig is not None:
            os.environ["KUBECONFIG"] = str(self._config.kubeconfig)  # kopf's only way to be told
        if not self._config.watch_namespaces:
            await self._watch(None, stop)
            if not stop.is_set():
                raise OperatorError("The watch of MdbApps ended; the process starts anew")
            return
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._keep_watching(namespace, stop))
                for namespace in self._config.watch_namespaces
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _keep_watching(self, namespace: str, stop: asyncio.Event) -> None:
        """Watch a namespace, and whenever that ends or is not allowed try again, for good."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(first=1.0, most=30.0)
        while not stop.is_set():
            try:
                found = [app_ref(obj).uid async for obj in self._store.list_all(namespace)]
            except KubernetesError as error:
                _log.warning(
                    "A namespace cannot be watched; the others are served. If it was deleted, take"
                    " it out of watchNamespaces; else see to its Role and RoleBinding",
                    namespace=namespace,
                    error=error.message,
                )
            else:
                self._on_list(namespace, found)
                started = loop.time()
                await self._watch(namespace, stop)
                if loop.time() - started > STEADY_SECONDS:
                    backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _watch(self, namespace: str | None, stop: asyncio.Event) -> None:
        """Run kopf until the event is set or it ends by itself."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        kopf_stop = threading.Event()

        def work() -> None:
            try:
                asyncio.run(self._operator(loop, namespace, kopf_stop))
            except BaseException:  # noqa: BLE001 - a thread has nobody above it to tell
                _log.exception("kopf failed", namespace=namespace)
            finally:
                loop.call_soon_threadsafe(ended.set)

        thread = threading.Thread(target=work, name="kopf", daemon=True)
        thread.start()
        waits = [asyncio.ensure_future(event.wait()) for event in (stop, ended)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            kopf_stop.set()
            # kopf may take long to end its streams. It only watches, so nobody has to wait for it:
            # what is left of it ends with the process.
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await ended.wait()

    async def _operator(
        self, main: asyncio.AbstractEventLoop, namespace: str | None, stop: threading.Event
    ) -> None:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
            if self._config.kubeconfig is not None:
                return kopf.login_with_kubeconfig(**kwargs)
            return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

        @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
        async def see(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - kopf's
            main.call_soon_threadsafe(self._on_event, type, dict(body))

        try:
            await kopf.operator(
                registry=registry,
                settings=watch_settings(),
                standalone=True,
                # kopf would ask the system for the user's name, and an image's user has none.
                identity=self._config.pod_name,  # type: ignore[arg-type]  # a NewType it does not export
                clusterwide=namespace is None,
                namespaces=() if namespace is None else (namespace,),
                stop_flag=stop,
            )
        finally:
            # Where kopf ends by itself it leaves a thread that waits for this, and the loop for it.
            stop.set()


def _quieten() -> None:
    """Keep kopf from a line for every event, unless everything is to be logged."""
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger("kopf").setLevel(logging.WARNING)
        # It warns that it may not take the signal handlers in a thread, which is what we want.
        logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
