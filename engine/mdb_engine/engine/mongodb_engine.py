"""The engine: one object per process that connects, checks and hands out scoped databases."""

from __future__ import annotations

import asyncio
import logging
from asyncio import (
    _get_running_loop as running_loop,  # None without one, at no cost; documented for event loops
)
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

import pymongo
from pydantic import SecretStr

from mdb_engine.access.audit import AuditTrail
from mdb_engine.access.gate import PresentedToken, TokenGate
from mdb_engine.access.grant_cache import GrantCache
from mdb_engine.access.grant_source import MongoGrantSource
from mdb_engine.access.readiness import Check, Note, Readiness, differences
from mdb_engine.access.sessions import SessionKeys, Sessions
from mdb_engine.config import EngineSettings
from mdb_engine.connection.binding import find_binding
from mdb_engine.connection.driver import DriverName, get_driver
from mdb_engine.connection.pool import Connections, ConnectionSettings
from mdb_engine.constants import AUDIT_COLLECTION
from mdb_engine.core.tasks import finish
from mdb_engine.engine.earlier import EarlierNames, manifest_alone
from mdb_engine.engine.pod import PodHosting
from mdb_engine.engine.runtime import Hosting, Runtime
from mdb_engine.exceptions import (
    BindingError,
    DatabaseUnavailable,
    InvalidToken,
    MasterKeyError,
    MdbEngineError,
    NotInitialized,
    NotRegistered,
    ScopeDenied,
)
from mdb_engine.models.manifest import Manifest, ManifestSource
from mdb_engine.scoped import DEFAULT_LIMITS, Limits, ScopedDatabase, Session, Transaction
from mdb_engine.scoped.client import SessionOptions
from mdb_engine.scoped.concerns import TransactionOptions

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["ManifestSource", "MongoDBEngine"]

SILENCE_SECONDS: Final = 5.0
"""For how long MongoDB may be silent before ``/ready`` says so, however short the grants' TTL."""

_logger = logging.getLogger("mdb_engine")


