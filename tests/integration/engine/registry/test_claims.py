"""Who gets a slug and a collection's name, also when many want it at once."""

from __future__ import annotations

import asyncio

import pytest
from support.registry import Registries, owner, spec

from mdb_engine.constants import APPS_COLLECTION, SECRETS_COLLECTION
from mdb_engine.exceptions import CollectionTaken, ManifestInvalid, SlugTaken, VersionConflict
from mdb_engine.models.manifest import Manifest
from mdb_engine.registry.models.app import AppRecord, AppState, Owner
from mdb_engine.registry.registry import Registration, Registry


async def test_twenty_registrations_at_once_end_with_one_secret(registries: Registries) -> None:
    processes = [registries.connect() for _ in range(5)]
    wanted = spec("click_tracker", "clicks")
    done = await asyncio.gather(*(processes[n % 5].register(wanted) for n in range(20)))
    assert {one.secret_version for one in done} == {1}
    assert len({one.record.incarnation for one in done}) == 1
    (secret,) = registries.documents(SECRETS_COLLECTION)
    assert (secret["version"], secret["rotation_count"], secret["previous"]) == (1, 0, [])
    tokens = {
        (await process.secrets.reveal("click_tracker")).current.token.get_secret_value()
        for process in processes
    }
    assert len(tokens) == 1
    assert registries.versions_accepted("click_tracker") == [1]
    assert registries.collections() == {"click_tracker_clicks"}


async def test_registering_again_writes_nothing(registries: Registries) -> None:
    registry = registries.connect()
    wanted = spec("a", "x", readScopes=["a", "b"])
    first = await registry.register(wanted)
    await registry.register(spec("b", readers=[{"namespace": "*"}]))
    await registry.register(wanted)
    registries.writes.seen.clear()
    again = await registries.connect().register(wanted)
    assert registries.writes.seen == []
    assert again.record.created_at == first.record.created_at
    assert again.grants.granted == ("a", "b")


async def test_a_row_of_a_later_version_keeps_no_other_app_from_being_registered(
    registries: Registries,
) -> None:
    registry = registries.connect()
    first = await registry.register(spec("later", "x"))
    database = registries.database.client[registries.database.name]
    database[APPS_COLLECTION].update_one(
        {"slug": "later"},
        {"$set": {"spec.ofALaterVersion": True, "spec.collections.0.alsoLater": [1]}},
    )
    assert [app.spec for app in await registry.all()] == [first.record.spec]
    assert (await registry.register(spec("later", "x"))).record.incarnation == (
        first.record.incarnation
    )
    reader = await registry.register(spec("reader", readScopes=["reader", "later"]))
    assert reader.grants.granted == ("later", "reader")


@pytest.mark.parametrize(
    ("slug", "by"),
    [
        ("my_app", owner("other")),
        ("my-app", owner("mine")),
        ("my_app", owner("mine", "elsewhere")),
        ("my_app", owner("mine", uid="2")),
    ],
    ids=["another object", "- for _", "another namespace", "the same name, made anew"],
)
async def test_a_slug_stays_with_its_first_owner(
    registries: Registries, slug: str, by: Owner
) -> None:
    registry = registries.connect()
    first = await registry.register(spec("my_app", "x"), owner("mine"))
    with pytest.raises(SlugTaken) as caught:
        await registry.register(spec(slug, "y"), by)
    assert caught.value.holder == owner("mine")
    assert "shop" not in str(caught.value)
    assert registries.documents(APPS_COLLECTION)[0]["revision"] == first.record.revision
    assert registries.collections() == {"my_app_x"}


async def test_of_many_who_want_a_slug_at_once_one_gets_it(registries: Registries) -> None:
    processes = [registries.connect() for _ in range(4)]
    done = await asyncio.gather(
        *(
            process.register(spec("a-b" if n % 2 else "a_b"), owner(f"owner{n}"))
            for n, process in enumerate(processes)
        ),
        return_exceptions=True,
    )
    (winner,) = [one for one in done if isinstance(one, Registration)]
    losers = [one for one in done if isinstance(one, SlugTaken)]
    assert len(losers) == 3
    assert {loser.holder for loser in losers} == {winner.record.owner}
    assert len(registries.documents(SECRETS_COLLECTION)) == 1


