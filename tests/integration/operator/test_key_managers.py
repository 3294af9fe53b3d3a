"""The operator with its master key in OpenBao: moved there, down, back, refused, rotated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.installation import Installation, is_ready
from support.key_managers import Transit, serve
from support.waiting import wait_until

pytestmark = pytest.mark.long

NAMES = [f"app-{number}" for number in range(4)]


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Transit]:
    with serve("transit", tmp_path) as service:
        assert isinstance(service, Transit)
        yield service


@pytest.fixture
def uri(vault: Transit, tmp_path: Path) -> str:
    """Give the key's URI, with the token in a file as an agent keeps it."""
    file = tmp_path / "token"
    file.write_text(vault.token())
    port = vault.forwarder.port
    return f"transit://127.0.0.1:{port}/transit/mdb?tls=false&tokenFile={file}"


def key_ids(installation: Installation) -> set[str]:
    rows = installation.mongo["_mdb_engine_app_secrets"].find()
    return {one["key_id"] for row in rows for one in (row, *row["previous"])}


def ready_row(installation: Installation, name: str) -> dict[str, Any]:
    return installation.condition(name)


def test_the_master_key_moves_from_the_secret_to_a_key_manager_and_its_rotations_are_followed(
    installation: Installation, vault: Transit, uri: str
) -> None:
    process = installation.start()
    installation.apply_all(NAMES)
    installation.wait_all(is_ready, NAMES, message="all apps ready")
    before = {name: installation.secret(f"{name}-mdb") for name in NAMES}
    installation.stop(process)

    process = installation.start(MASTER_KEY_URI=f"{uri},secret")
    wait_until(lambda: key_ids(installation) == {"transit:mdb:v1"}, message="the re-wrapping")
    installation.wait_all(
        lambda status: status["secret"]["keyId"] == "transit:mdb:v1", NAMES, message="the key's id"
    )
    metrics = installation.metrics(process)
    assert metrics['mdb_operator_master_key_usable{manager="transit"}'] == 1
    assert metrics['mdb_operator_master_key_usable{manager="secret"}'] == 1
    installation.stop(process)

    # The keyring can go now.
    process = installation.start(MASTER_KEY_URI=uri)
    refused = installation.command("rotate-master-key", MASTER_KEY_URI=uri)
    assert refused.returncode != 0
    assert "rotate it there" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    vault.rotate()
    done = installation.command(
        "rotate-master-key", "--resume", "--timeout", "60", MASTER_KEY_URI=uri
    )
    assert "Everything is wrapped with transit:mdb:v2" in done.stdout, done.stdout + done.stderr
    assert key_ids(installation) == {"transit:mdb:v2"}
    assert {name: installation.secret(f"{name}-mdb") for name in NAMES} == before
    installation.stop(process)


def test_a_key_manager_that_is_down_stops_registration_and_rotation_and_nothing_else(
    installation: Installation, vault: Transit, uri: str
) -> None:
    process = installation.start(MASTER_KEY_URI=uri)
    installation.apply_all(NAMES)
    installation.wait_all(is_ready, NAMES, message="all apps ready")
    before = installation.secret("app-0-mdb")
    told = {name: installation.status(name) for name in NAMES}

    vault.cut()
    installation.kubectl("delete", "secret", "app-0-mdb")  # from memory it is made again
    wait_until(lambda: installation.get("Secret", "app-0-mdb"), message="the Secret's return")
    assert installation.secret("app-0-mdb") == before
    installation.apply("new-app")
    row = installation.wait_condition("new-app", "KeyUnavailable")
    assert "does not answer" in row["message"]
    assert "transit://" in row["message"]
    installation.annotate("app-1", "rotate-requested", "1")
    wait_until(
        lambda: (
            "A rotation that is due waits"
            in installation.condition("app-1", "SecretProjected")["message"]
        ),
        message="the word about the rotation",
    )
    assert is_ready(installation.status("app-1"))
    wait_until(
        lambda: (
            installation.metrics(process)['mdb_operator_master_key_usable{manager="transit"}'] == 0
        ),
        deadline=60,
        message="the metric",
    )

    # A process that starts without the key manager: who has a Secret goes on, the new one waits.
    installation.kill(process)
    began = time.monotonic()
    process = installation.start(MASTER_KEY_URI=uri, name="operator-1")
    started = time.monotonic() - began
    installation.apply("newer-app")
    installation.wait_condition("newer-app", "KeyUnavailable")
    installation.kubectl("delete", "secret", "app-2-mdb")
    installation.wait_condition("app-2", "KeyUnavailable")  # nobody can say what was in it
    statuses = installation.statuses()
    for name in ("app-0", "app-3"):
        assert statuses[name]["conditions"] == told[name]["conditions"]
    print(f"\nstarted without its key manager in {started:.1f} s")  # noqa: T201 - a figure
    installation.wait_no_looks(process)
    installation.kubectl("delete", "mdbapp", "app-3", "--wait=false")  # needs no key
    installation.wait_gone("app-3")

    vault.mend()
    everything = ["app-0", "app-1", "app-2", "new-app", "newer-app"]
    installation.wait_all(is_ready, everything, message="all apps ready again")
    wait_until(
        lambda: installation.status("app-1")["secret"]["version"] == 2, message="the rotation"
    )
    assert installation.secret("app-0-mdb") == before
    installation.stop(process)


def test_a_token_that_expired_is_said_and_its_successor_used(
    installation: Installation, vault: Transit, uri: str, tmp_path: Path
) -> None:
    process = installation.start(MASTER_KEY_URI=uri)
    installation.apply("app-0")
    installation.wait_condition("app-0")
    vault.admin.auth.token.revoke((tmp_path / "token").read_text())
    installation.apply("app-1")
    row = installation.wait_condition("app-1", "KeyUnavailable")
    assert "expired or may not use the key" in row["message"]
    assert row["observedGeneration"] == 1
    (tmp_path / "token").write_text(vault.token())
    installation.wait_condition("app-1")
    assert is_ready(installation.status("app-0"))
    installation.stop(process)
