"""A FastAPI application that lets nothing past the policy.

FastAPI's dependencies stand before its own routes only. What is mounted, a route of Starlette's
and the pages of the documentation would be open to everybody in an app whose manifest says that a
request needs a user.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.routing import request_response
from starlette.types import ASGIApp

from mdb_engine.web.policy import PolicyGuard

__all__ = ["GuardedApp"]


class GuardedApp(FastAPI):
    """Asks the policy before what is mounted, and before routes that are no FastAPI routes."""

    def mount(self, path: str, app: ASGIApp, name: str | None = None) -> None:
        """Mount an application below a path, behind the policy."""
        super().mount(path, PolicyGuard(app, path, mounted=True), name)

    def add_route(
        self,
        path: str,
        route: Callable[..., Any],
        methods: list[str] | None = None,
        name: str | None = None,
        include_in_schema: bool = True,  # noqa: FBT001, FBT002 - as Starlette's
    ) -> None:
        """Add a route of Starlette's, behind the policy; FastAPI adds its documentation so."""
        function = inspect.isfunction(route) or inspect.ismethod(route)
        served: Any = request_response(route) if function else route
        if function:
            methods, name = methods or ["GET"], name or route.__name__
        guard: Any = PolicyGuard(served, path, mounted=False)
        super().add_route(path, guard, methods, name, include_in_schema)
