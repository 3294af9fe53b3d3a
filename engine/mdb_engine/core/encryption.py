"""Envelope encryption of an app's credentials.

A master key (32 bytes) wraps a data encryption key, drawn anew for every version of an app's
credentials, which encrypts the values: AES-256-GCM at both layers, with a random 96-bit nonce. The
associated data of a ciphertext says where it belongs, so that one which is moved to another row,
version or purpose does not open. Layout: nonce (12 bytes), ciphertext, tag (16).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from mdb_engine.core.keyring import Keyring, generate_master_key
from mdb_engine.core.secret import Envelope, Purpose
from mdb_engine.exceptions import MasterKeyError

__all__ = ["EnvelopeEncryptionService"]

_NONCE_BYTES = 12
_DEK_BITS = 256
_DEK_ID_BYTES = 8


class EnvelopeEncryptionService:
    """Seals and opens envelopes with the keys of one keyring.

    Parameters
    ----------
    master_key
        A keyring, or one in the text format of `Keyring.parse` (which may be a single key in
        base64), or None to read ``MDB_ENGINE_MASTER_KEY``.

    Raises
    ------
    MasterKeyError
        If there is no key (``Master key not found``) or a malformed one.
    """

    def __init__(self, master_key: Keyring | str | None = None) -> None:
        if master_key is None:
            master_key = Keyring.from_environment()
        self._keyring = Keyring.parse(master_key) if isinstance(master_key, str) else master_key

    def __repr__(self) -> str:
        return f"EnvelopeEncryptionService({self._keyring!r})"

    @staticmethod
    def generate_master_key() -> str:
        """Return a new master key: 32 random bytes in base64."""
        return generate_master_key()

    @property
    def keyring(self) -> Keyring:
        """The keys in use."""
        return self._keyring

    def use(self, keyring: Keyring) -> None:
        """Replace the keys, at once for everyone who shares this service."""
        self._keyring = keyring

    def seal(self, values: Mapping[Purpose, SecretStr], *, slug: str, version: int) -> Envelope:
        """Encrypt values under a new DEK, wrapped by the active master key.

        Parameters
        ----------
        values
            What to encrypt, by purpose.
        slug, version
            Whose they are; they will open for no other.
        """
        ring = self._keyring
        dek = AESGCM.generate_key(_DEK_BITS)
        dek_id = secrets.token_hex(_DEK_ID_BYTES)
        return Envelope(
            key_id=ring.active_id,
            dek_id=dek_id,
            wrapped_dek=_encrypt(
                ring.key(ring.active_id), dek, _dek_context(slug, version, dek_id, ring.active_id)
            ),
            ciphertexts={
                purpose: _encrypt(
                    dek,
                    value.get_secret_value().encode("utf-8"),
                    _value_context(slug, version, dek_id, purpose),
                )
                for purpose, value in values.items()
            },
        )

    def unseal(self, envelope: Envelope, *, slug: str, version: int) -> dict[Purpose, SecretStr]:
        """Decrypt all values of an envelope.

        Raises
        ------
        MasterKeyError
            If its master key is not in the keyring, is not the one that wrapped it, or the
            envelope was made for another slug or version, or was changed.
        """
        dek = self._unwrap(envelope, slug=slug, version=version)
        opened = {}
        for purpose, ciphertext in envelope.ciphertexts.items():
            context = _value_context(slug, version, envelope.dek_id, purpose)
            try:
                value = _decrypt(dek, ciphertext, context)
            except InvalidTag:
                raise MasterKeyError(
                    f"The {purpose} of app {slug!r}, version {version}, under master key "
                    f"{envelope.key_id!r}, does not open: its row was changed"
                ) from None
            opened[purpose] = SecretStr(value.decode("utf-8"))
        return opened

    def rewrap(self, envelope: Envelope, *, slug: str, version: int) -> Envelope:
        """Return the envelope with its DEK wrapped by the active master key.

        The values are not encrypted anew; an envelope that is under the active key already is
        returned as it is, after it was opened.

        Raises
        ------
        MasterKeyError
            As `unseal`.
        """
        ring = self._keyring
        dek = self._unwrap(envelope, slug=slug, version=version)
        if envelope.key_id == ring.active_id:
            return envelope
        context = _dek_context(slug, version, envelope.dek_id, ring.active_id)
        return Envelope(
            key_id=ring.active_id,
            dek_id=envelope.dek_id,
            wrapped_dek=_encrypt(ring.key(ring.active_id), dek, context),
            ciphertexts=envelope.ciphertexts,
        )

    def _unwrap(self, envelope: Envelope, *, slug: str, version: int) -> bytes:
        key = self._keyring.key(envelope.key_id)
        context = _dek_context(slug, version, envelope.dek_id, envelope.key_id)
        try:
            return _decrypt(key, envelope.wrapped_dek, context)
        except InvalidTag:
            raise MasterKeyError(
                f"Master key {envelope.key_id!r} does not open the secret of app {slug!r}, version "
                f"{version}: it is not the key that wrapped it, or the row was changed"
            ) from None


def _dek_context(slug: str, version: int, dek_id: str, key_id: str) -> bytes:
    return json.dumps(["mdb-engine/dek", slug, version, dek_id, key_id]).encode("ascii")


def _value_context(slug: str, version: int, dek_id: str, purpose: Purpose) -> bytes:
    # The key of this layer is the DEK: a master key's id here would bar re-wrapping.
    return json.dumps(["mdb-engine/value", slug, version, dek_id, str(purpose)]).encode("ascii")


def _encrypt(key: bytes, plaintext: bytes, context: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, context)


def _decrypt(key: bytes, sealed: bytes, context: bytes) -> bytes:
    if not isinstance(sealed, bytes):  # somebody wrote something else into the row
        raise InvalidTag
    if len(sealed) <= _NONCE_BYTES:
        raise InvalidTag
    return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
