"""What the pages of both apps share: their look, the API's page, and the headers browsers obey."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import fastapi_offline
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from starlette.routing import Route

__all__ = ["BODY_BYTES", "QUIET", "WithoutProbes", "furnish"]

HERE = Path(__file__).parent

SWAGGER: Final = Path(fastapi_offline.__file__).parent / "static"
"""Swagger UI as that package carries it; FastAPI's own page would load it from a CDN."""

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every response. No script or style stands in a page, so that none that somebody stored in a
click could ever run; ``data:`` is for the icons within Swagger UI's style sheet.
"""

BODY_BYTES: Final = 64 * 1024
"""The longest body of a request: a click with every field full is a few kilobytes."""

QUIET: Final = ("/health", "/ready")
"""Paths that probes ask for every few seconds."""


class WithoutProbes(logging.Filter):
    """Keeps the probes out of the access log; see ``logging.json``."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record, uvicorn's of one request, is to be logged."""
        match record.args:
            case (_, _, str(path), _, int(status)):
                return status >= 400 or path.partition("?")[0] not in QUIET  # noqa: PLR2004
        return True


def furnish(app: FastAPI, directory: Path) -> Jinja2Templates:
    """Give an app, made with ``docs_url=None``, its static files, ``/docs``, ``/api`` and headers.

    Parameters
    ----------
    app
        The app.
    directory
        Where its own ``static`` and ``templates`` are.

    Returns
    -------
    Jinja2Templates
        Its templates.
    """
    app.mount("/static", StaticFiles(directory=directory / "static"), name="static")
    app.mount("/common", StaticFiles(directory=HERE / "static"), name="common")
    app.mount("/swagger", StaticFiles(directory=SWAGGER), name="swagger")
    templates = Jinja2Templates(directory=[directory / "templates", HERE / "templates"])

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        """Show the API and let it be tried out."""
        return templates.TemplateResponse(request, "docs.html", {"title": app.title})

    @app.get("/api", summary="List what this app answers")
    async def api() -> dict[str, Any]:
        return {
            "app": app.title,
            "endpoints": [
                {"method": method, "path": route.path, "summary": route.name.replace("_", " ")}
                for route in app.routes
                if isinstance(route, Route) and route.include_in_schema
                for method in sorted((route.methods or set()) - {"HEAD"})
            ],
        }

    @app.middleware("http")
    async def guard(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = _too_long(request) or await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(400, _answer_unreadable)  # FastAPI's, which its OpenAPI leaves out
    return templates


def _too_long(request: Request) -> Response | None:
    """Return the refusal of a body that is too long, or does not say how long it is."""
    if "transfer-encoding" in request.headers:
        return _refusal(411, "say the length of the body (Content-Length)")
    if int(request.headers.get("content-length", 0)) > BODY_BYTES:
        return _refusal(413, f"the body must not be longer than {BODY_BYTES} bytes")
    return None


async def _answer_invalid(_request: Request, error: Exception) -> Response:
    """Say which fields are wrong and why, without a copy of what was sent."""
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    places = (".".join(str(part) for part in fault["loc"][1:]) or "body" for fault in faults)
    said = [f"{place}: {fault['msg']}" for place, fault in zip(places, faults, strict=True)]
    return _refusal(422, "; ".join(said))


async def _answer_unreadable(_request: Request, _error: Exception) -> Response:
    return _refusal(422, "body: not JSON in UTF-8")


def _refusal(status: int, message: str) -> Response:
    """Answer as the library does; in ASCII, since a name that was sent may be no valid Unicode."""
    body = json.dumps({"error": "request_invalid", "message": message})
    return Response(body, status, media_type="application/json")
