"""kopf's part: it watches MdbApps, logs in, reconnects, and hands every event on. Nothing else.

Only ``on.event`` is used, on purpose. kopf's change handlers keep the last seen spec and their own
progress in annotations: two more writes for every change of every app, exception texts where anyone
can read them, every object handled anew when that layout changes, and nothing for a change that is
not in the object itself (a Secret, MongoDB, another app, the time). Reconciling is level-based and
needs none of that: an event only says *look at this app*, `WakeUps` coalesces and delays, and after
a restart everything is looked at once. What kopf would drop (a failed event handler) cannot fail.

kopf runs in a thread and a loop of its own: at its end it cancels every task of its loop that it
does not know, and it takes the process's signal handlers where it runs in the main thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import kopf
import structlog

from mdb_operator.config import Config
from mdb_operator.constants import GROUP, PLURAL, VERSION
from mdb_operator.controller import Controller
from mdb_operator.exceptions import OperatorError
from mdb_operator.factory import Factory

__all__ = ["MdbAppWatch", "run_controller", "watch_settings"]

OnEvent = Callable[[str | None, Mapping[str, Any]], None]
"""Told of every event: its type (None while listing) and the object."""

_log = structlog.get_logger(__name__)

STOP_SECONDS = 2.0
"""How long the end of kopf is waited for."""

KOPF_FINALIZER = f"{GROUP}/unused-by-kopf"
"""Never put on anything. It must not be ours: kopf takes *its* finalizer off every object for which
it has no deletion handler, and we have none with it."""


async def run_controller(factory: Factory, stop: asyncio.Event) -> None:
    """Handle MdbApps until the event is set; what `mdb_operator.runner` runs as the leader."""
    controller = Controller(factory)
    watch = MdbAppWatch(factory.context.config, controller.see)
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
    on_event
        Called in the loop that `run` is called in.
    """

    def __init__(self, config: Config, on_event: OnEvent) -> None:
        self._config = config
        self._on_event = on_event
        self._stop = threading.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until the event is set.

        Raises
        ------
        OperatorError
            If kopf ended by itself: without its watch the operator is blind and has to start anew.
        """
        _quieten()
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        if self._config.kubeconfig is not None:
            os.environ["KUBECONFIG"] = str(self._config.kubeconfig)  # kopf's only way to be told

        def work() -> None:
            try:
                asyncio.run(self._operator(loop))
            except BaseException:  # noqa: BLE001 - a thread has nobody above it to tell
                _log.exception("kopf failed")
            finally:
                loop.call_soon_threadsafe(ended.set)

        thread = threading.Thread(target=work, name="kopf", daemon=True)
        thread.start()
        waits = [asyncio.ensure_future(event.wait()) for event in (stop, ended)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                raise OperatorError("The watch of MdbApps ended; the process starts anew")
        finally:
            for wait in waits:
                wait.cancel()
            self._stop.set()
            # kopf may take long to end its streams. It only watches, so nobody has to wait for it:
            # what is left of it ends with the process.
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await ended.wait()

    async def _operator(self, main: asyncio.AbstractEventLoop) -> None:
        registry = kopf.OperatorRegistry()
        namespaces = self._config.watch_namespaces

        @kopf.on.login(registry=registry)
        def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
            if self._config.kubeconfig is not None:
                return kopf.login_with_kubeconfig(**kwargs)
            return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

        @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
        async def see(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - kopf's
            main.call_soon_threadsafe(self._on_event, type, dict(body))

        await kopf.operator(
            registry=registry,
            settings=watch_settings(),
            standalone=True,
            # kopf would ask the system for the user's name, and an image's user has none.
            identity=self._config.pod_name,  # type: ignore[arg-type]  # a NewType it does not export
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=self._stop,
        )


def _quieten() -> None:
    """Keep kopf from a line for every event, unless everything is to be logged."""
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger("kopf").setLevel(logging.WARNING)
        # It warns that it may not take the signal handlers in a thread, which is what we want.
        logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
