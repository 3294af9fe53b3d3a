"""Bring an app up and down: connect, register or wait to be registered, run its hooks.

In a pod the app starts serving even when it is not registered in time, because a process that is
not there cannot say on ``/ready`` what it waits for; it goes on waiting. What can only be mended by
changing the pod (another app's binding, a broken manifest) ends the process at once.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from fastapi import FastAPI

from mdb_engine.exceptions import (
    DatabaseUnavailable,
    InvalidToken,
    MdbEngineError,
    NotRegistered,
    TokenRequired,
)
from mdb_engine.tasks import end
from mdb_engine.web.context import AppContext

__all__ = ["Hook", "lifespan"]

Hook = Callable[[], Any] | Callable[[FastAPI], Any]
"""Called at startup or shutdown, with the app if it takes an argument; may be a coroutine's."""

RETRY_SECONDS: Final = 0.5
"""How soon it is tried again: an app should be ready as soon as it can be."""

NOT_YET: Final = (DatabaseUnavailable, NotRegistered, InvalidToken, TokenRequired)
"""What passes by itself in a pod, once MongoDB answers and the operator has come round."""

NOT_YET_ALONE: Final = (DatabaseUnavailable,)
"""What passes by itself without an operator: a wrong ``<SLUG>_SECRET`` stays wrong."""

_logger = structlog.get_logger("mdb_engine.startup")


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
    starting = asyncio.create_task(_start(app, context, on_startup), name="mdb-engine startup")
    try:
        done, _ = await asyncio.wait({starting}, timeout=engine.settings.startup_deadline)
        if done:
            starting.result()
        elif in_pod:
            _logger.warning("started_without_being_ready", slug=context.slug, why=context.problem)
            starting.add_done_callback(lambda task: _late(context, task))
        else:
            raise DatabaseUnavailable(
                f"app {context.slug!r} could not be registered within "
                f"{engine.settings.startup_deadline:g} s: {context.problem}"
            )
        yield
    finally:
        await end(starting)
        try:
            if context.started:
                await _call(on_shutdown, app)
        finally:
            context.started = False
            await engine.shutdown()


async def _start(app: FastAPI, context: AppContext, on_startup: Hook | None) -> None:
    """Try until the app is registered, then run its hook, once."""
    await _until(context, context.engine.initialize)
    await _until(context, lambda: _register(context))
    scopes = sorted(context.engine.read_scopes(context.slug))
    await _call(on_startup, app)
    context.started = True
    _logger.info("app_ready", slug=context.slug, reads=scopes, multi_site=len(scopes) > 1)


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
                _logger.info("waiting", slug=context.slug, why=error.message, code=error.code)
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


def _late(context: AppContext, task: asyncio.Task[None]) -> None:
    """Say what became of a start that took longer than the deadline."""
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        why = error.message if isinstance(error, MdbEngineError) else type(error).__name__
        context.summary = "on_startup or the registration failed"
        context.problem = f"{context.summary}: {why}"
        _logger.error("start_failed", slug=context.slug, why=why)
