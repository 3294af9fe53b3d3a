from __future__ import annotations

import inspect
import sys
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient
from support.sockets import sockets_swept

from mdb_engine.connection.driver import Driver, DriverName, get_driver

__all__ = ["sockets_swept"]

pytestmark = [
    pytest.mark.usefixtures("sockets_swept"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

URI = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=1"


@pytest.mark.parametrize(
    ("name", "client"), [("motor", AsyncIOMotorClient), ("pymongo", AsyncMongoClient)]
)
async def test_a_driver_connects_lazily_with_its_own_client(name: DriverName, client: Any) -> None:
    driver = get_driver(name)
    connected: Any = driver.connect(URI, appname="test")

    assert driver.name == name
    assert client is type(connected)
    assert connected.get_database("shop").name == "shop"
    await driver.close(connected)


@pytest.mark.parametrize("name", ["motor", "pymongo"])
async def test_what_is_lazy_is_lazy_on_both(name: DriverName) -> None:
    driver = get_driver(name)
    client = driver.connect(URI)
    session = driver.start_session(client)

    await driver.start_transaction(session)

    assert session.in_transaction
    await session.abort_transaction()
    await session.end_session()
    await driver.close(client)


def test_an_unknown_driver_is_refused() -> None:
    name: Any = "mongo-go"
    with pytest.raises(ValueError, match="'motor' or 'pymongo', not 'mongo-go'"):
        get_driver(name)


def test_a_driver_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "motor.motor_asyncio", None)
    with pytest.raises(ModuleNotFoundError, match=r"install mdbapp-engine\[motor\]"):
        get_driver("motor").connect(URI)


def test_the_drivers_have_the_same_signatures() -> None:
    for method in Driver.__abstractmethods__:
        expected, *others = (
            list(inspect.signature(getattr(kind, method)).parameters)
            for kind in (Driver, type(get_driver("motor")), type(get_driver("pymongo")))
        )
        assert others == [expected, expected], method
