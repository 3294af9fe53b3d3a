"""A database that is away or refuses is told as such, without address or password."""

from __future__ import annotations

import pytest
from support.mongo import Database
from support.registry import KEYS, Registries, spec

from mdb_engine.connection.driver import DriverName, get_driver
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.exceptions import DatabaseUnavailable
from mdb_engine.registry.registry import Registry

PASSWORD = "hunter2-hunter2"


async def failure(driver_name: DriverName, uri: str, name: str) -> DatabaseUnavailable:
    driver = get_driver(driver_name)
    client = driver.connect(uri, serverSelectionTimeoutMS=300)
    try:
        registry = Registry(client[name], driver, EnvelopeEncryptionService(KEYS))
        with pytest.raises(DatabaseUnavailable) as caught:
            await registry.register(spec("a"))
    finally:
        await driver.close(client)
    return caught.value


async def test_nobody_listens() -> None:
    error = await failure("motor", f"mongodb://user:{PASSWORD}@127.0.0.1:1/", "db")
    assert "MongoDB cannot be reached to look whether a migration was begun" in str(error)
    assert "127.0.0.1" not in str(error)
    assert error.__suppress_context__


async def test_the_connection_breaks(registries: Registries, registry: Registry) -> None:
    await registry.prepare()
    with registries.hanging_up(), pytest.raises(DatabaseUnavailable) as caught:
        await registry.register(spec("a"))
    assert str(caught.value).startswith("MongoDB cannot be reached to read the registration of")
    assert ":" not in str(caught.value)
    await registry.register(spec("a"))


@pytest.mark.parametrize("driver_name", ["motor", "pymongo"])
async def test_a_user_without_rights(driver_name: DriverName, mongo_auth: Database) -> None:
    mongo_auth.client[mongo_auth.name].command("createUser", "weak", pwd=PASSWORD, roles=[])
    host = mongo_auth.uri.rpartition("@")[2].partition("/")[0]
    uri = f"mongodb://weak:{PASSWORD}@{host}/{mongo_auth.name}"
    error = await failure(driver_name, uri, mongo_auth.name)
    assert "the user lacks the right" in str(error)
    assert PASSWORD not in str(error)
    wrong = await failure(driver_name, uri.replace(PASSWORD, "x"), mongo_auth.name)
    assert "refused" in str(wrong)
