"""Grants follow what both sides say, whoever changes what and when."""

from __future__ import annotations

import asyncio

import pytest
from support.registry import Registries, owner, spec

from mdb_engine.access.model import Grant
from mdb_engine.constants import GRANTS_COLLECTION
from mdb_engine.exceptions import DatabaseUnavailable, NotRegistered
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.models.app import Owner
from mdb_engine.registry.registry import Registry

READER = spec("bi", readScopes=["bi", "hr"])


def consenting(namespace: str = "shop") -> MdbAppSpec:
    return spec("hr", "people", readers=[{"namespace": namespace, "slug": "bi"}])


async def test_a_grant_waits_for_its_owner_and_its_consent(
    registries: Registries, registry: Registry
) -> None:
    waiting = await registry.register(READER, owner("bi"))
    assert [(d.slug, d.reason) for d in waiting.grants.denied] == [("hr", "GrantPending")]
    await registry.register(spec("hr"), owner("hr", "corp"))
    outcome = await registry.publish("bi")
    assert [(d.slug, d.reason) for d in outcome.denied] == [("hr", "NotGranted")]
    assert "readers" in outcome.denied[0].message
    await registry.register(consenting(), owner("hr", "corp"))
    assert registries.grant("bi")["read_scopes"] == ["bi", "hr"]  # nobody touched the reader
    assert (await registry.publish("bi")).denied == ()


@pytest.mark.parametrize("how", ["consent", "deny-all", "retain", "delete", "reader"])
async def test_a_revoked_grant_ends_with_the_change_that_revoked_it(
    registries: Registries, registry: Registry, how: str
) -> None:
    await registry.register(READER, owner("bi"))
    await registry.register(consenting(), owner("hr", "corp"))
    before = registries.grant("bi")
    assert before["read_scopes"] == ["bi", "hr"]
    match how:
        case "consent":
            await registry.register(consenting("other"), owner("hr", "corp"))
        case "deny-all":
            closed = spec("hr", crossAppPolicy="DenyAll", readers=[{"namespace": "*"}])
            await registry.register(closed, owner("hr", "corp"))
        case "retain" | "delete":
            assert await registry.revoke("hr", owner("hr", "corp"))
        case _:
            await registry.register(spec("bi"), owner("bi"))
    after = registries.grant("bi")
    assert after["read_scopes"] == ["bi"]
    assert after["epoch"] == before["epoch"] + 1
    assert after["verifiers"] == before["verifiers"]


async def test_a_reader_gets_an_owner_back_that_was_made_again(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(READER, owner("bi"))
    await registry.register(consenting(), owner("hr", "corp"))
    await registry.deregister("hr", owner("hr", "corp"), delete_data=True)
    assert registries.grant("bi")["read_scopes"] == ["bi"]
    await registry.register(consenting(), owner("hr", "corp", uid="2"))
    assert registries.grant("bi")["read_scopes"] == ["bi", "hr"]
    # Somebody else who claims the slug first gets no consent by it.
    await registry.deregister("hr", owner("hr", "corp", uid="2"), delete_data=True)
    await registry.register(spec("hr"), owner("hr", "evil"))
    assert registries.grant("bi")["read_scopes"] == ["bi"]


async def test_the_epoch_grows_with_a_change_and_only_then(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(READER)
    assert registries.grant("bi")["epoch"] == 1
    registries.writes.seen.clear()
    assert not (await registry.publish("bi")).changed
    assert registries.writes.seen == []
    await registry.register(spec("hr"))
    assert (await registry.publish("bi")).epoch == 2
    await registry.rotate("bi", expected_version=1, overlap_seconds=600)
    assert registries.grant("bi")["epoch"] == 3


async def test_neighbours_are_those_whose_status_may_change(registry: Registry) -> None:
    await registry.register(READER)
    await registry.register(spec("hr"))
    await registry.register(spec("alone"))
    assert [app.slug for app in await registry.neighbours("hr")] == ["bi"]
    assert [app.slug for app in await registry.neighbours("bi")] == ["hr"]
    assert await registry.neighbours("alone") == []
    assert await registry.deregister("hr", Owner.standalone("hr"))
    assert [app.slug for app in await registry.neighbours("hr")] == ["bi"]


async def test_a_withdrawn_consent_is_not_written_back_by_a_slower_operator(
    registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, slow = registries.connect(), registries.connect()
    await fast.register(READER, owner("bi"))
    await fast.claim(consenting(), owner("hr", "corp"), generation=1)
    write = slow.grants._grants.write
    overtaken: list[Grant] = []

    async def write_late(grant: Grant, over: Grant | None) -> None:
        if not overtaken:
            overtaken.append(grant)
            await fast.register(consenting("other"), owner("hr", "corp"), generation=2)
        await write(grant, over)

    monkeypatch.setattr(slow.grants._grants, "write", write_late)
    outcome = await slow.publish("bi")
    assert overtaken[0].read_scopes == {"bi", "hr"}  # what it read, and was about to publish
    assert outcome.granted == ("bi",)
    assert registries.grant("bi")["read_scopes"] == ["bi"]


async def test_changes_and_publications_at_once_end_with_the_last_change(
    registries: Registries,
) -> None:
    one, two = registries.connect(), registries.connect()
    await one.register(READER, owner("bi"))
    for generation in range(1, 5):
        consents = generation % 2 == 1
        wanted = consenting("shop" if consents else "other")
        await asyncio.gather(
            one.register(wanted, owner("hr", "corp"), generation=generation),
            two.publish("bi"),
            two.publish("bi"),
        )
        expected = ["bi", "hr"] if consents else ["bi"]
        assert registries.grant("bi")["read_scopes"] == expected, generation


async def test_an_app_without_a_secret_has_no_row(
    registries: Registries, registry: Registry
) -> None:
    record = await registry.claim(READER, owner("bi"))
    outcome = await registry.publish("bi")
    assert (outcome.granted, outcome.epoch) == (("bi",), 0)
    assert registries.documents(GRANTS_COLLECTION) == []
    await registry.secrets.ensure(record)
    assert (await registry.publish("bi")).changed


async def test_nothing_is_published_of_an_app_that_is_not_there(registry: Registry) -> None:
    with pytest.raises(NotRegistered):
        await registry.publish("nobody")


async def test_a_database_that_fails_is_said_without_the_drivers_words(
    registries: Registries, registry: Registry
) -> None:
    await registry.prepare()
    with registries.failing_after(0), pytest.raises(DatabaseUnavailable) as caught:
        await registry.register(READER)
    assert "register app 'bi'" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
