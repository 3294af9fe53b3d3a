"""Scoped, token-verified access to one shared MongoDB for many FastAPI apps.

What needs FastAPI or a driver is imported when it is first asked for: the kubectl plugin reads
manifests with the models alone, and the operator serves nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

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
from mdb_engine.models.manifest import Manifest

if TYPE_CHECKING:
    from mdb_engine.core.documents import PyObjectId
    from mdb_engine.engine.mongodb_engine import MongoDBEngine
    from mdb_engine.scoped import (
        ScopedCollection,
        ScopedDatabase,
        Session,
        Transaction,
        scoped_bucket,
    )

__all__ = [
    "CollectionTaken",
    "DatabaseUnavailable",
    "InvalidToken",
    "LimitExceeded",
    "Manifest",
    "ManifestInvalid",
    "MasterKeyError",
    "MdbEngineError",
    "MongoDBEngine",
    "NotInitialized",
    "NotRegistered",
    "PyObjectId",
    "QueryRefused",
    "ScopeDenied",
    "ScopedCollection",
    "ScopedDatabase",
    "Session",
    "SlugTaken",
    "TokenRequired",
    "Transaction",
    "VersionConflict",
    "scoped_bucket",
]

_ON_DEMAND: Final = {
    "MongoDBEngine": "mdb_engine.engine.mongodb_engine",
    "PyObjectId": "mdb_engine.core.documents",
    "ScopedCollection": "mdb_engine.scoped",
    "ScopedDatabase": "mdb_engine.scoped",
    "Session": "mdb_engine.scoped",
    "Transaction": "mdb_engine.scoped",
    "scoped_bucket": "mdb_engine.scoped",
}
"""Names of this package that a module elsewhere has (PEP 562)."""


def __getattr__(name: str) -> Any:
    try:
        module = _ON_DEMAND[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    try:
        value = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{name} needs {error.name}, which is not installed; install mdbapp-engine[fastapi]",
            name=error.name,
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
