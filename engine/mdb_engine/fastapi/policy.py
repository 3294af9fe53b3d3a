"""Know the user of a request, and ask the app's authoriser about it.

One door stands in front of the router. What is asked about, an app may have registered in any of
the ways that FastAPI and Starlette know; so nothing here depends on how, and nothing is open
because somebody used another way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

import fastapi.routing
from fastapi import FastAPI
from starlette.requests import HTTPConnection
from starlette.routing import Match, Route, WebSocketRoute, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from mdb_engine.access.sessions import Session, cookie_name
from mdb_engine.authz.authorizer import authorize
from mdb_engine.constants import ANONYMOUS
from mdb_engine.exceptions import (
    AuthorizerUnavailable,
    PathRefused,
    PolicyDenied,
    SessionRequired,
)
from mdb_engine.fastapi.context import CONTEXT_KEY, AppContext, context_of
from mdb_engine.fastapi.health import is_health_route

__all__ = ["Door", "ask_authorizer", "leaves", "resource_of", "session_of"]

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that count as the action ``read``; any other, and a websocket, counts as ``write``."""

leaves: Final[Callable[[Iterable[Any]], Iterable[Any]]] = getattr(
    fastapi.routing, "iter_route_contexts", iter
)
"""Gives the routes in the order in which they are tried; since FastAPI keeps included routers as
they are, they have to be looked into.
"""


def session_of(connection: HTTPConnection) -> Session | None:
    """Return the session that a request presents, or None if it presents none.

    A bearer token comes before the cookie: whoever sends one means it.

    Raises
    ------
    SessionInvalid
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


class Door:
    """Stands in front of an app's router: every request and websocket passes it, and first.

    Parameters
    ----------
    app
        The application whose router it stands before.
    context
        What whoever serves a request can find in its scope.
    """

    def __init__(self, app: FastAPI, context: AppContext) -> None:
        policy = context.manifest.auth.policy
        self._context = context
        self._guards = policy is not None and policy.required
        self._anonymous = policy is not None and policy.allow_anonymous
        self._router = app.router
        self._next: ASGIApp = app.router.middleware_stack
        app.router.middleware_stack = self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through what ``auth.policy`` allows; nothing of the body has been read yet.

        Raises
        ------
        PathRefused
            If the path could be taken for another one.
        SessionRequired, SessionInvalid
            If there is no valid session and there has to be one.
        PolicyDenied, AuthorizerUnavailable
            If the authoriser does not say yes.
        """
        if scope["type"] != "lifespan":
            scope[CONTEXT_KEY] = self._context
            if self._context.state:
                scope.setdefault("state", {}).update(self._context.state)
            if self._guards:
                await self._admit(scope)
        await self._next(scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        refuse_ambiguous(scope)
        route, resource = resource_of(scope, self._router)
        if is_health_route(route):
            return
        connection = HTTPConnection(scope)
        session = session_of(connection)
        if session is None and not self._anonymous:
            raise SessionRequired("this app needs a user; log in first")
        subject = ANONYMOUS if session is None else session.subject
        action = "read" if scope.get("method") in READING else "write"
        try:
            await ask_authorizer(connection, subject, action, resource)
        except PolicyDenied as error:
            self._context.engine.record_denied(self._context.slug, "policy", error)
            raise


def refuse_ambiguous(scope: Scope) -> None:
    """Refuse a path that whoever serves it may take for another than the policy was asked about.

    Raises
    ------
    PathRefused
        If a segment is empty, ``.`` or ``..``, or holds a slash or backslash in disguise.
    """
    raw = bytes(scope.get("raw_path") or b"").partition(b"?")[0].lower()
    first, *segments = str(scope["path"]).removesuffix("/").split("/")
    if (
        first
        or any(one in {"", ".", ".."} or "\\" in one for one in segments)
        or b"%2f" in raw
        or b"%5c" in raw
    ):
        raise PathRefused(
            "the path has a segment that is empty, '.' or '..', or holds an encoded slash; ask for "
            "the path that is meant"
        )


def resource_of(scope: Scope, router: fastapi.routing.APIRouter) -> tuple[object, str]:
    """Return the route that a router will choose for a request, and the resource that it is.

    Returns
    -------
    object
        The route, or None where it will choose none.
    str
        The template of the route (``/clicks/{id}``) with the prefixes of its routers. Of what is
        mounted, the path of the request; also where the router will find nothing, or something
        that is no route of FastAPI's or Starlette's.
    """
    asked = str(scope["path"])
    # Where it finds nothing, it redirects to the path with or without a slash, if there is that.
    other = asked[:-1] if asked.endswith("/") else asked + "/"
    for path in (asked, other) if router.redirect_slashes and asked != "/" else (asked,):
        route = _chosen(router.routes, {**scope, "path": path})
        if route is not None:
            return route, _resource(route, path_in_app(scope, path))
    return None, path_in_app(scope, asked)


def path_in_app(scope: Scope, path: str) -> str:
    """Return a path below where the app itself is served."""
    root = str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _chosen(routes: Iterable[Any], scope: Scope) -> Any:
    """Return the route that a router chooses: the first that matches, or else matches in part."""
    partial = None
    for route in leaves(routes):
        match, _ = route.matches(scope)
        if match is Match.FULL:
            return route
        if match is Match.PARTIAL and partial is None:
            partial = route
    return partial


def _resource(route: Any, path: str) -> str:
    """Return the template of a route, if it is one that has a template that fits the path."""
    if not isinstance(getattr(route, "original_route", route), Route | WebSocketRoute):
        return path
    template = str(route.path)
    return template if _pattern(template).match(path) else path


@lru_cache(maxsize=1024)
def _pattern(template: str) -> re.Pattern[str]:
    """Return what the paths of a route match; made once, as every request asks for it."""
    return compile_path(template)[0]
