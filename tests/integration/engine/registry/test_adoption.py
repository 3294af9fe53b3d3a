"""A collection that was there before an app becomes the app's, and not a document is lost."""

from __future__ import annotations

from typing import Any

import pytest
from support.registry import Registries, owner

from mdb_engine.exceptions import CollectionTaken, MdbEngineError
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.registry import Registration, Registry


def adopting(slug: str = "shop", source: str = "orders", **more: Any) -> MdbAppSpec:
    one = {"name": "orders", "adopt": {"from": source}, **more}
    return MdbAppSpec.parse({"slug": slug, "collections": [one]})


@pytest.fixture
def raw(registries: Registries) -> Any:
    return registries.database.client[registries.database.name]


async def adopt(registry: Registry, spec: MdbAppSpec) -> Registration:
    return await registry.register(spec, owner(spec.slug))


def numbers(raw: Any, name: str) -> list[int]:
    return sorted(document["n"] for document in raw[name].find())


async def test_it_is_renamed_stamped_and_guarded_with_its_indexes(
    registry: Registry, raw: Any
) -> None:
    raw["orders"].insert_many([{"n": n} for n in range(2_500)])
    raw["orders"].create_index("n", unique=True)
    done = await adopt(registry, adopting(indexes=[{"keys": [{"field": "n"}], "unique": True}]))
    assert "orders" not in raw.list_collection_names()
    assert numbers(raw, "shop_orders") == list(range(2_500))
    assert raw["shop_orders"].count_documents({"app_id": "shop"}) == 2_500
    assert done.record.stamped == {"orders"}
    # The index is there under its name; it is not the registry's to drop.
    assert [one.reason for one in done.conflicts] == []


async def test_what_is_done_is_not_done_again(registries: Registries, raw: Any) -> None:
    raw["orders"].insert_one({"n": 1})
    await adopt(registries.connect(), adopting())
    registries.writes.seen.clear()
    await adopt(registries.connect(), adopting())
    assert registries.writes.seen == []
    await adopt(
        registries.connect(),
        MdbAppSpec.parse({"slug": "shop", "collections": [{"name": "orders"}]}),
    )
    assert numbers(raw, "shop_orders") == [1]


async def test_it_goes_on_wherever_it_was_killed_and_loses_nothing(
    registries: Registries, raw: Any
) -> None:
    raw["orders"].insert_many([{"n": n} for n in range(3_500)])
    registry = registries.connect(retryWrites=False)
    for writes in range(100):
        with registries.failing_after(writes):
            try:
                done = await adopt(registry, adopting())
            except MdbEngineError:
                held = [name for name in ("orders", "shop_orders") if raw[name].find_one()]
                assert len(held) == 1
                assert numbers(raw, held[0]) == list(range(3_500))
                continue
            break
    else:
        pytest.fail("it never comes to its end")
    assert writes > 5
    assert done.conflicts == ()
    assert raw["shop_orders"].count_documents({"app_id": "shop"}) == 3_500


async def test_what_comes_by_the_old_name_before_the_renaming_is_the_apps_as_well(
    registry: Registry, raw: Any
) -> None:
    raw["orders"].insert_many([{"n": n} for n in range(10)])
    record = await registry.claim(adopting(), owner("shop"))
    said: list[tuple[str, int, int]] = []

    def meanwhile(name: str, done: int, of: int) -> None:
        if not said:
            raw["orders"].insert_one({"n": 10})
        said.append((name, done, of))

    outcome = await registry.ensure_collections(record, tell=meanwhile)
    assert outcome.conflicts == ()
    assert raw["shop_orders"].count_documents({"app_id": "shop"}) == 11
    assert said[0] == ("orders", 10, 10)


@pytest.mark.parametrize("stamp", ["bank", None, 7, {"shop": 1}])
async def test_documents_of_another_stamp_are_not_taken(
    registry: Registry, raw: Any, stamp: Any
) -> None:
    raw["orders"].insert_many([{"n": 1}, {"n": 2, "app_id": stamp}])
    before = list(raw["orders"].find())
    done = await adopt(registry, adopting())
    assert [one.reason for one in done.conflicts] == ["ForeignDocuments"]
    assert list(raw["orders"].find()) == before


async def test_a_collection_of_another_app_is_not_taken(registry: Registry, raw: Any) -> None:
    bank = MdbAppSpec.parse({"slug": "bank", "collections": [{"name": "accounts"}]})
    await registry.register(bank, owner("bank"))
    with pytest.raises(CollectionTaken, match="'bank'"):
        await adopt(registry, adopting(source="bank_accounts"))
    assert "bank_accounts" in raw.list_collection_names()


async def test_an_undeclared_collection_of_another_app_is_not_taken(
    registry: Registry, raw: Any
) -> None:
    await registry.register(MdbAppSpec.parse({"slug": "bank"}), owner("bank"))
    raw["bank_notes"].insert_one({"n": 1})
    done = await adopt(registry, adopting(source="bank_notes"))
    assert [one.reason for one in done.conflicts] == ["CollectionTaken"]
    assert numbers(raw, "bank_notes") == [1]


