"""Registries on both drivers, in an empty database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.mongo import Database
from support.registry import Registries, Writes

from mdb_engine.connection.driver import DriverName
from mdb_engine.registry.registry import Registry


@pytest.fixture(params=["motor", "pymongo"])
async def registries(request: pytest.FixtureRequest, mongo: Database) -> AsyncIterator[Registries]:
    driver_name: DriverName = request.param
    made = Registries(mongo, driver_name, [], Writes())
    yield made
    await made.close()


@pytest.fixture
def registry(registries: Registries) -> Registry:
    return registries.connect()
