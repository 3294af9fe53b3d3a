"""What programs written for the earlier version of the library call, by its names.

They run unmodified, alone and in a pod; the log says once for each name what it is called now. One
thing is not as it was: `EarlierNames.get_app_token` returns no text. A process keeps no secret in
the clear, so the token is an object that says nothing and that ``app_token=`` takes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import SecretStr

from mdb_engine.access.gate import PresentedToken
from mdb_engine.access.readiness import Check, Readiness
from mdb_engine.config import secret_variable
from mdb_engine.engine.runtime import Hosting, Runtime
from mdb_engine.exceptions import InvalidToken
from mdb_engine.models.manifest import Manifest, ManifestSource, read_json

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["EarlierNames", "manifest_alone", "say_aliases"]

_logger = logging.getLogger("mdb_engine.earlier")

_PRESENTED_BY_ITSELF: Final = "get_scoped_db(slug), which presents the app's token by itself"

_NOW: Final = {
    "get_app_token": _PRESENTED_BY_ITSELF,
    "auto_retrieve_app_token": _PRESENTED_BY_ITSELF,
    "_initialized": "engine.initialized",
    "app_secret_exists": "engine.readiness(slug).ready",
    "get_health_status": "engine.readiness(slug), or GET /ready",
    "get_app": "Manifest.load(path)",
    "load_manifest": "Manifest.load(path)",
    "register_app(manifest)": "register_app(slug, manifest)",
    "lifespan": "mdb_engine.fastapi.install(app, engine, slug, manifest)",
}
"""What to write instead."""

_said: set[str] = set()


def _say(name: str) -> None:
    _say_once(name, f"{name} is a name of the earlier version; write {_NOW[name]}")


def _say_once(what: str, text: str) -> None:
    if what not in _said:
        _said.add(what)
        _logger.warning("%s", text)


def manifest_alone(given: object) -> tuple[str, Manifest]:
    """Return slug and manifest of an app that is registered by its manifest alone."""
    _say("register_app(manifest)")
    manifest = given if isinstance(given, Manifest) else Manifest.load(given)  # type: ignore[arg-type]
    return manifest.slug, manifest


def say_aliases(manifest: Manifest, accepted: Callable[[PresentedToken], bool]) -> None:
    """Say what becomes of a secret in the environment that has an earlier compose file's name.

    That of ``click_tracker_dashboard``, which reads ``click_tracker``, was ``DASHBOARD_SECRET``:
    the rest of the slug, after that of an app whose data it reads. The app proves itself with it or
    without, as its own process finds the secret in the registry.

    Parameters
    ----------
    manifest
        The app's.
    accepted
        Says whether a token is one of the app's.
    """
    slug = manifest.slug
    for owner in manifest.read_scopes:
        rest = slug.removeprefix(f"{owner}_").removeprefix(f"{owner}-")
        value = "" if rest == slug else os.environ.get(secret_variable(rest), "").strip()
        if value:
            used = (
                "is its secret"
                if accepted(PresentedToken(value))
                else "is not its secret, and ignored"
            )
            _say_once(
                f"{secret_variable(rest)} {slug}",
                f"app {slug}: {secret_variable(rest)} {used}; the name is {secret_variable(slug)}",
            )


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

    async def load_manifest(self, path: Path | str) -> dict[str, Any]:
        """Return what is in a manifest's file, once it is known to be valid.

        Raises
        ------
        ManifestInvalid
            If it is not.
        """
        _say("load_manifest")
        found: dict[str, Any] = await asyncio.to_thread(read_json, Path(path))
        Manifest.load(found)
        return found

    def get_app(self: _Engine, slug: str) -> dict[str, Any] | None:
        """Return the manifest of an app of this process, or None."""
        _say("get_app")
        manifest = self._manifests.get(slug)
        return None if manifest is None else manifest.model_dump(mode="json")

    def lifespan(
        self, slug: str, manifest: ManifestSource
    ) -> Callable[[FastAPI], AbstractAsyncContextManager[Any]]:
        """Return a lifespan with which a FastAPI app runs on this engine.

        Raises
        ------
        ManifestInvalid
            If the manifest is.
        """
        _say("lifespan")
        from mdb_engine.fastapi.app import engine_lifespan  # noqa: PLC0415 - for web apps alone

        return engine_lifespan(self, slug, Manifest.of(slug, manifest))  # type: ignore[arg-type]


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
