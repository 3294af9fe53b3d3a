"""Collections and indexes become what a spec says, and the data stays."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.registry import Registries

from mdb_engine.constants import APPS_COLLECTION, AUDIT_COLLECTION
from mdb_engine.exceptions import NotRegistered
from mdb_engine.models.manifest import Manifest
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.models.layout import fingerprint
from mdb_engine.registry.registry import Registry

ALL_TYPES: list[dict[str, Any]] = [
    {"name": "plain", "keys": {"a": 1, "b.c": -1}, "unique": True},
    {"name": "sparse", "keys": {"s": 1}, "sparse": True},
    {"name": "ttl", "type": "ttl", "keys": {"at": 1}, "expire_after_seconds": 3600},
    {
        "name": "partial",
        "type": "partial",
        "keys": {"n": 1},
        "partial_filter_expression": {
            "n": {"$gte": 1, "$lt": 2.5},
            "open": True,
            "kind": "x",
            "z": {"$exists": True},
            "t": {"$type": "string"},
        },
    },
    {
        "name": "words",
        "type": "text",
        "keys": [["lang", 1], ["title", "text"], ["body", "text"], ["at", -1]],
        "weights": {"title": 7},
        "default_language": "german",
    },
    {"name": "place", "type": "geospatial", "keys": [["where", "2dsphere"], ["kind", 1]]},
    {"name": "flat", "type": "geospatial", "keys": {"xy": "2d"}},
    {"keys": {"unnamed": -1}},
]


def with_indexes(*indexes: dict[str, Any]) -> MdbAppSpec:
    return Manifest.load({"slug": "a", "managed_indexes": {"c": list(indexes)}}).to_spec()


def names(registries: Registries) -> set[str]:
    return set(registries.database.client[registries.database.name]["a_c"].index_information())


async def test_every_type_of_index_is_built_once(registries: Registries) -> None:
    await registries.connect().register(with_indexes(*ALL_TYPES))
    built = {index.get("name", "unnamed_-1") for index in ALL_TYPES} | {"_id_"}
    assert names(registries) == built
    registries.writes.seen.clear()
    await registries.connect().register(with_indexes(*ALL_TYPES))
    assert registries.writes.seen == []


async def test_an_index_that_changed_is_built_beside_the_former_one(
    registries: Registries, registry: Registry
) -> None:
    named = [index for index in ALL_TYPES if "name" in index]
    await registry.register(with_indexes(*named))
    registries.writes.seen.clear()
    changed = [{"name": index["name"], "keys": {f"new{n}": 1}} for n, index in enumerate(named)]
    await registry.register(with_indexes(*changed))
    steps = len(named)
    assert registries.writes.seen == [
        *["update"] * 2,  # the spec, and which indexes will be ours
        *["createIndexes"] * steps,
        *["dropIndexes"] * steps,
        "update",
    ]
    collection = registries.database.client[registries.database.name]["a_c"]
    built = {tuple(index["key"]) for index in collection.index_information().values()}
    assert built == {(("_id", 1),)} | {((f"new{n}", 1),) for n in range(steps)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"unique": True}, {}),
        ({"sparse": True}, {"partial_filter_expression": {"k": 1}}),
        ({"partial_filter_expression": {"k": 1}}, {"partial_filter_expression": {"k": True}}),
        ({"expire_after_seconds": 1}, {"expire_after_seconds": 2}),
        ({"keys": {"k": 1}}, {"keys": {"k": -1}}),
        ({"keys": {"k": 1, "l": 1}}, {"keys": {"l": 1, "k": 1}}),
        ({"keys": {"k": "text"}}, {"keys": {"k": "text"}, "weights": {"k": 2}}),
        ({"keys": {"k": "text"}}, {"keys": {"k": "text"}, "default_language": "french"}),
    ],
    ids=str,
)
def test_what_makes_an_index_another(before: dict[str, Any], after: dict[str, Any]) -> None:
    one, two = (
        fingerprint(
            with_indexes({"keys": {"k": 1}, "name": "i", **parts})
            .collections[0]
            .indexes[0]
            .document()
        )
        for parts in (before, after)
    )
    assert one != two


async def test_removed_indexes_go_and_the_apps_own_and_all_data_stay(
    registries: Registries, registry: Registry
) -> None:
    registries.insert("a_c", {"app_id": "a", "before": True})
    await registry.register(with_indexes({"keys": {"x": 1}}, {"keys": {"y": 1}}))
    registries.database.client[registries.database.name]["a_c"].create_index("mine")
    await registry.register(with_indexes({"keys": {"y": 1}}))
    assert names(registries) == {"_id_", "y_1", "mine_1"}
    assert [d["before"] for d in registries.documents("a_c")] == [True]
    (row,) = registries.documents(APPS_COLLECTION)
    (managed,) = row["managed_indexes"]
    assert [index["name"] for index in managed["indexes"]] == ["y_1"]


async def test_an_index_that_was_dropped_by_hand_comes_back(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(with_indexes({"keys": {"x": 1}}))
    registries.database.client[registries.database.name]["a_c"].drop_index("x_1")
    await registry.ensure_indexes("a")
    assert names(registries) == {"_id_", "x_1"}


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({"keys": {"x": 1}, "unique": True}, "DuplicateKey"),
        ({"keys": {"p": "2dsphere"}, "type": "geospatial"}, "Location16755"),
        (
            {"keys": {"t": "text"}, "type": "text", "default_language": "klingon"},
            "CannotCreateIndex|Location17262",
        ),
        ({"name": "other_name", "keys": {"mine": 1}}, "DefinitionTaken"),
        ({"name": "mine_1", "keys": {"mine": -1}}, "NameTaken"),
    ],
)
async def test_an_index_that_cannot_be_built_is_told_with_its_reason(
    registries: Registries, registry: Registry, index: dict[str, Any], reason: str
) -> None:
    registries.insert("a_c", {"x": 1, "p": "nowhere"}, {"x": 1, "secret": "value"})
    registries.database.client[registries.database.name]["a_c"].create_index("mine")
    before = names(registries)
    done = await registry.register(with_indexes(index))
    (conflict,) = [one for one in done.conflicts if one.index]
    assert conflict.collection == "c"
    assert re.fullmatch(reason, conflict.reason)
    assert "value" not in conflict.message
    assert done.secret_version == 1
    assert names(registries) == before
    assert len(registries.documents("a_c")) == 2
    done = await registry.register(with_indexes({"keys": {"x": 1}}))
    assert [one for one in done.conflicts if one.index] == []


async def test_audit_events_expire(registries: Registries, registry: Registry) -> None:
    await registry.prepare()
    audit = registries.database.client[registries.database.name][AUDIT_COLLECTION]
    (expiry,) = [i for i in audit.index_information().values() if "expireAfterSeconds" in i]
    assert expiry["key"] == [("at", 1)]
    with pytest.raises(NotRegistered):
        await registry.ensure_collections("nobody")
