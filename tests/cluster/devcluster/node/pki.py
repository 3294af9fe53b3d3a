"""The cluster's certificates, made anew for each cluster and thrown away with it."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devcluster.node.layout import KeyPair, Layout

_LIFETIME = dt.timedelta(days=365)
"""A cluster for tests that runs for a year has other problems."""

_CLOCK_SKEW = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority.

    Parameters
    ----------
    certificate, key
        Its own.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, layout: Layout, where: KeyPair, name: str) -> Authority:
        """Make an authority and write its certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(name)
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        authority = cls(certificate, key)
        _write(layout, where, certificate, key)
        return authority

    def issue(
        self,
        layout: Layout,
        where: KeyPair,
        user: str,
        *,
        groups: Sequence[str] = (),
        names: Sequence[str] = (),
    ) -> KeyPair:
        """Sign a certificate and write it with its key.

        Parameters
        ----------
        layout
            The cluster's files.
        where
            The files to write.
        user
            The common name, which Kubernetes takes for the user's name.
        groups
            The organisations, which Kubernetes takes for the user's groups.
        names
            Host names and addresses; with any, the certificate can also be a server's.

        Returns
        -------
        KeyPair
            The files written.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if names:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = (
            _builder(_subject(user, groups), self.certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in names]),
                critical=False,
            )
        _write(layout, where, builder.sign(self.key, hashes.SHA256()), key)
        return where


def write_signing_key(layout: Layout, where: KeyPair) -> None:
    """Make the key pair that signs service accounts' tokens; the public half is a bare key."""
    key = ec.generate_private_key(ec.SECP256R1())
    layout.write(where.key, _pem(key))
    layout.write(
        where.certificate,
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(user: str, groups: Sequence[str] = ()) -> x509.Name:
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
            x509.NameAttribute(NameOID.COMMON_NAME, user),
        ]
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(
    layout: Layout, where: KeyPair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    layout.write(where.key, _pem(key))
    layout.write(where.certificate, certificate.public_bytes(serialization.Encoding.PEM))
