"""AES-256-GCM with a random 96-bit nonce.  Layout: nonce (12 bytes), ciphertext, tag (16)."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["decrypt", "encrypt", "generate_key"]

_NONCE_BYTES = 12


def generate_key() -> bytes:
    """Return 32 random bytes."""
    return AESGCM.generate_key(256)


def encrypt(key: bytes, plaintext: bytes, context: bytes) -> bytes:
    """Encrypt with associated data."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, context)


def decrypt(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Decrypt what `encrypt` returned.

    Raises
    ------
    cryptography.exceptions.InvalidTag
        If key or associated data are others, or it is no such ciphertext.
    """
    if not isinstance(sealed, bytes):  # somebody wrote something else into the row
        raise InvalidTag
    if len(sealed) <= _NONCE_BYTES:
        raise InvalidTag
    return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
