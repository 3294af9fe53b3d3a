"""What programs written for the earlier version of the library call, by its names.

They run unmodified, alone and in a pod; the log says once for each name what it is called now. One
thing is not as it was: `EarlierNames.get_app_token` returns no text. A process keeps no secret in
the clear, so the token is an object that says nothing and that ``app_token=`` takes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from pydantic import SecretStr

from mdb_engine.access.gate import PresentedToken
from mdb_engine.access.readiness import Check, Readiness
from mdb_engine.engine.runtime import Hosting, Runtime
from mdb_engine.exceptions import InvalidToken
from mdb_engine.models.manifest import Manifest

__all__ = ["EarlierNames"]

_logger = logging.getLogger("mdb_engine.earlier")

_PRESENTED_BY_ITSELF: Final = "get_scoped_db(slug), which presents the app's token by itself"

_NOW: Final = {
    "get_app_token": _PRESENTED_BY_ITSELF,
    "auto_retrieve_app_token": _PRESENTED_BY_ITSELF,
    "_initialized": "engine.initialized",
    "app_secret_exists": "engine.readiness(slug).ready",
    "get_health_status": "engine.readiness(slug), or GET /ready",
}
"""What to write instead."""

_said: set[str] = set()


def _say(name: str) -> None:
    if name not in _said:
        _said.add(name)
        _logger.warning("%s is a name of the earlier version; write %s", name, _NOW[name])


class _Engine(Protocol):
    _manifests: dict[str, Manifest]

    @property
    def initialized(self) -> bool: ...

    def _running(self) -> tuple[Runtime, Hosting]: ...

    def readiness(self, slug: str) -> Readiness: ...

    async def rotate_app_secret(self, slug: str) -> SecretStr: ...


class EarlierNames:
    """Gives `MongoDBEngine` the names of the earlier version."""

    @property
    def _initialized(self: _Engine) -> bool:
        _say("_initialized")
        return self.initialized

    @property
    def _app_secrets_manager(self: _Engine) -> Any:  # None before it is connected
        return _SecretsManager(self) if self.initialized else None

    def get_app_token(self: _Engine, slug: str) -> PresentedToken | None:
        """Return what an app proves itself with, for ``app_token=``; None where there is none.

        Returns
        -------
        PresentedToken or None
            The secret's digest; the secret itself is nowhere in the process. It is that of this
            moment: ask again for each request, because secrets rotate.
        """
        _say("get_app_token")
        return _token(self, slug)

    async def auto_retrieve_app_token(self: _Engine, slug: str) -> PresentedToken | None:
        """Return the same, after a look into the registry where this process may look there.

        Raises
        ------
        DatabaseUnavailable
            If MongoDB does not answer.
        """
        _say("auto_retrieve_app_token")
        if self.initialized:
            await self._running()[1].retrieve(slug)
        return _token(self, slug)

    async def get_health_status(self: _Engine) -> dict[str, Any]:
        """Say whether the apps of this process can serve, from memory.

        Returns
        -------
        dict
            ``status`` (``healthy`` or ``unhealthy``), ``timestamp`` (ISO 8601, UTC) and ``checks``,
            each with ``name``, ``status`` and a ``message`` that names nothing and nobody.
        """
        _say("get_health_status")
        checks = [_check("engine", Check("engine", self.initialized, summary="not initialized"))]
        for slug in sorted(self._manifests):
            checks += [_check(f"{slug} {one.name}", one) for one in self.readiness(slug).checks]
        healthy = all(check["status"] == "healthy" for check in checks)
        return {
            "status": "healthy" if healthy else "unhealthy",
            "timestamp": datetime.now(UTC).isoformat(),
            "checks": checks,
        }


class _SecretsManager:
    """What was ``engine._app_secrets_manager``."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine

    async def app_secret_exists(self, slug: str) -> bool:
        """Say whether an app has a secret that is accepted, from memory."""
        _say("app_secret_exists")
        grant = self._engine._running()[0].cache.grant(slug)  # noqa: SLF001 - a part of the engine
        return grant is not None and bool(grant.verifiers)

    async def rotate_app_secret(self, slug: str) -> str:
        """Rotate an app's secret and return the new one, in the clear."""
        return (await self._engine.rotate_app_secret(slug)).get_secret_value()


def _token(engine: _Engine, slug: str) -> PresentedToken | None:
    if not engine.initialized:
        return None
    try:
        return engine._running()[1].token(slug)  # noqa: SLF001 - a part of the engine
    except InvalidToken:  # a pod is one app; of another it has none
        return None


def _check(name: str, check: Check) -> Mapping[str, str]:
    status = "healthy" if check.ok else "unhealthy"
    return {"name": name, "status": status, "message": "" if check.ok else check.summary}
