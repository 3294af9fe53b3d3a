"""An app's credentials: sealed, as they stand in MongoDB, and opened, as its pods get them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from pydantic import SecretStr

__all__ = [
    "CertificateIssuer",
    "ClientCertificate",
    "Credentials",
    "Envelope",
    "Purpose",
    "RevealedSecrets",
    "RotationOutcome",
    "RotationResult",
    "SealedVersion",
    "SecretRecord",
]


class Purpose(StrEnum):
    """What a sealed value is for; bound into its ciphertext."""

    APP_SECRET = "app-secret"  # noqa: S105
    SESSION_KEY = "session-key"
    DATABASE_PASSWORD = "database-password"  # noqa: S105
    CLIENT_CERTIFICATE = "client-certificate"
    """Only where the version logs in to MongoDB by it."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What may be known of the certificate that a version logs in to MongoDB with.

    Parameters
    ----------
    issuer
        Which authority signed it: a digest of that one's public key.
    expires_at
        When it ends.
    """

    issuer: str
    expires_at: datetime


class CertificateIssuer(Protocol):
    """Certifies versions of apps' credentials, for MongoDB's login by X.509."""

    async def issue(
        self, slug: str, version: int, incarnation: str
    ) -> tuple[ClientCertificate, SecretStr]:
        """Return a new certificate for a version, and it with its chain and private key as PEM.

        Raises
        ------
        KeyManagerUnavailable
            If there can be none now.
        """


@dataclass(frozen=True, slots=True)
class Envelope:
    """Values under one data encryption key (DEK), which itself is under a master key.

    Parameters
    ----------
    key_id
        The master key that wraps the DEK.
    dek_id
        A random name of the DEK, bound into every ciphertext under it.
    wrapped_dek
        Nonce, ciphertext and tag of the DEK.
    ciphertexts
        Nonce, ciphertext and tag of each value, by purpose.
    """

    key_id: str
    dek_id: str
    wrapped_dek: bytes = field(repr=False)
    ciphertexts: Mapping[Purpose, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedVersion:
    """One version of an app's credentials.

    Parameters
    ----------
    version
        Its number.
    envelope
        The sealed values.
    verifier
        SHA-256 of the token, so that grants are published without opening it.
    created_at
        When it was generated.
    expires_at
        When it stops being valid. None for the current one, and for an earlier one whose successor
        was not handed out yet.
    certificate
        Of the one that its database user logs in with, or None where that is a password.
    """

    version: int
    envelope: Envelope
    verifier: bytes = field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None
    certificate: ClientCertificate | None = None

    def certificate_at(self, share: float) -> datetime | None:
        """Return when a share of its certificate's life is over; None where it has none."""
        if self.certificate is None:
            return None
        return self.created_at + share * (self.certificate.expires_at - self.created_at)


@dataclass(frozen=True, slots=True)
class SecretRecord:
    """All valid versions of one app's credentials.

    Parameters
    ----------
    slug
        The app.
    incarnation
        The registration that they belong to (`AppRecord.incarnation`).
    current
        The version that is handed out.
    previous
        Earlier versions that still work, newest first.
    rotation_count
        How often it was rotated in this incarnation.
    handled
        The requests that were served last, by kind (``rotate``, ``revoke-previous``).
    created_at, updated_at
        UTC, aware.
    revision
        Grows with every write of the row; the token of compare-and-set.
    """

    slug: str
    incarnation: str
    current: SealedVersion
    previous: tuple[SealedVersion, ...]
    rotation_count: int
    created_at: datetime
    updated_at: datetime
    handled: Mapping[str, str] = field(default_factory=dict)
    revision: int = 1

    @property
    def versions(self) -> tuple[SealedVersion, ...]:
        """All versions, newest first."""
        return (self.current, *self.previous)

    def without_expired(self, now: datetime) -> SecretRecord:
        """Return the record with only those versions that are still valid at a time."""
        kept = tuple(v for v in self.previous if v.expires_at is None or v.expires_at > now)
        return dataclasses.replace(self, previous=kept)

    @property
    def awaits_overlap(self) -> bool:
        """Whether an earlier version has no end yet, as its successor may be nobody's yet."""
        return any(version.expires_at is None for version in self.previous)

    @property
    def next_expiry(self) -> datetime | None:
        """When the next of the earlier versions ends, or None where there is none."""
        return min((v.expires_at for v in self.previous if v.expires_at), default=None)


@dataclass(frozen=True, slots=True)
class Credentials:
    """One version of an app's credentials, opened.  Its repr hides them.

    Parameters
    ----------
    version
        Its number.
    token
        What the app proves itself with.
    session_key
        What it signs its sessions with.
    database_password
        The password of its database user ``<slug>.v<version>``.
    expires_at
        When it stops being valid, or None for the current one.
    client_certificate
        What its database user logs in with instead, with its key as PEM; None for a password.
    """

    version: int
    token: SecretStr
    session_key: SecretStr
    database_password: SecretStr
    expires_at: datetime | None = None
    client_certificate: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class RevealedSecrets:
    """Everything about an app's credentials that its projection needs.

    Parameters
    ----------
    slug
        The app.
    current
        The version to hand out.
    earlier
        Earlier versions that still work, newest first.
    key_id
        The master key that wraps the current version.
    rotated_at
        When the current version was generated.
    incarnation
        The registration that they belong to.
    """

    slug: str
    current: Credentials
    earlier: tuple[Credentials, ...]
    key_id: str
    rotated_at: datetime
    incarnation: str = ""

    @property
    def version(self) -> int:
        """The current version's number."""
        return self.current.version

    @property
    def previous(self) -> Credentials | None:
        """The version just before the current, if it still works."""
        newest = self.earlier[0] if self.earlier else None
        return newest if newest and newest.version == self.version - 1 else None

    @property
    def previous_expires_at(self) -> datetime | None:
        """When the version just before the current ends, if it still works."""
        return self.previous.expires_at if self.previous else None


class RotationResult(StrEnum):
    """What became of a request to rotate."""

    ROTATED = "rotated"
    ALREADY_DONE = "already-done"
    """The request with this value was served before."""
    WAITING = "waiting"
    """As many versions as may be valid at once are; ask again at ``retry_at``."""


@dataclass(frozen=True, slots=True)
class RotationOutcome:
    """The answer to a request to rotate.

    Parameters
    ----------
    result
        What became of it.
    version
        The version that is current now.
    retry_at
        When a waiting request can be served, else None.
    """

    result: RotationResult
    version: int
    retry_at: datetime | None = None
