from __future__ import annotations

import base64
from pathlib import Path

import pytest
from pydantic import SecretStr

from mdb_engine.core.keyring import Keyring, generate_master_key
from mdb_engine.core.secret import Purpose
from mdb_engine.exceptions import MasterKeyError
from mdb_operator.exceptions import KubernetesUnavailable
from mdb_operator.keys.source import DirectoryKeySource, KeyringSource, MasterKeys


def mount(directory: Path, name: str, entries: dict[str, str]) -> None:
    """Write entries as kubelet does: a new directory, then one rename of the link."""
    (directory / name).mkdir()
    for key, value in entries.items():
        (directory / name / key).write_text(value)
    (directory / "..tmp").symlink_to(name)
    (directory / "..tmp").rename(directory / "..data")


@pytest.fixture
def keys(tmp_path: Path) -> MasterKeys:
    return MasterKeys([DirectoryKeySource(tmp_path)], interval=0.01)


async def test_a_change_of_the_keyring_reaches_the_encryption_without_a_restart(
    keys: MasterKeys, tmp_path: Path
) -> None:
    first, second = generate_master_key(), generate_master_key()
    mount(tmp_path, "..1", {"k1": first, "active": "k1"})
    await keys.refresh()
    sealed = await keys.encryption.seal({Purpose.APP_SECRET: SecretStr("x")}, slug="a", version=1)
    assert sealed.key_id == "k1"
    mount(tmp_path, "..2", {"k1": first, "k2": second, "active": "k2"})
    await keys.refresh()
    again = await keys.encryption.seal({Purpose.APP_SECRET: SecretStr("x")}, slug="a", version=2)
    assert again.key_id == "k2"
    opened = await keys.encryption.unseal(sealed, slug="a", version=1)
    assert opened[Purpose.APP_SECRET].get_secret_value() == "x"


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {"active": "k1"},
        {"k1": "not base64!", "active": "k1"},
        {"k1": base64.b64encode(b"short").decode(), "active": "k1"},
        {"k1": generate_master_key(), "active": "k2"},
    ],
)
async def test_a_keyring_that_became_unusable_is_not_used_any_more(
    keys: MasterKeys, tmp_path: Path, entries: dict[str, str]
) -> None:
    mount(tmp_path, "..1", {"k1": generate_master_key(), "active": "k1"})
    await keys.refresh()
    sealed = await keys.encryption.seal({Purpose.APP_SECRET: SecretStr("x")}, slug="a", version=1)
    mount(tmp_path, "..2", entries)
    await keys.refresh()
    with pytest.raises(MasterKeyError):
        await keys.encryption.active_key_id()
    with pytest.raises(MasterKeyError):
        await keys.encryption.seal({Purpose.APP_SECRET: SecretStr("x")}, slug="a", version=2)
    with pytest.raises(MasterKeyError, match="k1"):
        await keys.encryption.unseal(sealed, slug="a", version=1)


async def test_before_the_first_look_nothing_can_be_sealed(keys: MasterKeys) -> None:
    with pytest.raises(MasterKeyError, match="not been read yet"):
        await keys.encryption.seal({Purpose.APP_SECRET: SecretStr("x")}, slug="a", version=1)


async def test_changes_are_told_and_only_changes(keys: MasterKeys, tmp_path: Path) -> None:
    told: list[str] = []
    keys.on_change = lambda: told.append("change")
    key = generate_master_key()
    mount(tmp_path, "..1", {"k1": key})
    for _ in range(3):
        await keys.refresh()
    assert told == ["change"]
    mount(tmp_path, "..2", {})
    for _ in range(3):
        await keys.refresh()
    assert told == ["change"] * 2
    mount(tmp_path, "..3", {"k1": key})
    await keys.refresh()
    assert told == ["change"] * 3


async def test_while_one_of_two_sources_can_be_used_apps_do_not_wait_for_a_change(
    tmp_path: Path,
) -> None:
    kept, gone = tmp_path / "kept", tmp_path / "gone"
    kept.mkdir()
    keys = MasterKeys([DirectoryKeySource(kept), DirectoryKeySource(gone)], interval=1)
    assert keys.usable, "nothing is known yet"
    mount(kept, "..1", {"k1": generate_master_key()})
    await keys.refresh()
    assert keys.usable
    mount(kept, "..2", {})
    await keys.refresh()
    assert not keys.usable


async def test_a_silent_api_server_changes_nothing() -> None:
    class Source(KeyringSource):
        name = "a source"
        answer: Keyring | None = Keyring.from_files({"k1": generate_master_key()})

        async def load(self) -> Keyring:
            if self.answer is None:
                raise KubernetesUnavailable("no answer")
            return self.answer

    source = Source()
    keys = MasterKeys([source], interval=1)
    await keys.refresh()
    source.answer = None
    with pytest.raises(KubernetesUnavailable):
        await keys.refresh()
    assert await keys.encryption.active_key_id() == "k1"
