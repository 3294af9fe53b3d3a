"""Bring an app up and down: connect, register or wait to be registered, run its hooks.

In a pod the app starts serving even when it is not registered in time, because a process that is
not there cannot say on ``/ready`` what it waits for; it goes on waiting. What can only be mended by
changing the pod (another app's binding, a broken manifest) ends the process at once, and so does a
start that fails later.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI

from mdb_engine.core.tasks import end, finish
from mdb_engine.exceptions import (
    DatabaseUnavailable,
    InvalidToken,
    MdbEngineError,
    NotRegistered,
    TokenRequired,
)
from mdb_engine.fastapi.context import AppContext

__all__ = ["Hook", "Lifespan", "hooked", "lifespan"]

Hook = Callable[[], Any] | Callable[[FastAPI], Any]
"""Called at startup or shutdown, with the app if it takes an argument; may be a coroutine's."""

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]
"""An app's own lifespan, as FastAPI takes it; what it yields is the state of its requests."""

RETRY_SECONDS: Final = 0.5
"""How soon it is tried again: an app should be ready as soon as it can be."""

NOT_YET: Final = (DatabaseUnavailable, NotRegistered, InvalidToken, TokenRequired)
"""What passes by itself in a pod, once MongoDB answers and the operator has come round."""

NOT_YET_ALONE: Final = (DatabaseUnavailable,)
"""What passes by itself without an operator: a wrong ``<SLUG>_SECRET`` stays wrong."""

_logger = logging.getLogger("mdb_engine.startup")


def hooked(own: Lifespan, on_startup: Hook | None, on_shutdown: Hook | None) -> Lifespan:
    """Return an app's own lifespan with its hooks inside."""

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[Any]:
        async with own(app) as state:
            await _call(on_startup, app)
            try:
                yield state
            finally:
                await _call(on_shutdown, app)

    return run


@asynccontextmanager
async def lifespan(app: FastAPI, context: AppContext, own: Lifespan) -> AsyncIterator[Any]:
    """Bring an app up, its own lifespan inside the engine's, and down again."""
    engine = context.engine
    in_pod = engine.check_hosting()
    late: _Late | None = None
    registering = asyncio.create_task(_be_registered(app, context), name="mdb-engine registration")
    try:
        done, _ = await asyncio.wait({registering}, timeout=engine.settings.startup_deadline)
        if done:
            registering.result()
            async with _started(app, context, own) as state:
                yield state
        elif in_pod:
            _logger.warning("app %s starts, but is not ready: %s", context.slug, context.problem)
            late = _Late(app, context, own, registering)
            yield None
        else:
            raise DatabaseUnavailable(
                f"app {context.slug!r} could not be registered within "
                f"{engine.settings.startup_deadline:g} s: {context.problem}"
            )
    finally:
        try:
            await finish(end(registering))
            if late is not None:
                await late.end()
        finally:
            context.started = False
            context.state = {}
            await engine.release(app)


async def _be_registered(app: FastAPI, context: AppContext) -> None:
    """Try until the app is registered."""
    await _until(context, lambda: context.engine.acquire(app))
    await _until(context, lambda: _register(context))


@asynccontextmanager
async def _started(app: FastAPI, context: AppContext, own: Lifespan) -> AsyncIterator[Any]:
    """Enter the app's own lifespan, once, for as long as it takes: that is the app's own affair."""
    context.problem = context.summary = "on_startup of the app has not ended yet"
    scopes = sorted(context.engine.read_scopes(context.slug))
    async with own(app) as state:
        context.started = True
        _logger.info("app %s is ready; it reads %s", context.slug, ", ".join(scopes))
        yield state


class _Late:
    """Start an app once it is registered, although the server serves it already.

    If that fails, the process ends: started again by kubelet it may succeed. A replica that went
    on would never be ready, and as ``/health`` is well, never be replaced.

    One task enters the app's own lifespan and leaves it, as what is in there may demand.
    """

    def __init__(
        self, app: FastAPI, context: AppContext, own: Lifespan, registering: asyncio.Task[None]
    ) -> None:
        self._app = app
        self._context = context
        self._own = own
        self._registering = registering
        self._ending = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="mdb-engine startup")

    async def end(self) -> None:
        """Leave the app's own lifespan, if it was entered."""
        self._ending.set()
        if not self._context.started:
            await finish(end(self._task))
            return
        await finish(self._left())

    async def _left(self) -> None:
        await self._task

    async def _run(self) -> None:
        context = self._context
        try:
            await self._registering
            async with _started(self._app, context, self._own) as state:
                context.state = dict(state or {})
                await self._ending.wait()
        except Exception:
            if self._ending.is_set():
                raise
            context.started = False
            context.problem = context.summary = "the start failed; the process ends"
            _logger.exception("app %s could not be started; the process ends", context.slug)
            # What a server takes for the request to end in an orderly way.
            signal.raise_signal(signal.SIGTERM)


async def _register(context: AppContext) -> None:
    await context.engine.register_app(context.slug, context.manifest)
    context.engine.get_scoped_db(context.slug)


async def _until(context: AppContext, step: Callable[[], Awaitable[Any]]) -> None:
    while True:
        try:
            await step()
        except MdbEngineError as error:
            if not isinstance(error, NOT_YET if context.engine.in_pod else NOT_YET_ALONE):
                raise
            if context.problem != error.message:
                _logger.info("app %s waits: %s", context.slug, error.message)
            context.problem, context.summary = error.message, error.summary
        else:
            return
        await asyncio.sleep(RETRY_SECONDS)


async def _call(hook: Hook | None, app: FastAPI) -> None:
    if hook is None:
        return
    takes_app = bool(inspect.signature(hook).parameters)
    outcome = hook(app) if takes_app else hook()  # type: ignore[call-arg]
    if inspect.isawaitable(outcome):
        await outcome
