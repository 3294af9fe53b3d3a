"""Changing the master key: every DEK is wrapped anew, while everything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from mdb_engine.constants import MAX_ATTEMPTS
from mdb_engine.core.clock import Clock, utcnow
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.secret import SealedVersion, SecretRecord
from mdb_engine.exceptions import (
    KeyManagerUnavailable,
    MasterKeyError,
    RowDamaged,
    VersionConflict,
)
from mdb_engine.registry.storage.secrets import SecretStore

__all__ = ["MasterKeyRotation", "Progress", "RewrapReport"]

Progress = Callable[[int, int], None]
"""Called with the number of apps that are done and of all that are to be done."""

_QUOTED_FAILURES = 5
"""How many apps a message names; the rest it counts."""


@dataclass(frozen=True, slots=True)
class RewrapReport:
    """What a run came to.

    Parameters
    ----------
    total
        Apps that had a version under another key when it began.
    done
        How many of these are all under the active key now.
    """

    total: int
    done: int


class MasterKeyRotation:
    """Re-wraps all DEKs under the active master key.

    Parameters
    ----------
    store
        Where the secrets are.
    encryption
        The keys.
    clock
        The time by which versions end.

    Notes
    -----
    What is left to do is what the rows themselves say (their ``key_id``), so that a run which was
    killed is simply begun again. A row is changed by compare-and-set, whole, and only after all of
    it opened.
    """

    def __init__(
        self, store: SecretStore, encryption: EnvelopeEncryptionService, clock: Clock = utcnow
    ) -> None:
        self._store = store
        self._encryption = encryption
        self._clock = clock

    async def pending(self) -> int:
        """Count the apps that have a version under another key than the active one.

        At 0 every other key can be removed.

        Raises
        ------
        MasterKeyError
            If there is no active key, or nobody can say which it is.
        """
        return len(await self._store.under_other_keys(await self._encryption.active_key_id()))

    async def run(self, progress: Progress | None = None) -> RewrapReport:
        """Re-wrap what is not yet under the active key; may be killed and run again at any time.

        Parameters
        ----------
        progress
            Called at the beginning and after each app.

        Raises
        ------
        MasterKeyError
            After all others were done: which apps could not be, with the key's id. Nothing of
            these was written.
        KeyManagerUnavailable
            At once where a key manager does not answer: what was done stays done, the rest is as
            it was.
        """
        slugs = await self._store.under_other_keys(await self._encryption.active_key_id())
        failures: list[str] = []
        done = 0
        for slug in slugs:
            if progress:
                progress(done, len(slugs))
            try:
                await self._rewrap(slug)
            except KeyManagerUnavailable as error:
                raise KeyManagerUnavailable(
                    f"{done} of {len(slugs)} apps are re-wrapped; the others were left as they "
                    f"are: {error.message}"
                ) from None
            except (MasterKeyError, RowDamaged) as error:
                failures.append(error.message)
            else:
                done += 1
        if progress:
            progress(done, len(slugs))
        if failures:
            quoted = "; ".join(failures[:_QUOTED_FAILURES])
            more = len(failures) - _QUOTED_FAILURES
            raise MasterKeyError(
                f"{len(failures)} of {len(slugs)} apps could not be re-wrapped and were left as "
                f"they are: {quoted}{f'; and {more} more' if more > 0 else ''}"
            )
        return RewrapReport(total=len(slugs), done=done)

    async def _rewrap(self, slug: str) -> None:
        for _ in range(MAX_ATTEMPTS):
            record = await self._store.get(slug)
            if record is None:
                return  # its app was deleted meanwhile
            try:
                await self._store.replace(await self._rewrapped(record))
            except VersionConflict:
                continue  # it was rotated meanwhile
            return
        raise VersionConflict(f"The secret of app {slug!r} changes faster than it can be read")

    async def _rewrapped(self, record: SecretRecord) -> SecretRecord:
        async def rewrap(sealed: SealedVersion) -> SealedVersion:
            envelope = await self._encryption.rewrap(
                sealed.envelope, slug=record.slug, version=sealed.version
            )
            return dataclasses.replace(sealed, envelope=envelope)

        return dataclasses.replace(
            record,
            current=await rewrap(record.current),
            previous=tuple(
                [await rewrap(one) for one in record.without_expired(self._clock()).previous]
            ),
        )
