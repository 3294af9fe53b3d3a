"""Killed between any two writes, the next run finishes, and nothing was open in between.

MongoDB refuses every write after the n-th, for every n until the action succeeds: what stands in
the database then is what a process leaves behind that dies there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.registry import KEYS, Registries, owner, spec

from mdb_engine.constants import GRANTS_COLLECTION, SECRETS_COLLECTION
from mdb_engine.exceptions import DatabaseUnavailable
from mdb_engine.models.manifest import Manifest
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.registry import Registry

MAX_WRITES = 16

Action = Callable[[Registry, str], Awaitable[Any]]


def app(slug: str) -> MdbAppSpec:
    return Manifest.load(
        {
            "slug": slug,
            "data_access": {"read_scopes": [slug, "b"]},
            "managed_indexes": {"x": [{"keys": {"k": 1}}], "y": []},
        }
    ).to_spec()


async def crash_everywhere(
    registries: Registries,
    *,
    before: Action,
    action: Action,
    between: Callable[[str], None],
    after: Action,
) -> int:
    """Do an action on one app after another, each time cut off one write later, then finish it.

    Returns
    -------
    int
        How many writes the action takes.
    """
    registry = registries.connect()
    for writes in range(MAX_WRITES):
        slug = f"a{writes}"
        await before(registry, slug)
        try:
            with registries.failing_after(writes):
                await action(registry, slug)
        except DatabaseUnavailable:
            done = False
        else:
            done = True
        check_secrets(registries)
        between(slug)
        await action(registries.connect(), slug)
        check_secrets(registries)
        await after(registry, slug)
        registries.writes.seen.clear()
        await action(registry, slug)
        assert registries.writes.seen == []
        if done:
            return writes
    pytest.fail(f"not done with {MAX_WRITES} writes")


def check_secrets(registries: Registries) -> None:
    """Hold what must be true at any moment: only versions that exist are accepted."""
    secrets = {d["_id"]: d for d in registries.documents(SECRETS_COLLECTION)}
    for grant in registries.documents(GRANTS_COLLECTION):
        secret = secrets[grant["_id"]]
        known = [version["verifier"] for version in (secret, *secret["previous"])]
        assert all(verifier["sha256"] in known for verifier in grant["verifiers"])


async def nothing(_registry: Registry, _slug: str) -> None:
    """Do nothing."""


async def test_registration(registries: Registries, registry: Registry) -> None:
    await registry.register(spec("b", "x"))

    async def register(process: Registry, slug: str) -> None:
        await process.register(app(slug))

    async def verify(process: Registry, slug: str) -> None:
        outcome = await process.publish(slug)
        assert (outcome.granted, outcome.epoch) == ((slug, "b"), 1)
        secret = await process.secrets.get(slug)
        assert secret is not None
        assert (secret.current.version, secret.rotation_count) == (1, 0)
        collection = registries.database.client[registries.database.name][f"{slug}_x"]
        assert set(collection.index_information()) == {"_id_", "k_1"}
        assert f"{slug}_y" in registries.collections()

    writes = await crash_everywhere(
        registries, before=nothing, action=register, between=lambda _: None, after=verify
    )
    assert writes >= 6


async def test_an_index_of_an_interrupted_registration_is_not_forgotten(
    registries: Registries, registry: Registry
) -> None:
    for writes in range(MAX_WRITES):
        slug = f"a{writes}"
        try:
            with registries.failing_after(writes):
                await registry.register(app(slug))
        except DatabaseUnavailable:
            done = False
        else:
            done = True
        await registry.register(spec(slug, "x"))
        collection = registries.database.client[registries.database.name][f"{slug}_x"]
        assert set(collection.index_information()) == {"_id_"}, writes
        if done:
            return
    pytest.fail(f"not done with {MAX_WRITES} writes")


async def test_rotation_on_request(registries: Registries) -> None:
    async def register(process: Registry, slug: str) -> None:
        await process.register(spec(slug))

    async def rotate(process: Registry, slug: str) -> None:
        record = await process.secrets.get(slug)
        assert record is not None
        await process.rotate(
            slug,
            expected_version=record.current.version,
            overlap_seconds=600,
            request="monday",
        )

    def live_pods_are_served(slug: str) -> None:
        assert 1 in registries.versions_accepted(slug)  # what is mounted until we are done

    async def verify(process: Registry, slug: str) -> None:
        assert registries.versions_accepted(slug) == [2, 1]

    writes = await crash_everywhere(
        registries, before=register, action=rotate, between=live_pods_are_served, after=verify
    )
    assert writes == 2


@pytest.mark.long
@pytest.mark.parametrize("delete_data", [True, False])
async def test_deletion(registries: Registries, registry: Registry, *, delete_data: bool) -> None:
    async def register(process: Registry, slug: str) -> None:
        reader = spec(f"r-{slug}", readScopes=[f"r-{slug}", slug])
        await process.register(reader, owner(reader.slug))
        await process.register(app(slug), owner(slug))
        registries.insert(f"{slug}_x", {"app_id": slug})

    async def deregister(process: Registry, slug: str) -> None:
        await process.deregister(slug, owner(slug), delete_data=delete_data)

    def access_ends_before_the_secret(slug: str) -> None:
        secrets = {d["slug"] for d in registries.documents(SECRETS_COLLECTION)}
        grants = {d["slug"] for d in registries.documents(GRANTS_COLLECTION)}
        if slug not in secrets:
            assert slug not in grants
            assert registries.grant(f"r-{slug}")["read_scopes"] == [f"r-{slug}"]

    async def verify(process: Registry, slug: str) -> None:
        assert registries.grant(f"r-{slug}")["read_scopes"] == [f"r-{slug}"]
        assert await process.secrets.get(slug) is None
        assert len(registries.documents(f"{slug}_x")) == (0 if delete_data else 1)
        assert (await registry.get(slug) is None) is delete_data

    writes = await crash_everywhere(
        registries,
        before=register,
        action=deregister,
        between=access_ends_before_the_secret,
        after=verify,
    )
    assert writes >= 6


async def test_coming_back_from_a_tombstone(registries: Registries) -> None:
    async def retain(process: Registry, slug: str) -> None:
        await process.register(spec(slug), owner(slug))
        await process.deregister(slug, owner(slug))

    async def register(process: Registry, slug: str) -> None:
        await process.register(spec(slug), owner(slug, uid="2"))

    async def verify(process: Registry, slug: str) -> None:
        assert registries.versions_accepted(slug) == [2]

    writes = await crash_everywhere(
        registries, before=retain, action=register, between=lambda _: None, after=verify
    )
    assert writes == 3


async def test_a_new_master_key_is_no_step_in_between(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("a"))
    token = (await registry.secrets.reveal("a")).current.token
    with registries.failing_after(0), pytest.raises(DatabaseUnavailable):
        await registries.connect(KEYS.with_active("k2")).master_key.run()
    assert (await registry.secrets.reveal("a")).current.token == token
