from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from mdb_engine.connection.driver import DriverName, get_driver
from mdb_engine.connection.pool import Connections, ConnectionSettings

HOST = "mongodb://127.0.0.1:9/"


@pytest.mark.parametrize("name", ["motor", "pymongo"])
@pytest.mark.parametrize(
    ("query", "arguments", "expected"),
    [
        ("", {}, (5.0, 5.0, "mdb-engine")),
        ("?serverSelectionTimeoutMS=700", {}, (0.7, 5.0, "mdb-engine")),
        ("?servERselectiontimeoutms=700&connectTimeoutMS=900", {}, (0.7, 0.9, "mdb-engine")),
        ("?appName=nightly;connectTimeoutMS=900", {}, (5.0, 0.9, "nightly")),
        ("?appName=nightly", {"appName": "hourly"}, (5.0, 5.0, "hourly")),
        ("", {"APPNAME": "hourly", "connecttimeoutms": 900}, (5.0, 0.9, "hourly")),
    ],
)
async def test_what_a_uri_says_rules_over_the_librarys_defaults(
    name: DriverName, query: str, arguments: dict[str, Any], expected: tuple[object, ...]
) -> None:
    driver = get_driver(name)
    settings = ConnectionSettings(SecretStr(HOST + query), "shop", {**arguments, "connect": False})
    connection = Connections(driver)._connect(settings)
    options = driver.delegate(connection.client).options
    found = (
        options.server_selection_timeout,
        options.pool_options.connect_timeout,
        options.pool_options.metadata["application"]["name"],
    )
    await driver.close(connection.client)
    assert found == expected
