"""What lives for as long as an engine runs, and what the two ways of hosting have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from mdb_engine.access.audit import AuditTrail
from mdb_engine.access.gate import PresentedToken
from mdb_engine.access.grant_cache import GrantCache
from mdb_engine.access.sessions import SessionKeys
from mdb_engine.config import EngineSettings
from mdb_engine.connection.pool import Connections
from mdb_engine.models.manifest import Manifest

__all__ = ["Hosting", "KeysListener", "Runtime"]

KeysListener = Callable[[str, SessionKeys], None]
"""Told of an app's session keys whenever they change."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The long-lived parts of a running engine."""

    settings: EngineSettings
    connections: Connections
    cache: GrantCache
    audit: AuditTrail


class Hosting(Protocol):
    """Where credentials come from."""

    @property
    def problem(self) -> str | None:
        """Why the newest credentials are not in use, or None."""

    async def connect(self) -> None:
        """Open the connection; may be called again after it failed."""

    def start(self) -> None:
        """Begin to follow changes; needs a running loop."""

    async def stop(self) -> None:
        """End following changes."""

    def token(self, slug: str) -> PresentedToken | None:
        """Return what an app proves itself with at this moment, or None."""

    async def retrieve(self, slug: str) -> None:
        """Look for the token of an app in the registry, where that is the app's own business."""

    async def register(self, manifest: Manifest) -> None:
        """Register an app, where that is the app's own business."""

    async def rotate(self, slug: str) -> SecretStr:
        """Rotate an app's secret and return the new one, where that is the app's own business."""
