"""Scoped, token-verified access to one shared MongoDB for many FastAPI apps."""

from __future__ import annotations

from mdb_engine.engine import MongoDBEngine
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
from mdb_engine.scoped import ScopedCollection, ScopedDatabase, Transaction

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
    "QueryRefused",
    "ScopeDenied",
    "ScopedCollection",
    "ScopedDatabase",
    "SlugTaken",
    "TokenRequired",
    "Transaction",
    "VersionConflict",
]
