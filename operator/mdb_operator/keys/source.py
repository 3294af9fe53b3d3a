"""Where the operator's master keys are, and how a change of them is noticed.

In the entries of a Secret in the operator's own namespace, asked for by name every few seconds; in
a directory with the same entries as files; or in a service that wraps and unwraps. All are looked
at again and again because a master key must change without a restart: a new key is added and made
active while the old one still opens what has not been wrapped anew.

It fails closed. A keyring that has become missing or malformed is not replaced by the one that was
read before: the apps say ``KeyUnavailable`` until somebody repairs it. Only a silent API server,
which says nothing about the keyring, changes nothing.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.key_manager import KeyManager
from mdb_engine.core.keyring import ACTIVE_FILE, Keyring, generate_master_key
from mdb_engine.exceptions import MasterKeyError
from mdb_engine.key_managers import KeyManagers, RemoteKeyManager
from mdb_operator.exceptions import ConfigurationInvalid, Conflict, KubernetesError
from mdb_operator.kubernetes.secrets import SecretMetadata, SecretStore, StoredSecret

__all__ = [
    "DirectoryKeySource",
    "KeySource",
    "KeyringSource",
    "MasterKeys",
    "MissingKeyring",
    "RemoteKeySource",
    "SecretKeySource",
]

CHECK_SECONDS = 30.0
"""How often a service that works is asked whether it still does: two calls each time."""

OTHER_WRITERS = {
    "reconcile.external-secrets.io/managed": "External Secrets",
    "secrets-store.csi.k8s.io/managed": "the Secrets Store CSI driver",
    "argocd.argoproj.io/instance": "Argo CD",
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}
"""By label or annotation: who puts a Secret back to what it holds itself."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a source of keys found."""

    manager: KeyManager | None  # says itself why it cannot be used; None before the first look
    state: object  # differs where apps have to be looked at again
    problem: str = ""
    ids: tuple[str, ...] = ()
    active: str = ""


class KeySource(ABC):
    """A place that holds master keys, by the name that metrics have for it."""

    name: str

    @abstractmethod
    async def look(self) -> Look:
        """Look at it as it is now."""


class KeyringSource(KeySource):
    """A place that holds a keyring."""

    @abstractmethod
    async def load(self) -> Keyring:
        """Read the keyring as it is now; `MasterKeyError` if there is no usable one."""

    async def look(self) -> Look:
        """Read the keyring; where there is no usable one, nothing of what was before is used."""
        try:
            found = await self.load()
        except MasterKeyError as error:
            return Look(MissingKeyring(error.message), error.message, problem=error.message)
        return Look(found, found, ids=found.ids, active=found.active_id)


