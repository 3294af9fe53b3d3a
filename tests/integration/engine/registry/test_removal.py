"""How apps end, and come back."""

from __future__ import annotations

import pytest
from support.registry import Registries, owner, spec

from mdb_engine.constants import APPS_COLLECTION, GRANTS_COLLECTION, SECRETS_COLLECTION
from mdb_engine.exceptions import DatabaseUnavailable, NotRegistered, SlugTaken, VersionConflict
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.models.app import AppState, Owner
from mdb_engine.registry.registry import Registry

MINE = owner("a")
AGAIN = owner("a", uid="2")
ELSEWHERE = owner("a", "elsewhere")


async def retained(registries: Registries, registry: Registry) -> None:
    await registry.register(spec("a", "x"), MINE)
    await registry.rotate("a", expected_version=1, overlap_seconds=600)
    registries.insert("a_x", {"app_id": "a", "kept": True})
    assert await registry.deregister("a", MINE)


async def test_a_deleted_app_leaves_a_tombstone_with_its_data(
    registries: Registries, registry: Registry
) -> None:
    await retained(registries, registry)
    found = await registry.get("a")
    assert found is not None
    assert (found.state, found.owner, found.secret_floor) == (AppState.TOMBSTONE, MINE, 2)
    assert registries.documents(SECRETS_COLLECTION) == []
    assert registries.documents(GRANTS_COLLECTION) == []
    assert [d["kept"] for d in registries.documents("a_x")] == [True]
    registries.writes.seen.clear()
    assert not await registry.deregister("a", MINE)
    assert registries.writes.seen == []


async def test_its_namespace_gets_it_back_with_a_new_secret_of_a_higher_version(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("a", "x"), MINE)
    old = (await registry.secrets.reveal("a")).current.token
    epoch = registries.grant("a")["epoch"]
    await registry.deregister("a", MINE)
    done = await registry.register(spec("a", "x"), owner("other-name"))
    assert done.secret_version == 2
    assert (await registry.secrets.reveal("a")).current.token != old
    assert registries.versions_accepted("a") == [2]
    assert registries.grant("a")["epoch"] > epoch
    assert registries.collections() == {"a_x"}


async def test_another_namespace_gets_it_only_from_an_administrator(
    registries: Registries, registry: Registry
) -> None:
    await retained(registries, registry)
    with pytest.raises(SlugTaken, match="administrator releases it"):
        await registry.register(spec("a", "x"), ELSEWHERE)
    with pytest.raises(SlugTaken, match="its data was retained"):
        await registry.release("a")
    await registry.release("a", heir="elsewhere")
    with pytest.raises(SlugTaken):
        await registry.register(spec("a", "x"), AGAIN)
    await registry.register(spec("a", "x"), ELSEWHERE)
    assert len(registries.documents("a_x")) == 1


async def test_a_slug_released_without_its_data_is_anyones(
    registries: Registries, registry: Registry
) -> None:
    await retained(registries, registry)
    await registry.release("a", delete_data=True)
    await registry.register(spec("a", "x"), ELSEWHERE)
    assert registries.documents("a_x") == []
    with pytest.raises(NotRegistered):
        await registry.release("a", delete_data=True)
    with pytest.raises(NotRegistered):
        await registry.release("nobody")


async def test_an_empty_tombstone_is_released_as_it_is(registry: Registry) -> None:
    await registry.register(spec("a", "x"), MINE)
    await registry.deregister("a", MINE)
    await registry.release("a")
    assert await registry.get("a") is None


async def test_deletion_with_data_takes_the_apps_documents_and_no_others(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("a", "x", "old"), MINE)
    await registry.register(spec("a", "x"), MINE)
    await registry.register(spec("a_b", "x"), owner("a-b"))
    registries.insert("a_x", {"app_id": "a"})
    registries.insert("a_old", {"app_id": "a"})
    registries.insert("a_undeclared", {"app_id": "a"})
    registries.insert("a_b_x", {"app_id": "a_b", "theirs": True}, {"app_id": "a"})
    registries.insert("a_b_undeclared", {"app_id": "a_b"})
    assert await registry.deregister("a", MINE, delete_data=True)
    assert registries.collections() == {"a_b_x", "a_b_undeclared"}
    assert [d["app_id"] for d in registries.documents("a_b_x")] == ["a_b"]
    assert registries.traces("a") == 0
    await registry.register(spec("a", "x"), ELSEWHERE)


@pytest.mark.parametrize("other", [AGAIN, ELSEWHERE, Owner.standalone("a")])
async def test_only_its_owner_ends_an_app(
    registries: Registries, registry: Registry, other: Owner
) -> None:
    await registry.register(spec("a", "x"), MINE)
    registries.writes.seen.clear()
    assert not await registry.revoke("a", other)
    assert not await registry.erase("a", other, delete_data=True)
    assert not await registry.deregister("nobody", MINE, delete_data=True)
    assert registries.writes.seen == []


async def test_a_slug_cannot_be_had_while_it_is_being_deleted(registry: Registry) -> None:
    await registry.register(spec("a"), MINE)
    await registry.revoke("a", MINE)
    with pytest.raises(SlugTaken, match="is being deleted"):
        await registry.claim(spec("a"), AGAIN)
    with pytest.raises(VersionConflict, match="is being deleted"):
        await registry.claim(spec("a"), MINE)


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
@pytest.mark.parametrize("begun", [True, False])
async def test_an_app_whose_owner_vanished_is_buried(
    registries: Registries, registry: Registry, policy: str, *, begun: bool
) -> None:
    wanted = MdbAppSpec.parse(
        {"slug": "a", "collections": [{"name": "x"}], "deletionPolicy": policy}
    )
    await registry.register(wanted, MINE)
    registries.insert("a_x", {"app_id": "a"})
    if begun:
        await registry.revoke("a", MINE)
    with pytest.raises(SlugTaken) as caught:
        await registry.register(wanted, AGAIN)
    assert await registry.bury("a", caught.value.holder)
    done = await registry.register(wanted, AGAIN)
    kept = 0 if begun and policy == "Delete" else 1
    assert len(registries.documents("a_x")) == kept
    assert done.secret_version == 1 + kept


async def test_a_burial_that_was_interrupted_keeps_the_data_all_the_same(
    registries: Registries, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.register(
        MdbAppSpec.parse({"slug": "a", "collections": [{"name": "x"}], "deletionPolicy": "Delete"}),
        MINE,
    )
    registries.insert("a_x", {"app_id": "a"})

    async def interrupted(_slug: str) -> None:
        raise DatabaseUnavailable("MongoDB went away")

    with monkeypatch.context() as patched:
        patched.setattr(registry.secrets, "destroy", interrupted)
        with pytest.raises(DatabaseUnavailable):
            await registry.bury("a", MINE)
    assert await registry.bury("a", MINE)
    assert len(registries.documents("a_x")) == 1


async def test_a_standalone_app_ends_what_it_began(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("a", "x"))
    registries.insert("a_x", {"app_id": "a"})
    await registry.revoke("a", Owner.standalone("a"))
    done = await registry.register(spec("a", "x"))
    assert done.secret_version == 2
    assert len(registries.documents("a_x")) == 1
    assert registries.documents(APPS_COLLECTION)[0]["state"] == "active"
