"""The master key: changed while everything runs, missed when it is gone, never worked around."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.installation import MASTER_KEY_SECRET, Installation, is_ready
from support.leakscan import register
from support.waiting import wait_until

from mdb_engine.core.keyring import generate_master_key

pytestmark = pytest.mark.long


def key_ids(installation: Installation) -> set[str]:
    """Return the ids of all master keys that wrap something."""
    rows = installation.mongo["_mdb_engine_app_secrets"].find()
    return {v["key_id"] for row in rows for v in (row, *row["previous"])}


def sealed(installation: Installation, name: str) -> dict[str, Any]:
    """Return an app's row of secrets."""
    row = installation.mongo["_mdb_engine_app_secrets"].find_one({"slug": name})
    assert row is not None
    return dict(row)


def command(installation: Installation, *arguments: str) -> str:
    """Run a command of the administrator, with an administrator's kubeconfig."""
    settings = {
        "NAMESPACE": installation.namespace,
        "KUBECONFIG": str(installation.cluster.kubeconfig),
        "MONGODB_URI": installation.server.uri,
        "MONGODB_DATABASE": installation.database,
        "MASTER_KEY_SECRET": MASTER_KEY_SECRET,
        "LEASE_NAME": f"{installation.namespace}-leader",
    }
    outcome = subprocess.run(
        [Path(sys.executable).with_name("mdb-operator"), *arguments],
        env={**os.environ, **{f"MDB_OPERATOR_{key}": value for key, value in settings.items()}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout + outcome.stderr


def test_a_new_master_key_wraps_everything_anew_and_a_lost_one_is_missed(
    installation: Installation,
) -> None:
    process = installation.start()
    names = [f"key-{number}" for number in range(5)]
    installation.apply_all(names)
    installation.wait_all(is_ready, names, message="all apps ready")
    installation.annotate("key-0", "rotate-requested", "1")
    wait_until(
        lambda: installation.status("key-0")["secret"]["version"] == 2, message="the rotation"
    )
    before = {name: installation.secret(f"{name}-mdb") for name in names}

    output = command(installation, "rotate-master-key", "--settle", "0", "--key-id", "k2")
    assert "Everything is wrapped with k2" in output
    assert key_ids(installation) == {"k2"}
    installation.wait_all(
        lambda status: status["secret"]["keyId"] == "k2", names, message="the key's id"
    )
    assert {name: installation.secret(f"{name}-mdb") for name in names} == before
    metrics = installation.metrics(process)
    assert metrics["mdb_operator_master_key_rewrapped_total"] == len(names)
    assert metrics["mdb_operator_master_key_rewrap_pending"] == 0
    assert '"done": 5' in process.text()

    # The key is replaced by another under its name: nothing may be made up for it.
    keyring = installation.keyring()
    wrong = generate_master_key()
    register(wrong, "a wrong master key")
    rows = {name: sealed(installation, name) for name in names}
    installation.set_keyring({"k2": wrong}, "k2")
    message = installation.wait_condition("key-1", "KeyUnavailable")["message"]
    assert "'k2'" in message
    assert "Secret" in message
    assert installation.status("key-1")["binding"] == {"name": "key-1-mdb"}
    installation.annotate("key-0", "rotate-requested", "2")
    installation.kubectl("delete", "secret", "key-2-mdb")
    installation.apply("key-new")
    installation.wait_condition("key-new", "KeyUnavailable")
    installation.set_keyring({}, "k2")
    wait_until(
        lambda: "not found" in installation.condition("key-new")["message"],
        message="the message that the key is missing",
    )
    message = installation.wait_condition("key-new", "KeyUnavailable")["message"]
    assert "Master key not found" in message
    installation.wait_no_looks(process)
    assert {name: sealed(installation, name) for name in names} == rows
    assert installation.get("Secret", "key-2-mdb") is None

    # Back again, everything goes on, and what was asked for meanwhile is done.
    texts = {i: base64.b64encode(keyring.key(i)).decode() for i in keyring.ids}
    installation.set_keyring(texts, keyring.active_id)
    installation.wait_all(is_ready, [*names, "key-new"], message="all apps ready again")
    assert installation.secret("key-2-mdb") == before["key-2"]
    wait_until(
        lambda: installation.status("key-0")["secret"]["version"] == 3, message="the rotation"
    )
    installation.stop(process)
