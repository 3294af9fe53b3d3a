"""AWS KMS, by boto3.

``awskms:///<key id | alias/name | ARN>?region=eu-central-1``. Credentials and, where no ``region=``
is given, the region come from where boto3 looks: the pod's role (IRSA, Pod Identity), the
environment, files. ``AWS_ENDPOINT_URL_KMS`` names another endpoint.

KMS's own rotation keeps the key's id and opens what older material wrapped, so nothing is to be
re-wrapped after it. Another key, or an alias that was moved to one, has another id.
"""

from __future__ import annotations

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from mdb_engine.core.key_manager import KeyContext, WrappedKey
from mdb_engine.exceptions import MasterKeyError
from mdb_engine.key_managers.remote import (
    CALL_SECONDS,
    CONNECT_SECONDS,
    THREADS,
    RemoteKeyManager,
)
from mdb_engine.key_managers.uri import KeyManagerUri

__all__ = ["AwsKeyManager"]

_WRONG = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})

_WHAT_TO_DO = {
    "AccessDeniedException": "allow its role kms:Encrypt and kms:Decrypt on the key",
    "DisabledException": "enable the key",
    "ExpiredTokenException": "its credentials have expired: renew them",
    "IncompleteSignature": "its credentials are malformed",
    "InvalidClientTokenId": "its credentials are unknown: renew them",
    "KMSInvalidStateException": "the key is disabled or is to be deleted: enable it",
    "NotFoundException": "there is no such key in that region and account",
    "UnrecognizedClientException": "its credentials are unknown or have expired: renew them",
}
"""By the code of KMS's error."""


class AwsKeyManager(RemoteKeyManager):
    """Wraps with a symmetric key of AWS KMS."""

    def __init__(self, uri: KeyManagerUri) -> None:
        super().__init__(uri)
        uri.only("region")
        # An ARN has slashes and colons, and may stand with two slashes before it or with three.
        self._key = f"{uri.host}/{uri.path}".strip("/") if uri.host else uri.path
        if not self._key:
            raise MasterKeyError("awskms:// names no key; write awskms:///alias/NAME?region=REGION")
        region = uri.options.get("region") or None
        if self._key.startswith("arn:"):
            region = region or self._key.split(":")[3]
        try:
            self._client = boto3.session.Session().client(
                "kms",
                region_name=region,
                config=Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=CALL_SECONDS,
                    retries={"total_max_attempts": 2, "mode": "standard"},
                    max_pool_connections=THREADS,
                ),
            )
        except NoRegionError:
            raise MasterKeyError(f"{uri}: add ?region=, or set AWS_REGION") from None

    def _wrap(self, dek: bytes, context: KeyContext) -> WrappedKey:
        answer = self._client.encrypt(
            KeyId=self._key, Plaintext=dek, EncryptionContext=_encryption_context(context)
        )
        key = str(answer["KeyId"]).rpartition("/")[2]
        return WrappedKey(f"{self.prefix}:{key}", bytes(answer["CiphertextBlob"]))

    def _unwrap(self, wrapped: WrappedKey, context: KeyContext) -> bytes | None:
        key = wrapped.key_id.partition(":")[2]
        if self._key.startswith("arn:"):  # maybe of another account, where an id alone is nothing
            key = f"{self._key.rpartition(':')[0]}:key/{key}"
        try:
            answer = self._client.decrypt(
                KeyId=key,
                CiphertextBlob=wrapped.ciphertext,
                EncryptionContext=_encryption_context(context),
            )
        except ClientError as error:
            if _code(error) in _WRONG:
                return None
            raise
        return bytes(answer["Plaintext"])

    def _explain(self, error: Exception) -> MasterKeyError:
        if isinstance(error, ClientError):
            code = _code(error)
            what = _WHAT_TO_DO.get(code, "see its log")
            return self._unavailable(f"refuses ({code}): {what}")
        if isinstance(error, NoCredentialsError):
            return self._unavailable("cannot be asked: there are no AWS credentials")
        if isinstance(error, BotoCoreError):
            return self._unavailable(f"does not answer ({type(error).__name__})")
        return self._unavailable(f"cannot be asked ({type(error).__name__})")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _encryption_context(context: KeyContext) -> dict[str, str]:
    """Return what KMS binds and writes into CloudTrail, so that it says whose key was opened."""
    return {
        "mdb-engine:app": context.slug,
        "mdb-engine:version": str(context.version),
        "mdb-engine:dek": context.dek_id,
    }
