"""The life of an app's credentials: generated once, rotated with an overlap, revoked, expired."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from mdb_engine.models.app import AppRecord
from mdb_engine.models.secret import RevealedSecrets, RotationOutcome, SecretRecord

__all__ = ["REVOKE_PREVIOUS", "ROTATE", "SecretService"]

ROTATE = "rotate"
"""The kind of a request to rotate, in ``handled``."""

REVOKE_PREVIOUS = "revoke-previous"
"""The kind of a request to end all earlier versions, in ``handled``."""


class SecretService:
    """Generates, rotates and reveals credentials; every write is compare-and-set.

    It changes only the secrets' own rows: whoever calls it publishes the grants afterwards, as
    `Registry.rotate` and its like do.
    """

    async def get(self, slug: str) -> SecretRecord | None:
        """Return an app's sealed credentials, or None.  Opens nothing."""
        raise NotImplementedError

    async def ensure(
        self, app: AppRecord, *, handled: Mapping[str, str] | None = None
    ) -> SecretRecord:
        """Return the app's credentials; generate them if this incarnation of it has none.

        Of any number of callers at once, one generates and all get the same.

        Parameters
        ----------
        app
            The app.
        handled
            Requests that count as served if credentials are generated now: the annotations that
            the MdbApp was created with.

        Raises
        ------
        MasterKeyError
            If there is no key to seal new ones with.
        """
        raise NotImplementedError

    async def rotate(
        self,
        slug: str,
        *,
        expected_version: int,
        overlap_seconds: int,
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
            For how long the outgoing version still works.
        request
            The value of the request, which is kept in the same write: the same request is never
            served twice, whenever the caller dies.
        now
            The time; by default the clock's.

        Raises
        ------
        NotRegistered
            If the app has no credentials.
        VersionConflict
            If the current version is not the expected one.
        MasterKeyError
            If there is no key to seal with.
        """
        raise NotImplementedError

    async def revoke_previous(self, slug: str, *, request: str | None = None) -> bool:
        """End all earlier versions now; True if this changed the row."""
        raise NotImplementedError

    async def expire(self, slug: str, *, now: datetime | None = None) -> bool:
        """Drop earlier versions whose time is over; True if there were any."""
        raise NotImplementedError

    async def reveal(self, slug: str) -> RevealedSecrets:
        """Open an app's credentials.

        Raises
        ------
        NotRegistered
            If it has none.
        MasterKeyError
            If a key is missing or wrong; the message names it.
        """
        raise NotImplementedError
