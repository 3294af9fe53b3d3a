"""Master keys: which texts are one, which are not, and that none is ever shown."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.keyring import Keyring
from mdb_engine.exceptions import MasterKeyError

ONE = base64.b64encode(bytes(range(32))).decode()
TWO = base64.b64encode(bytes(range(100, 132))).decode()
URL_SAFE = base64.urlsafe_b64encode(b"\xfb\xff" * 16).decode()


def test_a_lone_key_is_the_active_one() -> None:
    ring = Keyring.parse(f" {ONE}\n")
    assert (ring.ids, ring.active_id) == (("default",), "default")
    assert ring.key("default") == bytes(range(32))
    assert Keyring.parse(URL_SAFE).key("default") == b"\xfb\xff" * 16


def test_the_first_of_several_keys_is_active() -> None:
    ring = Keyring.parse(f"k2:{TWO}, default:{ONE}")
    assert (ring.ids, ring.active_id) == (("default", "k2"), "k2")
    assert ring.with_active("default").active_id == "default"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid base64|has 0 bytes"),
        (ONE[:-1], "not valid base64"),
        (ONE + "=", "not valid base64"),
        (ONE.replace("A", "*"), "not valid base64"),
        (ONE[:10] + "\n" + ONE[10:], "not valid base64"),
        ("schlüssel", "not valid base64"),
        (base64.b64encode(bytes(16)).decode(), "has 16 bytes, not 32"),
        (base64.b64encode(bytes(33)).decode(), "has 33 bytes, not 32"),
        (ONE[:-2] + "9=", "not canonical"),
        (f"k 1:{ONE}", "id is malformed"),
        (f"k1\n:{ONE}", "id is malformed"),
        (f":{ONE}", "id is malformed"),
        (f"k1:{ONE},k1:{TWO}", "'k1' stands twice"),
        (f"k1:{ONE},k2:{ONE}", "under two ids"),
        (f"k1:{ONE},", "not valid base64|has 0 bytes"),
        (f"active:{ONE}", "id 'active' is malformed"),
    ],
)
def test_a_malformed_keyring_is_refused_without_being_quoted(text: str, message: str) -> None:
    with pytest.raises(MasterKeyError, match=message) as caught:
        Keyring.parse(text)
    assert ONE[:8] not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("environ", [{}, {"MDB_ENGINE_MASTER_KEY": "  "}])
def test_no_key_is_said_so(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MasterKeyError, match="Master key not found"):
        Keyring.from_environment(environ)
    monkeypatch.delenv("MDB_ENGINE_MASTER_KEY", raising=False)
    with pytest.raises(ValueError, match="Master key not found"):
        EnvelopeEncryptionService()


def test_a_missing_key_is_named() -> None:
    with pytest.raises(MasterKeyError, match="Master key not found: 'k9'"):
        Keyring.parse(ONE).key("k9")


def test_a_mounted_secret_is_a_keyring(tmp_path: Path) -> None:
    data = tmp_path / "..2026"
    data.mkdir()
    (tmp_path / "..data").symlink_to(data)
    for name, content in {"k1": ONE, "k2": TWO, "active": "k2\n"}.items():
        (data / name).write_text(content)
        (tmp_path / name).symlink_to(tmp_path / "..data" / name)
    assert Keyring.from_directory(tmp_path) == Keyring.parse(f"k2:{TWO},k1:{ONE}")
    (data / "active").write_text("k3")
    with pytest.raises(MasterKeyError, match="active key 'k3' is missing"):
        Keyring.from_directory(tmp_path)


def test_one_file_needs_no_active_and_two_do() -> None:
    assert Keyring.from_files({"k1": ONE}).active_id == "k1"
    with pytest.raises(MasterKeyError, match="active key '' is missing"):
        Keyring.from_files({"k1": ONE, "k2": TWO})
    with pytest.raises(MasterKeyError, match="keyring is empty"):
        Keyring.from_files({"active": "k1"})


def test_a_missing_directory_is_no_keyring(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyError, match="Master key not found"):
        Keyring.from_directory(tmp_path / "none")


def test_keys_do_not_show() -> None:
    service = EnvelopeEncryptionService(f"k1:{ONE}")
    for text in (repr(service), str(service.key_manager), repr(vars(service))):
        assert ONE[:8] not in text
        assert repr(bytes(range(32)))[2:20] not in text


def test_generated_keys_are_keys_and_differ() -> None:
    keys = {EnvelopeEncryptionService.generate_master_key() for _ in range(3)}
    assert len({Keyring.parse(key).key("default") for key in keys}) == 3
