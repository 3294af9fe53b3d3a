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
from contextlib import asynccontextmanager
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

__all__ = ["Hook", "lifespan"]

Hook = Callable[[], Any] | Callable[[FastAPI], Any]
"""Called at startup or shutdown, with the app if it takes an argument; may be a coroutine's."""

RETRY_SECONDS: Final = 0.5
"""How soon it is tried again: an app should be ready as soon as it can be."""

NOT_YET: Final = (DatabaseUnavailable, NotRegistered, InvalidToken, TokenRequired)
"""What passes by itself in a pod, once MongoDB answers and the operator has come round."""

NOT_YET_ALONE: Final = (DatabaseUnavailable,)
"""What passes by itself without an operator: a wrong ``<SLUG>_SECRET`` stays wrong."""

_logger = logging.getLogger("mdb_engine.startup")


@asynccontextmanager
async def lifespan(
    app: FastAPI,
    context: AppContext,
    on_startup: Hook | None,
    on_shutdown: Hook | None,
) -> AsyncIterator[None]:
    """Bring an app up, and down again."""
    engine = context.engine
    in_pod = engine.check_hosting()
    late: asyncio.Task[None] | None = None
    registering = asyncio.create_task(_be_registered(app, context), name="mdb-engine registration")
    try:
        done, _ = await asyncio.wait({registering}, timeout=engine.settings.startup_deadline)
        if done:
            registering.result()
            await _start(app, context, on_startup)
        elif in_pod:
            _logger.warning("app %s starts, but is not ready: %s", context.slug, context.problem)
            late = asyncio.create_task(
                _start_late(app, context, on_startup, registering), name="mdb-engine startup"
            )
        else:
            raise DatabaseUnavailable(
                f"app {context.slug!r} could not be registered within "
                f"{engine.settings.startup_deadline:g} s: {context.problem}"
            )
        yield
    finally:
        try:
            await finish(end(late, registering))
            if context.started:
                await _call(on_shutdown, app)
        finally:
            context.started = False
            await engine.release(app)


async def _be_registered(app: FastAPI, context: AppContext) -> None:
    """Try until the app is registered."""
    await _until(context, lambda: context.engine.acquire(app))
    await _until(context, lambda: _register(context))


async def _start(app: FastAPI, context: AppContext, on_startup: Hook | None) -> None:
    """Run the app's hook, once, for as long as it takes: that is the app's own affair."""
    context.problem = context.summary = "on_startup of the app has not ended yet"
    scopes = sorted(context.engine.read_scopes(context.slug))
    await _call(on_startup, app)
    context.started = True
    _logger.info("app %s is ready; it reads %s", context.slug, ", ".join(scopes))


async def _start_late(
    app: FastAPI,
    context: AppContext,
    on_startup: Hook | None,
    registering: asyncio.Task[None],
) -> None:
    """Start once the app is registered; if that fails, end the process.

    Started again by kubelet it may succeed. A replica that went on would never be ready, and as
    ``/health`` is well, never be replaced.
    """
    try:
        await registering
        await _start(app, context, on_startup)
    except Exception:
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
