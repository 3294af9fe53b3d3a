"""Whether MongoDB can be used, found out once for all apps.

Without it every app would find out for itself, each waiting for the driver's timeout, and with a
few hundred of them it would take minutes until all of them say what is wrong. One question every
few seconds answers for all; when the answer changes, all apps are looked at.

The question is which database this is, by the UUID of a collection of the engine's. One that was
emptied or restored while the operator ran has another, and has to be filled again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import structlog

from mdb_engine.connection.control import translated
from mdb_engine.constants import APPS_COLLECTION
from mdb_engine.core.clock import Clock, utcnow
from mdb_engine.core.tasks import raise_if_cancelled
from mdb_engine.exceptions import DatabaseUnavailable, MdbEngineError
from mdb_operator.exceptions import DatabaseHeld, OperatorError

__all__ = ["DatabaseClock", "DatabaseGate"]

LOOK_SECONDS = 3.0
"""Seconds between two looks."""

ANSWER_SECONDS = 3.0
"""How long an answer is waited for, which is also how long the driver looks for a primary."""

FAILURES_BEFORE_DOWN = 2
"""Two in a row, about 9 s: a failover of a replica set is usually over by then."""

CLOCKS_AGREE = timedelta(seconds=0.5)
"""A lesser difference may be the network's, and changes nothing that is said in seconds."""

_log = structlog.get_logger(__name__)


class DatabaseClock:
    """The time by MongoDB's clock, so that the end of an overlap does not move with the leader.

    It goes with the operator's own clock and is set anew at each look of the gate.
    """

    def __init__(self, database: Any, own: Clock = utcnow) -> None:
        self._database = database
        self._own = own
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        """Return the time now, aware, in whole milliseconds."""
        return self._own() + self._ahead

    async def set(self) -> None:
        """Ask MongoDB for the time."""
        before = self._own()
        reply = await self._database.command("hello")
        after = self._own()
        told: datetime = reply["localTime"]
        if told.tzinfo is None:
            told = told.replace(tzinfo=UTC)
        ahead = told - (before + (after - before) / 2)
        if abs(ahead - self._ahead) <= CLOCKS_AGREE:
            return
        ahead = timedelta(0) if abs(ahead) <= CLOCKS_AGREE else ahead
        if abs(ahead - self._ahead) > CLOCKS_AGREE:
            _log.warning(
                "The operator's clock and MongoDB's differ; MongoDB's counts",
                ahead_seconds=round(ahead.total_seconds(), 1),
            )
        self._ahead = timedelta(milliseconds=round(ahead / timedelta(milliseconds=1)))


class DatabaseGate:
    """Stands before everything that needs MongoDB."""

    def __init__(
        self,
        database: Any,
        # Makes the engine's own collections and indexes; called before the gate first opens, and
        # whenever the database is another.
        prepare: Callable[[], Awaitable[None]],
        # Told whether MongoDB is up, whenever that changed or the database is another.
        on_change: Callable[[bool], None],
        ping_anew: Callable[[], Awaitable[None]],  # through another connection than the database's
        # Raises `DatabaseHeld` where it is another installation's; called at every look.
        guard: Callable[[], Awaitable[object]],
        interval: float = LOOK_SECONDS,
        patience: float = ANSWER_SECONDS,
    ) -> None:
        self.clock = DatabaseClock(database)
        self._database = database
        self._prepare = prepare
        self._on_change = on_change
        self._ping_anew = ping_anew
        self._guard = guard
        self._interval = interval
        self._patience = patience
        self._known: object = None
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
        """Look once.

        Raises
        ------
        DatabaseHeld
            If the database is another installation's: nothing may be written to it any more.
        """
        try:
            with translated("answer the operator"):
                found = await self._identity()
                with pymongo.timeout(self._patience):
                    await self.clock.set()
                    await self._guard()
                if found is None or found != self._known:
                    await self._prepare()
                    found = await self._identity()
        except DatabaseHeld:
            raise
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
            another = self._known not in (None, found)
            self._known = found
            if another:
                _log.warning("The database is another than before: everything is looked at")
            if not self._up:
                _log.info("MongoDB is available")
            if another or not self._up:
                self._up = True
                self._on_change(True)  # noqa: FBT003 - an observer's only argument

    async def wait_until_ours(
        self, stop: asyncio.Event, on_held: Callable[[DatabaseHeld | None], None]
    ) -> None:
        """Look until the database is not another installation's, or until the event.

        A MongoDB that does not answer is not waited for, since the apps' conditions have to say so,
        unless it was another's when it last did. `on_held` is told whose the database is when that
        is new, and None at the end.
        """
        told: str | None = None
        while not stop.is_set():
            try:
                await self.look()
            except DatabaseHeld as error:
                if error.message != told:
                    told = error.message
                    on_held(error)
            else:
                if self._up or told is None:
                    on_held(None)
                    return
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._interval)

    async def _identity(self) -> object:
        """Return what is different in a database that was made anew, None in an empty one."""
        with pymongo.timeout(self._patience):
            reply = await self._database.command(
                "listCollections", filter={"name": APPS_COLLECTION}
            )
        found = reply["cursor"]["firstBatch"]
        return found[0]["info"]["uuid"] if found else None

    async def run(self) -> None:
        """Keep looking until cancelled.

        Raises
        ------
        DatabaseHeld
            As `look`.
        OperatorError
            If MongoDB answers others. A driver takes a replica set that was made anew for an old
            view of the one that it knows, and then waits for good for that one to come back.
        """
        stale = 0
        while True:
            others_are_answered = False
            if self._failures:
                _, others_are_answered = await asyncio.gather(
                    self.look(), self._answers(self._ping_anew)
                )
            else:
                await self.look()
            only_we_fail = others_are_answered and not await self._answers(self._ping)
            stale = stale + 1 if only_we_fail else 0
            # Once is a server that has just come back, and will be found at the next look.
            if stale > 1:
                raise OperatorError(
                    "MongoDB answers a new connection and not the one that stands: it was made anew"
                    " or restored. The process starts anew"
                )
            raise_if_cancelled()
            await asyncio.sleep(self._interval)

    async def _ping(self) -> None:
        await self._database.command("ping")

    async def _answers(self, ping: Callable[[], Awaitable[None]]) -> bool:
        try:
            with pymongo.timeout(self._patience):
                await ping()
        except Exception:  # noqa: BLE001 - as above
            return False
        return True
