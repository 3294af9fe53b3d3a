"""The master key changes while everything runs, and may be interrupted anywhere."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from support.registry import KEYS, Registries, spec

from mdb_engine.constants import SECRETS_COLLECTION
from mdb_engine.core.clock import utcnow
from mdb_engine.core.keyring import Keyring
from mdb_engine.exceptions import DatabaseUnavailable, MasterKeyError
from mdb_engine.registry.master_key import RewrapReport
from mdb_engine.registry.registry import Registry

NEW = KEYS.with_active("k2")
ONLY_NEW = Keyring({"k2": KEYS.key("k2")}, active="k2")
WRONG = Keyring({"k1": bytes([9]) * 32, "k2": KEYS.key("k2")}, active="k2")
APPS = [f"app{n}" for n in range(6)]


async def register_all(registry: Registry) -> dict[str, str]:
    await registry.prepare()
    for slug in APPS:
        await registry.register(spec(slug))
    await registry.rotate(APPS[0], expected_version=1, overlap_seconds=600)
    return await tokens(registry)


async def tokens(registry: Registry) -> dict[str, str]:
    revealed = [await registry.secrets.reveal(slug) for slug in APPS]
    return {one.slug: one.current.token.get_secret_value() for one in revealed}


def keys_in_use(registries: Registries) -> set[str]:
    return {
        version["key_id"]
        for document in registries.documents(SECRETS_COLLECTION)
        for version in (document, *document["previous"])
    }


async def test_all_versions_move_to_the_new_key_and_the_old_one_can_go(
    registries: Registries, registry: Registry
) -> None:
    before = await register_all(registry)
    moving = registries.connect(NEW)
    assert await moving.master_key.pending() == len(APPS)
    seen: list[tuple[int, int]] = []
    report = await moving.master_key.run(lambda done, total: seen.append((done, total)))
    assert report == RewrapReport(total=len(APPS), done=len(APPS))
    assert seen == [(done, len(APPS)) for done in range(len(APPS) + 1)]
    assert keys_in_use(registries) == {"k2"}
    assert await tokens(registries.connect(ONLY_NEW)) == before
    old = registries.connect(Keyring({"k1": KEYS.key("k1")}, active="k1"))
    with pytest.raises(MasterKeyError, match="Master key not found: 'k2'"):
        await old.secrets.reveal(APPS[0])
    revealed = await moving.secrets.reveal(APPS[0])
    assert [one.version for one in revealed.earlier] == [1]
    registries.writes.seen.clear()
    assert await moving.master_key.run() == RewrapReport(total=0, done=0)
    assert registries.writes.seen == []


@pytest.mark.parametrize("writes", [0, 2, len(APPS) - 1])
async def test_a_run_that_was_interrupted_is_resumed(
    registries: Registries, registry: Registry, writes: int
) -> None:
    before = await register_all(registry)
    with registries.failing_after(writes), pytest.raises(DatabaseUnavailable):
        await registries.connect(NEW).master_key.run()
    assert await tokens(registries.connect(NEW)) == before  # both keys are needed, and enough
    report = await registries.connect(NEW).master_key.run()
    assert report.total == len(APPS) - writes
    assert await tokens(registries.connect(ONLY_NEW)) == before


@pytest.mark.parametrize(
    ("keys", "message"), [(ONLY_NEW, "'k1' is not in the keyring"), (WRONG, "'k1' does not open")]
)
async def test_what_cannot_be_opened_is_left_as_it_is(
    registries: Registries, registry: Registry, keys: Keyring, message: str
) -> None:
    before = await register_all(registry)
    rows = registries.documents(SECRETS_COLLECTION)
    registries.writes.seen.clear()
    with pytest.raises(MasterKeyError, match=message) as caught:
        await registries.connect(keys).master_key.run()
    assert str(caught.value).startswith("6 of 6 apps could not be re-wrapped")
    assert "and 1 more" in str(caught.value)
    assert registries.documents(SECRETS_COLLECTION) == rows
    with pytest.raises(MasterKeyError, match=message):
        await registries.connect(keys).secrets.reveal(APPS[0])
    await registries.connect(keys).register(spec(APPS[0]))  # grants need no key
    assert registries.documents(SECRETS_COLLECTION) == rows
    assert registries.writes.seen == []
    assert await tokens(registry) == before


async def test_one_app_that_cannot_be_opened_does_not_hold_up_the_others(
    registries: Registries, registry: Registry
) -> None:
    await register_all(registry)
    raw = registries.database.client[registries.database.name][SECRETS_COLLECTION]
    other = raw.find_one({"_id": APPS[1]})
    assert other is not None
    raw.update_one({"_id": APPS[2]}, {"$set": {"encrypted_dek": other["encrypted_dek"]}})
    with pytest.raises(MasterKeyError, match=f"1 of 6 .* app '{APPS[2]}', version 1"):
        await registries.connect(NEW).master_key.run()
    keys = {d["_id"]: d["key_id"] for d in registries.documents(SECRETS_COLLECTION)}
    assert keys == {slug: "k1" if slug == APPS[2] else "k2" for slug in APPS}


async def test_rotations_and_two_runs_at_once_lose_nothing(
    registries: Registries, registry: Registry
) -> None:
    await register_all(registry)
    one, two, three = (registries.connect(NEW) for _ in range(3))
    await asyncio.gather(
        one.master_key.run(),
        two.master_key.run(),
        *(three.rotate(slug, expected_version=1, overlap_seconds=600) for slug in APPS[1:]),
    )
    await one.master_key.run()
    assert keys_in_use(registries) == {"k2"}
    for slug in APPS:
        revealed = await registries.connect(ONLY_NEW).secrets.reveal(slug)
        assert (revealed.version, [e.version for e in revealed.earlier]) == (2, [1])


@pytest.mark.parametrize("off", [timedelta(minutes=-20), timedelta(minutes=20)])
async def test_the_end_of_an_overlap_is_by_the_registrys_clock_and_not_by_the_machines(
    registries: Registries, registry: Registry, off: timedelta
) -> None:
    # The registry's clock is MongoDB's in the operator, so it is the machine's that is wrong.
    there = registries.connect(clock=lambda: utcnow() - off)
    await there.register(spec("overlapping"))
    await there.rotate("overlapping", expected_version=1, overlap_seconds=600)
    moving = registries.connect(NEW, clock=lambda: utcnow() - off)
    await moving.master_key.run()
    revealed = await moving.secrets.reveal("overlapping")
    assert [one.version for one in revealed.earlier] == [1]
    assert registries.versions_accepted("overlapping") == [2, 1]
