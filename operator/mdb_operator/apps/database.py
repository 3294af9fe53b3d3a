"""One MongoDB database that apps share, and everything that is about it alone.

The queue and its workers, the gate, the master keys' check and the sweep all hang on a database. An
installation has one for now; with several, one that is down would hold up nobody of another.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from mdb_engine.registry.database_users import DatabaseUserService
from mdb_engine.registry.models.app import AppRecord, AppState
from mdb_operator.apps.builds import Builds, Built
from mdb_operator.apps.cache import MdbAppCache
from mdb_operator.apps.conditions import Reason
from mdb_operator.apps.queue import WakeUps
from mdb_operator.keys.check import KeyCheck
from mdb_operator.keys.rewrap import Rewrapper
from mdb_operator.kubernetes.resources import AppKey
from mdb_operator.mongodb.certificates import CertificateFiles
from mdb_operator.mongodb.gate import DatabaseGate
from mdb_operator.mongodb.installation import InstallationGuard
from mdb_operator.mongodb.users import DatabaseUsers, RetiringUsers
from mdb_operator.process.factory import Factory

__all__ = ["SharedDatabase"]

_log = structlog.get_logger(__name__)


class SharedDatabase:
    """A database, its registry and users, and the work that waits for it.

    `on_change` is told whether MongoDB is up, whenever that changed or the database is another.
    """

    def __init__(
        self,
        factory: Factory,
        guard: InstallationGuard,
        on_change: Callable[[bool], None],
        wake_all: Callable[[], None],
    ) -> None:
        context = factory.context
        self.gate = DatabaseGate(
            context.database,
            self._prepare,
            on_change,
            factory.ping_anew,
            guard.require,
        )
        self.clock = self.gate.clock  # the time by MongoDB's own clock
        self.certificates = CertificateFiles(context.config)  # what apps are given
        issuer = factory.certificate_issuer(self.certificates, self.clock)
        self.registry = factory.registry(self.clock, issuer)
        service = DatabaseUserService(context.database, self.clock, certificates=issuer is not None)
        self.users: DatabaseUsers = (
            service if context.config.isolation == "database" else RetiringUsers(service)
        )
        self._master_keys = context.master_keys
        # Whether the active key is the one that sealed what is in it.
        self.keys = KeyCheck(self.registry, context.master_keys.encryption)
        self.apps = MdbAppCache()  # those whose data is in it
        self.queue = WakeUps()  # those of them that have to be looked at
        # Until a look although nothing happened.
        self.resync_seconds = context.config.resync_seconds
        # By slug, which collection a build adopts and how far that is, in tenths; None after it.
        self._adopting: dict[str, tuple[str, int] | None] = {}
        self._may_adopt = context.config.adopt_collections
        # The collections and indexes that are being made.
        self.builds = Builds(self._build, self.queue.wake, self.clock)
        self.rewrapper = Rewrapper(self.registry, context.metrics.show_rewrap, wake_all)

    @property
    def away(self) -> set[Reason]:
        """Why apps fail that need not be tried again: who sees it end wakes all."""
        away = set[Reason]()
        if not self.gate.up:
            away |= {Reason.DATABASE_UNAVAILABLE, Reason.DELETING}
        if not self._master_keys.usable:
            away.add(Reason.KEY_UNAVAILABLE)
        return away

    def adopting(self, record: AppRecord) -> tuple[str, int] | None:
        """Return which collection a build adopts and how far that is, in tenths; None if none."""
        waiting = (
            (one.name, 0)
            for one in record.spec.collections
            if one.adopt is not None and one.name not in record.stamped
        )
        return self._adopting.get(record.slug, next(waiting, None))

    async def end_vanished(self, record: AppRecord) -> None:
        """End a registration whose MdbApp is gone without having been deregistered.

        Its access ends. It becomes a tombstone that keeps the data, unless its deletion had begun
        and was to take it: taking a finalizer off by hand is no request to delete data.
        """
        held = await self.registry.holder(record.slug)
        if held is None or held.owner != record.owner or held.state is AppState.TOMBSTONE:
            return  # somebody else did it; what is there now may be a successor's
        readers = await self.registry.neighbours(record.slug)
        await self.users.drop(record.slug)
        if not await self.registry.bury(record.slug, record.owner):
            # Somebody else was faster, and a successor's users may have gone with the former's.
            held = await self.registry.holder(record.slug)
            if held is not None:
                self.queue.wake(AppKey(held.owner.namespace, held.owner.name))
            return
        await self.users.refresh_roles(
            reader.slug for reader in readers if record.slug in reader.spec.read_scopes
        )
        _log.warning(
            "An MdbApp went away without its finalizer; its access was revoked",
            namespace=record.owner.namespace,
            app=record.owner.name,
            slug=record.slug,
            kept_data=record.state is AppState.ACTIVE,
        )

    async def close(self) -> None:
        """End what runs by itself."""
        self.queue.close()
        await self.builds.close()

    async def _prepare(self) -> None:
        await self.registry.prepare()
        await self.users.prepare()

    async def _build(self, record: AppRecord) -> Built:
        """Make an app's collections, then their indexes, which may take its time."""

        def adopted(name: str, done: int, of: int) -> None:
            now = (name, done * 10 // max(of, 1))
            if self._adopting.get(record.slug) != now:
                self._adopting[record.slug] = now
                self.queue.wake(AppKey(record.owner.namespace, record.owner.name))

        try:
            collections = await self.registry.ensure_collections(
                record, adopt=self._may_adopt, tell=adopted
            )
            self._adopting[record.slug] = None
            indexes = await self.registry.ensure_indexes(collections.record)
        finally:
            self._adopting.pop(record.slug, None)
        return Built(
            collections.wrote or bool(indexes.changes),
            indexes.record,
            (*collections.conflicts, *indexes.conflicts),
        )
