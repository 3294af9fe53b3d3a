"""The master keys: several by id, one of them active.

A keyring rather than a key, because a master key can only be changed without downtime while the old
one still opens what the new one has not yet re-wrapped.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag

from mdb_engine.constants import DEFAULT_KEY_ID, MASTER_KEY_BYTES, MASTER_KEY_VARIABLE
from mdb_engine.core.aead import decrypt, encrypt
from mdb_engine.core.key_manager import KeyContext, WrappedKey
from mdb_engine.exceptions import MasterKeyError

__all__ = ["Keyring", "decode_key", "generate_master_key"]

_KEY_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")

ACTIVE_FILE = "active"
"""The file of a keyring directory that names the active key."""


def generate_master_key() -> str:
    """Return a new master key: 32 random bytes in base64."""
    return base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)).decode("ascii")


def decode_key(text: str, key_id: str) -> bytes:
    """Decode a master key, strictly: the one base64 spelling of exactly 32 bytes.

    Raises
    ------
    MasterKeyError
        If it is anything else; the message names the id and never the text.
    """
    try:
        standard = text.strip().replace("-", "+").replace("_", "/")
        key = base64.b64decode(standard.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise MasterKeyError(f"Master key {key_id!r} is not valid base64") from None
    if len(key) != MASTER_KEY_BYTES:
        raise MasterKeyError(
            f"Master key {key_id!r} has {len(key)} bytes, not {MASTER_KEY_BYTES}; "
            "make one with EnvelopeEncryptionService.generate_master_key()"
        )
    if base64.b64encode(key).decode("ascii") != standard:
        raise MasterKeyError(f"Master key {key_id!r} is not canonical base64: a character is wrong")
    return key


class Keyring:
    """Master keys by id, in this process: a `KeyManager`.  Its repr shows ids only.

    Parameters
    ----------
    keys
        The keys, 32 bytes each, by id.
    active
        The id of the key that wraps what is new.

    Raises
    ------
    MasterKeyError
        If there is no key, the active one is missing, an id or a key is malformed, or a key
        stands under two ids (removing one of them would then remove nothing).
    """

    def __init__(self, keys: Mapping[str, bytes], active: str) -> None:
        if not keys:
            raise MasterKeyError("Master key not found: the keyring is empty")
        for key_id, key in keys.items():
            if not _KEY_ID.fullmatch(key_id) or key_id == ACTIVE_FILE:
                raise MasterKeyError(f"Master key id {key_id!r} is malformed")
            if len(key) != MASTER_KEY_BYTES:
                raise MasterKeyError(f"Master key {key_id!r} has {len(key)} bytes, not 32")
        if active not in keys:
            raise MasterKeyError(f"Master key not found: the active key {active!r} is missing")
        if len(set(keys.values())) != len(keys):
            raise MasterKeyError("One master key stands under two ids")
        self._keys = dict(keys)
        self._active = active

    def __repr__(self) -> str:
        return f"Keyring(ids={self.ids}, active={self._active!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Keyring):
            return NotImplemented
        return (self._keys, self._active) == (other._keys, other._active)

    def __hash__(self) -> int:
        return hash((self.ids, self._active))

    @property
    def active_id(self) -> str:
        """The id of the key that wraps what is new."""
        return self._active

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys, sorted."""
        return tuple(sorted(self._keys))

    def key(self, key_id: str) -> bytes:
        """Return a key.

        Raises
        ------
        MasterKeyError
            If there is none of that id.
        """
        try:
            return self._keys[key_id]
        except KeyError:
            raise MasterKeyError(
                f"Master key not found: {key_id!r} is not in the keyring (it has "
                f"{', '.join(self.ids)})"
            ) from None

    def owns(self, key_id: str) -> bool:
        """Whether a key is among these."""
        return key_id in self._keys

    async def aclose(self) -> None:
        """Do nothing: it holds no connection."""

    async def active_key_id(self) -> str:
        """Return the id of the key that wraps what is new."""
        return self.active_id

    async def wrap(self, dek: bytes, context: KeyContext) -> WrappedKey:
        """Wrap a DEK with the active key, whose id is part of the associated data."""
        active = self.active_id
        return WrappedKey(active, encrypt(self.key(active), dek, context.encode(active)))

    async def unwrap(self, wrapped: WrappedKey, context: KeyContext) -> bytes:
        """Return the DEK.

        Raises
        ------
        MasterKeyError
            If its key is not here, is not the one that wrapped it, or the context is another.
        """
        key = self.key(wrapped.key_id)
        try:
            return decrypt(key, wrapped.ciphertext, context.encode(wrapped.key_id))
        except InvalidTag:
            raise MasterKeyError(
                f"Master key {wrapped.key_id!r} does not open {context}: it is not the key that "
                "wrapped it, or the row was changed"
            ) from None

    def with_active(self, key_id: str) -> Keyring:
        """Return the same keys with another one active."""
        return Keyring(self._keys, key_id)

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """Read a keyring from one line.

        Parameters
        ----------
        text
            Either one key in base64, whose id is then ``default``, or
            ``id:base64,id:base64,...``, where the first is the active one. So a lone key ``OLD``
            is followed by ``k2:NEW,default:OLD``, and that by ``k2:NEW``.

        Raises
        ------
        MasterKeyError
            If it is malformed, or holds an id twice.
        """
        keys: dict[str, bytes] = {}
        for entry in text.strip().split(","):
            key_id, colon, encoded = entry.strip().partition(":")
            if not colon:
                key_id, encoded = DEFAULT_KEY_ID, key_id
            if not _KEY_ID.fullmatch(key_id):
                raise MasterKeyError("A master key id is malformed; write id:base64,id:base64")
            if key_id in keys:
                raise MasterKeyError(f"Master key id {key_id!r} stands twice in the keyring")
            keys[key_id] = decode_key(encoded, key_id)
        return cls(keys, active=next(iter(keys)))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Keyring:
        """Read the keyring from ``MDB_ENGINE_MASTER_KEY``, in the format of `parse`.

        Raises
        ------
        MasterKeyError
            ``Master key not found`` if the variable is absent or empty, or as `parse`.
        """
        text = (os.environ if environ is None else environ).get(MASTER_KEY_VARIABLE, "").strip()
        if not text:
            raise MasterKeyError(
                f"Master key not found: set {MASTER_KEY_VARIABLE} to a key made with "
                "EnvelopeEncryptionService.generate_master_key()"
            )
        return cls.parse(text)

    @classmethod
    def from_files(cls, files: Mapping[str, str]) -> Keyring:
        """Read a keyring from the entries of a Kubernetes Secret, decoded to text.

        Parameters
        ----------
        files
            One entry per key: its id, and the key in base64; and ``active``, which holds the id of
            the active one and may be absent where there is one key only.

        Raises
        ------
        MasterKeyError
            If one is malformed, or none is active.
        """
        keys = {i: decode_key(text, i) for i, text in files.items() if i != ACTIVE_FILE}
        active = files.get(ACTIVE_FILE, "").strip()
        if not active and len(keys) == 1:
            active = next(iter(keys))
        return cls(keys, active=active)

    @classmethod
    def from_directory(cls, directory: Path) -> Keyring:
        """Read a keyring from a mounted Secret, in the format of `from_files`.

        Raises
        ------
        MasterKeyError
            If the directory cannot be read, or as `from_files`.
        """
        # Kubelet replaces all files at once by moving the link ``..data``: resolve it only once.
        data = directory / "..data"
        root = data.resolve() if data.exists() else directory
        try:
            files = {
                entry.name: entry.read_text(encoding="ascii")
                for entry in root.iterdir()
                if entry.is_file() and not entry.name.startswith(".")
            }
        except OSError as error:
            raise MasterKeyError(f"Master key not found: {directory}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise MasterKeyError(f"A master key in {directory} is not valid base64") from None
        return cls.from_files(files)
