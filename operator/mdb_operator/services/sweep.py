"""Finds users and roles in MongoDB that apps left behind, and drops them.

A deletion drops its app's users itself. Something is left where it was forced while MongoDB was
down, or where a registration was removed by hand; whatever it is, it must not open anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import structlog

from mdb_engine.exceptions import MdbEngineError
from mdb_engine.models.app import AppState
from mdb_engine.services.registry import Registry
from mdb_operator.backoff import Backoff
from mdb_operator.metrics import Metrics
from mdb_operator.services.database import DatabaseGate
from mdb_operator.services.database_users import DatabaseUsers

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
                self._gate.require()
                dropped = await self._users.sweep(self._active)
            except MdbEngineError as error:
                _log.info("Orphans are looked for later", error=error.message)
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            for name in dropped:
                self._metrics.count_write("mongodb", "sweep")
                _log.warning("Dropped what a deleted app left in MongoDB", user_or_role=name)
            await asyncio.sleep(self._interval)

    async def _active(self) -> Collection[str]:
        return [app.slug for app in await self._registry.all() if app.state is AppState.ACTIVE]
