"""What a handle remembers between two operations holds no longer than what it was made from."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import hashlib
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.scoped_world import World

from mdb_engine.access.audit import AuditTrail
from mdb_engine.access.gate import PresentedToken, TokenGate
from mdb_engine.access.grant_cache import GrantCache, Rows
from mdb_engine.access.model import Grant, Verifier
from mdb_engine.connection.pool import Connection
from mdb_engine.exceptions import (
    InvalidToken,
    MdbEngineError,
    QueryRefused,
    ScopeDenied,
    ServerLimitExceeded,
)
from mdb_engine.scoped import DEFAULT_LIMITS, Limits, ScopedDatabase


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Apps:
    """The real gate over grants and tokens that a test changes under handles that are in use."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = datetime.now(UTC)
        self.tokens = {slug: PresentedToken(f"{slug}-1") for slug in world.grants}
        self.rows: dict[str, Grant] = {
            slug: dataclasses.replace(grant, verifiers=(Verifier(digest(f"{slug}-1"), 1),))
            for slug, grant in world.grants.items()
        }
        self.cache = GrantCache(self)  # type: ignore[arg-type] # no changes are followed here
        self.connection = world.connection

    async def load(self, keys: Any, _seconds: float) -> Rows:
        return {key: row for key, row in self.rows.items() if keys is None or key in keys}

    async def change(self, slug: str, **changes: Any) -> None:
        row = self.rows[slug]
        self.rows[slug] = dataclasses.replace(row, epoch=row.epoch + 1, **changes)
        await self.cache.refresh()

    def db(self, slug: str, limits: Limits = DEFAULT_LIMITS) -> ScopedDatabase:
        async def insert(_documents: Any, _seconds: float) -> None:
            """Write nothing: the trail is looked at elsewhere."""

        audit = AuditTrail(insert, instance="test")
        gate = TokenGate(slug, self.cache, audit, lambda: self.tokens[slug], clock=lambda: self.now)
        return ScopedDatabase(gate, lambda: self.connection, self.world.driver, limits)


@pytest.fixture
async def apps(world: World) -> Apps:
    made = Apps(world)
    await made.cache.refresh()
    return made


async def test_a_token_that_was_revoked_opens_nothing_more_on_the_same_handle(apps: Apps) -> None:
    orders = apps.db("shop").orders
    await orders.insert_one({"_id": 1})
    cursor = orders.find({})
    await apps.change("shop", verifiers=(Verifier(digest("another"), 2),))
    for attempt in (
        lambda: orders.find_one({"_id": 1}),
        lambda: orders.insert_one({"_id": 2}),
        lambda: orders.aggregate([]).to_list(),
    ):
        with pytest.raises(InvalidToken):
            await attempt()
    await asyncio.sleep(0.11)  # what a cursor relies on one check for
    with pytest.raises(InvalidToken):
        await cursor.to_list()


async def test_a_token_is_refused_from_the_moment_on_that_its_time_has_run_out(apps: Apps) -> None:
    ends = apps.now + timedelta(seconds=60)
    await apps.change("shop", verifiers=(Verifier(digest("shop-1"), 1, ends),))
    orders = apps.db("shop").orders
    await orders.find_one({})
    apps.now = ends - timedelta(microseconds=1)
    await orders.find_one({})
    apps.now = ends
    with pytest.raises(InvalidToken):
        await orders.find_one({})


async def test_another_token_is_verified_although_the_grants_are_the_same(apps: Apps) -> None:
    orders = apps.db("shop").orders
    await orders.find_one({})
    apps.tokens["shop"] = PresentedToken("guessed")
    with pytest.raises(InvalidToken):
        await orders.find_one({})
    apps.tokens["shop"] = PresentedToken("shop-1")
    await orders.find_one({})


async def test_a_grant_that_was_withdrawn_is_denied_on_the_same_handle(apps: Apps) -> None:
    db = apps.db("shop")
    items, by_app = db["stock_items"], db.app("stock").items
    lookup = [
        {"$lookup": {"from": "stock_items", "localField": "n", "foreignField": "n", "as": "x"}}
    ]
    for _ in range(2):  # the second finds the plan, and the pipeline, of the first
        await items.find_one({})
        await by_app.find_one({})
        await db.orders.aggregate(lookup).to_list()
    await apps.change("shop", read_scopes=frozenset({"shop"}))
    for attempt in (
        lambda: items.find_one({}),
        lambda: by_app.find_one({}),
        lambda: db.orders.aggregate(lookup).to_list(),
    ):
        with pytest.raises(ScopeDenied):
            await attempt()


