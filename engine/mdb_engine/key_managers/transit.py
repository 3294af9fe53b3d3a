"""The Transit engine of OpenBao or HashiCorp Vault, by hvac.

``transit://host:8200/<mount>/<key>``, over HTTPS. Options: ``auth`` (``token``, by default;
``kubernetes``, ``approle``), ``authMount``, ``role`` (of ``kubernetes``), ``namespace``, ``ca``
(a PEM file), ``tokenFile`` (what an agent writes), ``jwtFile``, ``tls=false`` (for a test).

What is secret comes from the environment: ``VAULT_TOKEN`` or ``BAO_TOKEN``; ``VAULT_ROLE_ID`` and
``VAULT_SECRET_ID``. A token that is refused is fetched anew once: by a login, or from its file.

After ``bao write -f transit/keys/KEY/rotate`` the next look finds the new version, and everything
is re-wrapped with it; then ``min_decryption_version`` can be raised.
"""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hvac
import hvac.exceptions
import requests

from mdb_engine.core.key_manager import KeyContext, WrappedKey
from mdb_engine.exceptions import MasterKeyError
from mdb_engine.key_managers.remote import (
    CALL_SECONDS,
    CONNECT_SECONDS,
    RemoteKeyManager,
)
from mdb_engine.key_managers.uri import KeyManagerUri

__all__ = ["TransitKeyManager"]

SERVICE_ACCOUNT_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path
"""What ``auth=kubernetes`` presents, where ``jwtFile=`` says nothing else."""

_REFUSED = (hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized)

_WRONG = ("authentication failed", "invalid ciphertext")
"""What a 400 says of a ciphertext that is not the key's; it has no code."""

_OPTIONS = ("auth", "authMount", "ca", "jwtFile", "namespace", "role", "tls", "tokenFile")


class TransitKeyManager(RemoteKeyManager):
    """Wraps with an AEAD key of a Transit engine, such as ``aes256-gcm96``."""

    def __init__(self, uri: KeyManagerUri) -> None:
        super().__init__(uri)
        uri.only(*_OPTIONS)
        self._options = uri.options
        self._mount, _, self._key = uri.path.rpartition("/")
        if not uri.host or not self._mount or not self._key:
            raise MasterKeyError("transit:// needs transit://HOST:PORT/MOUNT/KEY")
        method = uri.options.get("auth", "token")
        if method not in _LOGINS:
            raise MasterKeyError(f"{uri}: auth is one of {', '.join(_LOGINS)}, not {method!r}")
        if method == "kubernetes" and not uri.options.get("role"):
            raise MasterKeyError(f"{uri}: auth=kubernetes needs role=")
        self._login = _LOGINS[method]
        plain = uri.options.get("tls", "true").lower() == "false"
        self._client = hvac.Client(
            url=f"{'http' if plain else 'https'}://{uri.host}",
            token="",
            verify=uri.options.get("ca") or True,
            timeout=(CONNECT_SECONDS, CALL_SECONDS),
            namespace=uri.options.get("namespace") or None,
        )
        self._logging_in = threading.Lock()

    def _wrap(self, dek: bytes, context: KeyContext) -> WrappedKey:
        answer = self._with_token(
            lambda: self._client.secrets.transit.encrypt_data(
                self._key,
                plaintext=_text(dek),
                associated_data=_text(context.encode()),
                mount_point=self._mount,
            )
        )
        ciphertext = str(answer["data"]["ciphertext"])
        version = ciphertext.split(":")[1]  # vault:v1:...
        return WrappedKey(f"{self.prefix}:{self._key}:{version}", ciphertext.encode("ascii"))

    def _unwrap(self, wrapped: WrappedKey, context: KeyContext) -> bytes | None:
        try:
            ciphertext = wrapped.ciphertext.decode("ascii")
        except UnicodeDecodeError:
            return None
        try:
            answer = self._with_token(
                lambda: self._client.secrets.transit.decrypt_data(
                    self._key,
                    ciphertext=ciphertext,
                    associated_data=_text(context.encode()),
                    mount_point=self._mount,
                )
            )
        except hvac.exceptions.InvalidRequest as error:
            if any(said in str(error) for said in _WRONG):
                return None
            raise
        return base64.b64decode(answer["data"]["plaintext"])

    def _with_token(self, call: Callable[[], Any]) -> Any:
        """Call; where the token is refused, fetch it anew and call once more."""
        token = self._client.token
        if token:
            try:
                return call()
            except _REFUSED:
                pass
        with self._logging_in:
            if self._client.token == token:  # else another thread was faster
                self._client.token = self._log_in()
        return call()

    def _log_in(self) -> str:
        try:
            return self._login(self._client, self._options)
        except (*_REFUSED, hvac.exceptions.InvalidRequest):
            raise self._unavailable(
                "refuses the login: what it presents has expired, or is unknown or not allowed"
            ) from None

    def _explain(self, error: Exception) -> MasterKeyError:
        if isinstance(error, _REFUSED):
            return self._unavailable(
                "refuses: its token has expired or may not use the key. Renew the token, and allow "
                f"it 'update' on {self._mount}/encrypt/{self._key} and "
                f"{self._mount}/decrypt/{self._key}"
            )
        if isinstance(error, hvac.exceptions.InvalidRequest):
            if "too old" in str(error):
                return self._unavailable("has a min_decryption_version above that of a secret")
            return self._unavailable("calls the request invalid: is there such a key, of an AEAD?")
        if isinstance(error, hvac.exceptions.InvalidPath):
            return self._unavailable(f"has no Transit engine at {self._mount}/, or no such key")
        if isinstance(error, hvac.exceptions.VaultDown):
            return self._unavailable("is sealed or not ready: unseal it")
        if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
            return self._unavailable(f"cannot be logged into: {error.filename}: {error.strerror}")
        return self._unavailable(f"does not answer ({type(error).__name__})")


def _by_token(_: hvac.Client, options: Any) -> str:
    if options.get("tokenFile"):
        return Path(options["tokenFile"]).read_text(encoding="ascii").strip()
    return os.environ.get("BAO_TOKEN") or os.environ.get("VAULT_TOKEN") or ""


def _by_kubernetes(client: hvac.Client, options: Any) -> str:
    jwt = Path(options.get("jwtFile") or SERVICE_ACCOUNT_TOKEN).read_text(encoding="ascii").strip()
    mount = options.get("authMount", "kubernetes")
    return _token(
        client.auth.kubernetes.login(options["role"], jwt, use_token=False, mount_point=mount)
    )


def _by_approle(client: hvac.Client, options: Any) -> str:
    return _token(
        client.auth.approle.login(
            os.environ.get("VAULT_ROLE_ID", ""),
            os.environ.get("VAULT_SECRET_ID") or None,
            use_token=False,
            mount_point=options.get("authMount", "approle"),
        )
    )


def _token(answer: Any) -> str:
    return str(answer["auth"]["client_token"])


_LOGINS: dict[str, Callable[[hvac.Client, Any], str]] = {
    "approle": _by_approle,
    "kubernetes": _by_kubernetes,
    "token": _by_token,
}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
