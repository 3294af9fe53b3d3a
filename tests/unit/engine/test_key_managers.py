"""What a key manager's URI may say, and how several stand together."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdb_engine.core.keyring import Keyring, generate_master_key
from mdb_engine.exceptions import MasterKeyError
from mdb_engine.key_managers import KeyManagers, open_key_managers

ONE, TWO = generate_master_key(), generate_master_key()
TRANSIT = "transit://bao.example:8200/transit/mdb"


def test_a_setting_is_keys_or_uris_and_the_first_wraps(tmp_path: Path) -> None:
    assert isinstance(open_key_managers(f"k2:{TWO},k1:{ONE}"), Keyring)
    (tmp_path / "k1").write_text(ONE)
    assert open_key_managers(f"file://{tmp_path}") == Keyring.parse(f"k1:{ONE}")
    both = open_key_managers(f"{TRANSIT}?auth=approle, k2:{TWO},k1:{ONE}")
    assert isinstance(both, KeyManagers)
    first, second = both.managers
    assert first.owns("transit:mdb:v7")
    assert second == Keyring.parse(f"k2:{TWO},k1:{ONE}")
    assert [both.owns(one) for one in ("k1", "transit:x", "awskms:x")] == [True, True, False]


async def test_a_key_of_nobody_is_said_to_be() -> None:
    from mdb_engine.core.key_manager import KeyContext, WrappedKey  # noqa: PLC0415

    both = open_key_managers(f"{TRANSIT},k1:{ONE}")
    for one in (both, open_key_managers(TRANSIT), open_key_managers(ONE)):
        with pytest.raises(MasterKeyError, match="Master key not found: 'awskms:1'"):
            await one.unwrap(WrappedKey("awskms:1", b"x"), KeyContext("a", 1, "d"))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("vault://bao.example/mdb", "There is no key manager vault://"),
        ("transit://me:hunter22@bao.example/transit/mdb", "must hold no user"),
        ("transit://bao.example/mdb", "transit://HOST:PORT/MOUNT/KEY"),
        (f"{TRANSIT}?token=hunter22", "unknown 'token'"),
        (f"{TRANSIT}?auth=ldap", "auth is one of"),
        (f"{TRANSIT}?auth=kubernetes", "needs role="),
        ("awskms:///?region=eu-central-1", "names no key"),
        ("awskms:///alias/mdb?profile=hunter22", "unknown 'profile'"),
        ("gcpkms://projects/p/cryptoKeys/k", "gcpkms://projects/P"),
        ("azurekeyvault://v.vault.azure.net/secrets/k", "azurekeyvault://VAULT/keys/KEY"),
        (f"{TRANSIT}?id=a:b", "id= of a key manager"),
        (f"{TRANSIT},transit://other.example/transit/mdb", "add \\?id=NAME"),
    ],
)
def test_a_uri_that_cannot_work_is_refused_without_what_it_may_hold(uri: str, message: str) -> None:
    with pytest.raises(MasterKeyError, match=message) as caught:
        open_key_managers(uri)
    assert "hunter22" not in str(caught.value)


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hvac", None)
    monkeypatch.delitem(__import__("sys").modules, "mdb_engine.key_managers.transit", raising=False)
    with pytest.raises(MasterKeyError, match=r"install mdbapp-engine\[transit\]"):
        open_key_managers(TRANSIT)
