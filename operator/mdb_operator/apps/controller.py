"""What the leader runs: it puts the services together and lets them work side by side.

Everything that notices something (the watch of MdbApps, the watch of Secrets, the ping of MongoDB,
a new keyring) ends in a wake-up of apps, and the workers do the rest.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from mdb_engine.exceptions import MdbEngineError
from mdb_engine.registry.models.app import AppState
from mdb_operator.apps.binding import Binding
from mdb_operator.apps.database import SharedDatabase
from mdb_operator.apps.ownership import Ownership
from mdb_operator.apps.projection import Address
from mdb_operator.apps.reconcile import Reconciler
from mdb_operator.apps.relist import Relist
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.apps.status import StepObserver
from mdb_operator.apps.sweep import Sweeper
from mdb_operator.apps.workers import Workers
from mdb_operator.exceptions import DatabaseHeld
from mdb_operator.kubernetes.secret_watch import SecretChange
from mdb_operator.kubernetes.secrets import SecretKey
from mdb_operator.process.context import READY_CONTROLLER, READY_DATABASE
from mdb_operator.process.factory import Factory

__all__ = ["Controller"]

_log = structlog.get_logger(__name__)


class Controller:
    """Handles the MdbApps of one installation."""

    def __init__(self, factory: Factory, on_step: StepObserver | None = None) -> None:
        context, config = factory.context, factory.context.config
        self._context = context
        self._factory = factory
        guard, events = factory.installation_guard(self._adopted), factory.event_recorder()
        self.database = SharedDatabase(factory, guard, self._database_changed, self._wake_all)
        self.gate, self._queue = self.database.gate, self.database.queue
        self.cache = self.database.apps
        mdbapps = factory.mdbapp_store()
        self._ownership = Ownership(
            operator_class=config.operator_class,
            guard=guard,
            mdbapps=mdbapps,
            cache=self.cache,
            events=events,
            metrics=context.metrics,
        )
        self._sweeper = Sweeper(self.database, mdbapps, context.metrics)
        self._reconciler = Reconciler(
            self.database,
            ownership=self._ownership,
            binding=Binding(
                self.database,
                factory.secret_store(),
                factory.workload_restarter(),
                Address.parse(
                    config.read_mongodb_uri(),
                    config.mongodb_apps_uri,
                    config.mongodb_database,
                    config.isolation,
                ),
                self.database.certificates.read,
            ),
            mdbapps=mdbapps,
            events=events,
            isolation=config.isolation,
            metrics=context.metrics,
            observer=on_step,
        )
        self._relist = Relist(
            mdbapps,
            self.cache,
            self._forget,
            context.heartbeat,
            interval=config.relist_seconds,
            limit=config.watch_limit_seconds,
        )
        self._events = events
        self._telling: set[asyncio.Task[None]] = set()
        self.started = asyncio.Event()
        """Set once everything runs that notices changes, but for the watch of MdbApps."""
        self.reconcile = self._reconciler.reconcile
        self.sweep = self._sweeper.sweep

    def see(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """Take in an event of the watch of MdbApps."""
        resource = MdbAppResource.from_body(body)
        known = self.cache.get(resource.key)
        if kind == "DELETED":
            self._relist.forget(resource.uid)
            self._ownership.forget(resource)
            if known is not None:  # else another installation's, or told of before
                self._forget(resource)
            return
        self._relist.shown(resource.uid, resource.resource_version)
        if not self._ownership.admits(resource) or not self.cache.update(resource):
            return
        # What somebody changes is what somebody waits for; new apps come in their hundreds, and so
        # does at a start what has not changed since its status was written.
        if known is None:
            self._queue.wake(resource.key, urgent=resource.changed_since_its_status, last=True)
        else:
            asked = not known.asks_the_same_as(resource)
            # Else it is the status or the finalizers: the echo of a write of ours, mostly.
            self._queue.wake(resource.key, urgent=asked, routine=not asked)

    def _forget(self, app: MdbAppResource) -> None:
        """Take in that an MdbApp is gone, and have its traces looked for."""
        self.cache.remove(app)
        self._context.metrics.forget_app(app.key)
        self._queue.forget(app.key)
        self._queue.wake(app.key, urgent=True)

    async def wait_for_database(self, stop: asyncio.Event) -> None:
        """Return once the database is not another installation's, or at the event.

        Nothing is written before.
        """
        await self.gate.wait_until_ours(stop, self._held)

    def _held(self, by_other: DatabaseHeld | None) -> None:
        context = self._context
        if by_other is None:
            context.readiness.hold(READY_DATABASE)
            context.metrics.show_holder(None)
        else:
            context.readiness.fail(READY_DATABASE, by_other.message)
            context.metrics.show_holder(by_other.holder)
            _log.error("The database is another installation's", error=by_other.message)

    async def run(self) -> None:
        """Work until cancelled; `wait_for_database` comes before, and calls of `see` meanwhile."""
        context, config = self._context, self._context.config
        context.master_keys.on_change = self._keys_changed
        workers = Workers(self._queue, self.reconcile, count=context.config.concurrency)
        watchers = self._factory.secret_watchers(
            self._projected, self._secret_changed, self._has_app
        )
        context.metrics.show_database(up=self.gate.up)
        try:
            if (config.watch_namespaces or config.exclude_namespaces) and self.gate.up:
                await self._tell_of_unwatched()
            await self._relist.list()  # before the Secrets: it tells whose of them are followed
            async with asyncio.TaskGroup() as group:
                for work in (
                    workers.run(),
                    self.gate.run(),
                    self.database.rewrapper.run(),
                    self._sweeper.run(),
                    self._relist.run(),
                    self._report(),
                    *(watcher.run() for watcher in watchers),
                ):
                    group.create_task(work)
                await asyncio.gather(*(watcher.wait_synced() for watcher in watchers))
                context.readiness.hold(READY_CONTROLLER)
                _log.info("The controller has started", isolation=context.config.isolation)
                self.started.set()
        finally:
            context.master_keys.on_change = None
            await self.database.close()

    async def _tell_of_unwatched(self) -> None:
        """Say which registrations are of namespaces that are watched no more.

        Nobody may look there, so nothing is concluded: their MdbApps may well be in use.
        """
        handles = self._context.config.handles_namespace
        try:
            active = [a for a in await self.database.registry.all() if a.state is AppState.ACTIVE]
        except MdbEngineError:
            return  # MongoDB is down, which others say
        left = Counter(
            app.owner.namespace
            for app in active
            if not app.owner.is_standalone and not handles(app.owner.namespace)
        )
        for namespace, count in sorted(left.items()):
            _log.warning(
                "Apps of a namespace that is not watched (any more) are neither handled nor let go:"
                " see the part of the operations guide about taking a namespace out",
                namespace=namespace,
                apps=count,
            )

    def _projected(self) -> Iterable[SecretKey]:
        return [(app.key.namespace, app.secret_name) for app in self.cache if not app.deleting]

    def _has_app(self, namespace: str, uid: str) -> bool:
        key = self.cache.key_of(uid)
        return (key is not None and key.namespace == namespace) or self._relist.has(namespace, uid)

    def _secret_changed(self, change: SecretChange) -> None:
        key = self.cache.key_of(change.owner_uid)
        # A label with the UID of an app elsewhere wakes nobody: its Secret is where it is.
        if key is not None and key.namespace == change.namespace:
            self._queue.wake(key)

    def _database_changed(self, up: bool) -> None:  # noqa: FBT001 - an observer's only argument
        self._context.metrics.show_database(up=up)
        if up:
            self._sweeper.request()
        self._wake_all()
        if self.started.is_set():
            telling = asyncio.create_task(self._tell_of_database(up=up))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def _tell_of_database(self, *, up: bool) -> None:
        """Post the one event of an outage, or of its end: the apps' conditions say the rest."""
        config = self._context.config
        await self._events.record_of_lease(
            config.namespace,
            config.lease_name,
            "Normal" if up else "Warning",
            reason="DatabaseAvailable" if up else "DatabaseUnavailable",
            action="LookAtDatabase",
            note="MongoDB answers: all apps are looked at"
            if up
            else "MongoDB does not answer: apps that run go on with what they have, and "
            "nothing is registered, rotated or withdrawn until it does",
        )

    def _adopted(self) -> None:
        for key in self._ownership.reconsider():
            self._queue.wake(key)

    def _keys_changed(self) -> None:
        self.database.rewrapper.request()
        self._wake_all()

    def _wake_all(self) -> None:
        self._queue.unpark()
        for app in self.cache:
            self._queue.wake(app.key, last=True)

    async def _report(self) -> None:
        while True:
            self._context.metrics.queue_length.set(len(self._queue))
            await asyncio.sleep(1)