async def test_what_one_app_was_planned_is_nothing_to_another(apps: Apps) -> None:
    pipeline: list[dict[str, Any]] = [{"$match": {"n": 1}}]
    shop, stock = apps.db("shop"), apps.db("stock")
    await shop.orders.insert_one({"_id": "shop", "n": 1})
    await stock.items.insert_one({"_id": "stock", "n": 1})
    for _ in range(2):
        assert [d["_id"] for d in await shop.orders.aggregate(pipeline).to_list()] == ["shop"]
        assert [d["_id"] for d in await stock.items.aggregate(pipeline).to_list()] == ["stock"]
        assert await stock["orders"].find_one({}) is None
    with pytest.raises(ScopeDenied):
        await stock["shop_orders"].find_one({})
    with pytest.raises(ScopeDenied):
        await shop["stock_items"].insert_one({})


async def test_operations_go_to_the_connection_that_is_current(apps: Apps) -> None:
    orders = apps.db("shop").orders
    await orders.insert_one({"_id": 1})
    client = apps.world.driver.connect(apps.world.mongo.uri)
    old, apps.connection = apps.connection, Connection(client, client[apps.world.mongo.name])
    apps.world.commands.clear()
    assert await orders.find_one({"_id": 1}) == {"_id": 1, "app_id": "shop"}
    assert await orders.find({}).to_list() == [{"_id": 1, "app_id": "shop"}]
    assert apps.world.commands.names == [], "the old connection is not used any more"
    assert old.idle
    await apps.world.driver.close(client)


async def test_a_connection_knows_what_is_under_way_on_it(apps: Apps) -> None:
    orders = apps.db("shop").orders

    def idle() -> bool:
        return apps.connection.idle

    await orders.insert_many([{"_id": n} for n in range(300)])
    await orders.update_one({"_id": 1}, {"$set": {"n": 1}})
    with pytest.raises(QueryRefused):
        await orders.find_one({"$where": "1"})
    assert idle()
    cursor = orders.find({}).batch_size(2)
    await cursor.next()
    assert not idle()
    await cursor.close()
    assert idle()
    async for _ in orders.find({}).batch_size(100):
        assert not idle()
    assert idle()
    await orders.find({}).to_list()
    await orders.aggregate([], batchSize=2).to_list(299)
    abandoned = orders.find({}).batch_size(2)
    await abandoned.next()
    assert not idle()
    del abandoned
    gc.collect()
    assert idle()
    transaction = apps.world.transaction()
    async with transaction:
        assert not idle()
    assert idle()


async def test_what_is_cancelled_is_under_way_no_longer(apps: Apps) -> None:
    orders = apps.db("shop").orders
    await orders.insert_one({"_id": 1})
    for call in (lambda: orders.insert_one({}), lambda: orders.find({}).to_list()):
        task = asyncio.ensure_future(call())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task  # its error leads to the cursor
    gc.collect()
    assert apps.connection.idle


async def test_a_write_of_one_document_ends_within_its_time_limit(apps: Apps) -> None:
    orders = apps.db("shop", Limits(max_time_ms=300)).orders
    await orders.insert_one({"_id": 1})
    raw = apps.world.raw.shop_orders
    with raw.database.client.start_session() as session, session.start_transaction():
        raw.update_one({"_id": 1}, {"$set": {"held": 1}}, session=session)
        began = time.monotonic()
        with pytest.raises(ServerLimitExceeded, match="max_time_ms"):
            await orders.update_one({"_id": 1}, {"$set": {"n": 1}})
        assert time.monotonic() - began < 5
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    assert apps.connection.idle


async def test_what_is_sent_is_what_was_given_whatever_another_task_makes_of_it(
    apps: Apps,
) -> None:
    orders = apps.db("shop").orders
    document = {"_id": 1, "flat": 1, "list": [1], "sub": {"n": 1}}
    query: dict[str, Any] = {"_id": 1}
    update: dict[str, Any] = {"$set": {"sub.n": 2}}
    inserting = asyncio.ensure_future(orders.insert_one(document))
    await asyncio.sleep(0)
    document |= {"flat": 2, "app_id": "hr", "$where": "1"}
    document["list"].append({"$where": "1"})  # type: ignore[attr-defined]
    document["sub"]["n"] = 9  # type: ignore[index]
    await inserting
    updating = asyncio.ensure_future(orders.update_one(query, update))
    await asyncio.sleep(0)
    query["_id"] = {"$gt": 0}
    update["$set"]["app_id"] = "hr"
    await updating
    stored = {"_id": 1, "flat": 1, "list": [1], "sub": {"n": 2}, "app_id": "shop"}
    assert list(apps.world.raw.shop_orders.find()) == [stored]


