"""Setting up the chart's trial MongoDB, on a mongod that nobody has touched."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from support.clusters import Cluster
from support.installed_operator import CHART
from support.waiting import wait_until, wait_until_async

from devcluster.mongod_binary import find_mongod
from devcluster.node.addresses import free_port
from mdb_operator.exceptions import OperatorError
from mdb_operator.mongodb.gate import DatabaseGate

pytestmark = pytest.mark.long

SCRIPT = CHART / "files" / "trial_mongodb.py"

PASSWORD = "a-password-of-the-operator"


class Mongod:
    """A mongod with a key file, and no replica set until that is set up.

    Parameters
    ----------
    directory
        Where its files are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        (directory / "keyfile").write_text("c29tZSBrZXkgZm9yIHRlc3Rz\n")
        (directory / "keyfile").chmod(0o400)
        (directory / "password").write_text(PASSWORD + "\n")
        self.address = f"127.0.0.1:{self._port}"
        self.uri = (
            f"mongodb://mdb-operator:{PASSWORD}@{self.address}/?replicaSet=rs0&authSource=mdb"
        )
        self.start()

    def start(self) -> None:
        data = self._directory / "data"
        data.mkdir(exist_ok=True)
        command = [
            *(str(find_mongod(print)), "--replSet", "rs0", "--bind_ip", "127.0.0.1"),
            *("--keyFile", str(self._directory / "keyfile"), "--port", str(self._port)),
            *("--dbpath", str(data), "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"),
        ]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(timeout=30)

    def lose_data(self) -> None:
        self.stop()
        shutil.rmtree(self._directory / "data")


@pytest.fixture
def mongod(tmp_path: Path) -> Iterator[Mongod]:
    """Give a mongod that nobody has touched, and end it."""
    mongod = Mongod(tmp_path)
    yield mongod
    mongod.stop()


def run_script(
    address: str, directory: Path, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run the chart's script as its pod does."""
    arguments = ["--host", address, "--timeout", str(timeout)]
    arguments += ["--key-file", str(directory / "keyfile")]
    arguments += ["--password-file", str(directory / "password")]
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert PASSWORD not in done.stdout
    return done


def set_up(address: str, directory: Path) -> str:
    done = run_script(address, directory)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_fresh_mongod_becomes_a_replica_set_with_the_operators_user(
    mongod: Mongod, tmp_path: Path
) -> None:
    assert "Initiated" in set_up(mongod.address, tmp_path)
    client: MongoClient[dict[str, Any]] = MongoClient(mongod.uri)
    with client:
        wait_until(lambda: client.mdb.command("ping")["ok"], message="the operator logs in")
        client.mdb.apps_config.insert_one({"made_by": "operator"})
        with pytest.raises(OperationFailure, match="not authorized"):
            client.other.things.find_one()
        assert "already" in set_up(mongod.address, tmp_path)
        assert client.mdb.apps_config.count_documents({}) == 1


async def test_a_connection_that_takes_a_new_replica_set_for_an_old_view_ends_the_process(
    mongod: Mongod, tmp_path: Path
) -> None:
    set_up(mongod.address, tmp_path)
    mongod.stop()
    mongod.start()  # the second election; the new replica set begins with its first
    client: Any = AsyncMongoClient(mongod.uri, serverSelectionTimeoutMS=1000)

    async def answers() -> bool:
        return bool(await client.mdb.command("ping"))

    async def ping_anew() -> None:
        async with AsyncMongoClient[dict[str, Any]](mongod.uri) as other:
            await other.mdb.command("ping")

    gate = DatabaseGate(
        client.mdb, ping_anew, lambda _: None, ping_anew, answers, interval=0.05, patience=0.5
    )
    try:
        await wait_until_async(
            answers, deadline=30, message="the second start", ignoring=PyMongoError
        )
        mongod.lose_data()
        mongod.start()
        await asyncio.to_thread(set_up, mongod.address, tmp_path)
        with pytest.raises(OperatorError, match="made anew"):
            await asyncio.wait_for(gate.run(), 30)
    finally:
        await client.close()


def test_a_mongod_that_never_answers_is_named(tmp_path: Path) -> None:
    (tmp_path / "keyfile").write_text("x")
    (tmp_path / "password").write_text("x")
    done = run_script(f"127.0.0.1:{free_port()}", tmp_path, timeout=0)
    assert done.returncode == 1
    assert "does not answer at 127.0.0.1" in done.stdout


@pytest.mark.parametrize(("storage", "strategy"), [("", "OnDelete"), ("1Gi", "RollingUpdate")])
def test_an_upgrade_replaces_the_pod_only_where_its_data_outlives_it(
    control_plane: Cluster, namespace: str, storage: str, strategy: str
) -> None:
    rendered = control_plane.helm(
        *("template", "mdb", str(CHART), "-n", namespace, "--dry-run=server"),
        "--show-only=templates/trial-mongodb.yaml",
        *("--set=mongodb.trial.enabled=true", f"--set=mongodb.trial.storage={storage}"),
    )
    # As the API server completes it.
    listed = json.loads(
        control_plane.kubectl(
            *("apply", "--dry-run=server", "-o", "json", "-f", "-"), manifest=rendered
        )
    )
    [config] = [one for one in listed["items"] if one["kind"] == "ConfigMap"]
    assert config["data"]["trial_mongodb.py"] == SCRIPT.read_text()
    [stateful_set] = [one for one in listed["items"] if one["kind"] == "StatefulSet"]
    assert stateful_set["spec"]["updateStrategy"]["type"] == strategy
