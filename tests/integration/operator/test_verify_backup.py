"""A restore drill: what is sealed in a copy opens with the keyring's backup, or it is said."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support import leakscan
from support.mongo import Database

from mdb_engine.connection.driver import get_driver
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.keyring import generate_master_key
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.models.app import Owner
from mdb_engine.registry.registry import Registry

pytestmark = pytest.mark.long

KEY = generate_master_key()
READER = "drill"


def saved(directory: Path, **keys: str) -> Path:
    """Save a keyring as `kubectl get secret -o yaml` does; return the file."""
    entries = {"active": next(iter(keys)), **keys}
    data = {name: base64.b64encode(value.encode()).decode() for name, value in entries.items()}
    path = directory / "master-key.yaml"
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Secret", "data": data}))
    return path


@pytest.fixture
async def copy(mongo_auth: Database) -> Database:
    """Give a database of two apps, one of them rotated, and a user who may only read it."""
    leakscan.register(KEY, "the master key")
    driver = get_driver("pymongo")
    client = driver.connect(mongo_auth.uri)
    try:
        database = client[mongo_auth.name]
        registry = Registry(database, driver, EnvelopeEncryptionService(f"k1:{KEY}"))
        await registry.prepare()
        for slug in ("orders", "shop"):
            await registry.register(MdbAppSpec.parse({"slug": slug}), Owner("apps", slug, slug))
        await registry.rotate("shop", expected_version=1, overlap_seconds=600)
        await database.command("createUser", READER, pwd=READER, roles=["read"])
    finally:
        await driver.close(client)
    return mongo_auth


def drill(copy: Database, keyring: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command with the right to read alone."""
    server = copy.uri.partition("://")[2].rpartition("@")[2].partition("?")[0]
    uri = f"mongodb://{READER}:{READER}@{server}?authSource={copy.name}"
    program = Path(sys.executable).with_name("mdb-operator")
    return subprocess.run(
        [program, "verify-backup", "--keyring", str(keyring), "--database", copy.name],
        env={**os.environ, "MDB_OPERATOR_MONGODB_URI": uri},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_everything_opens_with_the_right_keyring_and_the_right_to_read(
    copy: Database, tmp_path: Path
) -> None:
    done = drill(copy, saved(tmp_path, k1=KEY, k0=generate_master_key()))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Master key k1 opens 3 versions",
        "All secrets of 2 apps open; nothing was written",
    ]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"k1": generate_master_key()}, "Master key 'k1' does not open the secret of app 'orders'"),
        ({"k2": KEY}, "'k1' is not in the keyring"),
    ],
    ids=["another key of that name", "the key of another time"],
)
def test_a_keyring_that_does_not_open_it_is_found_before_it_is_needed(
    copy: Database, tmp_path: Path, keys: dict[str, str], said: str
) -> None:
    done = drill(copy, saved(tmp_path, **keys))
    assert done.returncode == 1
    assert said in done.stdout
    assert "3 problems in the secrets of 2 apps" in done.stderr


def test_rows_that_are_damaged_exchanged_or_missing_are_named(
    copy: Database, tmp_path: Path
) -> None:
    rows = copy.client[copy.name]["_mdb_engine_app_secrets"]
    good = saved(tmp_path, k1=KEY)
    shop = rows.find_one({"_id": "shop"})
    assert shop is not None
    rows.update_one({"_id": "shop"}, {"$set": {"verifier": b"0" * 32}})
    assert "its verifier is of" in drill(copy, good).stdout
    rows.update_one({"_id": "shop"}, {"$unset": {"verifier": 1}})
    assert "'verifier' is missing" in drill(copy, good).stdout
    rows.delete_one({"_id": "shop"})
    done = drill(copy, good)
    assert "App 'shop' is registered and has no sealed secret" in done.stdout
    assert done.returncode == 1


def test_what_is_no_backup_is_refused_and_shows_nothing_of_itself(
    copy: Database, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(f"data: {{active: azE=, k1: {KEY}!}}")
    for keyring, said in ((broken, "no Secret with a keyring"), (tmp_path / "no", "No such file")):
        done = drill(copy, keyring)
        assert (done.returncode, KEY in done.stderr + done.stdout) == (1, False)
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
