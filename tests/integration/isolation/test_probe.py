"""What an app may do in MongoDB, asked of MongoDB itself by drivers without the library.

Every cell of the tables in ``docs/mongodb.md`` is one command sent here, in Python and in Node. The
tables are made from the same two files that say what is expected, so the document cannot say
anything that MongoDB does not do.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from support.engine_world import OperatorHand
from support.isolation import node_program
from support.mongo import Client, Database

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
COLLECTIONS: list[dict[str, Any]] = json.loads((HERE / "commands.json").read_text())
DATABASES: list[dict[str, Any]] = json.loads((HERE / "databases.json").read_text())

UNAUTHORIZED = 13

Request = dict[str, Any]


@dataclass(frozen=True)
class World:
    """An app, and what it may and may not reach.

    Parameters
    ----------
    mongo
        The database of the apps, as an administrator.
    uri
        The connection string of the app that probes.
    """

    mongo: Database
    uri: str

    @property
    def other(self) -> str:
        """Another database on the same server."""
        return f"{self.mongo.name}_other"

    @property
    def columns(self) -> Mapping[str, tuple[str, str]]:
        """Database and collection of every column."""
        apps = self.mongo.name
        return {
            "own": (apps, "probe_things"),
            "granted": (apps, "granter_items"),
            "foreign": (apps, "stranger_files"),
            "registrations": (apps, "apps_config"),
            "secrets": (apps, "_mdb_engine_app_secrets"),
            "grants": (apps, "_mdb_engine_grants"),
            "audit": (apps, "_mdb_engine_audit"),
            "installation": (apps, "_mdb_engine_installation"),
            "other": (self.other, "things"),
            "admin": ("admin", "things"),
        }

    def fill(self) -> None:
        """Bring everything that a command could have changed back to what it was."""
        apps = self.mongo.client[self.mongo.name]
        for database, name in self.columns.values():
            if not name.startswith("_mdb_engine") and name != "apps_config":
                collection = self.mongo.client[database][name]
                stamp = {"$set": {"app_id": name.partition("_")[0]}}
                collection.update_one({"_id": 1}, stamp, upsert=True)
        apps.drop_collection("probe_spare")


@pytest.fixture
async def world(mongo_auth: Database, tmp_path: Path) -> Any:
    """Give an app that declared two collections, may read another's, and not a third's."""
    hand = OperatorHand(mongo_auth, "pymongo", tmp_path)
    try:
        await hand.register("granter", "items")
        await hand.register("stranger", "files", crossAppPolicy="DenyAll")
        await hand.register("probe", "things", "spare", reads=("granter",))
        revealed = await hand.registry.secrets.reveal("probe")
        found = World(mongo_auth, hand.entries(revealed)["uri"])
        found.fill()
        yield found
    finally:
        await hand.close()
        mongo_auth.client.drop_database(f"{mongo_auth.name}_other")
        mongo_auth.client.admin.drop_collection("things")


def filled_in(template: Any, values: Mapping[str, str]) -> Any:
    """Return a command with its placeholders replaced."""
    if isinstance(template, dict):
        return {key: filled_in(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [filled_in(value, values) for value in template]
    if isinstance(template, str):
        for name, value in values.items():
            template = template.replace(f"<{name}>", value)
    return template


def requests(world: World) -> Iterator[tuple[Request, int]]:
    """Yield every command of both tables, ready to be sent, and what has to be answered.

    That is 0 where it is allowed, else a code: what the validator or the collection that is there
    has against it, or Unauthorized.
    """
    fixed = {
        "apps": world.mongo.name,
        "own": "probe_things",
        "spare": "probe_spare",
        "user": "probe.v1",
        "role": "mdb-engine.app.probe",
    }
    databases = {"apps": world.mongo.name, "other": world.other, "admin": "admin"}
    targets = [(row, world.columns) for row in COLLECTIONS]
    targets += [(row, {key: (name, "") for key, name in databases.items()}) for row in DATABASES]
    for row, columns in targets:
        for column, (database, collection) in columns.items():
            where = row.get("database")
            if column in row.get("except", ()) or (
                row in DATABASES and where is not None and column != where
            ):
                continue  # it means nothing there, or exists in one database alone
            values = {**fixed, "database": database, "collection": collection}
            request = {
                "key": f"{row['name']} / {column}",
                "database": databases[where] if where else database,
                "command": filled_in(row["command"], values),
            }
            if "then" in row:
                request["then"] = filled_in(row["then"], values)
            refusal = row.get("refused", {}).get(column, UNAUTHORIZED)
            yield request, 0 if column in row["allowed"] else refusal


def asked_in_python(world: World, wanted: list[Request]) -> dict[str, Any]:
    """Send the commands with PyMongo; return 0 or the code of the error for each."""
    answers: dict[str, Any] = {}
    client: Client = MongoClient(world.uri)
    with client:
        for request in wanted:
            answers[request["key"]] = 0
            for command in (request["command"], request.get("then")):
                if command is not None and answers[request["key"]] == 0:
                    try:
                        reply = client[request["database"]].command(command)
                    except OperationFailure as error:
                        answers[request["key"]] = error.code
                    else:
                        for refusal in reply.get("writeErrors", ()):
                            answers[request["key"]] = refusal["code"]
    return answers


def asked_in_node(world: World, wanted: list[Request]) -> dict[str, Any]:
    """Send the commands with MongoDB's driver for Node."""
    done = subprocess.run(
        node_program("probe.mjs"),
        input=json.dumps({"uri": world.uri, "commands": wanted}),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("ask", [asked_in_python, asked_in_node])
def test_every_cell_is_as_designed(world: World, ask: Any) -> None:
    expected = {request["key"]: answer for request, answer in requests(world)}
    wanted = [request for request, _ in requests(world)]
    answers = ask(world, wanted)
    assert answers.keys() == expected.keys()
    wrong = {key: answer for key, answer in answers.items() if answer != expected[key]}
    assert wrong == {}, "expected 0 where it is allowed, else the code of the refusal"
    (own,) = world.mongo.client[world.mongo.name].list_collections(filter={"name": "probe_things"})
    assert own["options"]["validator"] == {"app_id": {"$eq": "probe"}}
    strays = world.mongo.client[world.mongo.name].probe_things.count_documents(
        {"app_id": {"$ne": "probe"}}
    )
    assert strays == 0


def test_the_probe_is_as_wide_as_it_has_to_be() -> None:
    assert len(COLLECTIONS) >= 25
    assert len({row["name"] for row in [*COLLECTIONS, *DATABASES]}) == len(COLLECTIONS) + len(
        DATABASES
    )


@contextmanager
def as_app(world: World) -> Iterator[Any]:
    """Give the app's database, as the app."""
    client: Client = MongoClient(world.uri)
    with client:
        yield client[world.mongo.name]


def test_an_app_sees_the_names_of_what_it_may_use_and_no_others(world: World) -> None:
    with as_app(world) as database:
        assert set(database.list_collection_names(authorizedCollections=True)) == {
            "probe_things",
            "granter_items",
            "_mdb_engine_grants",
            "_mdb_engine_audit",
        }
        assert database.client.list_database_names() == [world.mongo.name]
