"""Finds what opens more in MongoDB than it should, and ends it.

A deletion ends its app's access itself, and a reconcile follows grants with the roles of both
sides. Something is left where an MdbApp went away while nobody was told (its finalizer was taken
off while the operator was down, the API server was restored from a backup), where a deletion was
forced while MongoDB was down, where a registration was removed by hand, or where a run was killed
after a consent was withdrawn, and the reader is suspended or fails, so that nothing else looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress

import structlog

from mdb_engine.core.tasks import raise_if_cancelled
from mdb_engine.exceptions import MdbEngineError
from mdb_engine.registry.models.app import AppRecord, AppState
from mdb_operator.apps.database import SharedDatabase
from mdb_operator.backoff import Backoff
from mdb_operator.exceptions import Forbidden, KubernetesError
from mdb_operator.kubernetes.mdbapps import MdbAppStore
from mdb_operator.kubernetes.resources import AppKey
from mdb_operator.process.metrics import Metrics

__all__ = ["Sweeper"]

_log = structlog.get_logger(__name__)


class Sweeper:
    """Sweeps a database at the start, from time to time, and when somebody asks for it."""

    def __init__(self, database: SharedDatabase, mdbapps: MdbAppStore, metrics: Metrics) -> None:
        self._database = database
        self._mdbapps = mdbapps
        self._metrics = metrics
        self._wanted = asyncio.Event()

    def request(self) -> None:
        """Say that the database is another, or came back: it may have been restored."""
        self._wanted.set()

    async def run(self) -> None:
        """Work until cancelled."""
        backoff = Backoff(first=1.0, most=30.0)
        while True:
            self._wanted.clear()
            try:
                await self.sweep()
            except (MdbEngineError, KubernetesError) as error:
                _log.info("What nobody has a right to is looked for later", error=error.message)
                raise_if_cancelled()
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()
                raise_if_cancelled()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), self._database.resync_seconds)

    async def sweep(self) -> None:
        """Sweep once; what fails for one app stops nothing of the others.

        Raises
        ------
        MdbEngineError
            If MongoDB cannot be used, or what could not be done for an app.
        KubernetesError
            If the API server cannot say which MdbApps there are.
        """
        self._database.gate.require()
        failed: list[MdbEngineError] = []
        registered = await self._database.registry.all()
        for record in await self._vanished(registered):
            self._database.gate.require()
            with _collected(failed):
                await self._database.end_vanished(record)
                self._metrics.count_write("mongodb", "sweep")
        active = [record for record in registered if record.state is AppState.ACTIVE]
        users, slugs = self._database.users, [record.slug for record in active]
        for name in await users.sweep(self._active, known=slugs):
            self._metrics.count_write("mongodb", "sweep")
            _log.warning("Dropped what a deleted app left in MongoDB", user_or_role=name)
        for slug in await self._refresh_roles(slugs, failed):
            self._metrics.count_write("mongodb", "follow-grants")
            _log.warning("Brought the role of an app up to its grants", slug=slug)
        altered = set(await users.altered())
        for record in active:
            if record.slug in altered:  # the run that repairs it counts the write
                self._database.queue.wake(AppKey(record.owner.namespace, record.owner.name))
        await self._database.registry.trim_audit()
        damaged = await self._database.registry.damaged()
        self._metrics.unreadable_rows.set(len(damaged))
        for row in damaged:
            _log.error("A row cannot be read; restore it from a backup", row=row)
        if failed:
            raise failed[0]

    async def _refresh_roles(self, slugs: list[str], failed: list[MdbEngineError]) -> list[str]:
        try:
            return await self._database.users.refresh_roles(slugs)
        except MdbEngineError:
            wrote: list[str] = []
            for slug in slugs:  # one after the other, so that one stops nothing of the others
                self._database.gate.require()
                with _collected(failed):
                    wrote += await self._database.users.refresh_roles([slug])
            return wrote

    async def _vanished(self, apps: Iterable[AppRecord]) -> list[AppRecord]:
        """Return the registrations of MdbApps that are not there any more.

        Registrations were read first: each was made for an MdbApp that was there. What the list
        lacks is asked for by name, since a list may lack a namespace that is not watched.
        """
        registered = [
            record
            for record in apps
            if not record.owner.is_standalone and record.state is not AppState.TOMBSTONE
        ]
        present: set[str] = set()
        for scope in self._mdbapps.scopes if registered else ():
            with suppress(Forbidden):  # a namespace that is gone, and its Role with it
                async for page in self._mdbapps.metadata_pages(scope):
                    present.update(item["metadata"]["uid"] for item in page["items"])
        return [
            record
            for record in registered
            if record.owner.uid not in present and await self._mdbapps.has_vanished(record.owner)
        ]

    async def _active(self) -> Collection[str]:
        found = await self._database.registry.all()
        return [app.slug for app in found if app.state is AppState.ACTIVE]


@contextmanager
def _collected(failed: list[MdbEngineError]) -> Iterator[None]:
    try:
        yield
    except MdbEngineError as error:
        failed.append(error)
