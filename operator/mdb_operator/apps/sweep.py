"""Finds what opens more in MongoDB than it should, and ends it.

A deletion drops its app's users itself, and a run follows grants with the roles of both sides.
Something is left where a deletion was forced while MongoDB was down, where a registration was
removed by hand, or where a run was killed after a consent was withdrawn, and the reader is
suspended or fails, so that nothing else looks at it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import structlog

from mdb_engine.exceptions import MdbEngineError
from mdb_engine.models.app import AppState
from mdb_engine.services.registry import Registry
from mdb_operator.backoff import Backoff
from mdb_operator.mongodb.gate import DatabaseGate
from mdb_operator.mongodb.users import DatabaseUsers
from mdb_operator.process.metrics import Metrics

__all__ = ["Sweeper"]

_log = structlog.get_logger(__name__)


class Sweeper:
    """Sweeps at the start and from time to time.

    Parameters
    ----------
    users
        What manages users.
    registry
        Which apps there are.
    gate
        Whether MongoDB can be used.
    metrics
        Where it is counted.
    interval
        Seconds between two sweeps.
    """

    def __init__(
        self,
        users: DatabaseUsers,
        registry: Registry,
        gate: DatabaseGate,
        metrics: Metrics,
        interval: float,
    ) -> None:
        self._users = users
        self._registry = registry
        self._gate = gate
        self._metrics = metrics
        self._interval = interval

    async def run(self) -> None:
        """Work until cancelled."""
        backoff = Backoff(first=1.0, most=30.0)
        while True:
            try:
                await self.sweep()
            except MdbEngineError as error:
                _log.info("Orphans are looked for later", error=error.message)
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()
                await asyncio.sleep(self._interval)

    async def sweep(self) -> None:
        """Sweep once.

        Raises
        ------
        MdbEngineError
            If MongoDB cannot be used.
        """
        self._gate.require()
        for name in await self._users.sweep(self._active):
            self._metrics.count_write("mongodb", "sweep")
            _log.warning("Dropped what a deleted app left in MongoDB", user_or_role=name)
        for slug in await self._active():
            if await self._users.refresh_roles([slug]):
                self._metrics.count_write("mongodb", "follow-grants")
                _log.warning("Brought the role of an app up to its grants", slug=slug)

    async def _active(self) -> Collection[str]:
        return [app.slug for app in await self._registry.all() if app.state is AppState.ACTIVE]
