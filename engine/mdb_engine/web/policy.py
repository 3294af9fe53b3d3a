"""Know the user of a request, and ask the app's authoriser about it."""

from __future__ import annotations

from typing import Final

from starlette.requests import HTTPConnection

from mdb_engine.authz.authorizer import AuthorizerUnavailable, authorize
from mdb_engine.exceptions import TokenRequired
from mdb_engine.sessions import Session, cookie_name
from mdb_engine.web.context import context_of
from mdb_engine.web.health import HEALTH_PATHS

__all__ = ["ANONYMOUS", "ask_authorizer", "enforce_policy", "session_of"]

ANONYMOUS: Final = "anonymous"
"""The subject of a request without a session, where the policy allows such."""

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that count as the action ``read``; any other, and a websocket, counts as ``write``."""


def session_of(connection: HTTPConnection) -> Session | None:
    """Return the session that a request presents, or None if it presents none.

    A bearer token comes before the cookie: whoever sends one means it.

    Raises
    ------
    InvalidToken
        If it presents one that is not valid.
    """
    context = context_of(connection)
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        token = connection.cookies.get(cookie_name(context.slug), "")
    return context.engine.sessions(context.slug).verify(token.strip()) if token else None


async def ask_authorizer(
    connection: HTTPConnection, subject: str, action: str, resource: str
) -> None:
    """Ask the app's authoriser; return only if it says yes.

    Raises
    ------
    PolicyDenied
        If it says no.
    AuthorizerUnavailable
        If it fails, or the app has none.
    """
    authorizer = context_of(connection).authorizer
    if authorizer is None:
        raise AuthorizerUnavailable(
            "the app has no authoriser; its manifest sets none in auth.policy", path="auth.policy"
        )
    await authorize(authorizer, subject, action, resource)


async def enforce_policy(connection: HTTPConnection) -> None:
    """Hold a request against ``auth.policy``: action ``read`` or ``write``, resource its route.

    Raises
    ------
    TokenRequired, InvalidToken
        If it has no valid session and needs one.
    PolicyDenied, AuthorizerUnavailable
        If the authoriser does not say yes.
    """
    path = str(getattr(connection.scope.get("route"), "path", connection.url.path))
    if path in HEALTH_PATHS:
        return
    policy = context_of(connection).manifest.auth.policy
    session = session_of(connection)
    if session is None and not (policy and policy.allow_anonymous):
        raise TokenRequired("this app needs a user; log in first")
    subject = ANONYMOUS if session is None else session.subject
    action = "read" if connection.scope.get("method", "") in READING else "write"
    await ask_authorizer(connection, subject, action, path)