class MongoDBEngine(EarlierNames):
    """Connects to MongoDB and hands out databases that see only what an app may see.

    In a pod, the binding that the operator has mounted says where MongoDB is and who the app is;
    ``mongo_uri`` and ``db_name`` are then not used. Elsewhere the process holds the master key
    (``MDB_ENGINE_MASTER_KEY``) and registers its own apps.

    Parameters
    ----------
    mongo_uri
        Where MongoDB is; by default ``MONGODB_URI``.
    db_name
        The database that the apps share; by default ``MONGODB_DB``.
    driver
        ``pymongo`` or ``motor``; by default ``MDB_DRIVER``, else PyMongo's own async client.
    slug
        Which app this process is, where bindings for several are mounted. ``create_app`` says it.
    limits
        What one operation may cost.
    client_options
        Arguments of the driver's client, such as ``maxPoolSize``.
    settings
        All other settings; by default from the environment.

    Examples
    --------
    ::

        engine = MongoDBEngine("mongodb://localhost:27017", "shop")
        async with engine:
            await engine.register_app("click_tracker", Path("manifest.json"))
            db = engine.get_scoped_db("click_tracker")
            await db.clicks.insert_one({"url": "/"})
    """

    def __init__(
        self,
        mongo_uri: str | SecretStr | None = None,
        db_name: str | None = None,
        *,
        driver: DriverName | None = None,
        slug: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
        client_options: Mapping[str, Any] | None = None,
        settings: EngineSettings | None = None,
    ) -> None:
        settings = settings or EngineSettings.from_environment()
        uri = SecretStr(mongo_uri) if isinstance(mongo_uri, str) else mongo_uri
        self._settings = settings.model_copy(
            update={
                "mongo_uri": uri or settings.mongo_uri,
                "db_name": db_name or settings.db_name,
                "driver": driver or settings.driver,
            }
        )
        self._driver = get_driver(self._settings.driver)
        self._slug = slug
        self._limits = limits
        self._client_options = dict(client_options or {})
        self._runtime: Runtime | None = None
        self._hosting: Hosting | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = AsyncExitStack()
        self._users: set[object] = set()
        self._starting = asyncio.Lock()
        self._sessions: dict[str, Sessions] = {}
        self._handles: dict[str, tuple[TokenGate, ScopedDatabase]] = {}
        self._manifests: dict[str, Manifest] = {}

    def __repr__(self) -> str:
        state = "initialized" if self.initialized else "not initialized"
        return f"MongoDBEngine(driver={self._driver.name!r}, {state})"

    @classmethod
    def from_environment(cls, *, slug: str | None = None, **options: Any) -> MongoDBEngine:
        """Make an engine from a mounted binding, or else from environment variables.

        Parameters
        ----------
        slug
            Which app this process is, where bindings for several are mounted.
        **options
            Other arguments of the engine.
        """
        return cls(slug=slug, **options)

    @property
    def settings(self) -> EngineSettings:
        """The settings in force; what is secret in them is hidden in their repr."""
        return self._settings

    @property
    def initialized(self) -> bool:
        """Whether it is connected."""
        return self._runtime is not None

    @property
    def in_pod(self) -> bool:
        """Whether credentials come from a binding.  False before ``initialize()``."""
        return isinstance(self._hosting, PodHosting)

    def choose(self, slug: str) -> None:
        """Say which app this process is, unless it has been said."""
        self._slug = self._slug or slug

    def check_hosting(self) -> bool:
        """Look for a binding without connecting; return whether there is one.

        Raises
        ------
        BindingError, InvalidToken
            If one is mounted that is incomplete, or another app's.
        """
        return find_binding(self._settings.binding_root, self._slug) is not None

    async def initialize(self) -> None:
        """Connect, read the grants, and begin to follow changes.  Does nothing when it has.

        Raises
        ------
        BindingError, InvalidToken
            If a binding is mounted that is incomplete, or another app's.
        MasterKeyError
            If there is neither a binding nor a master key.
        DatabaseUnavailable
            If MongoDB does not answer or refuses.
        NotInitialized
            If it runs on another event loop.
        """
        await self.acquire(self)

    async def shutdown(self) -> None:
        """Write what waits for the audit trail, end all tasks and close all connections.

        Takes a few seconds at most, with MongoDB gone as well. A cancellation meanwhile is raised
        when it is done. Where the event loop is gone that the engine ran on, it lets go of what
        cannot be closed any more, and can be initialised again.

        Raises
        ------
        NotInitialized
            If it runs on another event loop.
        """
        self._users.clear()
        await self._close()

    async def acquire(self, user: object) -> None:
        """Initialize on behalf of a user, such as an app, who releases the engine later.

        Raises
        ------
        Exception
            What `initialize` raises; the engine is not acquired then.
        """
        self._leave_loop_that_is_gone()
        async with self._starting:
            if self._runtime is None:
                await self._start()
            else:
                self._check_loop()
            self._users.add(user)

    async def release(self, user: object) -> None:
        """Shut down, unless another user has acquired the engine, or the program itself has."""
        self._users.discard(user)
        if not self._users:
            await self._close()

    async def _start(self) -> None:
        async with AsyncExitStack() as stack:
            runtime = self._make_runtime()
            stack.push_async_callback(runtime.connections.close)
            hosting = self._make_hosting(runtime)
            await hosting.connect()
            await runtime.cache.refresh()
            stack.push_async_callback(_all, hosting.stop, runtime.cache.stop, runtime.audit.stop)
            runtime.cache.start()
            runtime.audit.start()
            hosting.start()
            self._open = stack.pop_all()
        self._loop = asyncio.get_running_loop()
        self._runtime, self._hosting = runtime, hosting
        where = "in a pod" if self.in_pod else "on its own"
        _logger.info("the engine runs, %s, on the driver %s", where, self._driver.name)

    async def _close(self) -> None:
        self._leave_loop_that_is_gone()
        async with self._starting:
            if self._runtime is None or self._users:
                return
            self._check_loop()
            self._runtime = self._hosting = self._loop = None
            self._handles.clear()
            await finish(self._open.aclose())
        _logger.info("the engine was shut down")

    def _leave_loop_that_is_gone(self) -> None:
        """Forget what belongs to a loop that is closed: nothing of it can be ended any more."""
        if self._loop is not None and self._loop.is_closed():
            _logger.warning(
                "the event loop of the engine was closed before the engine: its connections are "
                "left to the garbage collector; await engine.shutdown() first"
            )
            self._runtime = self._hosting = self._loop = None
            self._handles.clear()
            self._users.clear()
            self._open.pop_all()
            self._starting = asyncio.Lock()  # the other was the loop's

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.shutdown()

    async def register_app(
        self,
        slug: str | ManifestSource,
        manifest: ManifestSource | None = None,
        *,
        create_indexes: bool = True,  # noqa: ARG002 - of the earlier version; indexes are declared
    ) -> Manifest:
        """Register an app, or update what it registered before.

        In a pod nothing is registered: what the operator registered holds, and a manifest that
        differs is logged and shown by ``/ready``.

        Parameters
        ----------
        slug
            The app.
        manifest
            Its manifest, whose slug must be the same.
        create_indexes
            Not acted upon: programs of the earlier version pass it.

        Raises
        ------
        ManifestInvalid
            If the manifest is; nothing was registered then.
        SlugTaken, CollectionTaken
            If another app has the slug or a collection's name.
        """
        if manifest is None or not isinstance(slug, str):
            slug, manifest = manifest_alone(slug)
        loaded = Manifest.of(slug, manifest)
        runtime, hosting = self._running()
        await hosting.register(loaded)
        self._manifests[slug] = loaded
        runtime.cache.name(loaded.read_scopes)
        for difference in self._differences(slug):
            _logger.warning("app %s: %s", slug, difference)
        return loaded

    def get_scoped_db(
        self,
        slug: str,
        *,
        app_token: str | SecretStr | PresentedToken | None = None,
        read_scopes: Collection[str] | None = None,
        write_scope: str | None = None,
        read_only: bool = False,
        limits: Limits | None = None,
    ) -> ScopedDatabase:
        """Return a database that sees only what an app may see, and writes only its own data.

        The token is checked now and again before every operation.

        Parameters
        ----------
        slug
            The app.
        app_token
            Its secret; by default that of the binding, of ``<SLUG>_SECRET`` or of the registry.
        read_scopes
            Slugs to narrow reading to. The app's own collections are among them only if it is.
        write_scope
            The app's own slug: there is nothing else to write to.
        read_only
            Whether the handle is to refuse all writing.
        limits
            The limits of this handle's operations, instead of the engine's: a nightly job reads
            for longer than a request may.

        Raises
        ------
        NotInitialized
            If the engine is not running.
        NotRegistered
            If there is no such app.
        TokenRequired, InvalidToken
            If no token or a wrong one is presented.
        ScopeDenied
            If more is asked for than is granted.
        DatabaseUnavailable
            If the cached grants are too old to be trusted.
        """
        runtime, _ = self._running()
        _check_slug(slug)
        _check_scopes(read_scopes)
        plain = app_token is None and read_scopes is None and limits is None and not read_only
        gate, database = self._handles.get(slug, (None, None)) if plain else (None, None)
        if gate is None or database is None or gate.cache is not runtime.cache:
            gate = TokenGate(
                slug,
                runtime.cache,
                runtime.audit,
                self._presenting(slug, app_token, runtime),
                read_scopes=read_scopes,
                read_only=read_only,
            )
            held = self._limits if limits is None else limits
            database = ScopedDatabase(gate, runtime.connections.current, self._driver, held)
        try:
            granted = gate.admit().read_scopes
            _refuse_widening(slug, granted, read_scopes, write_scope)
        except MdbEngineError as error:
            gate.record("get_scoped_db", "", "", error)
            raise
        if plain:  # a request that asks for the same finds what was worked out for it
            self._handles[slug] = (gate, database)
        return database

    def transaction(self, **options: Unpack[TransactionOptions]) -> Transaction:
        """Return a transaction: ``async with engine.transaction() as tx``.

        Parameters
        ----------
        **options
            See `TransactionOptions`.

        Raises
        ------
        NotInitialized
            If the engine is not running.
        """
        runtime, _ = self._running()
        return Transaction(self._driver, runtime.connections.current, self._limits, **options)

    def session(self, **options: Unpack[SessionOptions]) -> Session:
        """Return a session, for causal consistency, snapshots, and transactions as the drivers'.

        Parameters
        ----------
        **options
            See `SessionOptions`.

        Raises
        ------
        NotInitialized
            If the engine is not running.
        """
        runtime, _ = self._running()
        return Session(self._driver, runtime.connections.current, self._limits, **options)

    async def rotate_app_secret(self, slug: str) -> SecretStr:
        """Rotate an app's secret; the old one works on for the overlap.

        Returns
        -------
        SecretStr
            The new secret, for whoever sets ``<SLUG>_SECRET`` somewhere.

        Raises
        ------
        NotRegistered
            If there is no such app.
        ScopeDenied
            In a pod: there the operator rotates.
        """
        _, hosting = self._running()
        _check_slug(slug)
        return await hosting.rotate(slug)

    def sessions(self, slug: str) -> Sessions:
        """Return what signs and verifies the sessions of an app's users."""
        sessions = self._sessions.get(slug)
        if sessions is None:
            lifetime = timedelta(seconds=self._settings.session_lifetime)
            sessions = self._sessions[slug] = Sessions(slug, lifetime)
        return sessions

    def read_scopes(self, slug: str) -> frozenset[str]:
        """Return the slugs that an app may read at this moment; empty if it is not registered.

        A pod knows them of its own app and of those that it reads, and of no others.
        """
        runtime, _ = self._running()
        grant = runtime.cache.grant(slug)
        return frozenset() if grant is None else grant.read_scopes

    def is_multi_site(self, slug: str) -> bool:
        """Say whether an app may read other apps' data at this moment."""
        return len(self.read_scopes(slug)) > 1

    @property
    def refused_operations(self) -> Mapping[str, int]:
        """How many operations were refused that are not in the audit trail, by code of the error.

        For an app's own metrics: ``query_refused``, ``limit_exceeded`` and the like.
        """
        return {} if self._runtime is None else self._runtime.audit.refused

    def record_denied(self, slug: str, operation: str, error: MdbEngineError) -> None:
        """Note in the audit trail that an app's policy, or another wall of it, denied somebody.

        Parameters
        ----------
        slug
            The app.
        operation
            What was asked for, in a word that is no client's choice: ``policy``.
        error
            Why it was denied.
        """
        if self._runtime is not None:
            known = self._runtime.cache.registered
            self._runtime.audit.access(slug, operation, "", slug, error, known=known)

    def readiness(self, slug: str) -> Readiness:
        """Say whether an app can serve, from memory."""
        runtime, hosting = self._runtime, self._hosting
        if runtime is None or hosting is None:
            waiting = NotInitialized("not connected yet")
            return Readiness((Check.failed("database", waiting),))
        gate = TokenGate(slug, runtime.cache, runtime.audit, self._presenting(slug, None, runtime))
        try:
            gate.admit()
            grant = Check("grant", ok=True)
        except MdbEngineError as error:
            grant = Check.failed("grant", error)
        notes = [
            Note(text, "manifest.json differs from what is registered")
            for text in self._differences(slug)
        ]
        if hosting.problem:
            summary = "new credentials are mounted, but not in use"
            notes.append(Note(f"{summary}: {hosting.problem}", summary))
        if runtime.audit.dropped:
            dropped = f"{runtime.audit.dropped} audit events were dropped"
            notes.append(Note(dropped, dropped))
        return Readiness((self._database_check(runtime.cache), grant), tuple(notes))

    def _database_check(self, cache: GrantCache) -> Check:
        """Say whether MongoDB answers, by when grants were last known to be current."""
        settings = self._settings
        patience = min(max(2 * settings.grant_ttl, SILENCE_SECONDS), settings.grant_max_age)
        if cache.age is not None and cache.age <= patience:
            return Check("database", ok=True)
        since = "yet" if cache.age is None else f"for {cache.age:.0f} s"
        return Check.failed("database", DatabaseUnavailable(f"MongoDB has not answered {since}"))

    def create_app(
        self,
        slug: str,
        manifest: ManifestSource,
        **options: Any,
    ) -> FastAPI:
        """Make the FastAPI app of a slug; `mdb_engine.fastapi.app.create_app` has the options."""
        from mdb_engine.fastapi.app import create_app  # noqa: PLC0415 - for web apps alone

        return create_app(self, slug, manifest, **options)

    def _running(self) -> tuple[Runtime, Hosting]:
        if self._runtime is None or self._hosting is None:
            raise NotInitialized(
                "the engine is not running; use it between initialize() and shutdown()"
            )
        self._check_loop()
        return self._runtime, self._hosting

    def _check_loop(self) -> None:
        """Refuse another event loop at once: there, what the engine waits for would never come."""
        running = running_loop()  # none in a thread, as FastAPI runs synchronous code
        if self._loop is None or self._loop is running:
            return
        if self._loop.is_closed():
            raise NotInitialized(
                "the event loop that the engine was initialized on is closed; await "
                "engine.initialize() on this one, and engine.shutdown() before it ends"
            )
        if running is not None:
            raise NotInitialized(
                "the engine was initialized on another event loop than the one that runs now; make "
                "an engine for each loop (with pytest-asyncio, give fixture and tests one "
                "loop_scope)"
            )

    def _presenting(
        self, slug: str, app_token: str | SecretStr | PresentedToken | None, runtime: Runtime
    ) -> Callable[[], PresentedToken | None]:
        """Return what gives the token of a handle for as long as this run of the engine lasts."""
        fixed = None if app_token is None else _presented(app_token)
        _, hosting = self._running()
        loop = self._loop

        def present() -> PresentedToken | None:
            if self._runtime is not runtime or running_loop() is not loop:
                current, _ = self._running()
                if current is not runtime:
                    raise NotInitialized(
                        "the engine was shut down since; get another scoped database"
                    )
            return fixed if fixed is not None else hosting.token(slug)

        return present

    def _differences(self, slug: str) -> Sequence[str]:
        manifest = self._manifests.get(slug)
        grant = self._runtime.cache.grant(slug) if self._runtime else None
        return () if manifest is None or grant is None else differences(manifest, grant)

    def _make_runtime(self) -> Runtime:
        settings = self._settings
        connections = Connections(self._driver)

        async def insert(documents: Sequence[Mapping[str, Any]], seconds: float) -> None:
            with pymongo.timeout(seconds), connections.current().lease() as database:
                await database[AUDIT_COLLECTION].insert_many(documents, ordered=False)

        return Runtime(
            settings=settings,
            connections=connections,
            cache=GrantCache(
                MongoGrantSource(connections.database, self._driver),
                ttl=settings.grant_ttl,
                max_age=settings.grant_max_age,
            ),
            audit=AuditTrail(
                insert, instance=settings.instance, queue_size=settings.audit_queue_size
            ),
        )

    def _make_hosting(self, runtime: Runtime) -> Hosting:
        binding = find_binding(self._settings.binding_root, self._slug)
        if binding is not None:
            return PodHosting(binding, runtime, self._client_options, self._use_keys)
        key, uri, database = (
            self._settings.master_key,
            self._settings.mongo_uri,
            self._settings.db_name,
        )
        if key is None or not key.get_secret_value().strip():
            raise MasterKeyError(
                "Master key not found: no binding of the operator is mounted below "
                "SERVICE_BINDING_ROOT, and MDB_ENGINE_MASTER_KEY is not set; make one with "
                "EnvelopeEncryptionService.generate_master_key()"
            )
        if uri is None or not database:
            raise BindingError(
                "it is not known where MongoDB is: no binding is mounted; pass mongo_uri and "
                "db_name, or set MONGODB_URI and MONGODB_DB"
            )
        # An app that the operator registered needs none of this.
        from mdb_engine.core.encryption import EnvelopeEncryptionService  # noqa: PLC0415
        from mdb_engine.engine.standalone import StandaloneHosting  # noqa: PLC0415
        from mdb_engine.key_managers import open_key_managers  # noqa: PLC0415

        return StandaloneHosting(
            ConnectionSettings(uri, database, self._client_options),
            EnvelopeEncryptionService(open_key_managers(key.get_secret_value())),
            runtime,
            self._use_keys,
        )

    def _use_keys(self, slug: str, keys: SessionKeys) -> None:
        self.sessions(slug).use(keys)


