"""Setting up the chart's trial MongoDB, on a mongod that nobody has touched."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from support.waiting import wait_until

from devcluster.mongod_binary import find_mongod
from devcluster.node.addresses import free_port
from mdb_operator.cli import main

PASSWORD = "a-password-of-the-operator"


@pytest.fixture
def fresh_mongod(tmp_path: Path) -> Iterator[str]:
    """Give the address of a mongod with a key file and no replica set, and end it."""
    key_file = tmp_path / "keyfile"
    key_file.write_text("c29tZSBrZXkgZm9yIHRlc3Rz\n")
    key_file.chmod(0o400)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "data").mkdir()
    port = free_port()
    command = [
        str(find_mongod(print)),
        *("--replSet", "rs0", "--keyFile", str(key_file), "--bind_ip", "127.0.0.1"),
        *("--port", str(port), "--dbpath", str(tmp_path / "data"), "--nounixsocket"),
        *("--wiredTigerCacheSizeGB", "0.25"),
    ]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log) as process:
        yield f"127.0.0.1:{port}"
        process.terminate()


def set_up(address: str, directory: Path) -> str:
    arguments = ["trial-mongodb", "--host", address, "--timeout", "60"]
    arguments += ["--key-file", str(directory / "keyfile")]
    arguments += ["--password-file", str(directory / "password")]
    outcome = CliRunner().invoke(main, arguments)
    assert outcome.exit_code == 0, outcome.output
    assert PASSWORD not in outcome.output
    return outcome.output


def test_a_fresh_mongod_becomes_a_replica_set_with_the_operators_user(
    fresh_mongod: str, tmp_path: Path
) -> None:
    assert "Initiated" in set_up(fresh_mongod, tmp_path)
    uri = f"mongodb://mdb-operator:{PASSWORD}@{fresh_mongod}/?replicaSet=rs0&authSource=mdb"
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    with client:
        wait_until(lambda: client.mdb.command("ping")["ok"], message="the operator logs in")
        client.mdb.apps_config.insert_one({"made_by": "operator"})
        with pytest.raises(OperationFailure, match="not authorized"):
            client.other.things.find_one()
        assert "already" in set_up(fresh_mongod, tmp_path)
        assert client.mdb.apps_config.count_documents({}) == 1


def test_a_mongod_that_never_answers_is_named(tmp_path: Path) -> None:
    (tmp_path / "keyfile").write_text("x")
    (tmp_path / "password").write_text("x")
    arguments = ["trial-mongodb", "--host", f"127.0.0.1:{free_port()}", "--timeout", "0"]
    arguments += ["--key-file", str(tmp_path / "keyfile")]
    arguments += ["--password-file", str(tmp_path / "password")]
    outcome = CliRunner().invoke(main, arguments)
    assert outcome.exit_code == 1
    assert "does not answer at 127.0.0.1" in outcome.output
