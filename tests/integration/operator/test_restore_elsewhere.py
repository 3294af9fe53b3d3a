"""A restore drill, as docs/operations.md says: cluster and MongoDB are gone, the backups are not.

What is there afterwards: another cluster, another MongoDB with the database as it was, the master
key's Secret as a file, and the MdbApps as they are in a Git repository.
"""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pymongo.uri_parser import parse_uri
from support.backups import MongoBackup, back_up_mongodb
from support.binding import MountedSecret
from support.clusters import starting_control_plane
from support.credentials import wait_refused
from support.fault_table import record
from support.installation import MASTER_KEY_SECRET, Installation, installed, restored
from support.invariants import Ledger, data_of, settled
from support.mongo import Server, start_server

from mdb_engine import MongoDBEngine, ScopeDenied
from mdb_engine.config import EngineSettings

THINGS = [{"name": "things", "indexes": [{"keys": [{"field": "n"}]}]}]

REPOSITORY: Mapping[str, Mapping[str, Any]] = {
    "owner": {"collections": THINGS},
    "reader": {"dataAccess": {"readScopes": ["reader", "owner"]}, "collections": THINGS},
    "retained": {"collections": THINGS},
}
"""The MdbApps, as they are kept outside of the cluster."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """What outlived the cluster."""

    token: str  # by which the names of its namespaces and its database end
    installation: str
    database: MongoBackup
    keyring: Path
    handed_out: Mapping[str, Mapping[str, str]] = dataclasses.field(repr=False)


def wait_version(here: Installation, name: str, version: int) -> None:
    here.wait_all(
        lambda status: (status.get("secret") or {}).get("version") == version,
        [name],
        message=f"version {version} of {name}",
    )


def apply_repository(here: Installation) -> None:
    for name, spec in REPOSITORY.items():
        here.apply(name, **spec)
    for name in REPOSITORY:
        here.wait_condition(name, deadline=40)


def back_up_and_destroy(directory: Path) -> Kept:
    """Have apps for a while, back up what the documentation says, and lose the rest."""
    directory.mkdir()
    with (
        starting_control_plane() as cluster,
        start_server(auth=True) as server,
        installed(cluster, server, directory) as here,
    ):
        process = here.start()
        apply_repository(here)
        for name in REPOSITORY:
            here.mongo[f"{name}_things"].insert_many(
                {"app_id": name, "n": number} for number in range(10)
            )
        here.annotate("owner", "rotate-requested", "1")
        wait_version(here, "owner", 2)
        handed_out = {name: here.secret(f"{name}-mdb") for name in REPOSITORY}
        here.cluster.api.delete("MdbApp", "retained", here.apps)
        here.wait_gone("retained")
        told = here.status("owner")["installation"]
        here.stop(process)
        keyring = directory / "master-key.yaml"
        keyring.write_text(
            here.kubectl("get", "secret", MASTER_KEY_SECRET, "-o", "yaml", namespace=here.namespace)
        )
        token = here.namespace.rpartition("-")[2]
        return Kept(token, told, back_up_mongodb(server.client, here.database), keyring, handed_out)


def on(server: Server, uri: str) -> str:
    """Return a URI with the same user on another server."""
    (lost,), (found,) = parse_uri(uri)["nodelist"], parse_uri(server.uri)["nodelist"]
    return uri.replace(f"{lost[0]}:{lost[1]}", f"{found[0]}:{found[1]}")


async def read_as(root: Path, slug: str, owner: str) -> int:
    """Count an app's documents as a pod of this one."""
    engine = MongoDBEngine(
        "mongodb://ignored.invalid",
        "ignored",
        slug=slug,
        settings=EngineSettings(binding_root=root),
    )
    async with engine:
        database = engine.get_scoped_db(slug)
        if owner == slug:
            await database.things.insert_one({"n": -1})
            await database.things.delete_one({"n": -1})
            return await database.things.count_documents({})
        there = database.app(owner).things
        with pytest.raises(ScopeDenied):
            await there.insert_one({"n": -1})
        return await there.count_documents({})


@pytest.mark.long
def test_what_was_backed_up_works_in_another_cluster_with_another_mongodb(
    tmp_path: Path,
) -> None:
    kept = back_up_and_destroy(tmp_path / "lost")
    (tmp_path / "found").mkdir()
    with start_server(auth=True) as server:
        dataclasses.replace(kept.database, client=server.client).restore()
        tried = subprocess.run(
            [
                Path(sys.executable).with_name("mdb-operator"), "verify-backup",
                "--keyring", str(kept.keyring), "--database", kept.database.name,
            ],
            env={"MDB_OPERATOR_MONGODB_URI": server.uri},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert tried.returncode == 0, tried.stderr
        assert "All secrets of 2 apps open; nothing was written" in tried.stdout

        with (
            starting_control_plane() as cluster,
            restored(cluster, server, tmp_path / "found", kept.token, kept.keyring) as here,
        ):
            data, began = data_of(here, *REPOSITORY), time.monotonic()
            process = here.start(wait=False)
            process.wait_for(f"adopt-database --from={kept.installation}", deadline=30)
            done = here.command(
                "adopt-database", f"--from={kept.installation}", MONGODB_URI=here.uri
            )
            assert done.returncode == 0, done.stderr
            apply_repository(here)

            root = tmp_path / "bindings"
            for name in REPOSITORY:
                entries = here.secret(f"{name}-mdb")
                assert entries["uri"] != on(server, kept.handed_out[name]["uri"])
                MountedSecret(root / name, entries)
            for slug, owner in (("owner", "owner"), ("reader", "reader"), ("reader", "owner"),
                                ("retained", "retained")):  # fmt: skip
                assert asyncio.run(read_as(root, slug, owner)) == 10, (slug, owner)
            for handed_out in kept.handed_out.values():
                wait_refused(
                    on(server, handed_out["uri"]), "whoever has a Secret of the lost cluster"
                )
            settled(here, Ledger(), data)
            record(
                "the cluster and its MongoDB are gone",
                "restore",
                seconds=time.monotonic() - began,
            )
            here.stop(process)
