"""What the gate says when MongoDB cannot be used: the login, a right, or the way to it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from pymongo import AsyncMongoClient
from support.mongo import Database

from mdb_engine.connection.driver import get_driver
from mdb_engine.exceptions import DatabaseUnavailable
from mdb_operator.apps.failures import failure_for
from mdb_operator.config import load_config
from mdb_operator.mongodb.gate import DatabaseGate
from mdb_operator.process.context import connect_mongodb


async def nobody() -> None:
    """Answer no other connection, either."""
    raise ConnectionError


async def ours() -> None:
    """Say that no other installation manages the database."""


async def told(uri: str, database: str) -> str:
    """Return the message of a condition while the gate is closed."""
    client: Any = AsyncMongoClient(uri, serverSelectionTimeoutMS=1000)

    async def prepare() -> None:
        await client[database].create_collection("apps_config")

    gate = DatabaseGate(client[database], prepare, lambda _: None, nobody, ours)
    try:
        await gate.look()
        with pytest.raises(DatabaseUnavailable) as caught:
            gate.require()
    finally:
        await client.close()
    failure = failure_for(caught.value)
    assert failure is not None
    assert urlsplit(uri).netloc not in failure.message
    return failure.message


def with_user(uri: str, user: str, password: str) -> str:
    """Return the URI with another user."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user}:{password}@{host}").geturl()


async def test_a_wrong_password_is_told_as_a_failed_login(mongo_auth: Database) -> None:
    message = await told(with_user(mongo_auth.uri, "nobody", "wrong-pw"), mongo_auth.name)
    assert "the login failed" in message
    assert "(code 18)" in message
    assert "its password" in message
    assert "wrong-pw" not in message


async def test_a_missing_right_is_told_as_one(mongo_auth: Database) -> None:
    mongo_auth.client["admin"].command("createUser", mongo_auth.name, pwd="some-pw", roles=[])
    try:
        uri = with_user(mongo_auth.uri, mongo_auth.name, "some-pw")
        message = await told(uri, mongo_auth.name)
    finally:
        mongo_auth.client["admin"].command("dropUser", mongo_auth.name)
    assert "lacks the right (code 13)" in message
    assert "mongodb-role" in message


@pytest.mark.long
async def test_a_server_that_is_not_there_is_told_as_one(mongo_auth: Database) -> None:
    message = await told("mongodb://127.0.0.1:1/", mongo_auth.name)
    assert "cannot be reached" in message
    assert "check that MongoDB runs" in message


async def test_a_database_that_was_emptied_is_prepared_anew_and_everything_looked_at(
    mongo: Database,
) -> None:
    client: Any = AsyncMongoClient(mongo.uri)
    told: list[bool] = []

    async def prepare() -> None:
        await client[mongo.name].create_collection("apps_config")

    gate = DatabaseGate(client[mongo.name], prepare, told.append, nobody, ours)
    try:
        await gate.look()
        await gate.look()
        assert told == [True]
        mongo.client[mongo.name].drop_collection("apps_config")
        await gate.look()
        await gate.look()
    finally:
        await client.close()
    assert told == [True, True]
    assert mongo.client[mongo.name].list_collection_names() == ["apps_config"]


async def test_a_login_that_begins_to_work_is_found_at_the_next_look(mongo_auth: Database) -> None:
    uri = with_user(mongo_auth.uri, "late", "late-pw").replace("admin", mongo_auth.name)
    driver = get_driver("pymongo")
    client = connect_mongodb(driver, load_config(mongodb_uri=uri, pod_name="p"))
    inside = mongo_auth.client[mongo_auth.name]

    async def prepare() -> None:
        await client[mongo_auth.name].command("ping")

    gate = DatabaseGate(client[mongo_auth.name], prepare, lambda _: None, nobody, ours, patience=8)
    try:
        await gate.look()
        assert not gate.up
        inside.command("createUser", "late", pwd="late-pw", roles=["readWrite"])
        await gate.look()
        assert gate.up
    finally:
        await driver.close(client)