class RemoteKeySource(KeySource):
    """A service, which is asked from time to time whether it still wraps and unwraps, and as what.

    One that fails is asked at every look, as apps may wait for it.
    """

    def __init__(
        self, manager: RemoteKeyManager, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.manager = manager
        self.name = manager.prefix
        self._clock = clock
        self._next = 0.0
        self._look = Look(manager, "")

    async def look(self) -> Look:
        """Ask, where it is time to."""
        if not self._look.problem and self._clock() < self._next:
            return self._look
        try:
            active = await self.manager.check()
        except MasterKeyError as error:
            self._look = Look(self.manager, "down", problem=error.message)
        else:
            ids = (str(self.manager),)
            self._look = Look(self.manager, (active,), ids=ids, active=active)
            self._next = self._clock() + CHECK_SECONDS
        return self._look


class DirectoryKeySource(KeyringSource):
    """A directory, as kubelet or a CSI driver mounts it.

    It has one file per key, named by its id, and ``active`` with the id of the active one.
    """

    name = "file"

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def load(self) -> Keyring:
        """Read the keyring as it is now."""
        return await asyncio.to_thread(Keyring.from_directory, self._directory)


class SecretKeySource(KeyringSource):
    """A Secret in the operator's namespace, in the format of `DirectoryKeySource`."""

    name = "secret"

    def __init__(self, store: SecretStore, namespace: str, name: str) -> None:
        self._store = store
        self._namespace = namespace
        self._name = name

    async def load(self) -> Keyring:
        """Read the keyring as it is now."""
        return _parse(await self._read())

    async def add_key(self, key_id: str | None = None) -> tuple[str, Keyring]:
        """Add a new random key, which wraps nothing yet; return its id and the new keyring.

        The id is by default ``k-`` and the time in UTC. `activate` it once it has stayed: what is
        wrapped with a key that somebody takes out of the Secret again can never be opened.

        Raises
        ------
        MasterKeyError
            If there is no usable keyring yet, or the id is taken.
        ConfigurationInvalid
            If another controller writes the Secret, and would undo it.
        Conflict
            If somebody else changed the Secret at the same moment.
        """
        secret = await self._read_to_write()
        keyring = _parse(secret)
        active = keyring.active_id.encode()  # which goes without saying where it is the only one
        key_id = key_id or f"k-{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}"
        if key_id in keyring.ids:
            raise MasterKeyError(f"A master key {key_id!r} exists already; choose another id")
        entries = {key_id: generate_master_key().encode(), ACTIVE_FILE: active}
        # What would be unreadable must never be written: parse the outcome first.
        changed = Keyring.from_files(_texts({**secret.data, **entries}))
        await self._store.set_entries(secret.metadata, entries)
        return key_id, changed

    async def require_kept(self, expected: Keyring) -> SecretMetadata:
        """Read back that the keyring is the expected one; return the Secret's metadata.

        Raises
        ------
        ConfigurationInvalid
            If somebody has changed it.
        """
        secret = await self._read_to_write()
        if _parse(secret) != expected:
            raise ConfigurationInvalid(
                f"somebody else changed the Secret {self._namespace}/{self._name} meanwhile, and "
                "the new key was not made active: nothing is wrapped with it. Find out who writes "
                "the Secret (kubectl get secret --show-managed-fields); if another tool does, add "
                "the key where that takes it from, then run `mdb-operator rotate-master-key "
                "--resume`."
            )
        return secret.metadata

    async def activate(self, key_id: str, expected: Keyring) -> Keyring:
        """Make a key of the expected keyring the active one; return the new keyring.

        Raises
        ------
        ConfigurationInvalid
            As `require_kept`.
        Conflict
            If somebody changed the Secret at the same moment.
        """
        metadata = await self.require_kept(expected)
        await self._store.set_entries(metadata, {ACTIVE_FILE: key_id.encode()})
        return expected.with_active(key_id)

    async def remove_inactive(self, expected: Keyring) -> tuple[str, ...]:
        """Remove every key but the active one; return their ids.

        Nothing must be wrapped with them any more: the caller has checked that for the expected
        keyring, and it is a `Conflict` if it has changed since.
        """
        secret = await self._read_to_write()
        if _parse(secret) != expected:
            raise Conflict(f"Secret {self._namespace}/{self._name} changed; check again")
        old = tuple(key_id for key_id in expected.ids if key_id != expected.active_id)
        if old:
            entries = {**dict.fromkeys(old), ACTIVE_FILE: expected.active_id.encode()}
            await self._store.set_entries(secret.metadata, entries)
        return old

    async def _read_to_write(self) -> StoredSecret:
        secret = await self._read()
        other = _other_writer(secret.metadata)
        if other is not None:
            raise ConfigurationInvalid(
                f"{other} writes the Secret {self._namespace}/{self._name}, and would undo any "
                "change of it. Add the new key and make it `active` where that takes it from, keep "
                "the old one there, then run `mdb-operator rotate-master-key --resume`; take the "
                "old one out after that."
            )
        return secret

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

    def owns(self, key_id: str) -> bool:
        """Take the keys of any keyring for its own: nobody knows which it had."""
        return ":" not in key_id

    def key(self, key_id: str) -> bytes:
        """Raise `MasterKeyError`: nothing can be opened."""
        raise MasterKeyError(f"{self._problem} (wanted: {key_id!r})")


class MasterKeys:
    """The key managers that this process uses, kept up to date.

    `encryption` is what the registry seals and opens with; a change of a keyring reaches it at
    once, and so does the loss of it. A service that does not answer stays: it opens from memory
    what it has opened before, and says itself why it does nothing else.
    """

    def __init__(
        self,
        sources: Sequence[KeySource],
        *,
        interval: float,  # in seconds
        show: Callable[[str, bool], None] = lambda _name, _usable: None,
    ) -> None:
        self._sources = tuple(sources)
        self._interval = interval
        self._show = show
        self.on_change: Callable[[], None] | None = None
        """Told, in the main loop, when a key manager changed, became unusable, or usable again."""
        self._looks: list[Look] = [Look(None, None) for _ in self._sources]
        self.encryption = EnvelopeEncryptionService(
            MissingKeyring("Master key not found: it has not been read yet")
        )

    @property
    def usable(self) -> bool:
        """Whether any source could be used at the last look; `on_change` tells when one can."""
        return not all(look.problem for look in self._looks)

    async def refresh(self) -> None:
        """Look once.

        Raises
        ------
        KubernetesError
            If the API server cannot say; what was known before stays.
        """
        looks = [await source.look() for source in self._sources]
        managers = [look.manager for look in looks if look.manager is not None]
        self.encryption.use(managers[0] if len(managers) == 1 else KeyManagers(managers))
        changed = False
        for source, look, before in zip(self._sources, looks, self._looks, strict=True):
            self._show(source.name, not look.problem)
            if look.problem and look.problem != before.problem:
                _log.error("The master key is not usable", error=look.problem)
            if look.state != before.state:
                changed = True
                if not look.problem:
                    _log.info("Master key loaded", ids=look.ids, active=look.active)
        self._looks = looks
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

    async def aclose(self) -> None:
        """Let go of the threads of services."""
        for source in self._sources:
            if isinstance(source, RemoteKeySource):
                await source.manager.aclose()


def _other_writer(metadata: SecretMetadata) -> str | None:
    """Return who else writes a Secret, None where nobody is known to."""
    controller = metadata.controller
    if controller is not None:
        return f"{controller.get('kind')} {controller.get('name')}"
    marks = {**metadata.labels, **metadata.annotations}
    return next((who for mark, who in OTHER_WRITERS.items() if mark in marks), None)


def _parse(secret: StoredSecret) -> Keyring:
    return Keyring.from_files(_texts(secret.data))


def _texts(data: Mapping[str, bytes]) -> dict[str, str]:
    try:
        return {key: value.decode("ascii") for key, value in data.items()}
    except UnicodeDecodeError:
        raise MasterKeyError("An entry of the master key Secret is not base64 text") from None
