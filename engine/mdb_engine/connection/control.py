"""How the engine's own collections are read and written, and what the driver's errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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

from mdb_engine.connection.driver import RawDatabase
from mdb_engine.exceptions import DatabaseForbidden, DatabaseFull, DatabaseUnavailable

__all__ = ["control_view", "is_full", "translated"]

WRITE_TIMEOUT_MS = 10_000
"""How long a write waits for a majority; then it counts as failed, and is observed anew."""

_DENIED = {
    13: "the user lacks the right",
    18: "the login failed, so the user or its password is wrong",
}
"""What codes of MongoDB mean: Unauthorized, AuthenticationFailed."""

_ATLAS = 8000
"""AtlasError: a failed login, or a command that Atlas lets nobody send, such as ``createUser``."""

_OUT_OF_DISK_SPACE = 14031
"""OutOfDiskSpace."""

_NOT_OFFERED = frozenset({59, 115, 238, 303})
"""CommandNotFound, CommandNotSupported, NotImplemented; DocumentDB's *Feature not supported*."""

_OTHER_SERVER = (
    "the server does not offer that, so it is no MongoDB of your own; isolation: database needs "
    "createUser and createRole, which services such as Atlas lack: use isolation: library there"
)


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
        if is_full(error):
            raise DatabaseFull(
                f"MongoDB has no room to {action}: its disk is full (code {error.code})"
            ) from None
        denied = _denied(error)
        if denied:
            raise DatabaseForbidden(
                f"MongoDB refused to {action}: {denied} (code {error.code})"
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


def is_full(error: OperationFailure) -> bool:
    """Say whether MongoDB has no room for what was to be written.

    OutOfDiskSpace has a code of its own only where MongoDB looks before it writes, as before an
    index build. What it meets while writing is an UnknownError with the operating system's text,
    after which it ends; and Atlas has one code for all that is its own.
    """
    if error.code == _OUT_OF_DISK_SPACE:
        return True
    details: Any = error.details or {}
    told = (details, *details.get("writeErrors", ()))  # a bulk's are one by one
    text = " ".join(str(one.get("errmsg", "")) for one in told).lower()
    return "no space left on device" in text or (error.code == _ATLAS and "space quota" in text)


def _denied(error: OperationFailure) -> str:
    """Say what a refusal means that trying again does not change; empty where it is none."""
    if error.code == _ATLAS:
        failed_login = "auth" in str((error.details or {}).get("errmsg", "")).lower()
        return _DENIED[18] if failed_login else _OTHER_SERVER
    return _OTHER_SERVER if error.code in _NOT_OFFERED else _DENIED.get(error.code or 0, "")


def _code_name(error: OperationFailure) -> str:
    details: Any = error.details or {}
    return str(details.get("codeName", "error"))
