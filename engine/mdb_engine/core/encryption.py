"""Envelope encryption of an app's credentials.

A key manager wraps a data encryption key (DEK), drawn anew for every version of an app's
credentials, which encrypts the values with AES-256-GCM. The associated data of a ciphertext says
where it belongs, so that one which is moved to another row, version or purpose does not open.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from pydantic import SecretStr

from mdb_engine.core.aead import decrypt, encrypt, generate_key
from mdb_engine.core.key_manager import KeyContext, KeyManager, WrappedKey
from mdb_engine.core.keyring import Keyring, generate_master_key
from mdb_engine.core.secret import Envelope, Purpose
from mdb_engine.exceptions import MasterKeyError

__all__ = ["EnvelopeEncryptionService"]

_DEK_ID_BYTES = 8


class EnvelopeEncryptionService:
    """Seals and opens envelopes, their DEKs wrapped by a key manager.

    Parameters
    ----------
    master_key
        A key manager, such as a keyring; or a keyring in the text format of `Keyring.parse` (which
        may be a single key in base64); or None to read one from ``MDB_ENGINE_MASTER_KEY``.

    Raises
    ------
    MasterKeyError
        If there is no key (``Master key not found``) or a malformed one.
    """

    def __init__(self, master_key: KeyManager | str | None = None) -> None:
        if master_key is None:
            master_key = Keyring.from_environment()
        self._manager = Keyring.parse(master_key) if isinstance(master_key, str) else master_key

    def __repr__(self) -> str:
        return f"EnvelopeEncryptionService({self._manager!r})"

    @staticmethod
    def generate_master_key() -> str:
        """Return a new master key: 32 random bytes in base64."""
        return generate_master_key()

    @property
    def key_manager(self) -> KeyManager:
        """What wraps and unwraps."""
        return self._manager

    def use(self, manager: KeyManager) -> None:
        """Replace the key manager, at once for everyone who shares this service."""
        self._manager = manager

    async def active_key_id(self) -> str:
        """Return the id of the key that wraps what is new.

        Raises
        ------
        MasterKeyError
            As `KeyManager.active_key_id`.
        """
        return await self._manager.active_key_id()

    async def seal(
        self, values: Mapping[Purpose, SecretStr], *, slug: str, version: int
    ) -> Envelope:
        """Encrypt values under a new DEK, wrapped with the active master key.

        Parameters
        ----------
        values
            What to encrypt, by purpose.
        slug, version
            Whose they are; they will open for no other.

        Raises
        ------
        MasterKeyError
            As `KeyManager.wrap`.
        """
        dek, context = generate_key(), KeyContext(slug, version, secrets.token_hex(_DEK_ID_BYTES))
        wrapped = await self._manager.wrap(dek, context)
        return Envelope(
            key_id=wrapped.key_id,
            dek_id=context.dek_id,
            wrapped_dek=wrapped.ciphertext,
            ciphertexts={
                purpose: encrypt(
                    dek, value.get_secret_value().encode("utf-8"), _value_context(context, purpose)
                )
                for purpose, value in values.items()
            },
        )

    async def unseal(
        self, envelope: Envelope, *, slug: str, version: int
    ) -> dict[Purpose, SecretStr]:
        """Decrypt all values of an envelope.

        Raises
        ------
        MasterKeyError
            As `KeyManager.unwrap`, or if a value was made for another slug or version, or was
            changed.
        """
        dek, context = await self._unwrap(envelope, slug, version)
        opened = {}
        for purpose, ciphertext in envelope.ciphertexts.items():
            try:
                value = decrypt(dek, ciphertext, _value_context(context, purpose))
            except (InvalidTag, ValueError):  # or the DEK is no AES key
                raise MasterKeyError(
                    f"The {purpose} of app {slug!r}, version {version}, under master key "
                    f"{envelope.key_id!r}, does not open: its row was changed"
                ) from None
            opened[purpose] = SecretStr(value.decode("utf-8"))
        return opened

    async def rewrap(self, envelope: Envelope, *, slug: str, version: int) -> Envelope:
        """Return the envelope with its DEK wrapped with the active master key.

        The values are not encrypted anew; an envelope that is under the active key already is
        returned as it is, after it was opened.

        Raises
        ------
        MasterKeyError
            As `unseal`.
        """
        dek, context = await self._unwrap(envelope, slug, version)
        if envelope.key_id == await self._manager.active_key_id():
            return envelope
        wrapped = await self._manager.wrap(dek, context)
        return Envelope(
            key_id=wrapped.key_id,
            dek_id=envelope.dek_id,
            wrapped_dek=wrapped.ciphertext,
            ciphertexts=envelope.ciphertexts,
        )

    async def _unwrap(
        self, envelope: Envelope, slug: str, version: int
    ) -> tuple[bytes, KeyContext]:
        context = KeyContext(slug, version, envelope.dek_id)
        wrapped = WrappedKey(envelope.key_id, envelope.wrapped_dek)
        return await self._manager.unwrap(wrapped, context), context


def _value_context(dek: KeyContext, purpose: Purpose) -> bytes:
    # The key of this layer is the DEK: a master key's id here would bar re-wrapping.
    parts = ["mdb-engine/value", dek.slug, dek.version, dek.dek_id, str(purpose)]
    return json.dumps(parts).encode("ascii")
