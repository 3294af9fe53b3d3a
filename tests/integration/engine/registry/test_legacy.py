"""A database of the earlier version: found, brought over, interrupted, and put back."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import OperationFailure
from support.legacy import LegacyProgram
from support.registry import Registries, owner

from mdb_engine.exceptions import (
    DatabaseUnavailable,
    LegacyDatabase,
    MdbEngineError,
    SlugTaken,
    VersionConflict,
)
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.registry import Registry

DAY = 86_400


@pytest.fixture
def old(registries: Registries) -> LegacyProgram:
    return LegacyProgram(registries.database.client[registries.database.name])


async def bring_over(registry: Registry, old: LegacyProgram, **options: Any) -> None:
    plan = await registry.legacy.plan(old.key, **options)
    assert plan.problems == ()
    await registry.legacy.migrate(plan, namespace="shop", overlap=DAY)


async def take_up(registry: Registry, slug: str) -> MdbAppSpec:
    """Register an app for its MdbApp, as the operator does."""
    waiting = {app.slug: app.spec for app in await registry.legacy.waiting()}
    registered = await registry.register(waiting[slug], owner(slug), generation=1)
    assert registered.conflicts == ()
    return waiting[slug]


def accepted(registries: Registries, slug: str, token: str) -> bool:
    digest = hashlib.sha256(token.encode()).digest()
    now = datetime.now(UTC).replace(tzinfo=None)
    return any(
        verifier["sha256"] == digest
        and (verifier["not_after"] is None or verifier["not_after"] > now)
        for verifier in registries.grant(slug)["verifiers"]
    )


async def test_it_is_said_by_name_what_was_met_and_what_to_run(
    registry: Registry, old: LegacyProgram
) -> None:
    slugs = old.shop(7)
    before = old.dump()
    with pytest.raises(LegacyDatabase) as caught:
        await registry.register(MdbAppSpec.parse({"slug": "new"}), owner("new"))
    assert all(slug in str(caught.value) for slug in slugs[:5])
    assert "mdb-operator migrate --from-legacy" in str(caught.value)
    assert old.dump() == before


async def test_a_single_app_stops_registration_as_well(
    registry: Registry, old: LegacyProgram
) -> None:
    old.shop(1)
    with pytest.raises(LegacyDatabase, match="with-dash"):
        await registry.prepare()


async def test_a_row_that_an_old_program_adds_later_is_told_from_a_damaged_one(
    registry: Registry, old: LegacyProgram
) -> None:
    await registry.register(MdbAppSpec.parse({"slug": "new"}), owner("new"))
    old.register({"slug": "late"})
    damaged = await registry.damaged()
    assert len(damaged) == 2
    assert all("mdb-operator migrate --from-legacy" in row for row in damaged)
    assert [app.slug for app in await registry.all()] == ["new"]
    with pytest.raises(DatabaseUnavailable, match="earlier version"):
        await registry.secrets.get("late")


async def test_apps_come_over_with_their_data_indexes_and_tokens(
    registry: Registry, registries: Registries, old: LegacyProgram
) -> None:
    slugs = old.shop(4)
    data = {name: rows for name, rows in old.dump().items() if name.startswith(("app", "with"))}
    data.pop("apps_config")
    plan = await registry.legacy.plan(old.key)
    assert [app.slug for app in plan.apps] == slugs
    notes = " ".join(plan.apps[0].notes)
    assert all(f"left out: {part}" in notes for part in ("auth.users", "websockets"))
    await bring_over(registry, old)
    for slug in slugs:
        spec = await take_up(registry, slug)
        assert set(spec.collection_names) == {"rows", "people", "undeclared"}
        secrets = await registry.secrets.reveal(slug)
        assert secrets.version == 2
        assert secrets.previous is not None
        assert secrets.previous.token.get_secret_value() == old.tokens[slug]
        assert accepted(registries, slug, old.tokens[slug])
        ends = secrets.previous_expires_at
        assert ends is not None
        assert abs(ends - datetime.now(UTC) - timedelta(seconds=DAY)) < timedelta(minutes=2)
        # The index that the earlier version made is the one that the spec asks for.
        names = set(old.database[f"{slug}_rows"].index_information())
        assert names == {"_id_", f"{slug}_by_n"}
    after = old.dump()
    assert {name: after[name] for name in data} == data
    reader = await registry.publish(slugs[1])
    assert set(reader.granted) == {slugs[0], slugs[1]}


async def test_a_look_writes_nothing(registry: Registry, old: LegacyProgram) -> None:
    old.shop(3)
    before = old.dump()
    await registry.legacy.plan(old.key)
    assert old.dump() == before


async def test_the_token_ends_with_the_overlap(
    registry: Registry, registries: Registries, old: LegacyProgram
) -> None:
    (slug,) = old.shop(1)
    plan = await registry.legacy.plan(old.key)
    await registry.legacy.migrate(plan, namespace="shop", overlap=-1)
    await take_up(registry, slug)
    await registry.expire(slug)
    assert not accepted(registries, slug, old.tokens[slug])


async def test_a_second_run_changes_nothing_and_knows_what_waits(
    registry: Registry, old: LegacyProgram
) -> None:
    slugs = old.shop(4)
    await bring_over(registry, old)
    before = old.dump()
    await bring_over(registry, old)
    assert old.dump() == before
    assert [app.slug for app in await registry.legacy.waiting()] == slugs
    await take_up(registry, slugs[0])
    await bring_over(registry, old)
    assert [app.slug for app in await registry.legacy.waiting()] == slugs[1:]


@pytest.mark.long
async def test_it_goes_on_wherever_it_was_killed(
    registry: Registry, registries: Registries, old: LegacyProgram
) -> None:
    slugs = old.shop(3)
    for writes in range(200):
        with registries.failing_after(writes):
            try:
                await bring_over(registry, old)
            except MdbEngineError:
                # Whoever comes now is told of it, and changes nothing.
                with pytest.raises(LegacyDatabase):
                    await registries.connect(retryWrites=False).prepare()
            else:
                break
    else:
        pytest.fail("it never comes to its end")
    assert writes > 3
    for slug in slugs:
        await take_up(registry, slug)
        assert accepted(registries, slug, old.tokens[slug])


@pytest.mark.long
async def test_it_is_undone_to_the_byte_wherever_that_was_killed(
    registry: Registry, registries: Registries, old: LegacyProgram
) -> None:
    slugs = old.shop(3)
    before = old.dump()
    await bring_over(registry, old)
    for slug in slugs:
        await take_up(registry, slug)
        await registry.deregister(slug, owner(slug), delete_data=False)
    for writes in range(200):
        with registries.failing_after(writes):
            try:
                assert (await registry.legacy.undo())[1] == []
            except MdbEngineError:
                continue
            break
    else:
        pytest.fail("it never comes to its end")
    assert old.dump() == before
    # An old program starts and writes as if nothing had been.
    old.register({"slug": slugs[0]})
    old.database[f"{slugs[0]}_rows"].insert_one({"app_id": "whoever"})
    assert await registry.legacy.undo() == ([], [])


async def test_back_and_forth_and_back(registry: Registry, old: LegacyProgram) -> None:
    old.shop(2)
    before = old.dump()
    for _ in range(2):
        await bring_over(registry, old)
        await registry.legacy.undo()
        assert old.dump() == before


async def test_a_migration_that_was_begun_can_be_undone(
    registry: Registry, registries: Registries, old: LegacyProgram
) -> None:
    old.shop(3)
    before = old.dump()
    with registries.failing_after(11), pytest.raises(MdbEngineError):
        await bring_over(registry, old)
    assert old.dump() != before
    await registry.legacy.undo()
    assert old.dump() == before


async def test_it_is_not_undone_under_an_app_that_runs(
    registry: Registry, old: LegacyProgram
) -> None:
    slugs = old.shop(2)
    await bring_over(registry, old)
    await take_up(registry, slugs[0])
    before = old.dump()
    _, problems = await registry.legacy.undo()
    assert len(problems) == 1
    assert f"shop/{slugs[0]}" in problems[0]
    assert old.dump() == before


async def test_an_app_that_was_deleted_later_does_not_come_back_with_the_next_run(
    registry: Registry, old: LegacyProgram
) -> None:
    (slug,) = old.shop(1)
    await bring_over(registry, old)
    await take_up(registry, slug)
    await registry.deregister(slug, owner(slug), delete_data=True)
    await bring_over(registry, old)
    assert await registry.get(slug) is None


# --- what is met


async def test_a_wrong_key_is_said_for_each_app_and_nothing_is_written(
    registry: Registry, old: LegacyProgram
) -> None:
    slugs = old.shop(2)
    before = old.dump()
    for key in (bytes(32), None):
        plan = await registry.legacy.plan(key)
        assert len(plan.problems) == 2
        assert all(slug in " ".join(plan.problems) for slug in slugs)
    assert old.dump() == before


async def test_a_secret_that_somebody_changed_is_said_by_name(
    registry: Registry, old: LegacyProgram
) -> None:
    slugs = old.shop(2)
    rows = old.database["_mdb_engine_app_secrets"]
    rows.update_one({"_id": slugs[0]}, {"$set": {"encrypted_secret": "not base64!"}})
    plan = await registry.legacy.plan(old.key)
    assert len(plan.problems) == 1
    assert slugs[0] in plan.problems[0]


@pytest.mark.parametrize(
    ("manifests", "said"),
    [
        ([{"slug": "a-b"}, {"slug": "a_b"}], "are one"),
        ([{"slug": "_hidden"}], "'_hidden'"),
        ([{"slug": "x" * 80}], "xxx"),
        (
            [
                {"slug": "shop", "managed_indexes": {"eu_x": []}},
                {"slug": "shop_eu", "managed_indexes": {"x": []}},
            ],
            "'shop_eu_x'",
        ),
    ],
)
async def test_what_cannot_come_over_is_named_and_can_be_left_out(
    registry: Registry, old: LegacyProgram, manifests: list[dict[str, Any]], said: str
) -> None:
    old.shop(1)
    for manifest in manifests:
        old.register(manifest)
    before = old.dump()
    plan = await registry.legacy.plan(old.key)
    assert any(said in problem for problem in plan.problems)
    assert old.dump() == before
    await bring_over(registry, old, leave_out=[manifests[-1]["slug"]])
    await registry.prepare()
    assert len(await registry.legacy.waiting()) == len(manifests)
    await registry.legacy.undo()
    assert old.dump() == before


async def test_an_app_that_is_registered_here_is_not_overwritten(
    registry: Registry, old: LegacyProgram
) -> None:
    await registry.register(MdbAppSpec.parse({"slug": "a-b"}), owner("new"))
    old.register({"slug": "a_b"})
    plan = await registry.legacy.plan(old.key)
    assert plan.problems == ("App 'a_b' cannot be brought over: 'a-b' is registered here already",)


async def test_a_manifest_without_a_secret_and_a_secret_without_a_manifest_come_over(
    registry: Registry, old: LegacyProgram
) -> None:
    old.register({"slug": "bare"})
    old.database["_mdb_engine_app_secrets"].delete_one({"_id": "bare"})
    old.store_secret("orphan", "an old token")
    old.insert("orphan", "rows", {"n": 1})
    await bring_over(registry, old)
    assert (await take_up(registry, "orphan")).collection_names == ("rows",)
    await take_up(registry, "bare")
    assert (await registry.secrets.reveal("bare")).version == 1
    assert (await registry.secrets.reveal("orphan")).version == 2


async def test_collections_of_a_longer_slug_are_that_apps(
    registry: Registry, old: LegacyProgram
) -> None:
    for slug in ("shop", "shop_eu"):
        old.register({"slug": slug})
    old.insert("shop_eu", "orders", {"n": 1})
    old.insert("shop", "orders", {"n": 1})
    plan = await registry.legacy.plan(old.key)
    assert [app.spec.collection_names for app in plan.apps] == [("orders",), ("orders",)]


async def test_what_the_app_would_not_see_is_said(registry: Registry, old: LegacyProgram) -> None:
    old.register({"slug": "a"})
    old.database["a_rows"].insert_one({"no": "stamp"})
    old.database["a_with.dot"].insert_one({"app_id": "a"})
    old.database.command({"create": "a_view", "viewOn": "a_rows"})
    plan = await registry.legacy.plan(old.key)
    notes = " ".join(plan.apps[0].notes)
    assert all(name in notes for name in ("a_rows", "a_with.dot", "a_view is a view"))
    assert plan.apps[0].spec.collection_names == ("rows",)


# --- who else is there


async def test_an_old_program_that_still_runs_overwrites_nothing(
    registry: Registry, old: LegacyProgram
) -> None:
    (slug,) = old.shop(1)
    await bring_over(registry, old)
    await take_up(registry, slug)
    before = old.dump()
    with pytest.raises(OperationFailure):
        old.database["apps_config"].replace_one({"slug": slug}, {"slug": slug}, upsert=True)
    with pytest.raises(OperationFailure):
        old.store_secret(slug, "another")
    assert old.dump() == before
    await registry.rotate(slug, expected_version=2, overlap_seconds=600)


async def test_another_namespace_gets_neither_the_slug_nor_the_secret(
    registry: Registry, old: LegacyProgram
) -> None:
    (slug,) = old.shop(1)
    await bring_over(registry, old)
    before = old.dump()
    with pytest.raises(SlugTaken, match="brought over"):
        await registry.claim(MdbAppSpec.parse({"slug": slug}), owner("thief", "elsewhere"))
    assert old.dump() == before


async def test_an_administrator_can_hand_it_to_another_namespace_with_its_secret(
    registry: Registry, registries: Registries, old: LegacyProgram
) -> None:
    (slug,) = old.shop(1)
    await bring_over(registry, old)
    await registry.release(slug, heir="elsewhere", delete_data=False)
    await registry.register(MdbAppSpec.parse({"slug": slug}), owner("heir", "elsewhere"))
    assert accepted(registries, slug, old.tokens[slug])


async def test_released_with_its_data_no_secret_is_left(
    registry: Registry, registries: Registries, old: LegacyProgram
) -> None:
    (slug,) = old.shop(1)
    await bring_over(registry, old)
    await registry.release(slug, heir=None, delete_data=True)
    assert registries.documents("_mdb_engine_app_secrets") == []


async def test_two_that_migrate_at_once_end_with_one_secret(
    registry: Registry, registries: Registries, old: LegacyProgram
) -> None:
    slugs = old.shop(3)
    other = registries.connect()
    first, second = await registry.legacy.plan(old.key), await other.legacy.plan(old.key)
    await registry.legacy.migrate(first, namespace="shop", overlap=DAY)
    try:
        await other.legacy.migrate(second, namespace="shop", overlap=DAY)
    except VersionConflict:
        await bring_over(other, old)
    for slug in slugs:
        await take_up(registry, slug)
        assert accepted(registries, slug, old.tokens[slug])


async def test_ids_of_any_kind_and_twice_the_same_slug_are_set_aside(
    registry: Registry, old: LegacyProgram
) -> None:
    for key in ("twice", ObjectId(), 7):
        old.database["apps_config"].insert_one({"_id": key, "slug": "twice", "name": str(key)})
    before = old.dump()
    await bring_over(registry, old)
    await take_up(registry, "twice")
    await registry.deregister("twice", owner("twice"), delete_data=False)
    await registry.legacy.undo()
    assert old.dump() == before
