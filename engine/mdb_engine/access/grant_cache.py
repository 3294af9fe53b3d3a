"""Hold all grants in memory, so that an operation is checked without asking MongoDB anything.

One task keeps them fresh. Where MongoDB has a change stream for this user, a change arrives at
once and an idle stream that answers proves that nothing changed; elsewhere all grants are read
again every ``ttl``. When neither succeeds for ``max_age``, the cache refuses to be asked: a
revocation that cannot be seen must not be outlived by what it revoked.

What is read takes time, in which the change stream may deliver newer rows. So one reading follows
another, a row of an older epoch never takes the place of a newer one, and a row that changed while
it was being read is read again before anything counts as fresh. A row that cannot be understood
costs its own app only: it has no grant, and an error that names the row.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from mdb_engine.access.granted import NameIndex
from mdb_engine.access.model import Grant
from mdb_engine.constants import GRANT_MAX_AGE_SECONDS, GRANT_TTL_SECONDS
from mdb_engine.core.tasks import Rest
from mdb_engine.exceptions import DatabaseUnavailable, GrantMalformed
from mdb_engine.models.naming import app_key

__all__ = [
    "Change",
    "ChangeFeed",
    "GrantCache",
    "GrantSource",
    "Row",
    "Rows",
    "WatchUnsupportedError",
]

RETRY_SECONDS: Final = 1.0
"""How soon a failed refresh is tried again; never longer than the ttl."""

PATIENCE: Final = 2.0
"""A read or a wait on the stream that takes this many times the ttl is given up and begun anew."""

BACKSTOP_SECONDS: Final = 1.0
"""How much longer a reading may take than its own time limit, before it is cancelled.

The driver's own limit comes first, because PyMongo's async client loses the socket of a connection
whose opening is cancelled.
"""

_logger = logging.getLogger("mdb_engine.grants")


class WatchUnsupportedError(Exception):
    """There is no change stream to be had here: no replica set, or no right to open one."""


Row = Grant | GrantMalformed
"""What a row of the collection says, or that it cannot be understood."""

Rows = Mapping[str, Row]
"""Rows by the key of their app."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the grants collection.

    Parameters
    ----------
    key
        The key of the app whose row it is (`app_key`).
    row
        The row as it is now, or None if it is to be looked up: it may be gone.
    """

    key: str
    row: Row | None


class ChangeFeed(Protocol):
    """An open change stream on the grants."""

    async def next(self) -> Change | None:
        """Return the next change, or None if there was none for the time that was agreed on."""


class GrantSource(Protocol):
    """Where grants are read from."""

    async def load(self, keys: Collection[str] | None, seconds: float) -> Rows:
        """Read the rows of the apps of these keys, or of all, within so many seconds."""

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
        self._rows: dict[str, Row] = {}
        self._reading = asyncio.Lock()
        self._learned: set[str] = set()  # the keys of rows that came since the reading began
        self._index: NameIndex | None = None
        self._refreshed_at: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._rest = Rest()
        self._reopen = asyncio.Event()
        self._watching = False
        self._failing = False
        self._reported: frozenset[str] = frozenset()
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
            rows = self._rows.values()
            grants = {row.slug: row for row in rows if isinstance(row, Grant)}
            # The names of an app whose row is malformed stay its own.
            self._index = NameIndex(grants, self._named | self._malformed())
        return self._index

    def grant(self, slug: str) -> Grant | None:
        """Return the grant of an app as it was last read, however old, or None."""
        row = self._rows.get(app_key(slug))
        return row if isinstance(row, Grant) and row.slug == slug else None

    def registered(self, slug: str, physical: str = "") -> bool:
        """Say whether a slug has a grant, and whether it has declared a collection of that name."""
        grant = self.grant(slug)
        if grant is None:
            return False
        declared = physical.removeprefix(f"{slug}_")
        return not physical or (physical != declared and declared in grant.collections)

    def malformed(self, slug: str) -> GrantMalformed | None:
        """Return what is wrong with the row of an app, or None."""
        row = self._rows.get(app_key(slug))
        return row if isinstance(row, GrantMalformed) else None

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
        async with self._reading:
            started = self._clock()
            await self._read(keys)
            if keys is None:
                self._fresh_as_of(started)

    async def _read(self, keys: Collection[str] | None) -> None:
        """Read rows, and those again that changed while they were being read."""
        while True:
            self._learned.clear()
            async with asyncio.timeout(self._patience + BACKSTOP_SECONDS):
                found = await self._source.load(keys, self._patience)
            doubtful = set(self._learned) if keys is None else self._learned.intersection(keys)
            merged = dict(found)
            for key, row in self._rows.items():
                if key in doubtful:
                    merged[key] = _newer(row, merged.get(key))
                elif keys is not None and key not in keys:
                    merged[key] = row
            if merged != self._rows:
                self._rows = merged
                self._changed()
            if not doubtful:
                return
            keys = doubtful

    def learn(self, grant: Grant) -> None:
        """Take a row that was read elsewhere, unless a newer one is held."""
        key = app_key(grant.slug)
        held = self._rows.get(key)
        newer = grant if held is None else _newer(grant, held)
        self._learned.add(key)
        if newer != held:
            self._rows = {**self._rows, key: newer}
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
                _logger.info("grants are read every %g s, as %s", self._ttl, error)
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
        """Take a changed row, or look it up where its event may be older than what is known.

        A change stream is opened before all is read, so it begins with what is old: an event of a
        row that is not held may be from before that row was deleted.
        """
        row, held = change.row, self._rows.get(change.key)
        if isinstance(row, Grant) and isinstance(held, Grant):
            self.learn(row)
        else:
            await self.refresh({change.key})

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError), self._rest.here():
            async with asyncio.timeout(seconds):
                await self._reopen.wait()

    def _malformed(self) -> frozenset[str]:
        return frozenset(key for key, row in self._rows.items() if isinstance(row, GrantMalformed))

    def _fresh_as_of(self, moment: float) -> None:
        self._refreshed_at = max(moment, self._refreshed_at or moment)

    def _changed(self) -> None:
        self._index = None
        for key in self._malformed() - self._reported:
            _logger.error("%s", self._rows[key])
        self._reported = self._malformed()
        for listener in self._listeners:
            listener()

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            _logger.warning(
                "grants could not be refreshed (%s); access closes when they are %g s old",
                type(error).__name__,
                self._max_age,
            )

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            _logger.info("grants are refreshed again")


def _newer(one: Row, other: Row | None) -> Row:
    """Return the row of the higher epoch, the second of equal ones.

    A malformed one has none; as long as it is not read again, no access is the safer answer.
    """
    if other is None or isinstance(one, GrantMalformed):
        return one
    if isinstance(other, GrantMalformed) or other.epoch >= one.epoch:
        return other
    return one
