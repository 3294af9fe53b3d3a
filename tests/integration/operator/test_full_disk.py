"""MongoDB's disk is full: what is wrong is said, and nothing is lost once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, WriteConcern
from pymongo.errors import PyMongoError
from support.clusters import Cluster
from support.fault_table import record
from support.installation import installed
from support.invariants import Ledger, data_of, settled
from support.mongo import Server
from support.waiting import wait_until

from devcluster.mongo import MongoConfig, MongoServer

SPEC: dict[str, Any] = {
    "collections": [{"name": "c", "indexes": [{"name": "at", "keys": [{"field": "at"}]}]}]
}

DISK_MEGABYTES = 400
"""What an empty server writes has room in it, its oplog too."""


@contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """Give a file system of its own, which can be filled without anybody else noticing."""
    at.mkdir()
    options = f"size={DISK_MEGABYTES}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def fill(disk: Path) -> Path:
    """Leave no room on a file system; return the file that takes it up."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(bytes(2**16))
                file.flush()
        except OSError:
            return ballast


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_full_disk_is_named_and_once_there_is_room_all_is_as_it_has_to_be(
    control_plane: Cluster, tmp_path: Path
) -> None:
    with (
        small_disk(tmp_path / "disk") as disk,
        MongoServer(MongoConfig(auth=True, die_with_parent=True, root=disk)) as server,
        MongoClient[dict[str, Any]](server.uri) as client,
        installed(control_plane, Server(server.uri, client, server), tmp_path) as here,
    ):
        process = here.start()
        here.apply("before", **SPEC)
        here.wait_condition("before", deadline=60)
        ledger = Ledger()
        ledger.collect(here)
        clicks = here.mongo["before_c"].with_options(write_concern=WriteConcern("majority"))
        clicks.insert_one({"app_id": "before", "at": 0})

        ballast = fill(disk)
        here.apply("late", **SPEC)
        acknowledged = 1
        try:
            while acknowledged < 100_000:
                clicks.insert_one({"app_id": "before", "at": acknowledged, "filler": "x" * 1000})
                acknowledged += 1
        except PyMongoError:
            pass  # it has ended, as MongoDB does
        wait_until(
            lambda: "disk" in here.condition("late", "Ready").get("message", ""),
            deadline=60,
            message=lambda: f"the disk in the status: {here.status('late')}",
        )
        assert here.secret("before-mdb")["username"] == "before.v1"
        assert process.popen.poll() is None

        ballast.unlink()
        server.restart()
        wait_until(
            lambda: clicks.count_documents({}) >= acknowledged,
            deadline=60,
            message="every acknowledged document",
            ignoring=PyMongoError,
        )
        here.wait_condition("late", deadline=60)
        seconds = settled(here, ledger, data_of(here, "before"))
    record("MongoDB's disk is full", "create", seconds=seconds)
