"""The adversarial corpus against a real server: everything is refused, nothing is touched.

``adversarial/*.yaml`` holds the calls. Each one has to end in the engine's error that names the
operator and its path, before a single command is sent; afterwards every collection and every index
of the whole database is, byte for byte, what it was.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

import bson
import pytest
from integration.engine.adversarial.corpus import Attack, load
from pymongo import IndexModel
from support.mongo import Database
from support.scoped_world import World, connected_world

from mdb_engine.connection.driver import DriverName
from mdb_engine.constants import ENGINE_COLLECTIONS
from mdb_engine.exceptions import MdbEngineError
from mdb_engine.scoped import ScopedDatabase

ATTACKS = load()
FILES = sorted({attack.source.rsplit("-", 1)[0] for attack in ATTACKS})


@pytest.fixture(params=["motor", "pymongo"])
async def world(request: pytest.FixtureRequest, mongo: Database) -> AsyncIterator[World]:
    name: DriverName = request.param
    made = connected_world(name, mongo)
    raw = made.raw
    for owner, collection in (("shop", "orders"), ("shop", "copies"), ("stock", "items")):
        documents = [{"_id": n, "app_id": owner, "a": n, "owner": "hr"} for n in range(3)]
        raw[f"{owner}_{collection}"].insert_many(documents)
    raw.hr_people.insert_one({"_id": 1, "app_id": "hr", "salary": 5, "a": 1})
    raw.stock_items.create_indexes([IndexModel("a", name="by_name")])
    for collection in sorted(ENGINE_COLLECTIONS):
        raw[collection].insert_one({"_id": "shop", "app_id": "shop", "secret": "kept", "a": 1})
    yield made
    await made.driver.close(made.client)


def everything(world: World) -> dict[str, Any]:
    """Read all documents, as bytes, and all indexes of the database."""
    raw = world.raw
    return {
        name: (
            sorted(bson.encode(document) for document in raw[name].find()),
            {index: dict(value) for index, value in raw[name].index_information().items()},
        )
        for name in sorted(raw.list_collection_names())
    }


async def perform(db: ScopedDatabase, attack: Attack) -> Any:
    """Make the call as an app would, to the end: cursors are read, streams are asked."""
    called = getattr(db[attack.collection], attack.method)(*attack.args, **attack.options)
    result = await called if inspect.isawaitable(called) else called
    if hasattr(result, "to_list"):
        return await result.to_list(10)
    if hasattr(result, "try_next"):
        async with result as stream:
            return await stream.try_next()
    return result


async def failure_of(world: World, attack: Attack) -> str | None:
    """Say how an attack was not refused as it should be, or None."""
    world.commands.clear()
    try:
        result = await perform(world.db("shop"), attack)
    except MdbEngineError as error:
        try:
            attack.check(error)
        except AssertionError as unexpected:
            return f"{attack.source}: {unexpected}"
        sent = world.commands.names
        return f"{attack.source}: sent {sent}" if sent else None
    except Exception as error:  # noqa: BLE001 - any other kind of error is what is looked for
        return f"{attack.source}: {type(error).__name__}: {error}"
    return f"{attack.source}: returned {result!r}"


@pytest.mark.parametrize("file", FILES)
async def test_attacks_are_refused_before_anything_is_sent(world: World, file: str) -> None:
    before = everything(world)
    attacks = [attack for attack in ATTACKS if attack.source.startswith(f"{file}-")]
    failures = [failure for attack in attacks if (failure := await failure_of(world, attack))]
    assert not failures, "\n".join(failures)
    assert everything(world) == before


async def test_denied_collections_are_audited(world: World) -> None:
    attacks = [attack for attack in ATTACKS if attack.error.code == "scope_denied"]
    for attack in attacks:
        before = len(world.denials())
        assert await failure_of(world, attack) is None
        assert len(world.denials()) > before, f"{attack.source} was not recorded"


def test_corpus_has_at_least_two_hundred_attacks() -> None:
    assert len(ATTACKS) >= 200
    assert len({attack.operator for attack in ATTACKS}) >= 60