async def test_a_name_that_can_be_cut_in_two_places_stays_with_the_first(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("click_tracker", "dashboard_x"))
    with pytest.raises(CollectionTaken, match=r"'click_tracker_dashboard_x'.*'click_tracker'"):
        await registry.register(spec("click_tracker_dashboard", "y", "x"))
    assert registries.traces("click_tracker_dashboard") == 0
    assert registries.collections() == {"click_tracker_dashboard_x"}
    await registry.register(spec("click_tracker_dashboard", "y"))
    with pytest.raises(CollectionTaken):
        await registry.register(spec("click_tracker_dashboard", "y", "x"))
    found = await registry.get("click_tracker_dashboard")
    assert found is not None
    assert found.spec.collection_names == ("y",)


async def test_of_two_who_want_a_name_at_once_one_gets_it(registries: Registries) -> None:
    one, two = registries.connect(), registries.connect()
    for n in range(5):
        done = await asyncio.gather(
            one.claim(spec(f"s{n}", "b_c"), owner(f"one{n}")),
            two.claim(spec(f"s{n}_b", "c"), owner(f"two{n}")),
            return_exceptions=True,
        )
        assert sorted(type(result).__name__ for result in done) == ["AppRecord", "CollectionTaken"]


async def test_a_removed_collection_keeps_its_name_and_data(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("a", "b_c"))
    registries.insert("a_b_c", {"app_id": "a"})
    await registry.register(spec("a"))
    assert registries.grant("a")["collections"] == []
    with pytest.raises(CollectionTaken):
        await registry.register(spec("a_b", "c"))
    assert len(registries.documents("a_b_c")) == 1


@pytest.mark.parametrize(("slug", "collection"), [("apps", "config")])
async def test_the_engines_own_names_are_refused(
    registries: Registries, registry: Registry, slug: str, collection: str
) -> None:
    with pytest.raises(CollectionTaken, match="the engine's own") as caught:
        await registry.register(spec(slug, "fine", collection))
    assert caught.value.path == "collections[1].name"
    assert registries.traces(slug) == 0


async def test_an_earlier_generation_does_not_overwrite_a_later_one(registry: Registry) -> None:
    await registry.claim(spec("a", "new"), owner("a"), generation=2)
    with pytest.raises(VersionConflict, match="Generation 2"):
        await registry.claim(spec("a", "old"), owner("a"), generation=1)
    found = await registry.get("a")
    assert found is not None
    assert found.spec.collection_names == ("new",)


async def test_generations_that_arrive_at_once_end_with_the_last(registries: Registries) -> None:
    processes = [registries.connect() for _ in range(3)]
    await processes[0].claim(spec("a"), owner("a"), generation=1)
    done = await asyncio.gather(
        *(
            process.claim(spec("a", f"c{generation}"), owner("a"), generation=generation)
            for generation in range(2, 6)
            for process in processes
        ),
        return_exceptions=True,
    )
    assert all(isinstance(one, AppRecord | VersionConflict) for one in done)
    found = await processes[0].claim(spec("a", "c5"), owner("a"), generation=5)
    assert found.claims >= {"a_c5"}
    assert found.state is AppState.ACTIVE


async def test_a_refused_manifest_leaves_nothing(
    registries: Registries, registry: Registry
) -> None:
    await registry.prepare()
    registries.writes.seen.clear()
    with pytest.raises(ManifestInvalid):
        await registry.register(
            Manifest.load({"slug": "a", "data_access": {"read_scopes": ["b"]}}).to_spec()
        )
    assert registries.writes.seen == []
    assert registries.traces("a") == 0


async def test_who_had_a_slug_before_in_its_namespace_is_remembered(
    registries: Registries,
) -> None:
    registry, wanted = registries.connect(), spec("a", "x")
    record = (await registry.register(wanted, owner("a", uid="1"))).record
    for uid in ("2", "3"):
        former = await registry.get("a")
        assert former is not None
        await registry.deregister("a", former.owner)
        record = (await registry.register(wanted, owner("a", uid=uid))).record
    assert record.former_uids == ("shop/a/1", "shop/a/2")
    assert (await registry.register(wanted, owner("a", uid="3"))).record == record
    await registry.deregister("a", owner("a", uid="3"))
    await registry.release("a", heir="elsewhere")
    heir = await registry.register(wanted, owner("a", "elsewhere", uid="4"))
    assert heir.record.former_uids == (), "Secrets of another namespace are none of its own"
