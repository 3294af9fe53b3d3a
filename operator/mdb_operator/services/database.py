"""Whether MongoDB can be used, found out once for all apps.

Without it every app would find out for itself, each waiting for the driver's timeout, and with a
few hundred of them it would take minutes until all of them say what is wrong. One ping every few
seconds answers for all; when the answer changes, all apps are looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pymongo
import structlog

from mdb_engine.exceptions import DatabaseUnavailable, MdbEngineError
from mdb_engine.storage.base import translated

__all__ = ["DatabaseGate"]

PING_SECONDS = 3.0
"""Seconds between two pings."""

ANSWER_SECONDS = 3.0
"""How long an answer is waited for, which is also how long the driver looks for a primary."""

FAILURES_BEFORE_DOWN = 2
"""Two in a row, about 9 s: a failover of a replica set is usually over by then."""

_log = structlog.get_logger(__name__)


class DatabaseGate:
    """Stands before everything that needs MongoDB.

    Parameters
    ----------
    database
        The driver's database.
    prepare
        Makes the engine's own collections and indexes; called before the gate first opens.
    on_change
        Told whether MongoDB is up, whenever that changed; not told of the first time that it is.
    interval
        Seconds between two pings.
    """

    def __init__(
        self,
        database: Any,
        prepare: Callable[[], Awaitable[None]],
        on_change: Callable[[bool], None],
        interval: float = PING_SECONDS,
    ) -> None:
        self._database = database
        self._prepare = prepare
        self._on_change = on_change
        self._interval = interval
        self._prepared = False
        self._failures = 0
        self._up = False
        self._problem = DatabaseUnavailable("MongoDB has not answered yet")

    @property
    def up(self) -> bool:
        """Whether MongoDB answered last time."""
        return self._up

    def require(self) -> None:
        """Raise `DatabaseUnavailable` at once where MongoDB is known not to answer."""
        if not self._up:
            raise type(self._problem)(self._problem.message)

    async def look(self) -> None:
        """Ping once."""
        try:
            with translated("answer the operator"):
                with pymongo.timeout(ANSWER_SECONDS):
                    await self._database.command("ping")
                if not self._prepared:
                    await self._prepare()
                    self._prepared = True
        except Exception as error:  # noqa: BLE001 - the driver's errors are many; each means no
            self._failures += 1
            self._problem = (
                error
                if isinstance(error, DatabaseUnavailable)
                else DatabaseUnavailable(error.message)
                if isinstance(error, MdbEngineError)
                else DatabaseUnavailable(f"MongoDB does not answer ({type(error).__name__})")
            )
            if self._up and self._failures >= FAILURES_BEFORE_DOWN:
                self._up = False
                _log.error("MongoDB is not available", error=self._problem.message)
                self._on_change(False)  # noqa: FBT003 - an observer's only argument
        else:
            self._failures = 0
            if not self._up:
                self._up = True
                _log.info("MongoDB is available")
                self._on_change(True)  # noqa: FBT003 - an observer's only argument

    async def run(self) -> None:
        """Keep looking until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval)
