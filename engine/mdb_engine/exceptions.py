"""The errors of the domain, one class per mistake that a user can make.

They know nothing of HTTP, kopf or a driver: ``mdb_engine.web.errors`` maps them to responses and the
operator maps them to conditions, each in one table. A message says what is wrong and what to do, and
never holds a secret: everything that is put into one is a name, a path or a number.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CollectionTaken",
    "DatabaseUnavailable",
    "InvalidToken",
    "LimitExceeded",
    "ManifestInvalid",
    "MasterKeyError",
    "MdbEngineError",
    "NotInitialized",
    "QueryRefused",
    "ScopeDenied",
    "SlugTaken",
    "TokenRequired",
    "VersionConflict",
]


class MdbEngineError(Exception):
    """The root of all errors that the library raises on purpose.

    Parameters
    ----------
    message
        What is wrong and what to do about it, in one or two sentences, free of secrets.
    path
        Where in the input the fault is, as a dotted path (``pipeline[2].$lookup.from``,
        ``data_access.read_scopes``), or None where there is no such place.
    """

    code: ClassVar[str] = "engine_error"
    """The machine-readable name of the mistake; part of the public interface."""

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path

    def __str__(self) -> str:
        if self.path and self.path not in self.message:
            return f"{self.message} (at {self.path})"
        return self.message


class TokenRequired(MdbEngineError):
    """The app has a secret, and none was presented."""

    code = "token_required"


class InvalidToken(MdbEngineError):
    """A secret was presented that is not, or no longer, one of the app's."""

    code = "invalid_token"


class ScopeDenied(MdbEngineError):
    """The collection belongs to an app that has not granted this one access to it."""

    code = "scope_denied"


class QueryRefused(MdbEngineError):
    """A filter, update, document or pipeline holds something that could leave its scope."""

    code = "query_refused"


class LimitExceeded(MdbEngineError):
    """An operation is larger, deeper or slower than the limit that the message names."""

    code = "limit_exceeded"


class ManifestInvalid(MdbEngineError):
    """A manifest breaks the schema; nothing of it was registered."""

    code = "manifest_invalid"


class SlugTaken(MdbEngineError):
    """Another owner holds the slug (``-`` and ``_`` count as one character)."""

    code = "slug_taken"


class CollectionTaken(MdbEngineError):
    """A physical collection name is already another app's, or the engine's own."""

    code = "collection_taken"


class VersionConflict(MdbEngineError):
    """Somebody else wrote first; observe again, then decide again."""

    code = "version_conflict"


class MasterKeyError(MdbEngineError, ValueError):
    """A master key is missing, malformed or not the one that wrapped a secret."""

    code = "master_key_error"


class NotInitialized(MdbEngineError):
    """The engine was used before ``initialize()`` or after ``shutdown()``."""

    code = "not_initialized"


class DatabaseUnavailable(MdbEngineError):
    """MongoDB cannot be reached, or grants are too old to be trusted."""

    code = "database_unavailable"
