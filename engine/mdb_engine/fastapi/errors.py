"""The errors of the domain, and what the driver says of an app's own data, as HTTP responses.

What the end user did wrong is a 4xx that says so. What is wrong with the app, with its secret or
with MongoDB is a 5xx of one sentence and a request id, under which the log has the rest.
"""

from __future__ import annotations

import logging
import re
import secrets
from typing import Final

from bson.errors import BSONError
from fastapi.responses import JSONResponse
from pymongo.errors import ConnectionFailure, DuplicateKeyError, ExecutionTimeout, PyMongoError
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketState

from mdb_engine.exceptions import (
    AttributeRefused,
    AuthorizerUnavailable,
    BindingError,
    CollectionTaken,
    DatabaseUnavailable,
    InvalidToken,
    LimitExceeded,
    ManifestInvalid,
    MasterKeyError,
    MdbEngineError,
    NotInitialized,
    NotRegistered,
    OptionRefused,
    PathRefused,
    QueryRefused,
    ScopeDenied,
    ServerLimitExceeded,
    SessionInvalid,
    SessionRequired,
    SlugTaken,
    TokenRequired,
    VersionConflict,
)

__all__ = ["STATUS", "add_error_handlers", "request_id", "status_of"]

STATUS: Final[dict[type[MdbEngineError], int]] = {
    SessionRequired: 401,
    SessionInvalid: 401,
    ScopeDenied: 403,
    PathRefused: 400,
    QueryRefused: 400,
    LimitExceeded: 413,
    ManifestInvalid: 422,
    SlugTaken: 409,
    CollectionTaken: 409,
    VersionConflict: 409,
    AttributeRefused: 500,
    OptionRefused: 500,
    TokenRequired: 503,
    InvalidToken: 503,
    NotRegistered: 503,
    MasterKeyError: 503,
    BindingError: 503,
    NotInitialized: 503,
    DatabaseUnavailable: 503,
    AuthorizerUnavailable: 503,
    ServerLimitExceeded: 504,
    MdbEngineError: 500,
}
"""The status of each error; of a class that is not here, that of the nearest class above it."""

RETRY_AFTER_SECONDS: Final = 2
"""What a 503 tells a client: the time in which a primary is usually elected."""

SERVER_ERROR: Final = 500
"""From here on a status says that it is not the end user's fault (RFC 9110, section 15.6)."""

POLICY_VIOLATION: Final = 1008
INTERNAL_ERROR: Final = 1011
"""How a websocket is closed that was accepted already (RFC 6455, section 7.4.1)."""

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
"""What is taken for a request id from whatever stands in front of the app."""

_logger = logging.getLogger("mdb_engine.web")


def status_of(error: MdbEngineError) -> int:
    """Return the HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def request_id(connection: HTTPConnection) -> str:
    """Return the id of a request: that of its ``X-Request-ID``, or else a new one."""
    given = connection.headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def add_error_handlers(app: Starlette, *, anything: bool = True) -> None:
    """Answer errors with JSON: the engine's, those of the driver, and what nobody has caught.

    Parameters
    ----------
    app
        The application; handlers of its own stay.
    anything
        Whether what nobody has caught is answered as well.
    """
    for kind, handler in (
        (MdbEngineError, _answer),
        (ConnectionFailure, _answer_lost_connection),
        (ExecutionTimeout, _answer_slow),
        (DuplicateKeyError, _answer_duplicate),
        (PyMongoError, _answer_driver),
        (BSONError, _answer_driver),
    ):
        app.exception_handlers.setdefault(kind, handler)
    if anything and 500 not in app.exception_handlers:  # noqa: PLR2004 - the other name of this handler
        app.exception_handlers.setdefault(Exception, _answer_anything)


async def _answer(connection: HTTPConnection, error: Exception) -> JSONResponse | None:
    if not isinstance(error, MdbEngineError):  # pragma: no cover - Starlette looks at the class
        raise error
    status = status_of(error)
    if status >= SERVER_ERROR:
        return await _answer_fault(connection, error.code, error.summary, status, error)
    _logger.info("%s: %d %s", _route(connection), status, error.code)
    body = {"error": error.code, "message": error.message}
    if error.path is not None:
        body["path"] = error.path
    return await _respond(connection, body, status)


async def _answer_lost_connection(
    connection: HTTPConnection, error: Exception
) -> JSONResponse | None:
    """Answer for a driver's error that reached the app past the scoped database."""
    kind = DatabaseUnavailable
    return await _answer_fault(connection, kind.code, kind.summary, STATUS[kind], error)


async def _answer_slow(connection: HTTPConnection, error: Exception) -> JSONResponse | None:
    """Answer for an operation that MongoDB has stopped."""
    kind = ServerLimitExceeded
    return await _answer_fault(connection, kind.code, kind.summary, STATUS[kind], error)


async def _answer_duplicate(connection: HTTPConnection, _error: Exception) -> JSONResponse | None:
    """Answer without the driver's message, which repeats the key."""
    _logger.info("%s: 409 duplicate_key", _route(connection))
    message = "there is a document with this key already"
    return await _respond(connection, {"error": "duplicate_key", "message": message}, 409)


async def _answer_driver(connection: HTTPConnection, error: Exception) -> JSONResponse | None:
    """Answer for what MongoDB said of the app's own data: a fault of the app, so it is a 500."""
    message = "the database has refused what the app asked of it"
    return await _answer_fault(connection, "database_error", message, 500, error)


async def _answer_anything(connection: HTTPConnection, error: Exception) -> JSONResponse | None:
    """Answer for what nobody has caught; the server logs its traceback."""
    return await _answer_fault(connection, "app_error", MdbEngineError.summary, 500, error)


async def _answer_fault(
    connection: HTTPConnection, code: str, message: str, status: int, error: Exception
) -> JSONResponse | None:
    """Answer with a sentence and a request id, and log the rest under it."""
    identity = request_id(connection)
    _logger.error(
        "%s: %d %s (request %s): %s",
        _route(connection),
        status,
        code,
        identity,
        error if isinstance(error, MdbEngineError) else type(error).__name__,
        exc_info=error if isinstance(error, PyMongoError | BSONError) else None,
    )
    body = {"error": code, "message": message, "request_id": identity}
    return await _respond(connection, body, status)


async def _respond(
    connection: HTTPConnection, body: dict[str, str], status: int
) -> JSONResponse | None:
    """Return the response; a websocket that cannot be sent one is closed instead."""
    if isinstance(connection, WebSocket) and not _can_be_denied(connection):
        if connection.application_state is not WebSocketState.DISCONNECTED:
            code = INTERNAL_ERROR if status >= SERVER_ERROR else POLICY_VIOLATION
            await connection.close(code, body["error"])
        return None
    headers = {}
    if status == 401:  # noqa: PLR2004 - RFC 9110 wants a challenge with this one
        headers["WWW-Authenticate"] = "Bearer"
    if status == 503:  # noqa: PLR2004
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return JSONResponse(body, status, headers=headers)


def _can_be_denied(websocket: WebSocket) -> bool:
    """Say whether a websocket can be answered with a response instead of being opened."""
    return (
        websocket.application_state is WebSocketState.CONNECTING
        and "websocket.http.response" in websocket.scope.get("extensions", {})
    )


def _route(connection: HTTPConnection) -> str:
    """Return the route's template: a path may hold what somebody typed."""
    return str(getattr(connection.scope.get("route"), "path", "")) or "(no route)"
