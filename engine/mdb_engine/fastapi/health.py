"""``/health`` says that the process lives, ``/ready`` whether it can serve, and if not, why.

Everybody can ask, so the answers name nothing and nobody. The log says which key, scope or
collection it is about, once for each state of things, under the request id that the answers show.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mdb_engine.fastapi.context import context_of
from mdb_engine.fastapi.errors import request_id

__all__ = ["health_routes", "is_health_route"]


async def health(request: Request) -> Response:
    """Answer without a look at MongoDB: restarting the process would not mend that."""
    return JSONResponse({"status": "healthy", "slug": context_of(request).slug})


async def ready(request: Request) -> Response:
    """Answer 200 or 503, with every check and what else somebody should know."""
    context = context_of(request)
    readiness = context.readiness()
    body: dict[str, Any] = {
        "ready": readiness.ready,
        "slug": context.slug,
        "checks": {check.name: "ok" if check.ok else check.summary for check in readiness.checks},
        "notes": list(dict.fromkeys(note.summary for note in readiness.notes)),
    }
    reported = context.report(readiness.details, request_id(request))
    if readiness.details:
        body["request_id"] = reported
    return JSONResponse(body, 200 if readiness.ready else 503)


def health_routes(taken: Collection[str] = ()) -> list[BaseRoute]:
    """Return the routes of the probes, but for the paths that are taken.

    They are Starlette's, so that no dependency of the app's own stands before them, and answer
    HEAD as well.
    """
    routes = [Route("/health", health), Route("/ready", ready)]
    return [route for route in routes if route.path not in taken]


def is_health_route(route: object) -> bool:
    """Say whether a route is one of these, whatever its path."""
    return getattr(route, "endpoint", None) in (health, ready)
