"""Engines on both drivers, on their own and in pods."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.engine_world import OperatorHand
from support.mongo import Database

from mdb_engine.connection.driver import DriverName


@pytest.fixture(params=["motor", "pymongo"])
def driver_name(request: pytest.FixtureRequest) -> DriverName:
    name: DriverName = request.param
    return name


@pytest.fixture
async def operator(
    mongo_auth: Database, driver_name: DriverName, tmp_path: Path
) -> AsyncIterator[OperatorHand]:
    hand = OperatorHand(mongo_auth, driver_name, tmp_path / "bindings")
    yield hand
    await hand.close()
