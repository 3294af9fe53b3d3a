"""What a FastAPI app made by the engine carries with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from mdb_engine.authz.authorizer import Authorizer
from mdb_engine.engine import MongoDBEngine
from mdb_engine.exceptions import NotInitialized
from mdb_engine.models.manifest import Manifest
from mdb_engine.readiness import Check, Readiness

__all__ = ["AppContext", "context_of"]


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
        Why it has not started yet.
    """

    engine: MongoDBEngine
    slug: str
    manifest: Manifest
    authorizer: Authorizer | None
    started: bool = False
    problem: str = field(default="is starting")

    def readiness(self) -> Readiness:
        """Say whether the app can serve, from memory."""
        readiness = self.engine.readiness(self.slug)
        startup = Check("startup", self.started, "" if self.started else self.problem)
        return Readiness((*readiness.checks, startup), readiness.notes)

    def attach(self, app: FastAPI) -> None:
        """Let an app carry it."""
        app.state.mdb = self


def context_of(connection: HTTPConnection) -> AppContext:
    """Return the context of the app that a request or websocket is for.

    Raises
    ------
    NotInitialized
        If the app was not made by ``engine.create_app``.
    """
    context = getattr(connection.app.state, "mdb", None)
    if not isinstance(context, AppContext):
        raise NotInitialized("this app was not made by engine.create_app, so it has no engine")
    return context
