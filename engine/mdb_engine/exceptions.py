"""The errors of the domain, one class per mistake that a user can make.

Their tree::

    MdbEngineError
        TokenRequired
            SessionRequired
        InvalidToken
            SessionInvalid
        PathRefused
        ScopeDenied
            PolicyDenied
        QueryRefused
            OptionRefused
            AttributeRefused
        LimitExceeded
            ServerLimitExceeded
        ManifestInvalid
        SlugTaken
        CollectionTaken
        NotRegistered
        VersionConflict
            OutdatedGeneration
        MasterKeyError
            KeyManagerUnavailable
        NotInitialized
        BindingError
        AuthorizerUnavailable
        DatabaseUnavailable
            DatabaseForbidden
            DatabaseFull
            RowDamaged
            LegacyDatabase
            GrantMalformed

They know nothing of HTTP, kopf or a driver: `mdb_engine.fastapi.errors` maps them to responses
and the operator maps them to conditions, each in one table. A message says what is wrong and what
to do, and never holds a secret: everything that is put into one is a name, a path or a number.
"""

from __future__ import annotations

import copyreg
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mdb_engine.owner import Owner

__all__ = [
    "AttributeRefused",
    "AuthorizerUnavailable",
    "BindingError",
    "CollectionTaken",
    "DatabaseForbidden",
    "DatabaseFull",
    "DatabaseUnavailable",
    "Fault",
    "GrantMalformed",
    "InvalidToken",
    "KeyManagerUnavailable",
    "LegacyDatabase",
    "LimitExceeded",
    "ManifestInvalid",
    "MasterKeyError",
    "MdbEngineError",
    "NotInitialized",
    "NotRegistered",
    "OptionRefused",
    "PathRefused",
    "PolicyDenied",
    "QueryRefused",
    "RowDamaged",
    "ScopeDenied",
    "ServerLimitExceeded",
    "SessionInvalid",
    "SessionRequired",
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

    summary: ClassVar[str] = "the app has met an error of its own"
    """What anybody may read of it who may not read ``message``: it names nothing and nobody."""

    labels: frozenset[str] = frozenset()
    """The labels of the driver's error that it stands for."""

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path

    def has_error_label(self, label: str) -> bool:
        """Whether the driver's error that it stands for has a label, as that error's method says.

        Such are ``TransientTransactionError``, ``UnknownTransactionCommitResult`` and
        ``RetryableWriteError``.
        """
        return label in self.labels

    def __reduce__(self) -> tuple[object, ...]:
        # Not by calling the class with `args`, as exceptions do: some take other arguments.
        make = copyreg.__newobj__  # type: ignore[attr-defined]
        return (make, (type(self), *self.args), self.__dict__)

    def __str__(self) -> str:
        if self.path and self.path not in self.message:
            return f"{self.message} (at {self.path})"
        return self.message


class TokenRequired(MdbEngineError):
    """The app has a secret, and none was presented."""

    code = "token_required"
    summary = "the app has no secret to present to the database"


class InvalidToken(MdbEngineError):
    """A secret was presented that is not, or no longer, one of the app's."""

    code = "invalid_token"
    summary = "the secret of the app is not accepted"


class SessionRequired(TokenRequired):
    """A request needs a user, and has no session."""


class SessionInvalid(InvalidToken):
    """A request has a session that is not, or no longer, valid."""


class PathRefused(MdbEngineError):
    """The path of a request can be read in two ways, so nobody can be asked about it."""

    code = "path_refused"


class ScopeDenied(MdbEngineError):
    """The collection belongs to an app that has not granted this one access to it."""

    code = "scope_denied"


class PolicyDenied(ScopeDenied):
    """The app's policy does not let this user do that."""

    code = "policy_denied"


class QueryRefused(MdbEngineError):
    """A filter, update, document or pipeline holds something that could leave its scope."""

    code = "query_refused"


class OptionRefused(QueryRefused, TypeError):
    """A keyword that the operation does not take, or a value of the wrong kind."""


class AttributeRefused(QueryRefused, AttributeError):
    """A name that a scoped object does not offer; `hasattr` is False for it, as it should be."""


class LimitExceeded(MdbEngineError):
    """An operation is larger, deeper or slower than the limit that the message names."""

    code = "limit_exceeded"


class ServerLimitExceeded(LimitExceeded):
    """MongoDB stopped an operation that took too long or too much memory."""

    summary = "the database took too long, or too much memory, for this"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a manifest.

    Parameters
    ----------
    path
        Where, as a dotted path in the spelling of the input, or an empty string for the whole.
    message
        What is wrong and what would be right.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ManifestInvalid(MdbEngineError):
    """A manifest breaks the schema; nothing of it was registered.

    Parameters
    ----------
    faults
        Everything that is wrong with it, in the order of the schema; at least one.
    """

    code = "manifest_invalid"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)), path=faults[0].path or None)
        self.faults = tuple(faults)


