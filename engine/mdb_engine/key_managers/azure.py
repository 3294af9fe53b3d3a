"""Azure Key Vault and Managed HSM, by azure-keyvault-keys.

``azurekeyvault://NAME.vault.azure.net/keys/KEY``. Credentials come from where azure-identity looks
(Workload Identity, a managed identity, the environment). An RSA key wraps by RSA-OAEP-256, a
symmetric one of a Managed HSM by A256KW.

Neither takes associated data, so the DEK is wrapped together with a digest of what it is for. The
id of a key has its version: after a rotation in the vault everything is re-wrapped with it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)
from azure.identity import DefaultAzureCredential
from azure.keyvault.keys import KeyClient, KeyVaultKey
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm

from mdb_engine.core.key_manager import KeyContext, WrappedKey
from mdb_engine.exceptions import MasterKeyError
from mdb_engine.key_managers.remote import (
    CALL_SECONDS,
    CONNECT_SECONDS,
    RemoteKeyManager,
    bound,
    unbound,
)
from mdb_engine.key_managers.uri import KeyManagerUri

__all__ = ["AzureKeyManager"]

_LIMITS = {"connection_timeout": CONNECT_SECONDS, "read_timeout": CALL_SECONDS, "retry_total": 1}


class AzureKeyManager(RemoteKeyManager):
    """Wraps with a key of a vault.

    Parameters
    ----------
    uri
        Where the key is.
    credential
        By default what azure-identity finds.
    **options
        Of the clients.
    """

    def __init__(self, uri: KeyManagerUri, credential: Any = None, **options: Any) -> None:
        super().__init__(uri)
        uri.only()
        kind, _, self._name = uri.path.partition("/")
        if not uri.host or kind != "keys" or not self._name or "/" in self._name:
            raise MasterKeyError("azurekeyvault:// needs azurekeyvault://VAULT/keys/KEY")
        self._vault = f"https://{uri.host}"
        self._options = {**_LIMITS, **options}
        self._credential = credential or DefaultAzureCredential()
        self._keys = KeyClient(self._vault, self._credential, **self._options)
        self._versions: dict[str, tuple[CryptographyClient, KeyWrapAlgorithm]] = {}

    def _wrap(self, dek: bytes, context: KeyContext) -> WrappedKey:
        key = self._keys.get_key(self._name)  # asked each time: the newest version wraps
        version = str(key.properties.version)
        client, algorithm = self._with(version, key)
        answer = client.wrap_key(algorithm, bound(dek, context))
        return WrappedKey(f"{self.prefix}:{self._name}:{version}", bytes(answer.encrypted_key))

    def _unwrap(self, wrapped: WrappedKey, context: KeyContext) -> bytes | None:
        name, _, version = wrapped.key_id.partition(":")[2].rpartition(":")
        if name != self._name:
            return None
        client, algorithm = self._with(version)
        try:
            answer = client.unwrap_key(algorithm, wrapped.ciphertext)
        except HttpResponseError as error:
            if error.status_code == HTTPStatus.BAD_REQUEST:
                return None
            raise
        return unbound(bytes(answer.key), context)

    def _with(
        self, version: str, key: KeyVaultKey | None = None
    ) -> tuple[CryptographyClient, KeyWrapAlgorithm]:
        """Return what works with a version of the key."""
        if version not in self._versions:
            found = key or self._keys.get_key(self._name, version)
            symmetric = str(found.key_type).startswith("oct")
            algorithm = KeyWrapAlgorithm.aes_256 if symmetric else KeyWrapAlgorithm.rsa_oaep_256
            client = CryptographyClient(found, self._credential, **self._options)
            self._versions[version] = (client, algorithm)
        return self._versions[version]

    def _explain(self, error: Exception) -> MasterKeyError:
        if isinstance(error, ClientAuthenticationError):
            return self._unavailable(
                "refuses, or Entra ID does: its credentials are missing or have expired"
            )
        if isinstance(error, ResourceNotFoundError):
            return self._unavailable("has no such key, or no such version of it")
        if isinstance(error, HttpResponseError) and error.status_code == HTTPStatus.FORBIDDEN:
            return self._unavailable(
                "refuses: give its identity the role Key Vault Crypto User, and see whether the "
                "key is enabled and the vault's firewall lets it in"
            )
        return self._unavailable(f"does not answer ({type(error).__name__})")