async def _all(*steps: Callable[[], Awaitable[None]]) -> None:
    """Take steps at once, to the end of each whatever becomes of the others."""
    outcomes = await asyncio.gather(*(step() for step in steps), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


def _check_slug(slug: object) -> None:
    if not isinstance(slug, str):
        raise NotRegistered(f"an app is named by its slug, not by a {type(slug).__name__}")


def _check_scopes(read_scopes: object) -> None:
    """Refuse what is no collection of slugs; the error is of the kind that widening is."""
    if read_scopes is None:
        return
    if isinstance(read_scopes, str):
        raise ScopeDenied(f"read_scopes= is a list of slugs, not one string: [{read_scopes!r}]")
    if not isinstance(read_scopes, Collection):
        raise ScopeDenied(f"read_scopes= is a list of slugs, not a {type(read_scopes).__name__}")
    for one in read_scopes:
        if not isinstance(one, str):
            raise ScopeDenied(f"read_scopes= is a list of slugs; one is a {type(one).__name__}")


def _presented(token: str | SecretStr | PresentedToken) -> PresentedToken:
    if isinstance(token, PresentedToken):
        return token
    if isinstance(token, SecretStr):
        token = token.get_secret_value()
    if not isinstance(token, str):
        raise InvalidToken(f"app_token= must be a string, not {type(token).__name__}")
    return PresentedToken(token)


def _refuse_widening(
    slug: str,
    granted: frozenset[str],
    read_scopes: Collection[str] | None,
    write_scope: str | None,
) -> None:
    missing = sorted(set(read_scopes or ()) - granted)
    if missing:
        raise ScopeDenied(
            f"app {slug!r} asks to read {', '.join(missing)}, which is not granted to it; "
            "read_scopes= can only narrow"
        )
    if write_scope not in (None, slug):
        raise ScopeDenied(
            f"app {slug!r} asks to write as {write_scope!r}; an app writes only its own data, so "
            "write_scope= is its own slug or is left out"
        )
