"""A world of three apps, once on each driver, whose collections the ODMs' models name."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.mongo import Database
from support.scoped_world import World, connected_world

from mdb_engine.connection.driver import DriverName

OWN = {
    "animals",
    "categories",
    "doors",
    "houses",
    "notes",
    "products",
    "users",
    "windows",
}


@pytest.fixture(params=["motor", "pymongo"])
def driver_name(request: pytest.FixtureRequest) -> DriverName:
    name: DriverName = request.param
    return name


@pytest.fixture
async def world(driver_name: DriverName, mongo: Database) -> AsyncIterator[World]:
    made = connected_world(driver_name, mongo)
    made.add("shop", OWN, {"stock"})
    yield made
    await made.driver.close(made.client)
