"""An index that changes loses nothing on the way, and only the registry's own are touched."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from pymongo.errors import DuplicateKeyError
from support.registry import Registries, spec

from mdb_engine.exceptions import CollectionTaken, DatabaseUnavailable, VersionConflict
from mdb_engine.models.manifest import Manifest
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.models.app import Owner
from mdb_engine.registry.models.layout import IndexAction, LayoutConflict
from mdb_engine.registry.registry import Registry

PLAIN: dict[str, Any] = {"name": "i", "keys": {"x": 1}}
UNIQUE: dict[str, Any] = {**PLAIN, "unique": True}
TTL: dict[str, Any] = {"name": "i", "type": "ttl", "keys": {"at": 1}, "expire_after_seconds": 60}
OWNER = Owner.standalone("a")
TEXT: dict[str, Any] = {"name": "words", "type": "text", "keys": {"title": "text"}}


def with_indexes(*indexes: dict[str, Any], slug: str = "a") -> MdbAppSpec:
    return Manifest.load({"slug": slug, "managed_indexes": {"c": list(indexes)}}).to_spec()


def indexes(registries: Registries, slug: str = "a") -> dict[str, dict[str, Any]]:
    collection = registries.database.client[registries.database.name][f"{slug}_c"]
    return {name: i for name, i in collection.index_information().items() if name != "_id_"}


def writes(registries: Registries) -> list[str]:
    seen = [name for name in registries.writes.seen if name != "update"]
    registries.writes.seen.clear()
    return seen


async def test_an_expiry_is_changed_in_place(registries: Registries, registry: Registry) -> None:
    await registry.register(with_indexes({"name": "i", "keys": {"at": 1}}))
    writes(registries)
    for seconds in (60, 3600):
        await registry.register(with_indexes({**TTL, "expire_after_seconds": seconds}))
        assert writes(registries) == ["collMod"]
        assert indexes(registries)["i"]["expireAfterSeconds"] == seconds
    await registry.register(with_indexes({**TTL, "expire_after_seconds": 3600}))
    assert writes(registries) == []


async def test_an_index_that_is_made_unique_over_duplicates_stays_as_it_is(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(with_indexes(PLAIN))
    registries.insert("a_c", *({"app_id": "a", "x": 1} for _ in range(2)))
    done = await registry.register(with_indexes(UNIQUE, {"name": "other", "keys": {"y": 1}}))

    assert [(one.index, one.reason) for one in done.conflicts] == [
        ("i", "CannotConvertIndexToUnique")
    ]
    assert indexes(registries).keys() == {"i", "other"}
    assert "unique" not in indexes(registries)["i"]
    registries.insert("a_c", {"app_id": "a", "x": 1})  # as before: it refuses no duplicates yet

    collection = registries.database.client[registries.database.name]["a_c"]
    collection.delete_many({})
    writes(registries)
    assert (await registry.register(with_indexes(UNIQUE))).conflicts == ()
    assert writes(registries) == ["collMod", "collMod", "dropIndexes"]
    registries.insert("a_c", {"app_id": "a", "x": 1})
    with pytest.raises(DuplicateKeyError):
        collection.insert_one({"app_id": "a", "x": 1})


async def test_a_former_index_goes_only_when_the_new_one_stands(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(with_indexes(UNIQUE, {"name": "old", "keys": {"z": 1}}))
    registries.insert("a_c", {"app_id": "a", "x": 1, "y": 1}, {"app_id": "a", "x": 2, "y": 1})
    done = await registry.register(with_indexes({"name": "i", "keys": {"y": 1}, "unique": True}))

    assert [(one.index, one.reason) for one in done.conflicts] == [("i", "DuplicateKey")]
    assert indexes(registries).keys() == {"i", "old"}
    assert indexes(registries)["i"]["key"] == [("x", 1)]
    assert indexes(registries)["i"]["unique"] is True

    done = await registry.register(with_indexes({"name": "i", "keys": {"y": 1}}))
    assert done.conflicts == ()
    (index,) = indexes(registries).values()
    assert index["key"] == [("y", 1)]


async def test_the_apps_own_index_is_never_touched(
    registries: Registries, registry: Registry
) -> None:
    collection = registries.database.client[registries.database.name]["a_c"]
    collection.create_index("x", unique=True, name="i")
    before = indexes(registries)

    done = await registry.register(with_indexes(PLAIN))
    assert [(one.index, one.reason) for one in done.conflicts] == [("i", "NameTaken")]
    assert indexes(registries) == before
    assert (await registry.register(with_indexes())).conflicts == ()
    assert indexes(registries) == before

    # One of ours that the app made into another is its own from then on.
    collection.drop_indexes()
    await registry.register(with_indexes(PLAIN))
    collection.drop_index("i")
    collection.create_index("x", unique=True, name="i")
    done = await registry.register(with_indexes({"name": "i", "keys": {"x": -1}}))
    assert [one.reason for one in done.conflicts] == ["NameTaken"]
    await registry.register(with_indexes())
    assert indexes(registries) == before


async def test_one_that_the_app_made_as_the_spec_wants_it_serves_and_stays(
    registries: Registries, registry: Registry
) -> None:
    collection = registries.database.client[registries.database.name]["a_c"]
    collection.create_index("x", name="i")
    await registry.prepare()
    writes(registries)
    assert (await registry.register(with_indexes(PLAIN))).conflicts == ()
    assert "createIndexes" not in writes(registries)
    await registry.register(with_indexes())
    assert indexes(registries).keys() == {"i"}


async def test_a_renamed_index_is_not_built_again(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(with_indexes(UNIQUE))
    writes(registries)
    assert (await registry.register(with_indexes({**UNIQUE, "name": "j"}))).conflicts == ()
    assert writes(registries) == []
    assert indexes(registries).keys() == {"i"}


@pytest.mark.parametrize(
    ("former", "wanted", "broken"),
    [
        (TEXT, {**TEXT, "keys": {"body": "text"}}, {**TEXT, "default_language": "klingon"}),
        (TTL, {"name": "i", "keys": {"at": 1}}, None),
    ],
    ids=["text", "no expiry any more"],
)
async def test_what_cannot_stand_beside_its_successor_is_put_back_where_that_fails(
    registries: Registries,
    registry: Registry,
    former: dict[str, Any],
    wanted: dict[str, Any],
    broken: dict[str, Any] | None,
) -> None:
    await registry.register(with_indexes(former))
    before = indexes(registries)
    if broken is not None:
        done = await registry.register(with_indexes(broken))
        assert len(done.conflicts) == 1
        assert indexes(registries) == before
    planned = await registry.claim(with_indexes(wanted), OWNER)
    (change,) = (await registry.plan_indexes("a")).changes
    assert change.action is IndexAction.REPLACE
    assert planned.spec.collections[0].indexes[0].name == wanted["name"]
    assert (await registry.register(with_indexes(wanted))).conflicts == ()
    assert len(indexes(registries)) == 1
    assert indexes(registries) != before


async def test_a_plan_says_what_would_be_done_and_writes_nothing(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(with_indexes(PLAIN, TEXT, {"name": "gone", "keys": {"g": 1}}))
    wanted = with_indexes(UNIQUE, TEXT, {"name": "new", "keys": {"n": 1}})
    await registry.claim(wanted, OWNER)
    writes(registries)
    plan = await registry.plan_indexes("a")
    assert [(one.action, one.name) for one in plan.changes] == [
        (IndexAction.MODIFY, "i"),
        (IndexAction.BUILD, "new"),
        (IndexAction.DROP, "gone"),
    ]
    assert writes(registries) == []
    assert (await registry.ensure_indexes("a")).changes == plan.changes
    assert (await registry.plan_indexes("a")).changes == ()


async def test_two_workers_that_start_at_once_never_leave_it_missing(
    registries: Registries,
) -> None:
    workers = [registries.connect() for _ in range(3)]
    await workers[0].register(with_indexes(UNIQUE))
    for n in range(4):
        wanted = with_indexes({"name": "i", "keys": {"x": 1, f"y{n}": 1}, "unique": True})
        watched = asyncio.Event()

        async def watch(watched: asyncio.Event = watched) -> list[int]:
            seen = []
            while not watched.is_set():
                seen.append(len(await asyncio.to_thread(indexes, registries)))
            return seen

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(worker.register(wanted) for worker in workers))
        watched.set()
        assert min(await watching) >= 1
        (index,) = indexes(registries).values()
        assert index["key"] == [("x", 1), (f"y{n}", 1)]
        assert index["unique"] is True


async def test_killed_anywhere_a_unique_index_is_never_missing(
    registries: Registries, registry: Registry
) -> None:
    for step in range(12):
        slug = f"a{step}"
        await registry.register(with_indexes(UNIQUE, slug=slug))
        wanted = with_indexes({"name": "i", "keys": {"y": 1}, "unique": True}, slug=slug)
        try:
            with registries.failing_after(step):
                await registry.register(wanted)
        except DatabaseUnavailable:
            done = False
        else:
            done = True
        assert all(index["unique"] for index in indexes(registries, slug).values())
        assert len(indexes(registries, slug)) >= 1
        await registry.register(wanted)
        (index,) = indexes(registries, slug).values()
        assert index["key"] == [("y", 1)]
        if done:
            return
    pytest.fail("not done with 12 writes")


async def test_a_later_spec_stops_a_build_that_is_under_way(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(with_indexes(PLAIN, {"name": "gone", "keys": {"g": 1}}))
    await registry.claim(with_indexes(PLAIN, {"name": "new", "keys": {"n": 1}}), OWNER)
    stale = await registry.get("a")
    assert stale is not None
    await registry.claim(with_indexes(PLAIN, {"name": "gone", "keys": {"g": 1}}), OWNER)
    with pytest.raises(VersionConflict):
        await registry.ensure_indexes(stale)
    assert "gone" in indexes(registries)
    assert (await registry.ensure_indexes("a")).conflicts == ()
    assert indexes(registries).keys() == {"i", "gone"}


async def test_a_claim_touches_no_index_and_no_collection(
    registries: Registries, registry: Registry
) -> None:
    await registry.prepare()
    registries.writes.seen.clear()
    await registry.claim(with_indexes(UNIQUE), OWNER)
    assert registries.writes.seen == ["insert"]
    made = await registry.ensure_collections("a")
    assert (made.created, made.validated, made.conflicts) == (("c",), (), ())
    assert made.record.stamped == {"c"}
    assert indexes(registries) == {}


async def test_a_collection_of_another_stamp_is_taken(
    registries: Registries, registry: Registry
) -> None:
    registries.insert("shop_eu_orders", {"app_id": "shop"})
    with pytest.raises(CollectionTaken, match=r"'shop_eu_orders'.*not stamped as this app's"):
        await registry.register(spec("shop_eu", "orders"))
    assert registries.traces("shop_eu") == 0
    await registry.register(spec("shop_eu", "other"))
    with pytest.raises(CollectionTaken):
        await registry.register(spec("shop_eu", "other", "orders"))
    await registry.register(spec("shop", "eu_orders"))
    registries.insert("old_items", {"n": 1}, {"app_id": "old", "n": 2})
    await registry.register(spec("old", "items"))  # unstamped: from before there was an engine


def options_of(registries: Registries, name: str) -> dict[str, Any]:
    database = registries.database.client[registries.database.name]
    (found,) = database.list_collections(filter={"name": name})
    options: dict[str, Any] = found["options"]
    return options


async def test_the_validator_is_put_beside_one_that_is_there(
    registries: Registries, registry: Registry
) -> None:
    database = registries.database.client[registries.database.name]
    own = {"$jsonSchema": {"required": ["n"]}}
    database.create_collection("a_ruled", validator=own, validationLevel="strict")
    database.create_collection("a_loose", collation={"locale": "en", "strength": 1})
    database.create_collection("a_warned", validator=own, validationAction="warn")
    database.create_collection("a_old")
    database.a_old.insert_one({"n": 1})
    database.command({"create": "a_view", "viewOn": "a_old", "pipeline": []})
    names = ("plain", "ruled", "loose", "warned", "old", "view")
    await registry.claim(spec("a", *names), OWNER)
    made = await registry.ensure_collections("a")

    stamp = {"app_id": {"$eq": "a"}}
    assert made.created == ("plain",)
    assert made.validated == ("ruled", "loose", "old")
    assert {one.collection: one.reason for one in made.conflicts} == {
        "warned": "OwnValidator",
        "old": "ForeignDocuments",
        "view": "NoCollection",
    }
    assert made.record.stamped == {"plain", "ruled", "loose"}
    assert (options_of(registries, "a_plain"))["validator"] == stamp
    assert (options_of(registries, "a_ruled"))["validator"] == {"$and": [stamp, own]}
    assert (options_of(registries, "a_warned"))["validator"] == own
    await registry.secrets.ensure(made.record)
    await registry.publish("a")
    assert registries.grant("a")["stamped"] == ["loose", "plain", "ruled"]
    for conflict in made.conflicts:
        assert isinstance(conflict, LayoutConflict)
        assert conflict.index is None

    registries.writes.seen.clear()
    again = await registry.ensure_collections("a")
    assert (registries.writes.seen, again.wrote) == ([], False)
    database.a_old.update_many({}, {"$set": {"app_id": "a"}})
    assert "old" in (await registry.ensure_collections("a")).record.stamped


async def test_a_validator_that_was_taken_off_comes_back_and_the_gap_is_looked_through(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("a", "c"))
    database = registries.database.client[registries.database.name]
    database.command({"collMod": "a_c", "validator": {}})
    database.a_c.insert_one({"app_id": "hr"})
    made = await registry.ensure_collections("a")
    assert (made.validated, made.record.stamped) == (("c",), frozenset())
    assert [one.reason for one in made.conflicts] == ["ForeignDocuments"]
    await registry.publish("a")
    assert registries.grant("a")["stamped"] == []
    database.drop_collection("a_c")
    assert (await registry.ensure_collections("a")).record.stamped == {"c"}


async def test_a_crash_between_validator_and_look_does_not_count_as_looked_through(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("a", "c"))
    database = registries.database.client[registries.database.name]
    database.command({"collMod": "a_c", "validator": {}})
    database.a_c.insert_one({"app_id": "hr"})
    for step in range(3):
        with registries.failing_after(step), contextlib.suppress(DatabaseUnavailable):
            await registry.ensure_collections("a")
    made = await registry.ensure_collections("a")
    assert made.record.stamped == frozenset()


async def test_a_build_may_take_longer_than_any_answer(registries: Registries) -> None:
    registry = registries.connect(socketTimeoutMS=500)
    await registry.claim(with_indexes(PLAIN), OWNER)
    await registry.ensure_collections("a")
    with registries.slow_index_builds(1.5):
        with pytest.raises(DatabaseUnavailable, match="build the index 'i' of 'a_c'"):
            await registry.ensure_indexes("a", seconds=0.5)
        assert (await registry.plan_indexes("a")).changes != ()
        done = await registry.ensure_indexes("a")
    assert [change.name for change in done.changes] == ["i"]
    assert indexes(registries).keys() == {"i"}
