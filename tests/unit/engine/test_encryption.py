"""Envelopes open for whom they were made, and for nobody else."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.keyring import Keyring
from mdb_engine.core.secret import Envelope, Purpose
from mdb_engine.exceptions import MasterKeyError

RING = Keyring({"k1": bytes(32), "k2": bytes([1]) * 32}, active="k1")
SERVICE = EnvelopeEncryptionService(RING)
VALUES = {purpose: SecretStr(f"the value of {purpose}") for purpose in Purpose}

slugs = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,10}", fullmatch=True)
versions = st.integers(1, 2**31)


async def sealed(slug: str = "a", version: int = 1) -> Envelope:
    return await SERVICE.seal(VALUES, slug=slug, version=version)


@given(slug=slugs, version=versions, value=st.text())
async def test_what_was_sealed_opens(slug: str, version: int, value: str) -> None:
    values = {Purpose.APP_SECRET: SecretStr(value)}
    envelope = await SERVICE.seal(values, slug=slug, version=version)
    assert await SERVICE.unseal(envelope, slug=slug, version=version) == values
    moved = EnvelopeEncryptionService(RING.with_active("k2"))
    rewrapped = await moved.rewrap(envelope, slug=slug, version=version)
    assert rewrapped.key_id == "k2"
    assert rewrapped.ciphertexts == envelope.ciphertexts
    assert await moved.unseal(rewrapped, slug=slug, version=version) == values


async def test_an_envelope_is_two_layers_of_aes_256_gcm_that_say_where_they_belong() -> None:
    """Opened here without the library: by the algorithm, and the associated data as documented."""
    envelope = await sealed("shop", 7)
    belongs: list[str | int] = ["shop", 7, envelope.dek_id]

    def opened(key: bytes, ciphertext: bytes, *context: str | int) -> bytes:
        nonce, rest = ciphertext[:12], ciphertext[12:]
        return AESGCM(key).decrypt(nonce, rest, json.dumps(context).encode())

    dek = opened(bytes(32), envelope.wrapped_dek, "mdb-engine/dek", *belongs, "k1")
    assert len(dek) == 32
    for purpose, value in VALUES.items():
        found = opened(dek, envelope.ciphertexts[purpose], "mdb-engine/value", *belongs, purpose)
        assert found.decode() == value.get_secret_value()


@given(one=st.tuples(slugs, versions), other=st.tuples(slugs, versions))
async def test_an_envelope_moved_to_another_row_or_version_does_not_open(
    one: tuple[str, int], other: tuple[str, int]
) -> None:
    envelope = await sealed(*one)
    if one == other:
        return
    for action in (SERVICE.unseal, SERVICE.rewrap):
        with pytest.raises(MasterKeyError):
            await action(envelope, slug=other[0], version=other[1])


@given(st.permutations(list(Purpose)))
async def test_a_value_moved_to_another_purpose_does_not_open(order: list[Purpose]) -> None:
    envelope = await sealed()
    moved = {to: envelope.ciphertexts[of] for to, of in zip(Purpose, order, strict=True)}
    shuffled = dataclasses.replace(envelope, ciphertexts=moved)
    if moved == envelope.ciphertexts:
        assert await SERVICE.unseal(shuffled, slug="a", version=1) == VALUES
        return
    with pytest.raises(MasterKeyError, match="does not open"):
        await SERVICE.unseal(shuffled, slug="a", version=1)


@given(part=st.sampled_from(["dek", *Purpose]), bit=st.integers(0, 8 * 28 - 1), cut=st.booleans())
async def test_a_changed_or_cut_ciphertext_does_not_open(part: str, bit: int, cut: bool) -> None:  # noqa: FBT001
    envelope = await sealed()

    def change(ciphertext: bytes) -> bytes:
        if cut:
            return ciphertext[: bit // 8]
        changed = bytearray(ciphertext)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    if part == "dek":
        envelope = dataclasses.replace(envelope, wrapped_dek=change(envelope.wrapped_dek))
    else:
        values = dict(envelope.ciphertexts)
        values[Purpose(part)] = change(values[Purpose(part)])
        envelope = dataclasses.replace(envelope, ciphertexts=values)
    with pytest.raises(MasterKeyError):
        await SERVICE.unseal(envelope, slug="a", version=1)


@pytest.mark.parametrize("wrong", ["text", None, 5, [b"x" * 60]])
async def test_what_is_no_ciphertext_does_not_open(wrong: Any) -> None:
    envelope = await sealed()
    values: Any = {**envelope.ciphertexts, Purpose.SESSION_KEY: wrong}
    for changed in (
        dataclasses.replace(envelope, wrapped_dek=wrong),
        dataclasses.replace(envelope, ciphertexts=values),
    ):
        with pytest.raises(MasterKeyError, match="row was changed"):
            await SERVICE.unseal(changed, slug="a", version=1)


@pytest.mark.parametrize("field", ["key_id", "dek_id"])
async def test_a_changed_id_does_not_open_though_the_key_is_right(field: str) -> None:
    same_key = EnvelopeEncryptionService(Keyring({"k1": bytes(32)}, active="k1"))
    if field == "key_id":
        same_key = EnvelopeEncryptionService(Keyring({"k2": bytes(32)}, active="k2"))
    changes: Any = {field: "k2"}
    envelope = dataclasses.replace(await sealed(), **changes)
    with pytest.raises(MasterKeyError, match=f"'{envelope.key_id}' does not open"):
        await same_key.unseal(envelope, slug="a", version=1)


async def test_values_of_two_versions_are_under_different_keys() -> None:
    one, two = await sealed(), await sealed()
    mixed = dataclasses.replace(one, ciphertexts=two.ciphertexts)
    with pytest.raises(MasterKeyError):
        await SERVICE.unseal(mixed, slug="a", version=1)


async def test_a_wrong_key_under_the_right_id_is_named() -> None:
    wrong = EnvelopeEncryptionService(Keyring({"k1": bytes([9]) * 32}, active="k1"))
    with pytest.raises(
        MasterKeyError, match=r"'k1' does not open the secret of app 'a', version 1"
    ):
        await wrong.unseal(await sealed(), slug="a", version=1)


async def test_an_envelope_and_what_comes_out_of_it_do_not_show_values() -> None:
    envelope = await sealed()
    opened = await SERVICE.unseal(envelope, slug="a", version=1)
    assert "the value" not in repr(opened)
    assert repr(envelope.wrapped_dek) not in repr(envelope)


async def test_a_replaced_keyring_takes_hold_for_everyone() -> None:
    service = EnvelopeEncryptionService(RING)
    envelope = await service.seal(VALUES, slug="a", version=1)
    service.use(Keyring({"k2": bytes([1]) * 32}, active="k2"))
    with pytest.raises(MasterKeyError, match="'k1' is not in the keyring"):
        await service.unseal(envelope, slug="a", version=1)
