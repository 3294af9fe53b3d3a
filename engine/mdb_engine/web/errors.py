"""The errors of the domain, and what the driver says of an app's own data, as HTTP responses."""

from __future__ import annotations

import logging
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pymongo.errors import ConnectionFailure, DuplicateKeyError, PyMongoError

from mdb_engine.authz.authorizer import AuthorizerUnavailable
from mdb_engine.binding import BindingError
from mdb_engine.exceptions import (
    CollectionTaken,
    DatabaseUnavailable,
    InvalidToken,
    LimitExceeded,
    ManifestInvalid,
    MasterKeyError,
    MdbEngineError,
    NotInitialized,
    NotRegistered,
    QueryRefused,
    ScopeDenied,
    SlugTaken,
    TokenRequired,
    VersionConflict,
)

__all__ = ["STATUS", "add_error_handlers", "status_of"]

STATUS: Final[dict[type[MdbEngineError], int]] = {
    TokenRequired: 401,
    InvalidToken: 401,
    ScopeDenied: 403,
    QueryRefused: 400,
    LimitExceeded: 413,
    ManifestInvalid: 422,
    SlugTaken: 409,
    CollectionTaken: 409,
    VersionConflict: 409,
    NotRegistered: 503,
    MasterKeyError: 503,
    BindingError: 503,
    NotInitialized: 503,
    DatabaseUnavailable: 503,
    AuthorizerUnavailable: 503,
    MdbEngineError: 500,
}
"""The status of each error; of a class that is not here, that of the nearest class above it."""

RETRY_AFTER_SECONDS: Final = 2
"""What a 503 tells a client: the time in which a primary is usually elected."""

_logger = logging.getLogger("mdb_engine.web")


def status_of(error: MdbEngineError) -> int:
    """Return the HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def add_error_handlers(app: FastAPI) -> None:
    """Answer the engine's errors, and those of the driver, with JSON."""
    app.add_exception_handler(MdbEngineError, _answer)
    app.add_exception_handler(ConnectionFailure, _answer_lost_connection)
    app.add_exception_handler(DuplicateKeyError, _answer_duplicate)
    app.add_exception_handler(PyMongoError, _answer_driver)


async def _answer(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, MdbEngineError):  # pragma: no cover - Starlette looks at the class
        raise error
    status = status_of(error)
    level = logging.ERROR if status >= 500 else logging.INFO  # noqa: PLR2004 - the class of 5xx
    _logger.log(level, "%s: refused with %s (%s)", _route(request), status, error.code)
    headers = {}
    if status == 401:  # noqa: PLR2004 - RFC 9110 wants a challenge with this one
        headers["WWW-Authenticate"] = "Bearer"
    if status == 503:  # noqa: PLR2004
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    body: dict[str, str | None] = {"error": error.code, "message": error.message}
    if error.path is not None:
        body["path"] = error.path
    return JSONResponse(body, status, headers=headers)


async def _answer_lost_connection(request: Request, error: Exception) -> JSONResponse:
    """Answer for a driver's error that reached the app past the scoped database."""
    _logger.error("%s: MongoDB was lost (%s)", _route(request), type(error).__name__)
    return await _answer(
        request, DatabaseUnavailable("MongoDB cannot be reached or changes its primary; try again")
    )


async def _answer_duplicate(request: Request, _error: Exception) -> JSONResponse:
    """Answer without the driver's message, which repeats the key."""
    _logger.info("%s: refused with 409 (duplicate_key)", _route(request))
    message = "there is a document with this key already"
    return JSONResponse({"error": "duplicate_key", "message": message}, 409)


async def _answer_driver(request: Request, error: Exception) -> JSONResponse:
    """Answer for what MongoDB said of the app's own data: a fault of the app, so it is a 500."""
    _logger.error("%s: MongoDB refused the operation", _route(request), exc_info=error)
    message = f"MongoDB refused the operation ({type(error).__name__}); the app's log says more"
    return JSONResponse({"error": "database_error", "message": message}, 500)


def _route(request: Request) -> str:
    """Return the route's template: a path may hold what somebody typed."""
    return str(getattr(request.scope.get("route"), "path", ""))
