"""Services that are like MongoDB are refused by name where they lack what is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import leakscan

from mdb_operator.exceptions import ConfigurationInvalid
from mdb_operator.mongodb.hosted import require_supported

ATLAS = "mongodb+srv://op:hunter22@shop.abcde.mongodb.net/?retryWrites=true"
ATLAS_HOSTS = "mongodb://op:hunter22@a-00.abcde.mongodb.net:27017,b.example:27017/?ssl=true"
DOCUMENTDB = "mongodb://op:hunter22@c.cluster-1.eu-central-1.docdb.amazonaws.com:27017/"
COSMOS = "mongodb://op:hunter22@shop.mongo.cosmos.azure.com:10255/?ssl=true"
VCORE = "mongodb+srv://op:hunter22@shop.mongocluster.cosmos.azure.com/"


@pytest.mark.parametrize(
    ("uri", "isolation", "message"),
    [
        (ATLAS, "database", "MongoDB Atlas.*isolation: library"),
        (ATLAS_HOSTS, "database", "MongoDB Atlas.*createUser"),
        (DOCUMENTDB, "database", "DocumentDB.*retryable writes"),
        (DOCUMENTDB, "library", "DocumentDB.*retryable writes"),
        (COSMOS, "library", "Cosmos DB.*retryable writes"),
        (VCORE, "database", "vCore.*createUser"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(uri: str, isolation: str, message: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=message) as caught:
        require_supported(uri, isolation)
    assert "\n" not in str(caught.value)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "isolation"),
    [
        (ATLAS, "library"),
        (VCORE, "library"),
        ("mongodb://db-0.db.shop:27017,db-1.db.shop:27017/?replicaSet=rs0", "database"),
        ("mongodb://mongodb.net.example:27017/", "database"),
        ("mongodb://[::1]:27017/", "database"),
    ],
)
def test_what_may_work_is_not_refused(uri: str, isolation: str) -> None:
    require_supported(uri, isolation)


def test_the_operator_does_not_start_with_atlas_and_users_of_its_own(tmp_path: Path) -> None:
    leakscan.register("hunter22hunter22", "a password")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("")
    done = subprocess.run(
        [Path(sys.executable).with_name("mdb-operator"), "audit"],
        env={
            "PATH": os.environ["PATH"],
            "MDB_OPERATOR_MONGODB_URI": ATLAS.replace("hunter22", "hunter22hunter22"),
            "MDB_OPERATOR_KUBECONFIG": str(kubeconfig),
            "MDB_OPERATOR_NAMESPACE": "mdb-system",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert done.stderr.splitlines()[-1].startswith("mdb-operator: the MongoDB URI leads to MongoDB")
    assert len(done.stderr.splitlines()) == 1
