"""MongoDB as a service, and what is like it: what is known not to work there, by the host's name.

The names are those by which the services give out connection strings; PyMongo knows the same ones
(``_detect_external_db``). Under a name of one's own none is recognised, and the server's refusal of
a command says it, app by app (`mdb_engine.connection.control`).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from mdb_operator.exceptions import ConfigurationInvalid

__all__ = ["require_supported"]

_NO_RETRYABLE_WRITES = (
    "has no retryable writes, which the operator needs. Use MongoDB itself, or MongoDB Atlas with "
    "isolation: library"
)

_NO_USERS = (
    "does not let a connection create users and roles (createUser, createRole), which isolation: "
    "database needs. Install with isolation: library, or with a MongoDB of your own"
)

_SERVICES: tuple[tuple[str, str, str, str], ...] = (
    (".mongodb.net", "MongoDB Atlas", _NO_USERS, ""),
    (".mongodbgov.net", "MongoDB Atlas", _NO_USERS, ""),
    (".docdb.amazonaws.com", "Amazon DocumentDB", _NO_RETRYABLE_WRITES, _NO_RETRYABLE_WRITES),
    (
        ".docdb-elastic.amazonaws.com",
        "Amazon DocumentDB",
        _NO_RETRYABLE_WRITES,
        _NO_RETRYABLE_WRITES,
    ),
    (
        ".mongo.cosmos.azure.com",
        "Azure Cosmos DB (RU)",
        _NO_RETRYABLE_WRITES,
        _NO_RETRYABLE_WRITES,
    ),
    (".mongocluster.cosmos.azure.com", "Azure DocumentDB (vCore)", _NO_USERS, ""),
)
"""The end of the host's name, the service, and why not with ``database`` and with ``library``."""


def require_supported(uri: str, isolation: str) -> None:
    """Do nothing, unless MongoDB is a service where this isolation cannot work.

    Raises
    ------
    ConfigurationInvalid
        In one line: which service it is, what it lacks, what to do.
    """
    hosts = urlsplit(uri).netloc.rpartition("@")[2].lower().split(",")
    for end, name, with_database, with_library in _SERVICES:
        why = with_database if isolation == "database" else with_library
        if why and any(
            host.rpartition(":")[0].endswith(end) or host.endswith(end) for host in hosts
        ):
            raise ConfigurationInvalid(f"the MongoDB URI leads to {name}, which {why}")
