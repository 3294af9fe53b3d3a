"""How many commands and requests an app costs: exactly, so that none comes back unnoticed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bench import scaling
from support.installation import Installation, is_ready
from support.live_operator import LiveOperator, live_operator
from support.waiting import wait_until_async

from mdb_operator.apps import verified
from mdb_operator.apps.workers import Again
from mdb_operator.kubernetes.resources import AppKey

Counts = dict[str, int]

SPEC: dict[str, Any] = {"collections": [{"name": "c", "indexes": [{"keys": [{"field": "at"}]}]}]}

READERS = 30


@pytest.fixture
async def operator(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LiveOperator]:
    """Give an operator whose every call is counted."""
    async with live_operator(installation, monkeypatch) as found:
        yield found


def counted(operator: LiveOperator) -> tuple[Counts, Counts]:
    """Return the commands and requests since the last time, by verb, and begin anew."""
    commands, requests = Counter[str](), Counter[str]()
    for call in operator.faults.calls:
        verb, _, path = call.what.partition(" ")
        if call.target == "mongodb":
            commands[verb] += 1
            continue
        parts = path.split("/")
        kind = parts[parts.index("namespaces") + 2] if "namespaces" in parts else parts[-1]
        if verb == "GET" and parts[-1] == kind:
            verb = "LIST"  # or a watch
        requests[f"{verb} {kind}" + ("/status" if parts[-1] == "status" else "")] += 1
    operator.faults.watch()
    return dict(commands), dict(requests)


async def look(operator: LiveOperator, name: str) -> tuple[Counts, Counts]:
    """Count one full look."""
    operator.faults.watch()
    again = await operator.look(name)
    assert not again.failed
    return counted(operator)


async def routine(operator: LiveOperator, name: str) -> tuple[Counts, Counts]:
    """Count a look at an app to which nothing is known to have happened, as a resync is one."""
    queue, key = operator.controller.database.queue, AppKey(operator.here.apps, name)
    while len(queue):  # what the looks of a test have woken, and no worker takes
        queue.done(await queue.take())
    queue.wake(key, routine=True)
    assert await queue.take() == key
    operator.faults.watch()
    again: Again = await operator.controller.reconcile(key)
    queue.done(key)
    assert not again.failed
    return counted(operator)


FULL_LOOK: Counts = {
    "find": 7, "listCollections": 1, "listIndexes": 1, "rolesInfo": 1, "usersInfo": 1,
}  # fmt: skip
"""Registration, secret, who names it, the three rows for its grants, the row for its role; then its
collections, one with indexes, its role and its users."""


async def test_each_step_of_an_apps_life_costs_just_so_much(
    installation: Installation, operator: LiveOperator
) -> None:
    installation.apply("shop", **SPEC)
    assert await look(operator, "shop") == (
        {
            "find": 13, "insert": 3, "update": 2, "create": 1, "createIndexes": 1,
            "listCollections": 2, "listIndexes": 2, "createRole": 1, "rolesInfo": 2,
            "createUser": 1, "usersInfo": 2,
        },
        {
            "PATCH mdbapps/status": 2, "PATCH mdbapps": 1, "GET secrets": 1, "POST secrets": 1,
            "POST events": 1,
        },
    )  # fmt: skip
    assert await look(operator, "shop") == (FULL_LOOK, {"GET secrets": 1})

    installation.apply("shop", displayName="Shop", **SPEC)
    assert await look(operator, "shop") == (
        {**FULL_LOOK, "update": 1},
        {"GET secrets": 1, "PATCH mdbapps/status": 1},
    )
    installation.annotate("shop", "rotate-requested", "1")
    assert await look(operator, "shop") == (
        {**FULL_LOOK, "find": 18, "update": 4, "createUser": 1, "usersInfo": 2},
        {"GET secrets": 1, "PUT secrets": 1, "PATCH mdbapps/status": 1, "POST events": 1},
    )


async def test_an_app_is_as_large_in_the_api_server_as_the_simulation_takes_it_to_be(
    installation: Installation, operator: LiveOperator
) -> None:
    installation.apply("shop", **SPEC)
    await operator.settle("shop")
    objects = [installation.get("MdbApp", "shop"), installation.get("Secret", "shop-mdb")]
    found = sum(len(json.dumps(one, separators=(",", ":"))) for one in objects)
    assert found == pytest.approx(scaling.CONSTANTS.object_bytes, rel=0.15)


async def test_an_app_without_a_user_of_its_own_costs_no_command_about_users(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live_operator(installation, monkeypatch, "library") as operator:
        installation.apply("shop", **SPEC)
        await operator.settle("shop")
        assert await look(operator, "shop") == (
            {"find": 6, "listCollections": 1, "listIndexes": 1},
            {"GET secrets": 1},
        )


async def test_a_sweep_costs_no_more_for_many_apps_and_finds_the_users_that_were_changed(
    installation: Installation, operator: LiveOperator
) -> None:
    async def sweep() -> tuple[Counts, Counts]:
        operator.faults.watch()
        await operator.controller.sweep()
        return counted(operator)

    names = [f"app-{number}" for number in range(10)]
    for name in names:
        installation.apply(name)
    await operator.settle(names[0])
    few = await sweep()
    await operator.settle(*names)
    assert await sweep() == few
    assert few[0]["usersInfo"] == 2  # of apps that are gone, and whether the others are as before

    queue = operator.controller.database.queue
    while len(queue):
        queue.done(await queue.take())
    installation.mongo.command("updateUser", "app-7.v1", pwd="by hand")
    await operator.controller.sweep()
    assert await queue.take() == AppKey(installation.apps, "app-7")
    assert len(queue) == 0


async def test_what_cannot_have_changed_costs_one_command_and_no_request(
    installation: Installation, operator: LiveOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.apply("shop", **SPEC)
    await operator.settle("shop")
    # Its own echo: a moment after a look nothing has to be read again.
    assert await routine(operator, "shop") == ({}, {})
    monkeypatch.setattr(verified, "FRESH_SECONDS", 0)
    assert await routine(operator, "shop") == ({"aggregate": 1}, {})

    rows = installation.mongo
    for name, field in (
        ("apps_config", "revision"),
        ("_mdb_engine_app_secrets", "revision"),
        ("_mdb_engine_grants", "epoch"),
    ):
        rows[name].update_one({"slug": "shop"}, {"$inc": {field: 1}})
        commands, requests = await routine(operator, "shop")
        assert commands == {**FULL_LOOK, "aggregate": 1}, name
        assert requests == {"GET secrets": 1}, name
        assert await routine(operator, "shop") == ({"aggregate": 1}, {})

    rows["_mdb_engine_grants"].delete_one({"slug": "shop"})
    commands, _ = await routine(operator, "shop")
    assert commands["insert"] == 1
    assert await routine(operator, "shop") == ({"aggregate": 1}, {})


async def test_a_status_that_somebody_wrote_is_put_right_without_being_asked_for(
    installation: Installation, operator: LiveOperator
) -> None:
    installation.apply("shop", **SPEC)
    await operator.settle("shop")
    told = installation.status("shop")
    change = json.dumps({"status": {"grantedScopes": ["everything"]}})
    installation.kubectl(
        "patch", "mdbapp", "shop", "--subresource=status", "--type=merge", "-p", change
    )
    operator.see("shop")
    await routine(operator, "shop")
    assert installation.status("shop") == told


async def test_a_full_look_is_due_once_a_day(
    installation: Installation, operator: LiveOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified, "FULL_LOOK_SECONDS", 0)
    installation.apply("shop", **SPEC)
    await operator.settle("shop")
    assert await routine(operator, "shop") == (FULL_LOOK, {"GET secrets": 1})


async def test_nothing_follows_once_all_is_ready(
    installation: Installation, operator: LiveOperator
) -> None:
    names = [f"app-{number}" for number in range(10)]
    async with operator.running():
        for name in names:
            installation.apply(name)  # no index, whose build may end after the first look
        await wait_until_async(
            lambda: all(is_ready(status) for status in installation.statuses().values()),
            message="all apps ready",
        )
        await operator.quiet()
        _, requests = counted(operator)
        assert requests["GET secrets"] == len(names)
        assert requests["PATCH mdbapps/status"] == 2 * len(names)
        await asyncio.sleep(1)
        assert counted(operator)[1] == {}


async def test_a_change_of_a_hub_costs_at_most_three_commands_a_reader(
    installation: Installation, operator: LiveOperator
) -> None:
    installation.apply("hub", **SPEC)
    readers = [f"reader-{number}" for number in range(READERS)]
    for name in readers:
        installation.apply(name, dataAccess={"readScopes": ["hub", name]})
    await operator.settle("hub", *readers)
    async with operator.running():
        await operator.quiet()
        operator.faults.watch()
        installation.apply("hub", collections=[*SPEC["collections"], {"name": "d"}])
        await wait_until_async(
            lambda: (
                installation.status("hub").get("observedGeneration")
                == installation.app("hub")["metadata"]["generation"]
            ),
            message="the hub's change",
        )
        await operator.quiet()
    commands, requests = counted(operator)
    assert commands["grantPrivilegesToRole"] == READERS + 1
    assert sum(commands.values()) <= 3 * READERS
    assert requests["PATCH mdbapps/status"] == 1  # no reader's status says anything else
