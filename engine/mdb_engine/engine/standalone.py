"""On its own: the process holds the master key, registers its apps and finds their tokens.

A token comes from ``<SLUG>_SECRET`` where that is set, else from the database, whose row the master
key opens. One from the database follows a rotation that another process has made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from typing import Final

from pydantic import SecretStr

from mdb_engine.access.gate import PresentedToken, accepted_version
from mdb_engine.access.model import Grant
from mdb_engine.access.sessions import SessionKeys
from mdb_engine.config import secret_from_environment
from mdb_engine.connection.pool import ConnectionSettings
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.secret import RevealedSecrets, RotationResult
from mdb_engine.core.tasks import Rest
from mdb_engine.engine.earlier import say_aliases
from mdb_engine.engine.runtime import KeysListener, Runtime
from mdb_engine.exceptions import MdbEngineError, NotInitialized, NotRegistered, VersionConflict
from mdb_engine.models.manifest import Manifest
from mdb_engine.registry.registry import Registry

__all__ = ["StandaloneHosting"]

RETRY_SECONDS: Final = 1.0
"""How soon tokens are looked up again when the database could not say."""

TRIM_SECONDS: Final = 3600.0
"""How often the audit trail is held against its bound: each time, it is read once."""

_logger = logging.getLogger("mdb_engine.standalone")


class StandaloneHosting:
    """The credentials of the apps of a process that holds the master key.

    Parameters
    ----------
    connection
        Where MongoDB is.
    encryption
        The master key at work.
    runtime
        The parts of the engine that credentials go into.
    on_keys
        Told of the session keys of each app.
    """

    def __init__(
        self,
        connection: ConnectionSettings,
        encryption: EnvelopeEncryptionService,
        runtime: Runtime,
        on_keys: KeysListener,
    ) -> None:
        self._connection = connection
        self._encryption = encryption
        self._runtime = runtime
        self._on_keys = on_keys
        self._registry: Registry | None = None
        self._tokens: dict[str, PresentedToken] = {}
        self._versions: dict[str, frozenset[int]] = {}
        self._rotated_here: set[str] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._rest = Rest()
        self._trimming: asyncio.Task[None] | None = None
        self._trim_rest = Rest()
        runtime.cache.on_change(self._changed.set)

    @property
    def problem(self) -> str | None:
        """Why the newest credentials are not in use: never so, as there is no binding."""
        return None

    @property
    def registry(self) -> Registry:
        """The registry.

        Raises
        ------
        NotInitialized
            Before it is connected.
        """
        if self._registry is None:
            raise NotInitialized("the engine is not connected; await engine.initialize() first")
        return self._registry

    async def connect(self) -> None:
        """Open the connection and make the engine's own collections.

        Raises
        ------
        DatabaseUnavailable
            If MongoDB does not answer or refuses.
        """
        connections = self._runtime.connections
        await connections.open(self._connection)
        registry = Registry(connections.database(), connections.driver, self._encryption)
        await registry.prepare()
        self._registry = registry

    def start(self) -> None:
        """Begin to follow rotations; needs a running loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name="mdb-engine tokens")
            self._trimming = asyncio.create_task(self._trim(), name="mdb-engine audit bound")

    async def stop(self) -> None:
        """End following rotations."""
        await asyncio.gather(
            self._rest.end(self._task), self._trim_rest.end(self._trimming), return_exceptions=True
        )
        self._task = self._trimming = None
        await self._encryption.key_manager.aclose()

    def token(self, slug: str) -> PresentedToken | None:
        """Return the token from the environment, else the one of an app that registered here."""
        held = self._tokens.get(slug)
        if held is None:
            given = secret_from_environment(slug)
            if given is not None:
                held = self._tokens[slug] = PresentedToken(given.get_secret_value())
        return held

    async def retrieve(self, slug: str) -> None:
        """Find the token of an app that another process registered, if there is one."""
        if self.token(slug) is None:
            with contextlib.suppress(NotRegistered):
                await self._reveal(slug)

    async def register(self, manifest: Manifest) -> None:
        """Register an app, or update what it registered before, and find its token."""
        spec = manifest.to_spec()
        registration = await self.registry.register(spec)
        for conflict in registration.conflicts:
            logging.getLogger(__name__).error(conflict.message, extra={"slug": spec.slug})
        for denied in registration.grants.denied:
            _logger.warning("app %s may not read app %s: %s", spec.slug, denied.slug, denied.reason)
        await self._reveal(spec.slug)
        await self._runtime.cache.refresh()
        say_aliases(manifest, lambda token: self._accepts(spec.slug, token))

    async def rotate(self, slug: str) -> SecretStr:
        """Rotate an app's secret and return the new one; the old one works on for the overlap.

        Raises
        ------
        NotRegistered
            If there is no such app.
        VersionConflict
            If as many versions as may be are valid still, or somebody else is rotating.
        """
        registry = self.registry
        await registry.expire(slug)
        revealed = await registry.secrets.reveal(slug)
        record = await registry.get(slug)
        if record is None:
            raise NotRegistered(f"app {slug!r} is not registered")
        overlap = record.spec.secret.overlap_seconds
        outcome = await registry.rotate(
            slug, expected_version=revealed.version, overlap_seconds=overlap
        )
        if outcome.result is RotationResult.WAITING:
            raise VersionConflict(
                f"app {slug!r} has as many valid versions of its secret as may be; rotate again "
                f"after {outcome.retry_at}"
            )
        # What the environment holds is the version before, from now on.
        self._rotated_here.add(slug)
        new = await self._reveal(slug)
        await self._runtime.cache.refresh()
        change = f"version {revealed.version} to {new.version}"
        self._runtime.audit.record("token_changed", slug, message=change)
        _logger.info("the secret of app %s was rotated: %s", slug, change)
        return new.current.token

    async def _reveal(self, slug: str) -> RevealedSecrets:
        """Open an app's credentials and use them; a token from the environment comes first."""
        revealed = await self.registry.secrets.reveal(slug)
        given = None if slug in self._rotated_here else secret_from_environment(slug)
        token = revealed.current.token if given is None else given
        self._tokens[slug] = PresentedToken(token.get_secret_value())
        versions = (revealed.current, *revealed.earlier)
        keys = {one.version: one.session_key.get_secret_value().encode() for one in versions}
        ends = {one.version: one.expires_at for one in versions if one.expires_at is not None}
        self._versions[slug] = frozenset(keys)
        self._on_keys(slug, SessionKeys(revealed.version, keys, ends))
        return revealed

    def _accepts(self, slug: str, token: PresentedToken) -> bool:
        grant, now = self._runtime.cache.grant(slug), datetime.now(UTC)
        return grant is not None and accepted_version(token, grant.verifiers, now) is not None

    async def _trim(self) -> None:
        """Keep the audit trail under its bound, which is nobody else's business here."""
        while True:
            with self._trim_rest.here():
                await asyncio.sleep(TRIM_SECONDS)
            try:
                removed = await self.registry.trim_audit()
            except MdbEngineError as error:
                _logger.warning("the audit trail could not be trimmed: %s", error.message)
            else:
                if removed:
                    _logger.warning("the audit trail was full; its %s oldest events went", removed)

    async def _follow(self) -> None:
        """Look up the credentials of an app again when other versions of them are accepted."""
        while True:
            with self._rest.here():
                await self._changed.wait()
            self._changed.clear()
            for slug, versions in list(self._versions.items()):
                grant = self._runtime.cache.grant(slug)
                if grant is None or _accepted(grant) == versions:
                    continue
                try:
                    await self._reveal(slug)
                except MdbEngineError as error:
                    _logger.warning("the secret of app %s cannot be read: %s", slug, error.message)
                    with self._rest.here():
                        await asyncio.sleep(RETRY_SECONDS)
                    self._changed.set()


def _accepted(grant: Grant) -> frozenset[int]:
    """Return the versions of an app's secret that are accepted at this moment."""
    now = datetime.now(UTC)
    return frozenset(one.version for one in grant.verifiers if one.accepted(now))
