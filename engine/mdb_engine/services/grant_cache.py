"""Hold all grants in memory, so that an operation is checked without asking MongoDB anything.

One task keeps them fresh. Where MongoDB has a change stream for this user, a change arrives at
once and an idle stream that answers proves that nothing changed; elsewhere all grants are read
again every ``ttl``. When neither succeeds for ``max_age``, the cache refuses to be asked: a
revocation that cannot be seen must not be outlived by what it revoked.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from mdb_engine.constants import GRANT_MAX_AGE_SECONDS, GRANT_TTL_SECONDS
from mdb_engine.exceptions import DatabaseUnavailable
from mdb_engine.models.access import Grant
from mdb_engine.models.naming import app_key
from mdb_engine.services.access import NameIndex
from mdb_engine.tasks import Rest

__all__ = ["Change", "ChangeFeed", "GrantCache", "GrantSource", "WatchUnsupportedError"]

RETRY_SECONDS: Final = 1.0
"""How soon a failed refresh is tried again; never longer than the ttl."""

PATIENCE: Final = 2.0
"""A read or a wait on the stream that takes this many times the ttl is given up and begun anew."""

BACKSTOP_SECONDS: Final = 1.0
"""How much longer a reading may take than its own time limit, before it is cancelled.

The driver's own limit comes first, because PyMongo's async client loses the socket of a connection
whose opening is cancelled.
"""

_logger = structlog.get_logger("mdb_engine.grants")


class WatchUnsupportedError(Exception):
    """There is no change stream to be had here: no replica set, or no right to open one."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the grants collection.

    Parameters
    ----------
    key
        The key of the app whose row it is (`app_key`).
    grant
        The row as it is now, or None if it is to be looked up: it may be gone.
    """

    key: str
    grant: Grant | None


class ChangeFeed(Protocol):
    """An open change stream on the grants."""

    async def next(self) -> Change | None:
        """Return the next change, or None if there was none for the time that was agreed on."""


class GrantSource(Protocol):
    """Where grants are read from."""

    async def load(self, keys: Collection[str] | None, seconds: float) -> Sequence[Grant]:
        """Read the grants of the apps of these keys, or of all, within so many seconds."""

    def changes(self, wait: float) -> AbstractAsyncContextManager[ChangeFeed]:
        """Open a change stream whose ``next`` waits at most that many seconds.

        Raises
        ------
        WatchUnsupportedError
            On entering, if there can be none.
        """


class GrantCache:
    """All grants, as fresh as promised or not at all.

    Parameters
    ----------
    source
        Where they are read from.
    ttl
        Seconds within which a change takes hold.
    max_age
        Seconds for which they are trusted while they cannot be refreshed.
    clock
        Seconds that never go back.
    """

    def __init__(
        self,
        source: GrantSource,
        *,
        ttl: float = GRANT_TTL_SECONDS,
        max_age: float = GRANT_MAX_AGE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._ttl = ttl
        self._max_age = max_age
        self._clock = clock
        self._named: frozenset[str] = frozenset()
        self._grants: dict[str, Grant] = {}
        self._index: NameIndex | None = None
        self._refreshed_at: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._rest = Rest()
        self._reopen = asyncio.Event()
        self._watching = False
        self._failing = False
        self._listeners: list[Callable[[], None]] = []

    @property
    def age(self) -> float | None:
        """Seconds since the grants were last known to be current, or None before the first load."""
        if self._refreshed_at is None:
            return None
        return self._clock() - self._refreshed_at

    @property
    def watching(self) -> bool:
        """Whether changes arrive by a change stream at this moment."""
        return self._watching

    def index(self) -> NameIndex:
        """Return all grants, without I/O.  The same object until one of them changes.

        Raises
        ------
        DatabaseUnavailable
            If they are too old to be trusted, or were never read.
        """
        age = self.age
        if age is None:
            raise DatabaseUnavailable("grants have not been read from MongoDB yet; try again")
        if age > self._max_age:
            raise DatabaseUnavailable(
                f"grants could not be refreshed from MongoDB for {age:.0f} s and are trusted for "
                f"{self._max_age:g} s; access is closed until MongoDB answers"
            )
        if self._index is None:
            grants = {grant.slug: grant for grant in self._grants.values()}
            self._index = NameIndex(grants, self._named)
        return self._index

    def grant(self, slug: str) -> Grant | None:
        """Return the grant of an app as it was last read, however old, or None."""
        grant = self._grants.get(app_key(slug))
        return grant if grant is not None and grant.slug == slug else None

    def name(self, slugs: Collection[str]) -> None:
        """Let slugs count as known although they may have no grant, see `NameIndex`."""
        self._named |= frozenset(slugs)
        self._index = None

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have something called, in the loop, after each change; it must not block or raise."""
        self._listeners.append(listener)

    async def refresh(self, keys: Collection[str] | None = None) -> None:
        """Read grants now: those of some apps, or all, which makes the cache fresh.

        Parameters
        ----------
        keys
            The keys of the apps (`app_key`), or None for all.

        Raises
        ------
        Exception
            Whatever the source raises.
        """
        started = self._clock()
        async with asyncio.timeout(self._patience + BACKSTOP_SECONDS):
            grants = await self._source.load(keys, self._patience)
        found = {app_key(grant.slug): grant for grant in grants}
        before = self._grants
        if keys is None:
            self._grants = found
            self._fresh_as_of(started)
        else:
            rest = {key: grant for key, grant in before.items() if key not in set(keys)}
            self._grants = {**rest, **found}
        if self._grants != before:
            self._changed()

    def learn(self, grant: Grant) -> None:
        """Take a row that was read elsewhere, unless a newer one is held.

        A change stream is opened before all is read, so it begins with rows that are older.
        """
        key = app_key(grant.slug)
        held = self._grants.get(key)
        if held is None or grant.epoch > held.epoch:
            self._grants = {**self._grants, key: grant}
            self._changed()

    def reopen(self) -> None:
        """Leave the open change stream for one on the connection that is current now."""
        self._reopen.set()

    def start(self) -> None:
        """Begin to refresh; needs a running loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="mdb-engine grants")

    async def stop(self) -> None:
        """End the task."""
        await self._rest.end(self._task)
        self._task = None

    @property
    def _patience(self) -> float:
        return self._ttl * PATIENCE

    async def _run(self) -> None:
        supported = True
        while True:
            if self._reopen.is_set():  # another connection may be another user, with more rights
                self._reopen.clear()
                supported = True
            try:
                if supported:
                    await self._follow()
                    continue
                await self.refresh()
                self._recovered()
                await self._pause(self._ttl)
            except WatchUnsupportedError as error:
                supported = False
                _logger.info("grants_polled", reason=str(error), every_seconds=self._ttl)
            except Exception as error:  # noqa: BLE001  # it must go on; index() tells who asks
                self._failed(error)
                await self._read_all_the_same()
                await self._pause(min(RETRY_SECONDS, self._ttl))

    async def _follow(self) -> None:
        """Follow the change stream until it is to be reopened."""
        async with self._source.changes(self._ttl / 2) as feed:
            # Only now, so that no change falls between what is read and what is heard of.
            await self.refresh()
            self._recovered()
            self._watching = True
            try:
                while not self._reopen.is_set():
                    started = self._clock()
                    async with asyncio.timeout(self._patience):
                        with self._rest.here():
                            change = await feed.next()
                    if change is not None:
                        await self._apply(change)
                    self._fresh_as_of(started)
            finally:
                self._watching = False

    async def _read_all_the_same(self) -> None:
        """Read although the stream failed: it may be the stream alone that does not work."""
        with contextlib.suppress(Exception):
            await self.refresh()

    async def _apply(self, change: Change) -> None:
        if change.grant is None:
            await self.refresh({change.key})
        else:
            self.learn(change.grant)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError), self._rest.here():
            async with asyncio.timeout(seconds):
                await self._reopen.wait()

    def _fresh_as_of(self, moment: float) -> None:
        self._refreshed_at = max(moment, self._refreshed_at or moment)

    def _changed(self) -> None:
        self._index = None
        for listener in self._listeners:
            listener()

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            _logger.warning("grants_not_refreshed", error=type(error).__name__, age=self.age)

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            _logger.info("grants_refreshed_again")
