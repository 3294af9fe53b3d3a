"""A row that is not as the engine wrote it costs its own app, and no other."""

from __future__ import annotations

from typing import Any

import pytest
from support.registry import KEYS, Registries, spec

from mdb_engine.constants import APPS_COLLECTION, GRANTS_COLLECTION, SECRETS_COLLECTION
from mdb_engine.exceptions import MasterKeyError, RowDamaged
from mdb_engine.registry.registry import Registry

READER = {"readScopes": ["reader", "owner"]}

DAMAGES: list[dict[str, Any]] = [
    {"$unset": {"incarnation": ""}},
    {"$unset": {"spec": ""}},
    {"$set": {"spec.slug": 5}},
    {"$set": {"claims": 7}},
    {"$set": {"state": "asleep"}},
    {"$set": {"owner": {"name": "x"}}},
]


def damage(registries: Registries, collection: str, key: str, update: dict[str, Any]) -> None:
    database = registries.database.client[registries.database.name]
    assert database[collection].update_one({"_id": key}, update).modified_count == 1


@pytest.mark.parametrize("update", DAMAGES, ids=str)
async def test_a_damaged_reader_does_not_stop_the_owner(
    registries: Registries, registry: Registry, update: dict[str, Any]
) -> None:
    await registry.register(spec("owner", "x"))
    await registry.register(spec("reader", "y", **READER))
    damage(registries, APPS_COLLECTION, "reader", update)

    done = await registry.register(spec("owner", "x", "z"))

    assert done.grants.granted == ("owner",)
    assert [app.slug for app in await registry.all()] == ["owner"]
    if "spec" not in update.get("$unset", {}):  # it cannot be said whether the owner consents
        assert registries.grant("reader")["read_scopes"] == ["reader"]
    assert registries.versions_accepted("reader") == [1]
    for attempt in (registry.get("reader"), registry.register(spec("reader", "y", **READER))):
        with pytest.raises(RowDamaged, match=f"Document 'reader' of {APPS_COLLECTION} is damaged"):
            await attempt
    assert await registry.deregister("owner", done.record.owner, delete_data=True)


@pytest.mark.parametrize("missing", ["key_id", "version", "encrypted_dek", "verifier", "previous"])
async def test_a_damaged_secret_is_named_and_costs_its_own_app(
    registries: Registries, registry: Registry, missing: str
) -> None:
    await registry.register(spec("owner", "x"))
    await registry.register(spec("reader", "y", **READER))
    damage(registries, SECRETS_COLLECTION, "reader", {"$unset": {missing: ""}})

    assert (await registry.register(spec("owner", "x"))).secret_version == 1
    assert registries.versions_accepted("reader") == [1]
    for attempt in (
        registry.secrets.reveal("reader"),
        registry.secrets.get("reader"),
        registry.rotate("reader", expected_version=1, overlap_seconds=600),
        registry.register(spec("reader", "y", **READER)),
    ):
        with pytest.raises(
            RowDamaged, match=f"Document 'reader' of {SECRETS_COLLECTION} .*'{missing}' is missing"
        ) as caught:
            await attempt
        assert caught.value.__cause__ is None

    await registry.register(spec("owner", "x", crossAppPolicy="DenyAll"))
    assert registries.grant("reader")["read_scopes"] == ["reader"]


async def test_a_master_key_rotation_goes_on_beside_a_damaged_secret(
    registries: Registries,
) -> None:
    registry = registries.connect()
    for slug in ("a", "b", "c"):
        await registry.register(spec(slug))
    damage(registries, SECRETS_COLLECTION, "b", {"$unset": {"encrypted_dek": ""}})
    with pytest.raises(MasterKeyError, match=r"1 of 3 apps .* Document 'b'"):
        await registries.connect(KEYS.with_active("k2")).master_key.run()
    active = {d["_id"]: d["key_id"] for d in registries.documents(SECRETS_COLLECTION)}
    assert active == {"a": "k2", "b": "k1", "c": "k2"}


@pytest.mark.parametrize(
    "update",
    [{"$unset": {"verifiers": ""}}, {"$unset": {"epoch": ""}}, {"$set": {"collections": 5}}],
    ids=str,
)
async def test_a_damaged_grant_is_written_anew(
    registries: Registries, registry: Registry, update: dict[str, Any]
) -> None:
    await registry.register(spec("owner", "x"))
    await registry.register(spec("reader", "y", **READER))
    damage(registries, GRANTS_COLLECTION, "reader", update)

    await registry.register(spec("owner", "x"))

    row = registries.grant("reader")
    assert row["read_scopes"] == ["owner", "reader"]
    assert row["collections"] == ["y"]
    assert row["epoch"] >= 1
    assert registries.versions_accepted("reader") == [1]


async def test_every_damaged_row_is_named(registries: Registries, registry: Registry) -> None:
    for slug in ("whole", "first", "second", "third"):
        await registry.register(spec(slug, "x"))
    assert await registry.damaged() == []
    damage(registries, APPS_COLLECTION, "first", {"$unset": {"incarnation": ""}})
    damage(registries, SECRETS_COLLECTION, "second", {"$unset": {"version": ""}})
    damage(registries, GRANTS_COLLECTION, "third", {"$set": {"epoch": "x"}})
    assert await registry.damaged() == [
        f"{APPS_COLLECTION}/first",
        f"{SECRETS_COLLECTION}/second",
        f"{GRANTS_COLLECTION}/third",
    ]