class SlugTaken(MdbEngineError):
    """Another owner holds the slug (``-`` and ``_`` count as one character).

    Parameters
    ----------
    holder
        Who holds it. It is not part of the message, which another namespace may read; the operator
        looks whether that object still exists.
    """

    code = "slug_taken"

    def __init__(self, message: str, *, holder: Owner) -> None:
        super().__init__(message, path="slug")
        self.holder = holder


class CollectionTaken(MdbEngineError):
    """A physical collection name is already another app's, or the engine's own."""

    code = "collection_taken"


class NotRegistered(MdbEngineError):
    """There is no app of that slug, or it has no secret."""

    code = "not_registered"
    summary = "the app is not registered"


class VersionConflict(MdbEngineError):
    """Somebody else wrote first; observe again, then decide again."""

    code = "version_conflict"


class OutdatedGeneration(VersionConflict):
    """A later generation of the MdbApp is registered; only a restored API server has an earlier."""


class MasterKeyError(MdbEngineError, ValueError):
    """A master key is missing, malformed or not the one that wrapped a secret."""

    code = "master_key_error"
    summary = "a key that the app needs is missing or wrong"


class KeyManagerUnavailable(MasterKeyError):
    """A key manager does not answer, or does not let us: its keys may well be right."""

    code = "key_manager_unavailable"
    summary = "the key manager of the app does not answer"


class NotInitialized(MdbEngineError):
    """The engine was used before ``initialize()`` or after ``shutdown()``."""

    code = "not_initialized"
    summary = "the app has not started yet, or is shutting down"


class BindingError(MdbEngineError):
    """A binding is mounted, but it is incomplete, malformed or not the one that is meant."""

    code = "binding_invalid"
    summary = "the credentials of the app are incomplete"


class AuthorizerUnavailable(MdbEngineError):
    """The authoriser could not answer, so the answer is no."""

    code = "authorizer_unavailable"
    summary = "it could not be decided whether this is allowed, so it is not"


class DatabaseUnavailable(MdbEngineError):
    """MongoDB cannot be reached, or grants are too old to be trusted."""

    code = "database_unavailable"
    summary = "the database cannot be reached at the moment"


class DatabaseForbidden(DatabaseUnavailable):
    """MongoDB can be reached, but refuses the user, or the user lacks a right that is needed."""


class DatabaseFull(DatabaseUnavailable):
    """MongoDB has no room left: its disk is full, or what a service's plan includes is used up."""

    code = "database_full"
    summary = "the database has no room left"


class RowDamaged(DatabaseUnavailable):
    """A document of the engine's own is not as the engine wrote it: restored in part, or edited."""

    code = "row_damaged"


class LegacyDatabase(DatabaseUnavailable):
    """The earlier version of the library wrote what is in the engine's collections."""

    code = "legacy_database"


class GrantMalformed(DatabaseUnavailable):
    """An app's row of the grants collection cannot be understood, so the app has no access."""

    code = "grant_malformed"
