"""Where the operator's keyring comes from, and how a change of it is noticed.

Either the entries of a Secret in the operator's own namespace, asked for by name every few seconds,
or a directory with the same entries as files. Both are looked at again and again because a keyring
must change without a restart: a new key is added and made active while the old one still opens
what has not been wrapped anew.

It fails closed. A keyring that has become missing or malformed is not replaced by the one that was
read before: the apps say ``KeyUnavailable`` until somebody repairs it. Only a silent API server,
which says nothing about the keyring, changes nothing.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import structlog

from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.keyring import ACTIVE_FILE, Keyring, generate_master_key
from mdb_engine.exceptions import MasterKeyError
from mdb_operator.exceptions import Conflict, KubernetesError
from mdb_operator.kubernetes.secrets import SecretStore, StoredSecret

__all__ = [
    "DirectoryKeySource",
    "KeySource",
    "MasterKeys",
    "MissingKeyring",
    "SecretKeySource",
]

_log = structlog.get_logger(__name__)


class KeySource(Protocol):
    """A place that holds the keyring."""

    async def load(self) -> Keyring:
        """Read the keyring as it is now; `MasterKeyError` if there is no usable one."""


class DirectoryKeySource:
    """A directory, as kubelet or a CSI driver mounts it.

    It has one file per key, named by its id, and ``active`` with the id of the active one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def load(self) -> Keyring:
        """Read the keyring as it is now."""
        return await asyncio.to_thread(Keyring.from_directory, self._directory)


class SecretKeySource:
    """A Secret in the operator's namespace, in the format of `DirectoryKeySource`."""

    def __init__(self, store: SecretStore, namespace: str, name: str) -> None:
        self._store = store
        self._namespace = namespace
        self._name = name

    async def load(self) -> Keyring:
        """Read the keyring as it is now."""
        return _parse(await self._read())

    async def add_key(self, key_id: str | None = None) -> Keyring:
        """Add a new random key and make it the active one; the others stay. Return the new keyring.

        The id is by default ``k-`` and the time in UTC.

        Raises
        ------
        MasterKeyError
            If there is no usable keyring yet, or the id is taken.
        Conflict
            If somebody else changed the Secret at the same moment.
        """
        secret = await self._read()
        keyring = _parse(secret)
        key_id = key_id or f"k-{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}"
        if key_id in keyring.ids:
            raise MasterKeyError(f"A master key {key_id!r} exists already; choose another id")
        entries = {key_id: generate_master_key().encode(), ACTIVE_FILE: key_id.encode()}
        # What would be unreadable must never be written: parse the outcome first.
        changed = Keyring.from_files(_texts({**secret.data, **entries}))
        await self._store.set_entries(secret.metadata, entries)
        return changed

    async def remove_inactive(self, expected: Keyring) -> tuple[str, ...]:
        """Remove every key but the active one; return their ids.

        Nothing must be wrapped with them any more: the caller has checked that for the expected
        keyring, and it is a `Conflict` if it has changed since.
        """
        secret = await self._read()
        if _parse(secret) != expected:
            raise Conflict(f"Secret {self._namespace}/{self._name} changed; check again")
        old = tuple(key_id for key_id in expected.ids if key_id != expected.active_id)
        if old:
            entries = {**dict.fromkeys(old), ACTIVE_FILE: expected.active_id.encode()}
            await self._store.set_entries(secret.metadata, entries)
        return old

    async def _read(self) -> StoredSecret:
        secret = await self._store.read(self._namespace, self._name)
        if secret is None:
            raise MasterKeyError(
                f"Master key not found: there is no Secret {self._namespace}/{self._name}. "
                "Restore it from your backup: without it no app's secret can be opened."
            )
        return secret


class MissingKeyring(Keyring):
    """Stands where there is no usable keyring: whoever asks it for a key is told why."""

    def __init__(self, problem: str) -> None:
        self._problem = problem
        self._keys = {}
        self._active = ""

    @property
    def active_id(self) -> str:
        """Raise `MasterKeyError`: nothing may be sealed."""
        raise MasterKeyError(self._problem)

    def key(self, key_id: str) -> bytes:
        """Raise `MasterKeyError`: nothing can be opened."""
        raise MasterKeyError(f"{self._problem} (wanted: {key_id!r})")


class MasterKeys:
    """The keyring that this process uses, kept up to date.

    `encryption` is what the registry seals and opens with; a change of the keyring reaches it at
    once, and so does the loss of it.
    """

    def __init__(self, source: KeySource, *, interval: float) -> None:  # in seconds
        self._source = source
        self._interval = interval
        self.on_change: Callable[[], None] | None = None
        """Told, in the main loop, when the keyring changed, became unusable, or usable again."""
        self._keyring: Keyring | None = None
        self._problem = "Master key not found: it has not been read yet"
        self.encryption = EnvelopeEncryptionService(MissingKeyring(self._problem))

    async def refresh(self) -> None:
        """Look once.

        Raises
        ------
        KubernetesError
            If the API server cannot say; what was known before stays.
        """
        try:
            found = await self._source.load()
        except MasterKeyError as error:
            changed = self._keyring is not None or error.message != self._problem
            self._keyring, self._problem = None, error.message
            self.encryption.use(MissingKeyring(error.message))
            if changed:
                _log.error("The master key is not usable", error=error.message)
        else:
            changed = found != self._keyring
            self._keyring = found
            self.encryption.use(found)
            if changed:
                _log.info("Master key loaded", ids=found.ids, active=found.active_id)
        if changed and self.on_change is not None:
            self.on_change()

    async def run(self) -> None:
        """Keep looking until cancelled."""
        while True:
            try:
                await self.refresh()
            except KubernetesError as error:
                _log.warning("The master key could not be looked at", error=error.message)
            await asyncio.sleep(self._interval)


def _parse(secret: StoredSecret) -> Keyring:
    return Keyring.from_files(_texts(secret.data))


def _texts(data: Mapping[str, bytes]) -> dict[str, str]:
    try:
        return {key: value.decode("ascii") for key, value in data.items()}
    except UnicodeDecodeError:
        raise MasterKeyError("An entry of the master key Secret is not base64 text") from None
