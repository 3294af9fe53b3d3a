"""FastAPI dependencies: the engine, the app's database, and the user of a request.

::

    Database = Annotated[ScopedDatabase, Depends(get_scoped_db)]

    @app.get("/clicks")
    async def clicks(db: Database) -> list[dict[str, Any]]:
        return await db.clicks.find({}).to_list(100)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import Response
from starlette.requests import HTTPConnection

import mdb_engine
from mdb_engine.access.sessions import Session, cookie_name
from mdb_engine.exceptions import NotInitialized, SessionRequired
from mdb_engine.fastapi.context import context_of
from mdb_engine.fastapi.policy import ask_authorizer, session_of
from mdb_engine.scoped import ScopedDatabase

__all__ = [
    "current_user",
    "end_session",
    "get_engine",
    "get_scoped_db",
    "optional_session",
    "require",
    "require_session",
    "start_session",
]


async def get_engine(connection: HTTPConnection) -> mdb_engine.MongoDBEngine:
    """Return the engine that the app runs on.

    Raises
    ------
    NotInitialized
        If that is not a `MongoDBEngine`.
    """
    engine = context_of(connection).engine
    if not isinstance(engine, mdb_engine.MongoDBEngine):
        raise NotInitialized(f"the app runs on a {type(engine).__name__}, not on a MongoDBEngine")
    return engine


async def get_scoped_db(connection: HTTPConnection) -> ScopedDatabase:
    """Return the app's own database, its token checked for this request.

    Raises
    ------
    MdbEngineError
        As `MongoDBEngine.get_scoped_db`; answered as 401, 403 or 503.
    """
    context = context_of(connection)
    return context.engine.get_scoped_db(context.slug)


async def optional_session(connection: HTTPConnection) -> Session | None:
    """Return the session of a request, or None if it presents none.

    Raises
    ------
    SessionInvalid
        If it presents one that is not valid.
    """
    return session_of(connection)


async def require_session(connection: HTTPConnection) -> Session:
    """Return the session of a request.

    Raises
    ------
    SessionRequired, SessionInvalid
        If it has none that is valid.
    """
    session = session_of(connection)
    if session is None:
        raise SessionRequired("there is no session; log in first")
    return session


async def current_user(connection: HTTPConnection) -> str:
    """Return whose session a request is made with.

    Raises
    ------
    SessionRequired, SessionInvalid
        If it has none that is valid.
    """
    return (await require_session(connection)).subject


def require(action: str, resource: str) -> Callable[[HTTPConnection], Awaitable[Session]]:
    """Make a dependency that lets through only who may do an action on a resource.

    Examples
    --------
    ::

        @app.delete("/reports", dependencies=[Depends(require("delete", "reports"))])
    """

    async def required(connection: HTTPConnection) -> Session:
        session = await require_session(connection)
        await ask_authorizer(connection, session.subject, action, resource)
        return session

    return required


def start_session(
    connection: HTTPConnection,
    response: Response,
    subject: str,
    claims: Mapping[str, Any] | None = None,
) -> str:
    """Sign a session for a user who has just logged in, and set it as a cookie.

    The cookie is not for scripts (``HttpOnly``), goes over HTTPS and to localhost only (``Secure``)
    and is not sent along by other sites' forms (``SameSite=Lax``).

    Returns
    -------
    str
        The session, for a client that sends it as a bearer token.
    """
    context = context_of(connection)
    sessions = context.engine.sessions(context.slug)
    token = sessions.issue(subject, claims)
    response.set_cookie(
        cookie_name(context.slug),
        token,
        max_age=int(sessions.lifetime.total_seconds()),
        httponly=True,
        secure=context.engine.settings.session_cookie_secure,
        samesite="lax",
    )
    return token


def end_session(connection: HTTPConnection, response: Response) -> None:
    """Have the browser forget its session."""
    context = context_of(connection)
    response.delete_cookie(
        cookie_name(context.slug),
        httponly=True,
        secure=context.engine.settings.session_cookie_secure,
        samesite="lax",
    )