class Twin(str):
    """Reads as ``app_id`` where it is sent, and as nothing that is known where it is looked up."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return 7


class Two(dict[str, Any]):
    """Shows one thing to whoever iterates, and holds another."""

    def items(self) -> Any:
        return {"n": 1}.items()

    def __iter__(self) -> Iterator[str]:
        return iter({"n": 1})

    def __getitem__(self, key: str) -> Any:
        return 1


class Changing(Mapping[str, Any]):
    """Harmless when it is read first, an operator afterwards."""

    def __init__(self) -> None:
        self.reads = 0

    def __getitem__(self, key: str) -> Any:
        return 1

    def __iter__(self) -> Iterator[str]:
        self.reads += 1
        return iter(["n"] if self.reads == 1 else ["$where"])

    def __len__(self) -> int:
        return 1


class Number(int):
    def __index__(self) -> int:
        return 5


async def test_a_field_that_only_looks_like_another_cannot_stamp(apps: Apps) -> None:
    orders, raw = apps.db("shop").orders, apps.world.raw.shop_orders
    await orders.insert_one({"_id": 1, Twin("app_id"): "hr"})
    await orders.insert_many([{"_id": 2, Twin("app_id"): "hr"}])
    await orders.replace_one({"_id": 1}, {Twin("app_id"): "hr", "n": 1})
    updates: list[dict[str, Any]] = [
        {"$set": {Twin("app_id"): "hr"}},
        {Twin("$set"): {"app_id": "hr"}},
    ]
    for update in updates:
        with pytest.raises(QueryRefused):
            await orders.update_one({"_id": 1}, update)
    assert {document["app_id"] for document in raw.find()} == {"shop"}
    assert raw.count_documents({"app_id": "hr"}) == 0
    raw.insert_one({"_id": 3, "app_id": "hr"})
    assert await orders.find_one({"_id": 3, Twin("app_id"): "hr"}) is None
    assert await orders.count_documents({Twin("app_id"): {"$exists": True}}) == 2


async def test_mappings_that_change_are_sent_as_they_were_read(apps: Apps) -> None:
    orders, commands = apps.db("shop").orders, apps.world.commands
    for query in ({"a": Changing()}, Changing(), Two({"$where": "1"}), {"a": Two({"$where": "1"})}):
        commands.clear()
        try:
            await orders.find_one(query)
        except MdbEngineError:
            continue
        assert "$where" not in str(commands.last["filter"])
        assert commands.last["filter"]["app_id"] == "shop"
    await orders.insert_one({"_id": 1, "n": Number(3)})
    assert apps.world.raw.shop_orders.find_one({"_id": 1})["n"] in (3, 5)


async def test_a_pipeline_that_is_remembered_is_not_what_its_giver_holds(apps: Apps) -> None:
    orders, commands = apps.db("shop").orders, apps.world.commands
    pipeline: list[dict[str, Any]] = [{"$match": {"n": {"$in": [1]}}}, {"$limit": 5}]
    await orders.aggregate(pipeline).to_list()
    first = commands.last["pipeline"]
    pipeline[0]["$match"]["n"]["$in"].append(2)
    pipeline[1] = {"$limit": 6}
    await orders.aggregate(pipeline).to_list()
    assert commands.last["pipeline"] != first
    pipeline[0]["$match"]["$where"] = "1"
    with pytest.raises(QueryRefused):
        await orders.aggregate(pipeline).to_list()
    await orders.aggregate([{"$match": {"n": {"$in": [1]}}}, {"$limit": 5}]).to_list()
    assert commands.last["pipeline"] == first
    # 1 and True are equal to Python, and not to MongoDB.
    await orders.aggregate([{"$match": {"n": {"$in": [True]}}}, {"$limit": 5}]).to_list()
    assert commands.last["pipeline"][0]["$match"]["n"]["$in"][0] is True


async def test_a_long_insert_lets_others_run_and_is_admitted_again_before_it_is_sent(
    apps: Apps,
) -> None:
    orders = apps.db("shop").orders
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(count_turns())
    await orders.insert_many([{"n": n} for n in range(5_000)])
    assert turns >= 10
    documents = [{"n": n} for n in range(5_000)]
    inserting = asyncio.ensure_future(orders.insert_many(documents))
    await asyncio.sleep(0)
    await apps.change("shop", verifiers=())
    counting.cancel()
    with pytest.raises(InvalidToken):
        await inserting
    assert apps.world.raw.shop_orders.count_documents({}) == 5_000
