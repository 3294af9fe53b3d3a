"""What the drivers' objects offer and the scoped ones refuse, each with its reason.

A test compares these tables, and what the scoped objects implement, with the public names of both
drivers: a name that a new release adds is in neither and fails the test.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["COLLECTION_REFUSED", "CURSOR_REFUSED", "DATABASE_REFUSED", "STREAM_REFUSED", "refusal"]

_LOOP = "use asyncio.get_running_loop()"
_NO_DRIVER_OBJECT = "it would hand out an object of the driver, which knows no scopes"
_RAW = "raw batches cannot be checked or counted; use find or aggregate"
_WRAP = "it wraps an object of the driver, which knows no scopes"
_NOT_ITERABLE = "it is no iterator; use find"

COLLECTION_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "aggregate_raw_batches": _RAW,
        "database": _NO_DRIVER_OBJECT,
        "find_raw_batches": _RAW,
        "get_io_loop": _LOOP,
        "next": _NOT_ITERABLE,
        "rename": "a collection's name says which app owns it; use aggregate with $out to copy it",
        "wrap": _WRAP,
    }
)
"""Of a collection."""

DATABASE_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "aggregate": "it is about the server, not about a collection; use db.<name>.aggregate",
        "client": _NO_DRIVER_OBJECT,
        "command": "a raw command knows no scopes; use the methods of a collection",
        "cursor_command": "a raw command knows no scopes; use the methods of a collection",
        "dereference": "a reference may lead into any database; use find_one",
        "get_io_loop": _LOOP,
        "list_collections": "it tells of every app's collections; use list_collection_names",
        "next": _NOT_ITERABLE,
        "validate_collection": "it locks the collection and is for an administrator",
        "watch": "it would see every app's changes; use db.<name>.watch",
        "wrap": _WRAP,
    }
)
"""Of a database. A collection of the same name is reached as ``db["name"]``."""

CURSOR_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "add_option": "use the named options",
        "address": "it names a host of the cluster",
        "collection": _NO_DRIVER_OBJECT,
        "each": "use async for",
        "fetch_next": "use async for",
        "get_io_loop": _LOOP,
        "max_await_time_ms": "it is for tailable cursors; use watch",
        "max_scan": "MongoDB removed it; use max_time_ms",
        "next_object": "use async for",
        "remove_option": "use the named options",
        "where": "it is JavaScript, which does not run on a shared server; use $expr",
    }
)
"""Of a cursor."""

STREAM_REFUSED: Mapping[str, str] = MappingProxyType({"get_io_loop": _LOOP})
"""Of a change stream."""


def refusal(kind: str, name: str, table: Mapping[str, str]) -> str:
    """Say why a name is not offered.

    Parameters
    ----------
    kind
        What the object is.
    name
        What was asked of it.
    table
        The object's table.
    """
    if name in table:
        return f"{kind}.{name} is refused: {table[name]}"
    return f"{kind} has no attribute {name!r}"
