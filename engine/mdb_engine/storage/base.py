"""What all stores have in common: one database handle, and the driver's errors in our terms."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from bson.codec_options import CodecOptions
from pymongo import ReadPreference, WriteConcern
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern

from mdb_engine.driver import RawDatabase
from mdb_engine.exceptions import (
    DatabaseForbidden,
    DatabaseUnavailable,
    ManifestInvalid,
    MdbEngineError,
    RowDamaged,
)

__all__ = ["control_view", "parsed", "parsed_all", "translated"]

_log = logging.getLogger(__name__)

Row = TypeVar("Row")
Parse = Callable[[Mapping[str, Any]], Row]

WRITE_TIMEOUT_MS = 10_000
"""How long a write waits for a majority; then it counts as failed, and is observed anew."""

_DENIED = {
    13: "the user lacks the right",
    18: "the login failed, so the user or its password is wrong",
    8000: "the login failed, so the user or its password is wrong",
}
"""What codes of MongoDB and Atlas mean: Unauthorized, AuthenticationFailed, AtlasError."""


def control_view(database: RawDatabase) -> RawDatabase:
    """Return the database as the registry needs it: majority writes, own writes read, aware dates.

    A secret that was handed out and then rolled back by a failover would be lost for good.
    """
    return database.with_options(
        codec_options=CodecOptions(tz_aware=True),
        read_preference=ReadPreference.PRIMARY,
        write_concern=WriteConcern("majority", wtimeout=WRITE_TIMEOUT_MS),
        read_concern=ReadConcern("local"),
    )


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn the driver's errors into `DatabaseUnavailable`, but for a duplicate key.

    Parameters
    ----------
    action
        What is being done, for the message: "read the registration of app 'x'".

    Notes
    -----
    The driver's own message is left out, and the chain is cut: it may quote the URI or a document.
    """
    try:
        yield
    except DuplicateKeyError:
        raise
    except OperationFailure as error:
        if error.code in _DENIED:
            raise DatabaseForbidden(
                f"MongoDB refused to {action}: {_DENIED[error.code]} (code {error.code})"
            ) from None
        name = _code_name(error)
        raise DatabaseUnavailable(
            f"MongoDB failed to {action}: {name} (code {error.code})"
        ) from None
    except ConnectionFailure as error:
        raise DatabaseUnavailable(
            f"MongoDB cannot be reached to {action} ({type(error).__name__})"
        ) from None
    except ConfigurationError:
        raise DatabaseUnavailable(
            f"MongoDB cannot be reached to {action}: the URI or an option is malformed"
        ) from None
    except PyMongoError as error:
        raise DatabaseUnavailable(f"Failed to {action} ({type(error).__name__})") from None


def parsed(collection: str, document: Mapping[str, Any], parse: Parse[Row]) -> Row:
    """Read a document of the engine's own.

    Raises
    ------
    RowDamaged
        If it is not as the engine wrote it.
    """
    try:
        return parse(document)
    except KeyError as error:
        fault = f"{error.args[0]!r} is missing"
    except ManifestInvalid as error:
        fault = f"its spec is malformed at {error.path or 'the top'}"
    except (AttributeError, TypeError, ValueError) as error:
        fault = f"it is malformed ({type(error).__name__})"
    raise RowDamaged(
        f"Document {document.get('_id')!r} of {collection} is damaged: {fault}. It costs only the "
        "app that it is of; have an administrator restore it from a backup"
    )


def parsed_all(
    collection: str, documents: Iterable[Mapping[str, Any]], parse: Parse[Row]
) -> list[Row]:
    """Read documents of the engine's own; damaged ones are logged and left out."""
    rows: list[Row] = []
    for document in documents:
        try:
            rows.append(parsed(collection, document, parse))
        except RowDamaged as error:
            _log.error(error.message)
    return rows


async def damaged_rows(name: str, collection: Any, parse: Parse[Row]) -> list[str]:
    """Return which documents of a collection cannot be read, as ``collection/_id``."""
    damaged: list[str] = []
    with translated(f"look through {name}"):
        async for document in collection.find({}):
            try:
                parse(document)
            except (AttributeError, KeyError, TypeError, ValueError, MdbEngineError):
                damaged.append(f"{name}/{document.get('_id')}")
    return damaged


def _code_name(error: OperationFailure) -> str:
    details: Any = error.details or {}
    return str(details.get("codeName", "error"))
