"""Which key managers there are, and which of them wraps."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from mdb_engine.core.key_manager import KeyContext, KeyManager, WrappedKey
from mdb_engine.core.keyring import Keyring
from mdb_engine.exceptions import MasterKeyError
from mdb_engine.key_managers.remote import RemoteKeyManager
from mdb_engine.key_managers.uri import KeyManagerUri

__all__ = ["KeyManagers", "entries", "open_key_managers", "open_remote"]

_REMOTE = {
    "awskms": ("aws", "AwsKeyManager"),
    "azurekeyvault": ("azure", "AzureKeyManager"),
    "gcpkms": ("gcp", "GcpKeyManager"),
    "transit": ("transit", "TransitKeyManager"),
}
"""By scheme: the module, which is the name of the extra as well, and its class."""


class KeyManagers:
    """Several key managers: the first wraps, and each unwraps what is its own.

    So a master key moves from one to another: put the new one first, have everything re-wrapped,
    take the old one out.

    Raises
    ------
    MasterKeyError
        If there is none, or two would take each other's keys for theirs.
    """

    def __init__(self, managers: Sequence[KeyManager]) -> None:
        if not managers:
            raise MasterKeyError("Master key not found: no key manager is given")
        prefixes = [one.prefix for one in managers if isinstance(one, RemoteKeyManager)]
        for prefix in prefixes:
            if prefixes.count(prefix) > 1:
                raise MasterKeyError(
                    f"Two key managers call their keys {prefix}:…; add ?id=NAME to the new one"
                )
        self._managers = tuple(managers)

    def __repr__(self) -> str:
        return f"KeyManagers({', '.join(map(repr, self._managers))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyManagers) and self._managers == other._managers

    def __hash__(self) -> int:
        return hash(self._managers)

    @property
    def managers(self) -> tuple[KeyManager, ...]:
        """All of them; the first wraps."""
        return self._managers

    def owns(self, key_id: str) -> bool:
        """Whether a key is one of theirs."""
        return any(one.owns(key_id) for one in self._managers)

    async def active_key_id(self) -> str:
        """Return the id that the first wraps with."""
        return await self._managers[0].active_key_id()

    async def wrap(self, dek: bytes, context: KeyContext) -> WrappedKey:
        """Wrap with the first."""
        return await self._managers[0].wrap(dek, context)

    async def unwrap(self, wrapped: WrappedKey, context: KeyContext) -> bytes:
        """Unwrap with the one whose key it is.

        Raises
        ------
        MasterKeyError
            As that one's, or if it is nobody's.
        """
        for one in self._managers:
            if one.owns(wrapped.key_id):
                return await one.unwrap(wrapped, context)
        if len(self._managers) == 1:
            return await self._managers[0].unwrap(wrapped, context)  # which says what it has
        raise MasterKeyError(
            f"Master key not found: {wrapped.key_id!r} is of none of the key managers here "
            f"({', '.join(map(repr, self._managers))})"
        )

    async def aclose(self) -> None:
        """Let go of what they hold."""
        for one in self._managers:
            await one.aclose()


def entries(text: str) -> list[str]:
    """Take a list of key managers apart at its commas; keys of one keyring stay together."""
    found: list[str] = []
    for part in (one.strip() for one in text.split(",")):
        if found and not is_uri(part) and not is_uri(found[-1]):
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def is_uri(text: str) -> bool:
    """Tell a URI from keys in base64, in which no ``://`` can stand."""
    return "://" in text


def open_key_managers(text: str) -> KeyManager:
    """Return the key managers of a setting.

    Parameters
    ----------
    text
        One or several, separated by commas; the first wraps what is new, all unwrap. Each is a URI
        (``awskms://``, ``azurekeyvault://``, ``gcpkms://``, ``transit://``; ``file:///directory``,
        which is read once) or keys as `Keyring.parse` takes them.

    Raises
    ------
    MasterKeyError
        If one is malformed or unknown, or its client is not installed. The text is never shown.
    """
    managers = [_open(entry) for entry in entries(text)]
    return managers[0] if len(managers) == 1 else KeyManagers(managers)


def open_remote(uri: KeyManagerUri) -> RemoteKeyManager:
    """Return the key manager of a URI.

    Raises
    ------
    MasterKeyError
        If there is none of that scheme, the URI is wrong, or the client is not installed.
    """
    if uri.scheme not in _REMOTE:
        raise MasterKeyError(
            f"There is no key manager {uri.scheme}://; there are "
            f"{', '.join(f'{one}://' for one in sorted(_REMOTE))} and file:///"
        )
    module, name = _REMOTE[uri.scheme]
    try:
        found = import_module(f"mdb_engine.key_managers.{module}")
    except ModuleNotFoundError as error:
        raise MasterKeyError(
            f"{uri.scheme}:// needs the package {error.name}: install mdbapp-engine[{module}]"
        ) from None
    manager: RemoteKeyManager = getattr(found, name)(uri)
    return manager


def _open(entry: str) -> KeyManager:
    if not is_uri(entry):
        return Keyring.parse(entry)
    uri = KeyManagerUri.parse(entry)
    if uri.scheme == "file":
        return Keyring.from_directory(uri.directory)
    return open_remote(uri)
