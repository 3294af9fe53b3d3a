"""What the drivers' objects offer and the scoped ones refuse, each with its reason.

A test compares these tables, and what the scoped objects implement, with the public names of both
drivers: a name that a new release adds is in neither and fails the test.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = [
    "CLIENT_REFUSED",
    "COLLECTION_REFUSED",
    "CURSOR_REFUSED",
    "DATABASE_REFUSED",
    "SESSION_REFUSED",
    "STREAM_REFUSED",
    "refusal",
]

_ENGINE_CLOSES = "the engine's connection serves all of its databases; use engine.shutdown()"
_ONE_DATABASE = "an app has one database"
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

_CLUSTER_TIME = "a time that no server has signed would harm all; use operation_time"

CLIENT_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "HOST": "it is a host of the cluster",
        "PORT": "it is a host of the cluster",
        "aclose": _ENGINE_CLOSES,
        "aconnect": "the engine connects",
        "address": "it is a host of the cluster",
        "admin": _ONE_DATABASE,
        "arbiters": "they are hosts of the cluster",
        "bulk_write": "it writes into any collection; use db.<name>.bulk_write",
        "close": _ENGINE_CLOSES,
        "codec_options": "use those of the database",
        "cursor_command": "a raw command knows no scopes; use the methods of a collection",
        "delegate": _NO_DRIVER_OBJECT,
        "eq_props": "compare clients with ==",
        "drop_database": "it would drop the data of all apps",
        "get_io_loop": _LOOP,
        "io_loop": _LOOP,
        "is_primary": "a connection to a replica set has no one server; use db.command('hello')",
        "list_database_names": _ONE_DATABASE,
        "list_databases": _ONE_DATABASE,
        "local_threshold_ms": "it is the engine's; see client_options",
        "next": "it is no iterator",
        "nodes": "they are hosts of the cluster",
        "options": "they hold credentials",
        "primary": "it is a host of the cluster",
        "read_concern": "use that of the database",
        "read_preference": "use that of the database",
        "secondaries": "they are hosts of the cluster",
        "server_info": "use db.command('buildInfo')",
        "topology_description": "it names the hosts of the cluster",
        "watch": "it would see every app's changes; use db.<name>.watch",
        "wrap": _WRAP,
        "write_concern": "use that of the database",
    }
)
"""Of a client."""

SESSION_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "advance_cluster_time": _CLUSTER_TIME,
        "bind": "pass session= to each operation",
        "client": _NO_DRIVER_OBJECT,
        "cluster_time": _CLUSTER_TIME,
        "get_io_loop": _LOOP,
        "options": "it would hand out objects of the driver",
        "session_id": "it is what another client would take part with",
    }
)
"""Of a session."""

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
