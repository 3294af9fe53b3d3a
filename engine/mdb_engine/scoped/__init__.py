"""The scoped database: every operation of the drivers, filtered, stamped or refused."""

from __future__ import annotations

from mdb_engine.scoped.client import ScopedClient
from mdb_engine.scoped.collection import ScopedCollection
from mdb_engine.scoped.cursor import ScopedChangeStream, ScopedCommandCursor, ScopedCursor
from mdb_engine.scoped.database import ScopedApp, ScopedDatabase
from mdb_engine.scoped.gridfs import ScopedBucket, scoped_bucket
from mdb_engine.scoped.limits import DEFAULT_LIMITS, Limits
from mdb_engine.scoped.session import Session
from mdb_engine.scoped.transaction import Transaction

__all__ = [
    "DEFAULT_LIMITS",
    "Limits",
    "ScopedApp",
    "ScopedBucket",
    "ScopedChangeStream",
    "ScopedClient",
    "ScopedCollection",
    "ScopedCommandCursor",
    "ScopedCursor",
    "ScopedDatabase",
    "Session",
    "Transaction",
    "scoped_bucket",
]
