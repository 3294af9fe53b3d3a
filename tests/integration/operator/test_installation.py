"""A second installation that is pointed at a database which another one manages."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clusters import Cluster
from support.installation import MASTER_KEY_SECRET, Installation, installed
from support.mongo import Server

pytestmark = pytest.mark.long


@pytest.fixture
def second(
    control_plane: Cluster, mongo_auth_server: Server, tmp_path: Path
) -> Iterator[Installation]:
    """Give another installation: another namespace, account and master key."""
    directory = tmp_path / "second"
    directory.mkdir()
    with installed(control_plane, mongo_auth_server, directory) as found:
        yield found


def identity_of(here: Installation) -> str:
    namespace = here.cluster.api.get("Namespace", here.namespace)
    assert namespace is not None
    return f"{namespace['metadata']['uid']}/{here.namespace}-leader"


def bring_master_key(source: Installation, target: Installation) -> None:
    """Give an installation the master key of another, as a move to another cluster does."""
    found = source.get("Secret", MASTER_KEY_SECRET, source.namespace)
    assert found is not None
    target.set_keyring({"k1": base64.b64decode(found["data"]["k1"]).decode()}, "k1")


def test_another_installation_writes_nothing_until_it_adopts_the_database(
    installation: Installation, second: Installation
) -> None:
    first, identity = installation, identity_of(installation)
    leader = first.start()
    first.apply("held")
    first.wait_condition("held")
    (row,) = first.mongo["_mdb_engine_installation"].find()
    assert (row["identity"], row["namespace"]) == (identity, first.namespace)

    before = first.written_to_mongodb()
    second.apply("waits")
    second.settings |= {"MONGODB_URI": first.uri, "MONGODB_DATABASE": first.database}
    process = second.start(wait=False)
    process.wait_for("The database is another installation's")
    said = second.ask(process, "/readyz")
    assert said.status_code == 503
    assert f"adopt-database --from={identity}" in said.json()["waiting_for"]["database"]
    assert second.ask(process, "/healthz").status_code == 200
    metrics = second.metrics(process)
    labels = f'installation="{identity}",installation_namespace="{first.namespace}"'
    assert metrics[f"mdb_operator_database_held_by_other{{{labels}}}"] == 1

    refused = second.command("release", "held", "--delete-data", **second.settings)
    assert refused.returncode == 1
    assert f"--from={identity}" in refused.stderr
    assert second.written_to_kubernetes(process) == {}
    waiting = second.app("waits")
    assert waiting["status"] == {"observedGeneration": -1}  # as the API server fills it in
    assert "finalizers" not in waiting["metadata"]
    assert first.written_to_mongodb() == before

    bring_master_key(first, second)
    done = second.command("adopt-database", f"--from={identity}", **second.settings)
    assert done.returncode == 0, done.stderr
    assert f"over from {identity}" in done.stdout
    process.wait_for("The controller has started", deadline=30)
    second.wait_condition("waits")
    assert second.ask(process, "/readyz").status_code == 200
    assert not [name for name in second.metrics(process) if "held_by_other{" in name]

    # The one that it was taken from ends, although it was not told to.
    assert leader.wait_end() == 1
    assert "is managed by installation" in leader.text()
    second.stop(process)
