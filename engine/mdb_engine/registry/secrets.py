"""The life of an app's credentials: generated once, rotated with an overlap, revoked, expired."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from types import EllipsisType

from pydantic import SecretStr

from mdb_engine.constants import MAX_ATTEMPTS, MAX_SECRET_VERSIONS, TOKEN_BYTES
from mdb_engine.core.clock import Clock, utcnow
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.secret import (
    CertificateIssuer,
    ClientCertificate,
    Credentials,
    Purpose,
    RevealedSecrets,
    RotationOutcome,
    RotationResult,
    SealedVersion,
    SecretRecord,
)
from mdb_engine.exceptions import MasterKeyError, NotRegistered, VersionConflict
from mdb_engine.registry.models.app import AppRecord
from mdb_engine.registry.storage.secrets import SecretStore

__all__ = ["REVOKE_PREVIOUS", "ROTATE", "SecretService", "verifier_of"]

ROTATE = "rotate"
"""The kind of a request to rotate, in ``handled``."""

REVOKE_PREVIOUS = "revoke-previous"
"""The kind of a request to end all earlier versions, in ``handled``."""

_ALWAYS = (Purpose.APP_SECRET, Purpose.SESSION_KEY, Purpose.DATABASE_PASSWORD)
"""What every version has; random values."""


def verifier_of(token: str) -> bytes:
    """Return the digest by which a token is recognised: SHA-256 of its bytes."""
    return hashlib.sha256(token.encode("utf-8")).digest()


class SecretService:
    """Generates, rotates and reveals credentials; every write is compare-and-set.

    It changes only the secrets' own rows: whoever calls it publishes the grants afterwards, as
    `Registry.rotate` and its like do.

    Parameters
    ----------
    store
        Where they are kept.
    encryption
        The keys that seal them.
    clock
        The time by which versions begin and end.
    issuer
        Certifies new versions, whose database users then log in by that instead of by password.
    """

    def __init__(
        self,
        store: SecretStore,
        encryption: EnvelopeEncryptionService,
        clock: Clock = utcnow,
        issuer: CertificateIssuer | None = None,
    ) -> None:
        self._store = store
        self._encryption = encryption
        self._clock = clock
        self._issuer = issuer

    async def get(self, slug: str) -> SecretRecord | None:
        """Return an app's sealed credentials, or None.  Opens nothing."""
        return await self._store.get(slug)

    async def ensure(
        self,
        app: AppRecord,
        *,
        handled: Mapping[str, str] | None = None,
        seen: SecretRecord | EllipsisType | None = ...,
    ) -> SecretRecord:
        """Return the app's credentials; generate them if this incarnation of it has none.

        Of any number of callers at once, one generates and all get the same.

        Parameters
        ----------
        app
            The app.
        handled
            Requests that count as served if credentials are generated now, by kind (`ROTATE`,
            `REVOKE_PREVIOUS`): the annotations that the MdbApp was created with.
        seen
            What `get` has just returned, None included, so that it is not read again.

        Raises
        ------
        MasterKeyError
            If there is no key to seal new ones with.
        VersionConflict
            If the row changes faster than it can be read.
        """
        for _ in range(MAX_ATTEMPTS):
            found = await self._store.get(app.slug) if isinstance(seen, EllipsisType) else seen
            seen = ...
            if found is not None and found.incarnation == app.incarnation:
                return found
            left_behind = found.current.version if found else 0
            now = self._clock()
            made = SecretRecord(
                slug=app.slug,
                incarnation=app.incarnation,
                current=await self._generate(
                    app.slug, app.incarnation, max(left_behind, app.secret_floor) + 1, now
                ),
                previous=(),
                rotation_count=0,
                handled=dict(handled or {}),
                created_at=now,
                updated_at=now,
                revision=found.revision if found else 1,
            )
            if found is None:
                if await self._store.insert(made):
                    return made
                continue
            try:
                return await self._store.replace(made)
            except VersionConflict:
                continue
        raise VersionConflict(f"The secret of app {app.slug!r} changes faster than it can be read")

    async def carry_over(
        self, slug: str, token: SecretStr, *, incarnation: str, made_at: datetime, overlap: int
    ) -> SecretRecord:
        """Return credentials whose previous version is a token from elsewhere; store nothing.

        Parameters
        ----------
        slug
            The app.
        token
            What its programs have now; version 1.
        incarnation
            The registration that they belong to.
        made_at
            When the token was made.
        overlap
            For how many seconds from now the token still works.

        Raises
        ------
        MasterKeyError
            If there is no key to seal with.
        """
        now = self._clock()
        former = dataclasses.replace(
            await self._generate(slug, incarnation, 1, made_at, token),
            expires_at=now + timedelta(seconds=overlap),
        )
        return SecretRecord(
            slug=slug,
            incarnation=incarnation,
            current=await self._generate(slug, incarnation, 2, now),
            previous=(former,),
            rotation_count=1,
            created_at=made_at,
            updated_at=now,
        )

    async def rotate(
        self,
        slug: str,
        *,
        expected_version: int,
        overlap_seconds: int | None,
        request: str | None = None,
        now: datetime | None = None,
    ) -> RotationOutcome:
        """Generate the next version; the current one works on for the overlap.

        Parameters
        ----------
        slug
            Whose.
        expected_version
            The version that the caller saw.
        overlap_seconds
            For how long the outgoing version still works. None, where somebody else hands the new
            one out: until `begin_overlap` is told that this was done.
        request
            The value of the request, which is kept in the same write: the same request is never
            served twice, whenever the caller dies.
        now
            The time; by default the clock's.

        Returns
        -------
        RotationOutcome
            ``WAITING`` where as many versions as may be valid at once are.

        Raises
        ------
        NotRegistered
            If the app has no credentials.
        VersionConflict
            If the current version is not the expected one.
        MasterKeyError
            If there is no key to seal with.
        """
        at = now or self._clock()
        outcome = RotationOutcome(RotationResult.ALREADY_DONE, expected_version)

        async def change(found: SecretRecord) -> SecretRecord:
            nonlocal outcome
            current = found.current
            if request is not None and found.handled.get(ROTATE) == request:
                outcome = RotationOutcome(RotationResult.ALREADY_DONE, current.version)
                return found
            if current.version != expected_version:
                raise VersionConflict(
                    f"The secret of app {slug!r} has version {current.version}, "
                    f"not {expected_version}"
                )
            kept = found.without_expired(at)
            if len(kept.versions) >= MAX_SECRET_VERSIONS:
                outcome = RotationOutcome(
                    RotationResult.WAITING, current.version, retry_at=kept.next_expiry
                )
                return found
            outgoing = current
            if overlap_seconds is not None:
                outgoing = _ending(current, at, overlap_seconds)
            outcome = RotationOutcome(RotationResult.ROTATED, current.version + 1)
            return dataclasses.replace(
                kept,
                current=await self._generate(slug, found.incarnation, current.version + 1, at),
                previous=(outgoing, *kept.previous),
                rotation_count=found.rotation_count + 1,
                handled=_with_request(found, ROTATE, request),
            )

        await self._change(slug, change)
        return outcome

    async def begin_overlap(
        self, seen: SecretRecord, *, overlap_seconds: int, now: datetime | None = None
    ) -> SecretRecord:
        """Let earlier versions end after the overlap, because the current one was handed out.

        Parameters
        ----------
        seen
            The credentials as they were read, with the version that was handed out. What somebody
            generated since keeps that one without an end.
        overlap_seconds
            For how long from now the earlier ones still work; those that have an end keep it.
        now
            The time; by default the clock's.

        Returns
        -------
        SecretRecord
            The credentials as they are then.
        """
        at = now or self._clock()

        async def change(found: SecretRecord) -> SecretRecord:
            ending = (
                _ending(one, at, overlap_seconds)
                if one.version < seen.current.version and one.expires_at is None
                else one
                for one in found.previous
            )
            return dataclasses.replace(found, previous=tuple(ending))

        return (await self._change(seen.slug, change, seen=seen))[1]

    async def supersede(self, slug: str, *, issued: int) -> bool:
        """Generate the version after one that was issued and is not known here; end all others.

        For a database that was restored from a backup: what had ended since then must not work
        again, and nothing that is handed out may bear the number of what was.

        Parameters
        ----------
        slug
            Whose.
        issued
            The version that somebody has.

        Returns
        -------
        bool
            False if a version as late as that is known: somebody else was faster.

        Raises
        ------
        NotRegistered
            If the app has no credentials.
        MasterKeyError
            If there is no key to seal with.
        """

        async def change(found: SecretRecord) -> SecretRecord:
            if found.current.version >= issued:
                return found
            return dataclasses.replace(
                found,
                current=await self._generate(slug, found.incarnation, issued + 1, self._clock()),
                previous=(),
                rotation_count=found.rotation_count + 1,
            )

        before, after = await self._change(slug, change)
        return before.current.version != after.current.version

    async def revoke_previous(self, slug: str, *, request: str | None = None) -> bool:
        """End all earlier versions now; True if there were any.

        Parameters
        ----------
        slug
            Whose.
        request
            As in `rotate`: the same request ends nothing that was made after it was served.
        """

        async def change(found: SecretRecord) -> SecretRecord:
            if request is not None and found.handled.get(REVOKE_PREVIOUS) == request:
                return found
            handled = _with_request(found, REVOKE_PREVIOUS, request)
            return dataclasses.replace(found, previous=(), handled=handled)

        before, after = await self._change(slug, change)
        return before.previous != after.previous

    async def expire(self, slug: str, *, now: datetime | None = None) -> bool:
        """Drop earlier versions whose time is over; True if there were any."""
        at = now or self._clock()

        async def change(found: SecretRecord) -> SecretRecord:
            return found.without_expired(at)

        before, after = await self._change(slug, change)
        return before.previous != after.previous

    async def reveal(self, slug: str) -> RevealedSecrets:
        """Open an app's credentials; of earlier versions those whose time is not over.

        Raises
        ------
        NotRegistered
            If it has none.
        MasterKeyError
            If a key is missing or wrong; the message names it.
        """
        return await self.open(await self._existing(slug))

    async def open(self, record: SecretRecord) -> RevealedSecrets:
        """Open credentials as they were read; of earlier versions those that have not ended.

        Raises
        ------
        MasterKeyError
            As `reveal`.
        """
        record = record.without_expired(self._clock())
        return RevealedSecrets(
            slug=record.slug,
            current=await self._open(record.slug, record.current),
            earlier=tuple([await self._open(record.slug, one) for one in record.previous]),
            key_id=record.current.envelope.key_id,
            rotated_at=record.current.created_at,
            incarnation=record.incarnation,
        )

    async def destroy(self, slug: str) -> None:
        """Destroy an app's credentials, if there are any."""
        await self._store.remove(slug)

    async def _existing(self, slug: str) -> SecretRecord:
        record = await self._store.get(slug)
        if record is None:
            raise NotRegistered(f"App {slug!r} has no secret; register it first")
        return record

    async def _change(
        self,
        slug: str,
        change: Callable[[SecretRecord], Awaitable[SecretRecord]],
        *,
        seen: SecretRecord | None = None,
    ) -> tuple[SecretRecord, SecretRecord]:
        """Apply a change to the row as it is; nothing is written where it changes nothing."""
        for _ in range(MAX_ATTEMPTS):
            found, seen = seen or await self._existing(slug), None
            wanted = await change(found)
            if wanted == found:
                return found, found
            try:
                stamped = dataclasses.replace(wanted, updated_at=self._clock())
                return found, await self._store.replace(stamped)
            except VersionConflict:
                continue
        raise VersionConflict(f"The secret of app {slug!r} changes faster than it can be read")

    async def _generate(
        self,
        slug: str,
        incarnation: str,
        version: int,
        now: datetime,
        token: SecretStr | None = None,
    ) -> SealedVersion:
        values = {purpose: SecretStr(secrets.token_urlsafe(TOKEN_BYTES)) for purpose in _ALWAYS}
        if token is not None:
            values[Purpose.APP_SECRET] = token
        certificate: ClientCertificate | None = None
        if self._issuer is not None:
            certificate, pem = await self._issuer.issue(slug, version, incarnation)
            values[Purpose.CLIENT_CERTIFICATE] = pem
        return SealedVersion(
            version=version,
            envelope=await self._encryption.seal(values, slug=slug, version=version),
            verifier=verifier_of(values[Purpose.APP_SECRET].get_secret_value()),
            created_at=now,
            certificate=certificate,
        )

    async def _open(self, slug: str, sealed: SealedVersion) -> Credentials:
        values = await self._encryption.unseal(sealed.envelope, slug=slug, version=sealed.version)
        needed = {*_ALWAYS, *([Purpose.CLIENT_CERTIFICATE] if sealed.certificate else [])}
        for purpose in sorted(needed):
            if purpose not in values:
                raise MasterKeyError(
                    f"The {purpose} of app {slug!r}, version {sealed.version}, is missing: its row "
                    "was changed"
                )
        return Credentials(
            version=sealed.version,
            token=values[Purpose.APP_SECRET],
            session_key=values[Purpose.SESSION_KEY],
            database_password=values[Purpose.DATABASE_PASSWORD],
            expires_at=sealed.expires_at,
            client_certificate=values.get(Purpose.CLIENT_CERTIFICATE),
        )


def _ending(version: SealedVersion, now: datetime, seconds: int) -> SealedVersion:
    return dataclasses.replace(version, expires_at=now + timedelta(seconds=seconds))


def _with_request(record: SecretRecord, kind: str, request: str | None) -> Mapping[str, str]:
    return record.handled if request is None else {**record.handled, kind: request}
