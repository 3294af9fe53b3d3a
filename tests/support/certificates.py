"""A certificate authority for tests of TLS."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_LIFE = dt.timedelta(hours=12)


class Authority:
    """Issues certificates into a directory.

    Parameters
    ----------
    directory
        Where the files go.

    name
        Its own common name.

    Attributes
    ----------
    certificate
        Its own certificate, as PEM: what a client is told to trust.
    """

    def __init__(self, directory: Path, name: str = "test authority") -> None:
        self._directory = directory
        directory.mkdir(exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.BasicConstraints(ca=True, path_length=0)
        made = self._builder(self._name, self._key).add_extension(usage, critical=True)
        self.certificate = directory / "ca.pem"
        self.certificate.write_bytes(_pem(made.sign(self._key, hashes.SHA256())))

    def write_issuer(self, directory: Path) -> Path:
        """Write certificate and key as a Secret of type kubernetes.io/tls is mounted."""
        directory.mkdir(exist_ok=True)
        (directory / "tls.crt").write_bytes(self.certificate.read_bytes())
        (directory / "tls.key").touch(mode=0o600)
        (directory / "tls.key").write_bytes(_key_pem(self._key))
        return directory

    def issue(self, name: str, hosts: Sequence[str]) -> Path:
        """Return a PEM file with a certificate for some hosts, and its key.

        Parameters
        ----------
        name
            The common name, and the file's.
        hosts
            Host names and IP addresses that it is good for.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        made = self._builder(subject, key).add_extension(names, critical=False)
        path = self._directory / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_bytes(_pem(made.sign(self._key, hashes.SHA256())) + _key_pem(key))
        return path

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(tz=dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + _LIFE)
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
