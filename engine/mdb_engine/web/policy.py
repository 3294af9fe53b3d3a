"""Know the user of a request, and ask the app's authoriser about it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from starlette.requests import HTTPConnection
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from mdb_engine.authz.authorizer import AuthorizerUnavailable, PolicyDenied, authorize
from mdb_engine.exceptions import TokenRequired
from mdb_engine.sessions import Session, cookie_name
from mdb_engine.web.context import context_of
from mdb_engine.web.health import HEALTH_PATHS

__all__ = [
    "ANONYMOUS",
    "PolicyGuard",
    "ask_authorizer",
    "enforce_policy",
    "resource_of",
    "session_of",
]

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
    resource = resource_of(connection.scope)
    if resource not in HEALTH_PATHS:
        await _enforce(connection, resource)


class PolicyGuard:
    """Holds requests against ``auth.policy`` before something that takes no FastAPI dependency.

    Parameters
    ----------
    app
        What it stands before.
    path
        Where that is.
    mounted
        Whether it is mounted, and so serves what is below the path.
    """

    def __init__(self, app: ASGIApp, path: str, *, mounted: bool) -> None:
        self._app = app
        self._path = path
        self._mounted = mounted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through that the policy allows."""
        below = _path_in_app(scope) if self._mounted else ""
        await _enforce(HTTPConnection(scope), self._path.rstrip("/") + below)
        await self._app(scope, receive, send)


def resource_of(scope: Scope) -> str:
    """Return the path of the route that a request is for, as a template (``/clicks/{id}``).

    FastAPI has kept it in different places, and in some of them without the prefix of the router;
    so a template counts only if the request's own path fits it. That path itself is used otherwise.
    """
    path = _path_in_app(scope)
    effective = scope.get("fastapi")
    context = effective.get("effective_route_context") if isinstance(effective, dict) else None
    for source in (context, scope.get("route")):
        template = getattr(source, "path", None)
        if isinstance(template, str) and _pattern(template).match(path):
            return template
    return path


@lru_cache(maxsize=1024)
def _pattern(template: str) -> re.Pattern[str]:
    """Return what the paths of a route match; made once, as every request asks for it."""
    return compile_path(template)[0]


def _path_in_app(scope: Scope) -> str:
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


async def _enforce(connection: HTTPConnection, resource: str) -> None:
    policy = context_of(connection).manifest.auth.policy
    session = session_of(connection)
    if session is None and not (policy and policy.allow_anonymous):
        raise TokenRequired("this app needs a user; log in first")
    subject = ANONYMOUS if session is None else session.subject
    action = "read" if connection.scope.get("method", "") in READING else "write"
    try:
        await ask_authorizer(connection, subject, action, resource)
    except PolicyDenied as error:
        context = context_of(connection)
        context.engine.record_denied(context.slug, "policy", error)
        raise
