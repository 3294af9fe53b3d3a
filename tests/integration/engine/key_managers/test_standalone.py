"""A program without Kubernetes whose master key is in a key manager."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr
from support.engine_world import manifest
from support.key_managers import serve
from support.mongo import Database

from mdb_engine import MongoDBEngine
from mdb_engine.config import EngineSettings
from mdb_engine.exceptions import KeyManagerUnavailable


async def test_it_registers_serves_and_rotates_and_outlives_the_key_manager(
    mongo: Database, tmp_path: Path
) -> None:
    with serve("transit", tmp_path) as service:
        settings = EngineSettings(master_key=SecretStr(service.uri))

        def engine() -> MongoDBEngine:
            return MongoDBEngine(mongo.uri, mongo.name, settings=settings)

        async with engine() as first:
            await first.register_app("shop", manifest("shop", "orders"))
            await first.get_scoped_db("shop").orders.insert_one({"n": 1})
            await first.rotate_app_secret("shop")
            service.cut()
            assert await first.get_scoped_db("shop").orders.count_documents({}) == 1
            await first.register_app("shop", manifest("shop", "orders"))  # seen before
            with pytest.raises(KeyManagerUnavailable, match="does not answer"):
                await first.register_app("other", manifest("other", "things"))
            with pytest.raises(KeyManagerUnavailable):
                await first.rotate_app_secret("shop")
        async with engine() as second:
            with pytest.raises(KeyManagerUnavailable):
                await second.register_app("shop", manifest("shop", "orders"))
            service.mend()
            second_try = engine()
            async with second_try:
                await second_try.register_app("shop", manifest("shop", "orders"))
                assert await second_try.get_scoped_db("shop").orders.count_documents({}) == 1
