"""What a FastAPI app made by the engine carries with it, and what it needs of the engine."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from starlette.requests import HTTPConnection

from mdb_engine.access.readiness import Check, Readiness
from mdb_engine.access.sessions import Sessions
from mdb_engine.authz.authorizer import Authorizer
from mdb_engine.config import EngineSettings
from mdb_engine.exceptions import MdbEngineError, NotInitialized
from mdb_engine.models.manifest import Manifest
from mdb_engine.scoped import ScopedDatabase

__all__ = ["CONTEXT_KEY", "AppContext", "Engine", "context_of"]

CONTEXT_KEY: Final = "mdb_engine"
"""Where a request's scope holds the context, for whatever serves it, mounted apps included."""


_logger = logging.getLogger("mdb_engine.web")


class Engine(Protocol):
    """What a web app needs of the engine; `mdb_engine.MongoDBEngine` is one."""

    @property
    def settings(self) -> EngineSettings:
        """The settings in force."""

    @property
    def in_pod(self) -> bool:
        """Whether credentials come from a binding."""

    def choose(self, slug: str) -> None:
        """Say which app this process is, where bindings for several are mounted."""

    def check_hosting(self) -> bool:
        """Look for a binding without connecting; return whether there is one."""

    async def acquire(self, holder: object) -> None:
        """Connect, for as long as anybody holds it."""

    async def release(self, holder: object) -> None:
        """Close all connections, once nobody holds it any more."""

    async def register_app(self, slug: str, manifest: Manifest) -> Manifest:
        """Register an app, where that is the app's own business."""

    def read_scopes(self, slug: str) -> frozenset[str]:
        """Return the slugs that an app may read at this moment."""

    def get_scoped_db(self, slug: str) -> ScopedDatabase:
        """Return an app's database."""

    def sessions(self, slug: str) -> Sessions:
        """Return what signs and verifies the sessions of an app's users."""

    def readiness(self, slug: str) -> Readiness:
        """Say whether an app can serve, from memory."""

    def record_denied(self, slug: str, operation: str, error: MdbEngineError) -> None:
        """Put a refusal into the audit trail."""


@dataclass(slots=True)
class AppContext:
    """One app in one process.

    Parameters
    ----------
    engine
        What it runs on.
    slug
        The app.
    manifest
        What its image says of it.
    authorizer
        Who decides what its users may do, or None.
    started
        Whether it has been registered and its ``on_startup`` has run.
    problem
        Why it has not started yet, for the log.
    summary
        The same for everybody.
    reported
        What `report` has logged last, and under which id.
    state
        What the app's own lifespan gave requests when it was entered after the server had started.
    """

    engine: Engine
    slug: str
    manifest: Manifest
    authorizer: Authorizer | None
    started: bool = False
    problem: str = "is starting"
    summary: str = "the app is starting"
    reported: tuple[str, str] = ("", "")
    state: Mapping[str, Any] = field(default_factory=dict)

    def readiness(self) -> Readiness:
        """Say whether the app can serve, from memory."""
        readiness = self.engine.readiness(self.slug)
        startup = Check("startup", self.started, self.problem, self.summary)
        return Readiness((*readiness.checks, startup), readiness.notes)

    def report(self, details: Sequence[str], request: str) -> str:
        """Log why the app is not ready, unless it was logged before; return the id to look for."""
        text = "; ".join(details)
        state = re.sub(r"[0-9]+", "", text)  # so that seconds that pass are no new state
        if self.reported[0] != state:
            self.reported = (state, request)
            if details:
                _logger.warning("app %s: %s (request %s)", self.slug, text, request)
        return self.reported[1]

    def attach(self, app: Any) -> None:
        """Let an app carry it."""
        app.state.mdb = self


def context_of(connection: HTTPConnection) -> AppContext:
    """Return the context of the app that a request or websocket is for.

    Raises
    ------
    NotInitialized
        If the app was not made by ``engine.create_app``, nor mounted in one that was, and nothing
        was installed in it.
    """
    context = connection.scope.get(CONTEXT_KEY) or getattr(connection.app.state, "mdb", None)
    if not isinstance(context, AppContext):
        raise NotInitialized(
            "this app has no engine: make it with engine.create_app, or call "
            "mdb_engine.fastapi.install(app, engine, slug, manifest) before it starts"
        )
    return context
