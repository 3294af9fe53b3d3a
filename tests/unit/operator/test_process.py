"""How the operator connects to MongoDB."""

from __future__ import annotations

import pytest

from mdb_engine.connection.driver import get_driver
from mdb_operator.config import load_config
from mdb_operator.process.context import connect_mongodb


@pytest.mark.parametrize(
    ("options", "seconds"),
    [("", 5.0), ("?serverSelectionTimeoutMS=700", 0.7), ("?serverselectiontimeoutms=700", 0.7)],
)
async def test_how_long_is_waited_for_a_server_is_the_uris_to_say(
    options: str, seconds: float
) -> None:
    driver = get_driver("pymongo")
    uri = f"mongodb://127.0.0.1:1/{options}"
    client = connect_mongodb(driver, load_config(mongodb_uri=uri, pod_name="p"))
    assert client.options.server_selection_timeout == seconds
    await driver.close(client)


async def test_no_uri_makes_a_write_less_safe_than_a_majority() -> None:
    driver = get_driver("pymongo")
    uri = "mongodb://127.0.0.1:1/?w=1&retryWrites=false"
    client = connect_mongodb(driver, load_config(mongodb_uri=uri, pod_name="p"))
    assert client.write_concern.document == {"w": "majority"}
    assert client.options.retry_writes
    await driver.close(client)
