"""In a pod: one app's credentials, from a binding that the operator changes under it.

New credentials are tried before they are used: the new connection must be accepted and the new
token must be one of the app's. Until then everything goes on with the old ones, which are valid for
the overlap, and it is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import SecretStr

from mdb_engine.access.gate import PresentedToken, accepted_version
from mdb_engine.access.grant_source import read_grant
from mdb_engine.access.model import Grant
from mdb_engine.access.sessions import SessionKeys
from mdb_engine.connection.binding import Binding, fingerprint, read_binding
from mdb_engine.connection.driver import RawDatabase
from mdb_engine.connection.pool import ConnectionSettings
from mdb_engine.core.tasks import Rest
from mdb_engine.engine.runtime import KeysListener, Runtime
from mdb_engine.exceptions import (
    BindingError,
    GrantMalformed,
    InvalidToken,
    MdbEngineError,
    ScopeDenied,
)
from mdb_engine.models.manifest import Manifest

__all__ = ["PodHosting"]

LONGEST_RETRY_SECONDS: Final = 10.0
"""How far apart attempts to use new credentials may get; an overlap lasts at least 120 s."""

_logger = logging.getLogger("mdb_engine.pod")


class PodHosting:
    """The credentials of the one app that a pod is.

    Parameters
    ----------
    binding
        What is mounted now.
    runtime
        The parts of the engine that credentials go into.
    options
        Arguments of the driver's client.
    on_keys
        Told of the session keys.
    """

    def __init__(
        self,
        binding: Binding,
        runtime: Runtime,
        options: Mapping[str, Any],
        on_keys: KeysListener,
    ) -> None:
        self._binding = binding
        self._token = PresentedToken(binding.token.get_secret_value())
        self._runtime = runtime
        self._options = options
        self._on_keys = on_keys
        self._problem: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._rest = Rest()
        runtime.cache.keep_only(binding.slug)

    @property
    def slug(self) -> str:
        """The app that this pod is."""
        return self._binding.slug

    @property
    def problem(self) -> str | None:
        """Why the newest credentials are not in use, or None."""
        return self._problem

    async def connect(self) -> None:
        """Open the connection with what is mounted now.

        Raises
        ------
        BindingError, InvalidToken
            If what is mounted now is not what it should be.
        DatabaseUnavailable
            If MongoDB does not answer or refuses.
        """
        binding = self._read()
        await self._runtime.connections.open(self._settings(binding))
        self._use(binding, PresentedToken(binding.token.get_secret_value()))

    def start(self) -> None:
        """Begin to follow the binding; needs a running loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name="mdb-engine binding")

    async def stop(self) -> None:
        """End following the binding."""
        await self._rest.end(self._task)
        self._task = None

    def token(self, slug: str) -> PresentedToken | None:
        """Return the token, if the binding is this app's.

        Raises
        ------
        InvalidToken
            If it is another app's: a pod has one identity.
        """
        if slug != self._binding.slug:
            raise InvalidToken(
                f"this pod's binding is for app {self._binding.slug!r}, not {slug!r}; read another "
                f"app's data through your own: get_scoped_db({self._binding.slug!r}).app({slug!r})"
            )
        return self._token

    async def retrieve(self, slug: str) -> None:
        """Do nothing: the token is the one that is mounted."""

    async def register(self, manifest: Manifest) -> None:
        """Do nothing: what is registered is the operator's business, never an image's."""

    async def rotate(self, slug: str) -> SecretStr:
        """Refuse: the operator rotates.

        Raises
        ------
        ScopeDenied
            Always.
        """
        raise ScopeDenied(
            f"a pod cannot rotate the secret of app {slug!r}, because it has no master key; "
            "annotate the MdbApp: kubectl mdb rotate"
        )

    async def _follow(self) -> None:
        poll = self._runtime.settings.binding_poll
        pause = poll
        while True:
            with self._rest.here():
                await asyncio.sleep(pause)
            try:
                if fingerprint(self._binding.directory) != self._binding.fingerprint:
                    await self._adopt(self._read())
                self._solved()
                pause = poll
            except (MdbEngineError, OSError, TimeoutError) as error:
                self._failed(error)
                pause = min(pause * 2, max(poll, LONGEST_RETRY_SECONDS))
            except Exception as error:  # noqa: BLE001 - the old credentials go on working
                self._failed(error)
                pause = max(poll, LONGEST_RETRY_SECONDS)

    async def _adopt(self, new: Binding) -> None:
        """Try new credentials, then use them."""
        token = PresentedToken(new.token.get_secret_value())
        accepting: list[Grant] = []

        async def verify(database: RawDatabase) -> None:
            now = datetime.now(UTC)
            row = await read_grant(database, new.slug)
            if isinstance(row, GrantMalformed):
                raise row
            if (
                row is not None
                and row.slug == new.slug
                and accepted_version(token, row.verifiers, now) is not None
            ):
                accepting.append(row)
            if not accepting:
                raise InvalidToken(
                    f"version {new.version} of the secret of app {new.slug!r} is mounted, but not "
                    "registered"
                )

        old, connections = self._binding, self._runtime.connections
        if self._settings(new) == self._settings(old) and not new.certificates:
            await verify(connections.database())
        else:
            await connections.open(self._settings(new), verify)
        self._runtime.cache.learn(accepting[0])
        self._use(new, token)
        if new.version != old.version:
            change = f"version {old.version} to {new.version}"
            self._runtime.audit.record("token_changed", new.slug, message=change)
            _logger.info("app %s uses its new credentials: %s", new.slug, change)

    def _use(self, binding: Binding, token: PresentedToken) -> None:
        self._binding = binding
        self._token = token
        self._on_keys(binding.slug, SessionKeys.from_binding(binding))

    def _read(self) -> Binding:
        binding = read_binding(self._binding.directory)
        if binding.slug != self._binding.slug:
            raise BindingError(
                f"the binding in {binding.directory} has become that of app {binding.slug!r}; this "
                f"pod is app {self._binding.slug!r} and goes on with what it had"
            )
        return binding

    def _settings(self, binding: Binding) -> ConnectionSettings:
        options = dict(self._options)
        if "certificates" in binding.certificates:
            options |= {"tls": True, "tlsCAFile": str(binding.certificates["certificates"])}
        if "client-certificate" in binding.certificates:
            path = str(binding.certificates["client-certificate"])
            options |= {"tls": True, "tlsCertificateKeyFile": path}
        return ConnectionSettings(binding.uri, binding.database, options)

    def _failed(self, error: Exception) -> None:
        problem = error.message if isinstance(error, MdbEngineError) else type(error).__name__
        if problem != self._problem:
            _logger.warning(
                "app %s does not use the credentials that are mounted: %s", self.slug, problem
            )
        self._problem = problem

    def _solved(self) -> None:
        self._problem = None
