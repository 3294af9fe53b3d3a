"""The certificates for TLS to MongoDB: files that kubelet mounts, and replaces.

The operator's own go to its driver and nowhere else; `ConnectionFiles` follows them. The
authorities and the apps' certificate go into every projected Secret, so they are read again each
time, as is the authority that certifies apps. A file that cannot be used changes nothing until it
can.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog
from pydantic import SecretStr

from mdb_operator.config import ENV_PREFIX, Config
from mdb_operator.exceptions import ConfigurationInvalid
from mdb_operator.mongodb.issuer import Issuer, UnusableIssuer, load_issuer

__all__ = ["CertificateFiles", "Certificates", "driver_options", "own_certificates"]

_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_KEY = "PRIVATE KEY-----"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Certificates:
    """What apps need for TLS to MongoDB, in PEM; empty where there is nothing."""

    authorities: str = ""  # whom to trust
    # With its key; one that all apps share, and never the operator's.
    client: SecretStr = field(default=SecretStr(""))
    issuer: str = ""  # who certifies each app by itself; empty: nobody


def driver_options(config: Config) -> dict[str, Any]:
    """Return the options of the driver for the operator's own connection.

    Raises
    ------
    ConfigurationInvalid
        If a file cannot be read or does not hold what it should.
    """
    own_certificates(config)
    options: dict[str, Any] = {}
    if config.mongodb_tls_ca_file is not None:
        options |= {"tls": True, "tlsCAFile": str(config.mongodb_tls_ca_file)}
    if config.mongodb_tls_certificate_file is not None:
        options |= {"tls": True, "tlsCertificateKeyFile": str(config.mongodb_tls_certificate_file)}
    return options


def own_certificates(config: Config) -> str:
    """Return what the files of the operator's own connection hold, its private key included.

    Raises
    ------
    ConfigurationInvalid
        If a file cannot be read or does not hold what it should.
    """
    text = ""
    if config.mongodb_tls_ca_file is not None:
        text += _authorities(config.mongodb_tls_ca_file)
    if config.mongodb_tls_certificate_file is not None:
        text += _pair(config.mongodb_tls_certificate_file, "MONGODB_TLS_CERTIFICATE_FILE")
    return text


class CertificateFiles:
    """What apps are given, as it is mounted now.

    Raises
    ------
    ConfigurationInvalid
        If a file cannot be read or does not hold what it should.
    """

    def __init__(self, config: Config) -> None:
        self._ca_file = config.mongodb_tls_ca_file
        self._apps_file = config.mongodb_apps_certificate_file
        self._issuer_dir = config.mongodb_apps_issuer_dir
        self.issuer: Issuer | None = None  # that of what was read last
        self._read = self._fresh()
        self._problem: str | None = None

    def read(self) -> Certificates:
        """Return the certificates, or those of before where a file cannot be used now."""
        try:
            self._read, self._problem = self._fresh(), None
        except ConfigurationInvalid as error:
            if str(error) != self._problem:
                self._problem = str(error)
                _log.warning("Apps keep the certificates that they have", error=self._problem)
        return self._read

    def _fresh(self) -> Certificates:
        authorities = _authorities(self._ca_file) if self._ca_file else ""
        client = _pair(self._apps_file, "MONGODB_APPS_CERTIFICATE_FILE") if self._apps_file else ""
        if self._issuer_dir is None:
            return Certificates(authorities, SecretStr(client))
        self.issuer = _issuer(self._issuer_dir)
        return Certificates(authorities, SecretStr(client), self.issuer.key_id)


def _issuer(directory: Path) -> Issuer:
    setting = "MONGODB_APPS_ISSUER_DIR"
    chain, key = _text(directory / "tls.crt", setting), _text(directory / "tls.key", setting)
    try:
        return load_issuer(chain, key)
    except ValueError as error:
        # `from None`: what the parser says may quote the file.
        reason = str(error) if isinstance(error, UnusableIssuer) else "it is not valid PEM"
        raise ConfigurationInvalid(f"{ENV_PREFIX}{setting}: {directory}: {reason}") from None


def _authorities(path: Path) -> str:
    text = _text(path, "MONGODB_TLS_CA_FILE")
    if _CERTIFICATE not in text or _KEY in text:
        raise ConfigurationInvalid(
            f"{ENV_PREFIX}MONGODB_TLS_CA_FILE: {path} has to hold the authorities' certificates in"
            " PEM, and no private key"
        )
    try:
        _load_authorities(text)
    except ssl.SSLError as error:
        raise _unusable(path, "MONGODB_TLS_CA_FILE", error) from None
    return text


@lru_cache(maxsize=2)
def _load_authorities(text: str) -> None:
    """Load authorities, to see whether they can be; once, since a bundle takes 17 ms each time.

    Raises
    ------
    ssl.SSLError
        If they are not valid PEM.
    """
    ssl.create_default_context(cadata=text)


def _pair(path: Path, setting: str) -> str:
    text = _text(path, setting)
    if _CERTIFICATE not in text or _KEY not in text:
        raise ConfigurationInvalid(
            f"{ENV_PREFIX}{setting}: {path} has to hold a certificate and its private key in PEM,"
            " one after the other"
        )
    try:
        # Without a password OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(path, password="")
    except (OSError, ValueError) as error:
        raise _unusable(path, setting, error) from None
    return text


def _unusable(path: Path, setting: str, error: Exception) -> ConfigurationInvalid:
    reason = getattr(error, "reason", None) or type(error).__name__
    return ConfigurationInvalid(
        f"{ENV_PREFIX}{setting}: {path} cannot be used ({reason}); it has to be valid PEM, and a"
        " private key has to belong to the certificate and have no password"
    )


def _text(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="ascii").strip() + "\n"
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise ConfigurationInvalid(f"{ENV_PREFIX}{setting}: {path}: {reason}") from None
