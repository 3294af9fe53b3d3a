"""Google Cloud KMS, by google-cloud-kms over its REST protocol.

``gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K``; ``endpoint=`` names another host, such
as one of Private Service Connect. Credentials come from where Google's clients look (Workload
Identity, ``GOOGLE_APPLICATION_CREDENTIALS``).

The id of a key has the number of the version that wrapped, so a new primary version is found at the
next look and everything is re-wrapped with it; then the old version can be disabled.
"""

from __future__ import annotations

import re

import google.auth.exceptions
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.cloud import kms_v1

from mdb_engine.core.key_manager import KeyContext, WrappedKey
from mdb_engine.exceptions import MasterKeyError
from mdb_engine.key_managers.remote import CALL_SECONDS, RemoteKeyManager
from mdb_engine.key_managers.uri import KeyManagerUri

__all__ = ["GcpKeyManager"]

_KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/([^/]+)")


class GcpKeyManager(RemoteKeyManager):
    """Wraps with a symmetric key of Cloud KMS."""

    def __init__(self, uri: KeyManagerUri) -> None:
        super().__init__(uri)
        uri.only("endpoint")
        self._key = f"{uri.host}/{uri.path}"
        found = _KEY.fullmatch(self._key)
        if found is None:
            raise MasterKeyError(
                "gcpkms:// needs gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K"
            )
        self._name = found[1]
        self._endpoint = uri.options.get("endpoint") or None
        self._made: kms_v1.KeyManagementServiceClient | None = None

    @property
    def _client(self) -> kms_v1.KeyManagementServiceClient:
        if self._made is None:  # here, because it looks for credentials, which may take its time
            self._made = kms_v1.KeyManagementServiceClient(
                transport="rest", client_options=ClientOptions(api_endpoint=self._endpoint)
            )
        return self._made

    def _wrap(self, dek: bytes, context: KeyContext) -> WrappedKey:
        request = kms_v1.EncryptRequest(
            name=self._key, plaintext=dek, additional_authenticated_data=context.encode()
        )
        answer = self._client.encrypt(request, retry=None, timeout=CALL_SECONDS)
        version = answer.name.rpartition("/")[2]  # .../cryptoKeyVersions/3
        return WrappedKey(f"{self.prefix}:{self._name}:{version}", bytes(answer.ciphertext))

    def _unwrap(self, wrapped: WrappedKey, context: KeyContext) -> bytes | None:
        request = kms_v1.DecryptRequest(
            name=self._key,
            ciphertext=wrapped.ciphertext,
            additional_authenticated_data=context.encode(),
        )
        try:
            answer = self._client.decrypt(request, retry=None, timeout=CALL_SECONDS)
        except exceptions.BadRequest as error:
            if _status(error) == "INVALID_ARGUMENT":
                return None
            raise
        return bytes(answer.plaintext)

    def _explain(self, error: Exception) -> MasterKeyError:
        if isinstance(error, exceptions.Unauthorized | google.auth.exceptions.RefreshError):
            return self._unavailable("refuses: its credentials have expired or are unknown")
        if isinstance(error, exceptions.Forbidden):
            return self._unavailable(
                "refuses: give its account roles/cloudkms.cryptoKeyEncrypterDecrypter on the key"
            )
        if isinstance(error, exceptions.NotFound):
            return self._unavailable("has no such key")
        if _status(error) == "FAILED_PRECONDITION":
            return self._unavailable("has disabled or destroyed that version: enable it")
        if isinstance(error, google.auth.exceptions.DefaultCredentialsError):
            return self._unavailable("cannot be asked: there are no Google credentials")
        return self._unavailable(f"does not answer ({type(error).__name__})")


def _status(error: Exception) -> str:
    """Return the canonical status of an answer, of which HTTP's 400 stands for several."""
    try:
        return str(error.response.json()["error"]["status"])  # type: ignore[attr-defined]
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""
