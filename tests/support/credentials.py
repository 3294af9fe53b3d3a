"""Whether what was handed out still opens something: found out by using it, as a thief would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pymongo.errors import OperationFailure

from support.leakscan import register
from support.mongo import Client
from support.waiting import wait_until

REFUSED_WITHIN = 5.0
"""Seconds that a withdrawal may take until MongoDB refuses what was withdrawn."""

LOGIN_REFUSED = frozenset({11, 18})
"""UserNotFound, AuthenticationFailed: the user may go between its login and its command."""

UNAUTHORIZED = 13


def opens(uri: str) -> bool:
    """Tell whether MongoDB lets in whoever has this URI."""
    register(uri, "a URI that was handed out")
    try:
        with Client(uri, serverSelectionTimeoutMS=5_000) as client:
            client.get_default_database().command("ping")
    except OperationFailure as error:
        if error.code not in LOGIN_REFUSED:
            raise
        return False
    return True


def reads(uri: str, collection: str) -> bool:
    """Tell whether whoever has this URI may read a collection."""
    register(uri, "a URI that was handed out")
    try:
        with Client(uri, serverSelectionTimeoutMS=5_000) as client:
            client.get_default_database()[collection].find_one()
    except OperationFailure as error:
        if error.code not in {*LOGIN_REFUSED, UNAUTHORIZED}:
            raise
        return False
    return True


def reach(uri: str, collections: Iterable[str]) -> set[str] | None:
    """Return which of these collections whoever has this URI may read; None if not let in."""
    register(uri, "a URI that was handed out")
    found: set[str] = set()
    try:
        with Client(uri, serverSelectionTimeoutMS=5_000) as client:
            database = client.get_default_database()
            database.command("ping")
            for name in collections:
                try:
                    database[name].find_one()
                except OperationFailure as error:
                    if error.code != UNAUTHORIZED:
                        raise
                else:
                    found.add(name)
    except OperationFailure as error:
        if error.code not in LOGIN_REFUSED:
            raise
        return None
    return found


def wait_refused(uri: str, what: str, deadline: float = REFUSED_WITHIN) -> None:
    """Wait until MongoDB refuses a URI."""
    wait_until(lambda: not opens(uri), deadline=deadline, message=f"MongoDB still lets in: {what}")


@contextmanager
def fail_point(
    client: Client, name: str, mode: Any = "alwaysOn", data: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Have mongod fail, or wait, at a place of its own code."""
    point: dict[str, Any] = {"configureFailPoint": name, "mode": mode}
    client.admin.command({**point, "data": dict(data)} if data else point)
    try:
        yield
    finally:
        client.admin.command({"configureFailPoint": name, "mode": "off"})


@contextmanager
def hanging_index_builds(client: Client) -> Iterator[None]:
    """Have every index over a collection that is not empty take for ever."""
    with fail_point(client, "hangAfterStartingIndexBuild"):
        yield


def index_builds(client: Client, database: str) -> list[dict[str, Any]]:
    """Return the index builds of a database that are under way."""
    rows = client.admin.aggregate(
        [
            {"$currentOp": {"allUsers": True}},
            {"$match": {"command.createIndexes": {"$exists": True}}},
            {"$match": {"ns": {"$regex": f"^{database}\\."}}},
        ]
    )
    return list(rows)
