"""The seam to whatever holds the master keys: it wraps data encryption keys and unwraps them.

A key manager never hands out a master key. The keyring (`mdb_engine.core.keyring`) is one, with its
keys in this process; those of `mdb_engine.key_managers` ask a service for every key that they have
not seen yet. Whatever a DEK belongs to is bound into its wrapping (`KeyContext`), where the service
can: as associated data of an AEAD, or as AWS KMS's encryption context, which its log then shows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["KeyContext", "KeyManager", "WrappedKey"]


@dataclass(frozen=True, slots=True)
class KeyContext:
    """What a DEK is for: an app, a version of its credentials, and the DEK's own name."""

    slug: str
    version: int
    dek_id: str

    def encode(self, *more: str) -> bytes:
        """Return it as associated data: JSON in ASCII, one spelling for one context."""
        return json.dumps(["mdb-engine/dek", self.slug, self.version, self.dek_id, *more]).encode(
            "ascii"
        )

    def __str__(self) -> str:
        return f"the secret of app {self.slug!r}, version {self.version}"


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A DEK under a master key.

    Parameters
    ----------
    key_id
        The master key that wrapped it, with its version where it has some: what `re-wrap` compares.
    ciphertext
        The key manager's own format, in bytes.
    """

    key_id: str
    ciphertext: bytes = field(repr=False)


class KeyManager(Protocol):
    """Wraps and unwraps DEKs of 32 bytes."""

    async def active_key_id(self) -> str:
        """Return the id that `wrap` uses now.

        Raises
        ------
        MasterKeyError
            If there is no key to wrap with; `KeyManagerUnavailable` if nobody can say.
        """

    async def wrap(self, dek: bytes, context: KeyContext) -> WrappedKey:
        """Wrap a DEK with the active key.

        Raises
        ------
        MasterKeyError
            As `active_key_id`.
        """

    async def unwrap(self, wrapped: WrappedKey, context: KeyContext) -> bytes:
        """Return the DEK.

        Raises
        ------
        MasterKeyError
            If its key is not here, is not the one that wrapped it, or the context is another.
        KeyManagerUnavailable
            If nobody can say: it is tried again.
        """

    def owns(self, key_id: str) -> bool:
        """Whether this is the manager of a key."""

    async def aclose(self) -> None:
        """Let go of what it holds."""
