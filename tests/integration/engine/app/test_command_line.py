"""``python -m mdb_engine``: a key, a check of manifests, and documents to begin with."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import leakscan
from support.engine_world import MASTER_KEY, OperatorHand
from support.mongo import Database

pytestmark = pytest.mark.long

MANIFEST = {
    "slug": "shop",
    "managed_indexes": {
        "orders": [{"keys": {"number": 1}, "name": "by_number", "unique": True}],
        "notes": [],
    },
    "data_access": {"read_scopes": ["shop", "stock"]},
}


@dataclass
class Desk:
    """A directory with a manifest, and an environment."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        (self.directory / name).write_text(text)

    def run(self, *arguments: str, code: int = 0) -> str:
        return self._python("-m", "mdb_engine", *arguments, code=code)

    def run_program(self, program: str) -> None:
        self._python("-c", program, code=0)

    def _python(self, *arguments: str, code: int) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = (done.stdout + done.stderr).strip()
        assert done.returncode == code, said
        assert "Traceback" not in said
        assert not leakscan.occurrences(said)
        return said if code else done.stdout.strip()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.write("manifest.json", MANIFEST)
    return made


@pytest.fixture
def alone(desk: Desk, mongo: Database) -> Desk:
    leakscan.register(MASTER_KEY, "the master key")
    desk.environment = {
        "MONGODB_URI": mongo.uri,
        "MONGODB_DB": mongo.name,
        "MDB_ENGINE_MASTER_KEY": MASTER_KEY,
    }
    return desk


def test_each_key_is_new_and_works(desk: Desk) -> None:
    first, second = desk.run("key"), desk.run("key")
    assert first != second
    assert len(base64.b64decode(first)) == 32


def test_a_check_says_what_an_app_asks_for(desk: Desk) -> None:
    said = desk.run("check", "manifest.json")
    assert said == "manifest.json: app shop: orders, notes (1 indexes); reads stock"


def test_a_check_names_every_fault_of_every_file(desk: Desk) -> None:
    desk.write("one.json", {"slug": "Shop", "managed_index": {}})
    desk.write("two.json", "{")
    said = desk.run("check", "manifest.json", "one.json", "two.json", "none.json", code=1)
    for part in ("one.json: slug", "one.json: managed_index", "two.json", "none.json"):
        assert part in said


def test_a_check_needs_neither_a_driver_nor_a_setting(desk: Desk) -> None:
    program = (
        "import sys\nfrom mdb_engine.__main__ import main\nmain(['check', 'manifest.json'])\n"
        "assert not {'pymongo', 'bson', 'fastapi', 'cryptography'} & set(sys.modules)"
    )
    desk.run_program(program)


def test_seeding_twice_changes_nothing(alone: Desk, mongo: Database) -> None:
    oid = {"$oid": "0123456789abcdef01234567"}
    orders = [{"_id": oid, "number": 1, "at": {"$date": "2026-01-02T03:04:05Z"}}]
    alone.write("seed.json", {"orders": orders, "notes": [{"text": "a"}, {"text": "b"}]})
    said = alone.run("seed", "manifest.json", "seed.json")
    assert said == "orders: 1 documents\nnotes: 2 documents"

    def kept() -> list[dict[str, Any]]:
        database = mongo.client[mongo.name]
        return [*database.shop_orders.find(), *database.shop_notes.find()]

    before = kept()
    assert [one["app_id"] for one in before] == ["shop"] * 3
    assert str(before[0]["_id"]) == oid["$oid"]
    assert before[0]["at"].year == 2026
    said = alone.run("seed", "manifest.json", "seed.json")
    assert "notes: 0 documents; it is not empty, so 2 without _id were left out" in said
    assert kept() == before


async def test_seeding_in_a_pod_uses_the_binding_and_loads_no_registry(
    desk: Desk, mongo_auth: Database, tmp_path: Path
) -> None:
    hand = OperatorHand(mongo_auth, "pymongo", tmp_path / "bindings")
    await hand.register("shop", "orders", "notes")
    desk.environment = {"SERVICE_BINDING_ROOT": str(hand.root)}
    desk.write("seed.json", {"notes": [{"text": "a"}]})
    assert desk.run("seed", "manifest.json", "seed.json") == "notes: 1 documents"
    program = (
        "import sys\nfrom mdb_engine.__main__ import main\n"
        "assert main(['seed', 'manifest.json', 'seed.json']) == 0\n"
        "assert not [one for one in sys.modules if one.startswith('mdb_engine.registry')]"
    )
    desk.run_program(program)
    desk.write("manifest.json", {"slug": "bank", "managed_indexes": {"notes": []}})
    said = desk.run("seed", "manifest.json", "seed.json", code=1)
    assert "is for app shop, not 'bank'" in said
    await hand.close()


@pytest.mark.parametrize(
    ("documents", "named"),
    [
        ({"bank_accounts": [{}]}, "managed_indexes.bank_accounts"),
        ({"orders": {"number": 1}}, "is not an object of lists of documents"),
        ({"orders": [1]}, "is not an object of lists of documents"),
        ([], "is not an object of lists of documents"),
        ("{", "is not Extended JSON"),
        ({"orders": [{"_id": {"$oid": "x"}}]}, "is not Extended JSON"),
        ({"orders": [{"number": "of-somebody"}] * 2}, "MongoDB refuses a document of orders"),
        ({"orders": [{"app_id.x": 1}]}, "app_id"),
    ],
)
def test_what_cannot_be_seeded_is_refused_in_one_line(
    alone: Desk, documents: Any, named: str
) -> None:
    alone.write("seed.json", documents)
    said = alone.run("seed", "manifest.json", "seed.json", code=1)
    assert named in said
    assert "of-somebody" not in said


def test_without_settings_seeding_says_which_are_missing(desk: Desk) -> None:
    desk.write("seed.json", {"notes": []})
    said = desk.run("seed", "manifest.json", "seed.json", code=1)
    assert "MDB_ENGINE_MASTER_KEY is not set" in said
