"""What becomes of a driver's error, in one table.

What MongoDB says about the caller's own data stays the driver's: code that catches
`pymongo.errors.DuplicateKeyError`, `BulkWriteError`, `WriteError` or a failed validation keeps
working, on either driver. What says something about the server, the limits or the privileges
becomes the domain's, so that nobody has to know a numeric code to answer 503 or 403.

Such an error keeps the driver's as its cause only where that holds no more than host names: one for
a lack of privileges repeats the whole command, with the values in its filter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
)

from mdb_engine.connection.control import is_full
from mdb_engine.exceptions import (
    DatabaseFull,
    DatabaseUnavailable,
    LimitExceeded,
    MdbEngineError,
    QueryRefused,
    ScopeDenied,
    ServerLimitExceeded,
)

__all__ = ["raise_translated", "too_slow", "translated", "translating"]


@dataclass(frozen=True, slots=True)
class _Rule:
    """One row of the table.

    Parameters
    ----------
    applies
        Whether the row is about this error.
    make
        The domain's error, from the operation's name and its time limit in seconds.
    chained
        Whether the driver's error may be shown as the cause.
    """

    applies: Callable[[PyMongoError], bool]
    make: Callable[[str, float], MdbEngineError]
    chained: bool = True


def _has_code(*codes: int) -> Callable[[PyMongoError], bool]:
    return lambda error: isinstance(error, OperationFailure) and error.code in codes


def _is(*kinds: type[PyMongoError]) -> Callable[[PyMongoError], bool]:
    return lambda error: isinstance(error, kinds)


def too_slow(operation: str, seconds: float) -> ServerLimitExceeded:
    """Make the error for an operation that did not end within its time limit."""
    return ServerLimitExceeded(
        f"{operation} took longer than max_time_ms ({seconds * 1000:.0f} ms at most): narrow the "
        "filter, or add an index for it"
    )


def unanswered(operation: str) -> DatabaseUnavailable:
    """Make the error for an operation whose answer never came, not even that it was too slow."""
    return DatabaseUnavailable(
        f"{operation} failed: its connection hangs, MongoDB has not even answered that it took too "
        "long; try again. Where this comes often, something on the way to MongoDB forgets "
        "connections"
    )


_UNDECLARED = (
    "the collection is not declared in the app's collections, or its owner's consent has ended; "
    "declare it in the manifest"
)

_SEARCH = (
    "with isolation: database an app's user has no right to search indexes, as not every server "
    "knows that right; have an administrator make them"
)

_DENIED: Mapping[str, str] = MappingProxyType(
    {
        "options": (
            "with isolation: database an app's user may not list collections, as the list shows "
            "the options of all apps'; an administrator may"
        ),
        "create_search_index": _SEARCH,
        "create_search_indexes": _SEARCH,
        "drop_search_index": _SEARCH,
        "list_search_indexes": _SEARCH,
        "update_search_index": _SEARCH,
    }
)
"""Why MongoDB denies what the role of an app does not allow it even on its own collections."""

_RULES: tuple[_Rule, ...] = (
    _Rule(
        lambda error: isinstance(error, ExecutionTimeout) or _has_code(50, 262)(error),
        too_slow,
    ),
    _Rule(
        _has_code(146, 292),
        lambda operation, _: ServerLimitExceeded(
            f"{operation} needs more memory than MongoDB allows one operation: narrow the filter, "
            "sort by an index, or allow it to use the disk"
        ),
    ),
    _Rule(
        lambda error: isinstance(error, DocumentTooLarge) or _has_code(10334, 17419, 17420)(error),
        lambda operation, _: LimitExceeded(
            f"{operation} makes or sends a document that is larger than MongoDB's 16 MiB"
        ),
    ),
    _Rule(
        lambda error: isinstance(error, OperationFailure) and is_full(error),
        lambda operation, _: DatabaseFull(
            f"{operation} failed: MongoDB has no room left, its disk is full; nothing can be "
            "written until an administrator makes room"
        ),
        chained=False,
    ),
    _Rule(
        _has_code(13),
        lambda operation, _: ScopeDenied(
            f"MongoDB denied {operation}: {_DENIED.get(operation, _UNDECLARED)}"
        ),
        chained=False,
    ),
    _Rule(
        _has_code(11, 18),
        lambda operation, _: DatabaseUnavailable(
            f"{operation} failed: MongoDB does not accept the app's database user; it has been "
            "rotated or removed, and the new credentials have not arrived yet"
        ),
        chained=False,
    ),
    _Rule(
        _is(ConnectionFailure),
        lambda operation, _: DatabaseUnavailable(
            f"{operation} failed: MongoDB cannot be reached or changes its primary; try again"
        ),
    ),
    _Rule(
        # In a bulk's or a transaction's reply, where the driver makes no `NotPrimaryError` of it.
        _has_code(91, 189, 10107, 11600, 11602, 13435, 13436),
        lambda operation, _: DatabaseUnavailable(
            f"{operation} failed: MongoDB changes its primary; try again"
        ),
    ),
    _Rule(
        # What the driver says of a session while it knows no primary and nobody who follows one.
        lambda error: isinstance(error, ConfigurationError) and "Sessions are not" in str(error),
        lambda operation, _: DatabaseUnavailable(
            f"{operation} failed: MongoDB changes its primary; begin the transaction anew"
        ),
    ),
    _Rule(
        lambda error: isinstance(error, InvalidOperation) and "ended session" in str(error),
        lambda operation, _: QueryRefused(
            f"{operation} belongs to a transaction that is over; read its cursors inside its block"
        ),
    ),
    _Rule(
        lambda error: isinstance(error, InvalidOperation) and "after close" in str(error),
        lambda operation, _: DatabaseUnavailable(
            f"{operation} failed: its connection was closed, by a rotation of the credentials or "
            "by shutdown; start it again"
        ),
    ),
)


_LABELS = (
    "NoWritesPerformed",
    "RetryableWriteError",
    "TransientTransactionError",
    "UnknownTransactionCommitResult",
)
"""What the drivers' specifications say of an error, kept by the domain's."""


def translated(
    error: PyMongoError, operation: str, seconds: float
) -> tuple[MdbEngineError, bool] | None:
    """Return the domain's error for a driver's, or None if the driver's is to stay.

    Parameters
    ----------
    error
        What the driver raised.
    operation
        The operation's name, for the message.
    seconds
        The time limit that it ran under.

    Returns
    -------
    tuple or None
        The error, and whether the driver's may be its cause.
    """
    for rule in _RULES:
        if rule.applies(error):
            return rule.make(operation, seconds), rule.chained
    return None


def raise_translated(error: PyMongoError, operation: str, seconds: float, began: float) -> None:
    """Raise the domain's error for a driver's, or return if the driver's is to stay.

    Parameters
    ----------
    error
        What the driver raised.
    operation
        The operation's name, for the message.
    seconds
        The time limit that it ran under.
    began
        When it began (`time.monotonic`).
    """
    if isinstance(error, NetworkTimeout) and time.monotonic() - began >= seconds:
        # The server stops a slow operation at the same moment as the driver stops waiting.
        slow = too_slow(operation, seconds)
        slow.labels = _labels(error)
        raise slow from error
    outcome = translated(error, operation, seconds)
    if outcome is None:
        return
    domain, chained = outcome
    domain.labels = _labels(error)
    raise domain from (error if chained else None)


def _labels(error: PyMongoError) -> frozenset[str]:
    return frozenset(label for label in _LABELS if error.has_error_label(label))


@contextmanager
def translating(operation: str, seconds: float) -> Iterator[None]:
    """Raise the domain's errors in place of the driver's, for the length of a ``with`` block."""
    began = time.monotonic()
    try:
        yield
    except PyMongoError as error:
        raise_translated(error, operation, seconds, began)
        raise
