"""kopf's handlers, and kopf itself: it owns the process's loop, its signals and its end.

``startup`` opens everything and waits for the Lease: a replica that stands by is one whose start is
not over. Then kopf logs in and watches; ``event`` hands on what the watch shows; ``cleanup``, after
the watch has ended, stops the work and gives the Lease back.

What a kopf user may miss, and why:

- *Handlers of changes* (``create``, ``update``, ``resume``, ``timer``). An event only says *look at
  this app*, as a Secret, MongoDB, another app, a key and the time do, of which kopf knows nothing.
  `WakeUps` coalesces them all. kopf would also keep the last seen spec in an annotation: one more
  write for every change.
- *A handler of deletion*, with kopf's own finalizer. Having one makes an object handled in kopf's
  sense. Measured with this kopf and an empty one: an MdbApp that is created, changed and deleted
  costs 4 writes instead of the 2 of a finalizer of our own, and an annotation that repeats its spec
  and is as large. The finalizer would also be there before the app is known to be this
  installation's.
- *A probe.* kopf serves probes from the loop that they are to report on. Ours have a thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import kopf
import structlog

from mdb_operator.apps.controller import Controller
from mdb_operator.backoff import Backoff
from mdb_operator.config import Config
from mdb_operator.constants import GROUP, PLURAL, VERSION
from mdb_operator.exceptions import OperatorError
from mdb_operator.process.runner import Background, lead

__all__ = ["run"]

KOPF_FINALIZER = f"{GROUP}/unused-by-kopf"
"""Never put on anything. It must not be ours: kopf takes *its* finalizer off every object for which
it has no deletion handler, and we have none with it."""

CHUNK_SIZE = 50
"""MdbApps in one page of kopf's list. Anybody who may write one can put 256 KiB of annotations on
it, and kopf reads them all: a page is 13 MiB at most, and 10,000 apps are 200 requests."""

_log = structlog.get_logger(__name__)


class _Endless:
    """The pauses between attempts of one request of kopf's, which are never given up.

    After the last of a finite number kopf ends, with all of its watches. A namespace may be deleted
    or lose its Role (403) while the others have to be served, and an API server may be down for
    longer than a restart would take.
    """

    def __iter__(self) -> Iterator[float]:
        backoff = Backoff(first=0.5, most=30.0)
        while True:
            yield backoff.next()


@kopf.on.startup(errors=kopf.ErrorsMode.PERMANENT)
async def start(memo: kopf.Memo, settings: kopf.OperatorSettings, **_: Any) -> None:
    """Lead, and start what works beside the watch."""
    configure(settings)
    try:
        # Cancelled while it waits, it undoes what it has done: kopf then calls no cleanup.
        async with AsyncExitStack() as stack:
            factory = await stack.enter_async_context(lead(memo.config, memo.background))
            memo.controller = controller = Controller(factory)
            await controller.wait_for_database(memo.background.stop)
            await stack.enter_async_context(memo.background.running(controller.run()))
            await controller.started.wait()
            memo.running = stack.pop_all()
    except OperatorError as error:
        raise kopf.PermanentError(error.message) from error


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """End the work, then give back the Lease and close everything."""
    await memo.running.aclose()


@kopf.on.login()
def login(memo: kopf.Memo, **kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in as the rest of the process does."""
    if memo.config.kubeconfig is not None:
        return kopf.login_with_kubeconfig(**kwargs)
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


@kopf.on.event(GROUP, VERSION, PLURAL)
async def see(type: str | None, body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:  # noqa: A002 - kopf's
    """Hand on what the watch shows: the type is None while it lists."""
    if memo.config.handles_namespace(body.metadata.namespace):
        memo.controller.see(type, dict(body))


def configure(settings: kopf.OperatorSettings) -> None:
    """Set what differs from kopf's defaults."""
    settings.persistence.finalizer = KOPF_FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP, v1=False)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP, v1=False)
    # Its events quote exceptions; ours are conditions' transitions.
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.peering.standalone = True  # the Lease decides who works
    settings.scanning.disabled = True  # no right to list CRDs and namespaces is needed
    # An event is handed on at once, and each is kept, with all annotations, until its worker ends.
    settings.queueing.idle_timeout = 0.05
    settings.queueing.exit_timeout = 0.5
    settings.watching.chunk_size = CHUNK_SIZE
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 660
    settings.watching.inactivity_timeout = 70  # bookmarks come every minute
    settings.watching.connect_timeout = 30
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = _Endless()


async def run(config: Config) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Raises
    ------
    ConfigurationInvalid
        If the process cannot work with its settings.
    OperatorError
        If it has to start anew.
    """
    if config.kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(config.kubeconfig)  # kopf's only way to be told
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger("kopf").setLevel(logging.WARNING)  # it logs a line for every event
    background = Background()
    try:
        await kopf.operator(
            memo=kopf.Memo(config=config, background=background),
            stop_flag=background.stop,
            # kopf would ask the system for the user's name, and an image's user has none.
            identity=config.pod_name,  # type: ignore[arg-type]  # a NewType it does not export
            clusterwide=not config.watch_namespaces,
            namespaces=config.watch_namespaces,
        )
    except Exception as error:
        if background.failure is None:
            raise _reason(error) from error
    if background.failure is not None:
        raise background.failure
    _log.info("Stopped")


def _reason(error: BaseException) -> OperatorError:
    """Return what a handler raised on purpose, out of what kopf has wrapped it in."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OperatorError):
            return cause
        cause = cause.__cause__
    return OperatorError(f"kopf ended ({type(error).__name__}); the process starts anew")
