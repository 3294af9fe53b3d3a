"""Fixtures of a real MongoDB.

Each worker of a parallel run starts a server of its own when a test first asks for one: it takes
a third of a second and 130 MB, needs no coordination, and ends with the worker even when that is
killed. ``MDB_TEST_URI`` names a server to use instead.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

from devcluster.mongo import MongoConfig, MongoServer
from devcluster.mongo_daemon import URI_VARIABLE, provided_uri

Client = MongoClient[dict[str, Any]]

TEST_PARAMETERS = {"enableTestCommands": "1", "ttlMonitorSleepSecs": "1"}
"""Fail points (``failCommand``) for tests of failures, and expiry within about a second."""


@dataclass(frozen=True, slots=True)
class Server:
    """A replica set to make databases in.

    Attributes
    ----------
    uri
        Its URI; where there is authentication, the one of a user with the role ``root``.
    client
        A client for fixtures and for a test's own look at the data.
    owned
        The process, where this run has started it; None for one of ``MDB_TEST_URI``.
    """

    uri: str
    client: Client
    owned: MongoServer | None


@dataclass(frozen=True, slots=True)
class Database:
    """A database of one test, empty before and dropped after.

    Attributes
    ----------
    uri
        Of the server, not of the database, as the engine takes it.
    name
        Of the database, random.
    client
        A synchronous client for the test's own look at the data, past the code under test.
    """

    uri: str
    name: str
    client: Client


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[Server]:
    """Give a replica set; there may or may not be authentication."""
    provided = provided_uri()
    if provided is not None:
        with _connected(provided, None) as server:
            yield server
        return
    with start_server(auth=False) as server:
        yield server


@pytest.fixture(scope="session")
def mongo_auth_server() -> Iterator[Server]:
    """Give a replica set that demands a login, with the URI of a root user.

    The provided server is used only where its URI holds a user: what is tested is that MongoDB
    refuses, and a server without authentication refuses nothing.
    """
    provided = provided_uri()
    if provided is not None and parse_uri(provided)["username"]:
        with _connected(provided, None) as server:
            if not server.client.admin.command("connectionStatus")["authInfo"][
                "authenticatedUserRoles"
            ]:
                pytest.fail(f"{URI_VARIABLE} holds a user, but it has no role on that server.")
            yield server
        return
    with start_server(auth=True) as server:
        yield server


@pytest.fixture
def mongo(mongo_server: Server) -> Iterator[Database]:
    """Give a random database, dropped after the test."""
    with _database(mongo_server) as database:
        yield database


@pytest.fixture
def mongo_auth(mongo_auth_server: Server) -> Iterator[Database]:
    """Give a random database of a server that demands a login.

    Users and roles that a test defines *in this database* go with it; those in ``admin`` stay,
    and are the test's to remove.
    """
    with _database(mongo_auth_server) as database:
        yield database
        inside = mongo_auth_server.client[database.name]
        inside.command("dropAllUsersFromDatabase")
        inside.command("dropAllRolesFromDatabase")


@contextmanager
def start_server(*, auth: bool, address: str = "") -> Iterator[Server]:
    """Start a replica set for the block alone; given an address, pods reach it there."""
    config = MongoConfig(
        auth=auth,
        bind=(address,) if address else (),
        advertise=address or "127.0.0.1",
        parameters=TEST_PARAMETERS,
        die_with_parent=True,
    )
    with MongoServer(config, print) as owned, _connected(owned.uri, owned) as server:
        yield server


@contextmanager
def _connected(uri: str, owned: MongoServer | None) -> Iterator[Server]:
    with Client(uri, serverSelectionTimeoutMS=10_000) as client:
        yield Server(uri=uri, client=client, owned=owned)


@contextmanager
def _database(server: Server) -> Iterator[Database]:
    name = f"test_{secrets.token_hex(6)}"
    try:
        yield Database(uri=server.uri, name=name, client=server.client)
    finally:
        database = server.client[name]
        for collection in database.list_collection_names():
            if not collection.startswith("system."):
                database.drop_collection(collection)  # a quarter of the time of all at once
        server.client.drop_database(name)