async def test_of_two_apps_that_want_one_collection_one_gets_it(
    registry: Registry, raw: Any
) -> None:
    raw["orders"].insert_one({"n": 1})
    await registry.claim(adopting("first"), owner("first"))
    with pytest.raises(CollectionTaken, match="'first'"):
        await registry.claim(adopting("second"), owner("second"))
    await adopt(registry, adopting("first"))
    assert numbers(raw, "first_orders") == [1]


async def test_no_app_declares_what_another_adopts(registry: Registry, raw: Any) -> None:
    raw["a_b_c"].insert_one({"n": 1})
    await registry.claim(adopting("shop", "a_b_c"), owner("shop"))
    with pytest.raises(CollectionTaken):
        await registry.claim(
            MdbAppSpec.parse({"slug": "a", "collections": [{"name": "b_c"}]}), owner("a")
        )


@pytest.mark.parametrize("source", ["apps_config", "_mdb_engine_app_secrets", "system.users"])
async def test_what_is_the_engines_is_not_taken(registry: Registry, source: str) -> None:
    await registry.prepare()
    with pytest.raises(CollectionTaken, match="engine's own"):
        await adopt(registry, adopting(source=source))


async def test_both_with_documents_are_left_as_they_are(registry: Registry, raw: Any) -> None:
    raw["orders"].insert_one({"n": 1})
    raw["shop_orders"].insert_one({"n": 2, "app_id": "shop"})
    done = await adopt(registry, adopting())
    assert [one.reason for one in done.conflicts] == ["TargetNotEmpty"]
    assert (numbers(raw, "orders"), numbers(raw, "shop_orders")) == ([1], [2])


async def test_an_empty_one_that_the_app_had_before_makes_room(
    registry: Registry, raw: Any
) -> None:
    raw["orders"].insert_one({"n": 1})
    plain = MdbAppSpec.parse({"slug": "shop", "collections": [{"name": "orders"}]})
    await registry.register(plain, owner("shop"))
    done = await adopt(registry, adopting())
    assert done.conflicts == ()
    assert numbers(raw, "shop_orders") == [1]
    assert not [name for name in raw.list_collection_names() if "empty" in name]


async def test_a_name_that_is_not_there_is_said_and_can_be_corrected(
    registry: Registry, raw: Any
) -> None:
    raw["orders"].insert_one({"n": 1})
    done = await adopt(registry, adopting(source="ordres"))
    assert [one.reason for one in done.conflicts] == ["NothingToAdopt"]
    assert numbers(raw, "orders") == [1]
    done = await adopt(registry, adopting(source="orders"))
    assert done.conflicts == ()
    assert numbers(raw, "shop_orders") == [1]


async def test_a_view_is_not_adopted(registry: Registry, raw: Any) -> None:
    raw.command({"create": "orders", "viewOn": "elsewhere"})
    done = await adopt(registry, adopting())
    assert [one.reason for one in done.conflicts] == ["NoCollection"]


async def test_a_validator_that_refuses_the_stamp_is_said(registry: Registry, raw: Any) -> None:
    schema = {"properties": {"_id": {}, "n": {}}, "additionalProperties": False}
    raw.create_collection("orders", validator={"$jsonSchema": schema})
    raw["orders"].insert_one({"n": 1})
    done = await adopt(registry, adopting())
    assert [one.reason for one in done.conflicts] == ["DocumentValidationFailure"]
    assert numbers(raw, "orders") == [1]


async def test_its_own_validator_stands_beside_the_stamp_afterwards(
    registry: Registry, raw: Any
) -> None:
    raw.create_collection("orders", validator={"n": {"$gt": 0}})
    raw["orders"].insert_one({"n": 1})
    assert (await adopt(registry, adopting())).conflicts == ()
    (found,) = raw.list_collections(filter={"name": "shop_orders"})
    assert found["options"]["validator"] == {
        "$and": [{"app_id": {"$eq": "shop"}}, {"n": {"$gt": 0}}]
    }


async def test_nothing_is_adopted_where_the_administrator_did_not_allow_it(
    registry: Registry, raw: Any
) -> None:
    raw["orders"].insert_one({"n": 1})
    record = await registry.claim(adopting(), owner("shop"))
    outcome = await registry.ensure_collections(record, adopt=False)
    assert [one.reason for one in outcome.conflicts] == ["AdoptionNotAllowed"]
    assert list(raw["orders"].find({}, {"_id": 0})) == [{"n": 1}]


async def test_ids_of_every_type_and_a_capped_collection_are_stamped(
    registry: Registry, raw: Any
) -> None:
    raw.create_collection("orders", capped=True, size=1_000_000)
    raw["orders"].insert_many([{"_id": key, "n": 1} for key in (1, "a", 2.5, {"x": 1}, b"b")])
    assert (await adopt(registry, adopting())).conflicts == ()
    assert raw["shop_orders"].count_documents({"app_id": "shop"}) == 5
