"""The limits that every operation of a scoped database keeps, each with its unit and its reason.

Many apps share one MongoDB, so one app's runaway query is every app's slow day. A limit is checked
on the engine's own copy of an input, before anything is sent; the error names the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from mdb_engine.exceptions import LimitExceeded
from mdb_engine.scoped.rewrite.refusals import Position, written

__all__ = ["DEFAULT_LIMITS", "LATE_SECONDS", "Limits"]

LATE_SECONDS = 5.0
"""How much later than its time limit an operation's answer may come before its connection is given
up: the server answers then that the time has run out."""

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How large, deep and slow one operation may be."""

    max_time_ms: int = 30_000
    """Milliseconds that the server may work on one operation: about as long as a proxy in front of
    an app waits for it, so nothing goes on that nobody waits for. Where no answer comes within five
    seconds more, the connection is given up."""

    max_stages: int = 100
    """Stages of a pipeline, nested ones counted. The server allows 1000; pipelines that people
    write stay below 50, generated ones that are larger can be split."""

    max_depth: int = 64
    """Levels of nesting of a document, filter, update or pipeline. The server stores 100; the rest
    is room for the levels that scoping adds, and keeps the walk's recursion small."""

    max_document_bytes: int = 16 * _MIB
    """Bytes (as BSON) of one document or update: the server's own limit, met before the network."""

    max_query_bytes: int = 4 * _MIB
    """Bytes (as BSON) of one filter, pipeline or expression: an ``$in`` of 200,000 object ids.
    Larger ones spend more time in the query planner than in the query."""

    max_result_documents: int = 100_000
    """Documents that one ``to_list`` may hold in an app's memory; iterate or page for more."""

    max_bulk_operations: int = 100_000
    """Operations of one ``bulk_write`` or ``insert_many``: the server's own batch limit."""

    def exceeded(self, limit: str, found: str, path: Position) -> LimitExceeded:
        """Make the error that says which limit an input broke, by how much, and where."""
        return LimitExceeded(
            f"{found}; the limit {limit} allows {getattr(self, limit)}. Split the operation or "
            f"raise the limit.",
            path=written(path),
        )


DEFAULT_LIMITS = Limits()
"""What an engine uses unless it is told otherwise."""
