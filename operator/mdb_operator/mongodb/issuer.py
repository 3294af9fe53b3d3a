"""The authority that certifies apps, where they log in to MongoDB by X.509.

It signs for an app's own login and nothing else: what MongoDB lets in is the user, which the
operator makes and drops. So no revocation list is needed, and a certificate that leaked opens
nothing once its version of the secret has ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import SecretStr
from pymongo.errors import PyMongoError

from mdb_engine.core.clock import Clock
from mdb_engine.core.secret import ClientCertificate
from mdb_engine.exceptions import KeyManagerUnavailable
from mdb_engine.registry.models.privileges import user_name

__all__ = ["AppCertificates", "Issuer", "UnusableIssuer", "load_issuer"]

BACKDATED = timedelta(minutes=5)
"""How long before now a certificate begins to be valid: clocks differ."""

LEAST_LIFE = timedelta(hours=1)
"""No certificate is made by an authority that ends sooner; the setting's least value, too."""

TRY_AGAIN_SECONDS = 10.0
"""How long the answer counts that MongoDB does not take an authority's certificates."""

_KEY_ID_CHARACTERS = 32

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class UnusableIssuer(ValueError):
    """An authority that cannot sign for clients; says why, and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """An authority's certificate and key; its repr hides the key.

    Parameters
    ----------
    key_id
        A digest of its public key.
    certificate
        Its certificate.
    chain
        What clients have to show beside their own, in PEM: it and those above, but for the root.
    key
        Its private key.
    """

    key_id: str
    certificate: x509.Certificate = field(repr=False)
    chain: bytes = field(repr=False)
    key: PrivateKey = field(repr=False)

    def sign(
        self, subject: x509.Name, now: datetime, life: timedelta
    ) -> tuple[datetime, SecretStr]:
        """Return when a new client certificate ends, and it with chain and key as PEM.

        It ends no later than the authority itself.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        own = self.certificate
        end = min(now + life, own.not_valid_after_utc).replace(microsecond=0)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(own.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - BACKDATED, own.not_valid_before_utc))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_SIGNS_ONLY, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem = made.public_bytes(Encoding.PEM) + self.chain + private
        return end, SecretStr(pem.decode("ascii"))


class AppCertificates:
    """Certifies versions of apps' credentials, once MongoDB takes the authority's certificates.

    Parameters
    ----------
    issuer
        Returns the authority as it is mounted now.
    database
        The name of the apps' database.
    life
        How long a certificate is valid.
    clock
        The time by which it is.
    knock
        Has MongoDB answer a client with a certificate; raises PyMongoError where it does not.

    Notes
    -----
    An authority that MongoDB does not know (not yet, in a change from one to another) would make
    every app's next version one that cannot log in. So it is tried first, with a certificate of
    nobody's: MongoDB checks whose it is only at the login.
    """

    def __init__(
        self,
        issuer: Callable[[], Issuer | None],
        database: str,
        life: timedelta,
        clock: Clock,
        knock: Callable[[SecretStr], Awaitable[None]],
    ) -> None:
        self._issuer = issuer
        self._database = database
        self._life = life
        self._clock = clock
        self._knock = knock
        self._trusted = ""
        self._refused: tuple[str, float, KeyManagerUnavailable] | None = None
        self._trying = asyncio.Lock()

    async def issue(
        self, slug: str, version: int, incarnation: str
    ) -> tuple[ClientCertificate, SecretStr]:
        """Return a new certificate for a version, and it with its chain and private key as PEM.

        Raises
        ------
        KeyManagerUnavailable
            If the authority ends soon, or MongoDB does not take its certificates.
        """
        issuer, now = self._issuer(), self._clock()
        if issuer is None:
            raise KeyManagerUnavailable("There is no authority to certify apps")
        end = issuer.certificate.not_valid_after_utc
        if end - now < LEAST_LIFE:
            raise KeyManagerUnavailable(
                f"The authority that certifies apps ends at {end:%Y-%m-%dT%H:%M:%SZ}; renew it"
            )
        await self._require_trust(issuer, now)
        subject = _name(O=self._database, OU=incarnation, CN=user_name(slug, version))
        expires_at, pem = issuer.sign(subject, now, self._life)
        return ClientCertificate(issuer.key_id, expires_at), pem

    async def _require_trust(self, issuer: Issuer, now: datetime) -> None:
        async with self._trying:
            if self._trusted == issuer.key_id:
                return
            if self._refused is not None:
                key_id, since, error = self._refused
                if key_id == issuer.key_id and time.monotonic() - since < TRY_AGAIN_SECONDS:
                    raise KeyManagerUnavailable(error.message)
            _, pem = issuer.sign(_name(O=self._database, CN="nobody"), now, LEAST_LIFE)
            try:
                await self._knock(pem)
            except PyMongoError as error:
                refusal = KeyManagerUnavailable(
                    "MongoDB does not answer a client that the authority in mongodb.tls"
                    f".appsIssuerSecret certified ({type(error).__name__}); if it answers the"
                    " operator, add that authority to its CA file (net.tls.CAFile)"
                )
                self._refused = (issuer.key_id, time.monotonic(), refusal)
                raise refusal from None
            self._trusted = issuer.key_id


_SIGNS_ONLY = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


@lru_cache(maxsize=2)  # it is asked for in every look at an app, and RSA keys are slow to check
def load_issuer(chain: str, key: str) -> Issuer:
    """Read an authority from PEM: its certificate, then those above it; its key.

    Raises
    ------
    ValueError
        If that is no such thing; as `UnusableIssuer` with a text that may be shown.
    """
    certificates = x509.load_pem_x509_certificates(chain.encode("ascii"))
    try:
        private = load_pem_private_key(key.encode("ascii"), None)
    except TypeError:
        raise UnusableIssuer("tls.key has a password; take it off") from None
    own, public = certificates[0], private.public_key()
    if _spki(own.public_key()) != _spki(public):
        raise UnusableIssuer("tls.key does not belong to the first certificate of tls.crt")
    if not isinstance(private, PrivateKey):
        raise UnusableIssuer("tls.key has to be an RSA or an ECDSA key, as MongoDB needs it")
    if not _may_sign(own):
        raise UnusableIssuer("the first certificate of tls.crt is not an authority's (isCA: true)")
    chained = [one for one in certificates if one.subject != one.issuer]
    return Issuer(
        hashlib.sha256(_spki(public)).hexdigest()[:_KEY_ID_CHARACTERS],
        own,
        b"".join(one.public_bytes(Encoding.PEM) for one in chained),
        private,
    )


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        extensions = certificate.extensions
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as error:
        return bool(error.oid == x509.KeyUsage.oid)  # which may be left out


def _spki(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]


def _name(**parts: str) -> x509.Name:
    """Return a name, from the widest part to the narrowest, as RFC 2253 reads it backwards."""
    kinds = {
        "O": NameOID.ORGANIZATION_NAME,
        "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
        "CN": NameOID.COMMON_NAME,
    }
    return x509.Name([x509.NameAttribute(kinds[kind], value) for kind, value in parts.items()])
