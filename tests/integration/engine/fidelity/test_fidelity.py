"""Each case on a driver's database and on a scoped one: the same answers, data and commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from support.mongo import Database
from support.scoped_world import Commands, World, connected_world

from .cases import AREAS, CASES, Case
from .side import REFUSED, Outcome, Side

pytestmark = pytest.mark.long

DATA, COPIES = "things", "copies"


class Sides:
    """The same collection twice, empty before each case."""

    def __init__(self, mongo: Database, client: Any, commands: Commands, world: World) -> None:
        self._raw = mongo.client[mongo.name]
        self._admin = mongo.client.admin
        database, db = client[mongo.name], world.db("shop")
        self.names = {"driver": DATA, "scoped": f"shop_{DATA}"}
        self.sides = {
            "driver": Side(database[DATA], database[COPIES], client.start_session, commands),
            "scoped": Side(db[DATA], db[COPIES], db.client.start_session, world.commands),
        }

    async def run(self, case: Case, which: str) -> Outcome:
        """Run a case on one of them."""
        name = self.names[which]
        stamp = {"app_id": "shop"} if which == "scoped" else {}
        for collection in (name, name.replace(DATA, COPIES)):
            self._raw[collection].delete_many({})
        if case.data:
            self._raw[name].insert_many([{**document, **stamp} for document in case.data])
        if case.fail is not None:
            data = {**case.fail["data"], "appName": "fidelity"}
            self._admin.command(
                "configureFailPoint", "failCommand", mode=case.fail["mode"], data=data
            )
        try:
            outcome = await self.sides[which].run(case)
        finally:
            if case.fail is not None:
                self._admin.command("configureFailPoint", "failCommand", mode="off")
        outcome.documents = [
            {field: value for field, value in document.items() if field != "app_id"}
            for document in self._raw[name].find({}).sort("_id", 1)
        ]
        return outcome


@pytest.fixture
async def sides(mongo: Database) -> AsyncIterator[Sides]:
    commands = Commands()
    options: dict[str, Any] = {
        "appname": "fidelity",
        "heartbeatFrequencyMS": 500,  # how soon a server that said it is none is asked again
        "uuidRepresentation": "standard",
    }
    client: AsyncMongoClient[Any] = AsyncMongoClient(
        mongo.uri, event_listeners=[commands], **options
    )
    world = connected_world("pymongo", mongo, **options)
    world.add("shop", {DATA, COPIES})
    for name in (DATA, COPIES):
        for collection in (name, f"shop_{name}"):
            mongo.client[mongo.name].create_collection(collection)
    yield Sides(mongo, client, commands, world)
    await client.close()
    await world.driver.close(world.client)


def difference(case: Case, driver: Outcome, scoped: Outcome) -> str:
    """Say what is not the same, or nothing."""
    for number, (theirs, ours) in enumerate(zip(driver.answers, scoped.answers, strict=True)):
        failed = theirs == REFUSED or (isinstance(theirs, list) and is_error(theirs))
        if theirs != ours and not (failed and ours == REFUSED):
            return f"step {number} {case.steps[number][0]}: {theirs} but {ours}"
    if driver.documents != scoped.documents:
        return f"documents: {driver.documents} but {scoped.documents}"
    if driver.commands != scoped.commands and REFUSED not in scoped.answers:
        return f"commands: {driver.commands} but {scoped.commands}"
    return ""


def is_error(answer: list[Any]) -> bool:
    return bool(answer) and isinstance(answer[0], str)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("area", AREAS)
async def test_a_scoped_database_does_what_the_drivers_does(sides: Sides, area: str) -> None:
    wrong = []
    for case in CASES:
        if case.area != area:
            continue
        scoped = await sides.run(case, "scoped")
        if case.refused:
            if REFUSED not in scoped.answers or scoped.commands:
                wrong.append(f"{case.name}: not refused, but {scoped.answers}")
            continue
        driver = await sides.run(case, "driver")
        found = difference(case, driver, scoped)
        if bool(found) != bool(case.differs):
            wrong.append(f"{case.name}: {found or 'it does not differ'}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_documents_say_how_many_cases_there_are() -> None:
    page = (Path(__file__).parents[4] / "docs" / "odms.md").read_text()
    for area, (cases, refused, differing) in AREAS.items():
        same = cases - refused - differing
        assert f"| {area} | {cases} | {same} | {refused} | {differing} |" in page
