"""What all key managers behind a network have in common.

- A DEK that was seen stays in memory: with the service down, whatever was opened or made before can
  still be opened, and only what needs a wrapping, or a DEK of before this process began, waits.
- A service that is down is asked again only after a moment, so that an outage costs each app a
  sentence and not a time-out.
- Clients block, so they work in a few threads of their own; each call has a limit of seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, TypeVarTuple

from mdb_engine.constants import MASTER_KEY_BYTES
from mdb_engine.core.key_manager import KeyContext, WrappedKey
from mdb_engine.exceptions import KeyManagerUnavailable, MasterKeyError
from mdb_engine.key_managers.uri import KeyManagerUri

__all__ = ["CALL_SECONDS", "CONNECT_SECONDS", "RemoteKeyManager"]

CONNECT_SECONDS: Final = 3.0
"""The limit of connecting to a key manager."""

CALL_SECONDS: Final = 5.0
"""The limit of one answer of a key manager."""

PAUSE_SECONDS: Final = 3.0
"""For how long a key manager that failed is not asked again."""

ACTIVE_SECONDS: Final = 60.0
"""For how long the active key's id is taken to be what it was when something was last wrapped."""

CACHED_DEKS: Final = 30_000
"""How many DEKs are kept, of those used last: three versions of 10,000 apps, in about 20 MB."""

THREADS: Final = 8
"""How many calls are under way at once."""

_Args = TypeVarTuple("_Args")
_T = TypeVar("_T")


class RemoteKeyManager(ABC):
    """A key manager behind a network.

    Parameters
    ----------
    uri
        Where the key is.
    clock
        Seconds, monotonic.
    """

    def __init__(self, uri: KeyManagerUri, clock: Callable[[], float] = time.monotonic) -> None:
        self._uri = uri
        self._clock = clock
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"{uri.scheme}")
        self._deks: OrderedDict[tuple[WrappedKey, KeyContext], bytes] = OrderedDict()
        self._active: tuple[str, float] | None = None
        self._problem = ""
        self._ask_again = 0.0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._uri})"

    def __str__(self) -> str:
        return str(self._uri)

    @property
    def prefix(self) -> str:
        """What the ids of its keys begin with, before a colon."""
        return self._uri.prefix

    def owns(self, key_id: str) -> bool:
        """Whether this is the manager of a key, by the id's beginning."""
        return key_id.startswith(f"{self.prefix}:")

    async def active_key_id(self) -> str:
        """Return the id of the key that wraps; a minute old at most.

        Raises
        ------
        KeyManagerUnavailable
            If it is not known and the service does not say.
        """
        if self._active is not None and self._clock() < self._active[1]:
            return self._active[0]
        return await self.check()

    async def check(self) -> str:
        """Have a key wrapped and unwrapped that protects nothing; return the id of what did it.

        It asks even where the service has just failed.

        Raises
        ------
        MasterKeyError
            If the key cannot be used, or does not open what it wrapped.
        """
        dek, context = secrets.token_bytes(MASTER_KEY_BYTES), KeyContext("", 0, "check")
        wrapped = await self._ask(self._wrap, dek, context)
        if await self._ask(self._unwrap, wrapped, context) != dek:
            raise MasterKeyError(f"{self} does not open what it has just wrapped")
        self._active = (wrapped.key_id, self._clock() + ACTIVE_SECONDS)
        return wrapped.key_id

    async def wrap(self, dek: bytes, context: KeyContext) -> WrappedKey:
        """Wrap a DEK with the service's current key.

        Raises
        ------
        MasterKeyError
            If the key cannot be used.
        KeyManagerUnavailable
            If the service does not answer or refuses.
        """
        self._pause()
        wrapped = await self._ask(self._wrap, dek, context)
        self._active = (wrapped.key_id, self._clock() + ACTIVE_SECONDS)
        self._remember(wrapped, context, dek)
        return wrapped

    async def unwrap(self, wrapped: WrappedKey, context: KeyContext) -> bytes:
        """Return a DEK, from memory where it was seen before.

        Raises
        ------
        MasterKeyError
            If it does not open: another key, another context, or the row was changed.
        KeyManagerUnavailable
            If the service does not answer or refuses.
        """
        if not self.owns(wrapped.key_id):
            raise MasterKeyError(
                f"Master key not found: {wrapped.key_id!r} is none of {self}, and no other key "
                "manager is given"
            )
        if not isinstance(wrapped.ciphertext, bytes):  # somebody wrote something else into the row
            raise self._not_opened(wrapped, context)
        held = self._deks.get((wrapped, context))
        if held is not None:
            self._deks.move_to_end((wrapped, context))
            return held
        self._pause()
        dek = await self._ask(self._unwrap, wrapped, context)
        if dek is None or len(dek) != MASTER_KEY_BYTES:
            raise self._not_opened(wrapped, context)
        self._remember(wrapped, context, dek)
        return dek

    async def aclose(self) -> None:
        """Let go of the threads; a call that is under way ends at its limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @abstractmethod
    def _wrap(self, dek: bytes, context: KeyContext) -> WrappedKey:
        """Wrap; it may block."""

    @abstractmethod
    def _unwrap(self, wrapped: WrappedKey, context: KeyContext) -> bytes | None:
        """Unwrap; it may block.  None where it is not this key's, or has another context."""

    @abstractmethod
    def _explain(self, error: Exception) -> MasterKeyError:
        """Say what an error of the client means, without a word that may hold a secret."""

    def _unavailable(self, what: str) -> KeyManagerUnavailable:
        return KeyManagerUnavailable(f"The key manager {self} {what}")

    def _pause(self) -> None:
        if self._problem and self._clock() < self._ask_again:
            raise KeyManagerUnavailable(self._problem)

    async def _ask(self, call: Callable[[*_Args], _T], *args: *_Args) -> _T:
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._threads, self._guarded, call, *args)
        except KeyManagerUnavailable as error:
            self._problem, self._ask_again = error.message, self._clock() + PAUSE_SECONDS
            raise
        self._problem = ""
        return answer

    def _guarded(self, call: Callable[[*_Args], _T], *args: *_Args) -> _T:
        try:
            return call(*args)
        except MasterKeyError:
            raise
        except Exception as error:  # noqa: BLE001 - each client has its own, and some leak others
            # `from None`: what a client quotes of a request may hold a token.
            raise self._explain(error) from None

    def _remember(self, wrapped: WrappedKey, context: KeyContext, dek: bytes) -> None:
        self._deks[wrapped, context] = dek
        while len(self._deks) > CACHED_DEKS:
            self._deks.popitem(last=False)

    def _not_opened(self, wrapped: WrappedKey, context: KeyContext) -> MasterKeyError:
        return MasterKeyError(
            f"Master key {wrapped.key_id!r} of {self} does not open {context}: it is not the key "
            "that wrapped it, or the row was changed"
        )


def bound(dek: bytes, context: KeyContext) -> bytes:
    """Return a DEK with the digest of its context, for services that take no associated data."""
    return dek + hashlib.sha256(context.encode()).digest()


def unbound(opened: bytes, context: KeyContext) -> bytes | None:
    """Return the DEK of `bound`; None where the context is another."""
    dek = opened[:MASTER_KEY_BYTES]
    return dek if secrets.compare_digest(opened, bound(dek, context)) else None
