"""Hold grants in memory, so that an operation is checked without asking MongoDB anything.

One task reads them again and again, four times in every ``ttl``. That is asked of every pod of
every app, so it is little: a pod reads its own row, those of the apps that it may read, and now
and then the slugs of all others, because a name may belong to one of them. A change stream would
tell of a change sooner, but with many of them every write to any collection of a server wakes each
one (docs/benchmarks.md has the figures). When reading does not succeed for ``max_age``, the cache
refuses to be asked: a revocation that cannot be seen must not be outlived by what it revoked.

What is read takes time, in which a newer row may be learned elsewhere. So one reading follows
another, a row of an older epoch never takes the place of a newer one, and a row that was learned
while it was being read is read again before anything counts as fresh. A row that cannot be
understood costs its own app only: it has no grant, and an error that names the row.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, Protocol

from mdb_engine.access.granted import NameIndex
from mdb_engine.access.model import Grant
from mdb_engine.constants import GRANT_MAX_AGE_SECONDS, GRANT_TTL_SECONDS
from mdb_engine.core.tasks import Rest
from mdb_engine.exceptions import DatabaseUnavailable, GrantMalformed
from mdb_engine.models.naming import app_key

__all__ = ["GrantCache", "GrantSource", "Row", "Rows"]

READINGS: Final = 4
"""Readings in every ttl: a change holds within it although one reading has just begun, or fails."""

SLUGS_SECONDS: Final = 30.0
"""How old the slugs of other apps may be.

Until a new one is known, a name that begins with it is refused as one of the pod's own that is not
declared, instead of being denied as another app's.
"""

RETRY_SECONDS: Final = 1.0
"""How soon a failed reading is tried again; never longer than the ttl."""

PATIENCE: Final = 2.0
"""A reading that takes this many times the ttl is given up and begun anew."""

BACKSTOP_SECONDS: Final = 1.0
"""How much longer a reading may take than its own time limit, before it is cancelled.

The driver's own limit comes first, because PyMongo's async client loses the socket of a connection
whose opening is cancelled.
"""

_logger = logging.getLogger("mdb_engine.grants")

Row = Grant | GrantMalformed
"""What a row of the collection says, or that it cannot be understood."""

Rows = Mapping[str, Row]
"""Rows by the key of their app."""


class GrantSource(Protocol):
    """Where grants are read from."""

    async def load(self, keys: Collection[str] | None, seconds: float) -> Rows:
        """Read the rows of the apps of these keys, or of all, within so many seconds."""

    async def slugs(self, seconds: float) -> Mapping[str, str]:
        """Read the slugs of all apps, by key, within so many seconds."""


class GrantCache:
    """Grants, as fresh as promised or not at all.

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
        self._own: str | None = None
        self._named: frozenset[str] = frozenset()
        self._slugs: Mapping[str, str] = {}  # by key; empty where all rows are held
        self._slugs_at: float | None = None
        self._rows: dict[str, Row] = {}
        self._reading = asyncio.Lock()
        self._learned: set[str] = set()  # the keys of rows that came since the reading began
        self._index: NameIndex | None = None
        self._refreshed_at: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._rest = Rest()
        self._failing = False
        self._reported: frozenset[str] = frozenset()
        self._listeners: list[Callable[[], None]] = []

    def keep_only(self, slug: str) -> None:
        """Hold what one app needs, instead of the grants of all; before anything is read."""
        self._own = app_key(slug)

    @property
    def age(self) -> float | None:
        """Seconds since the grants were last known to be current, or None before the first load."""
        if self._refreshed_at is None:
            return None
        return self._clock() - self._refreshed_at

    def index(self) -> NameIndex:
        """Return the grants, without I/O.  The same object until one of them changes.

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
            # The names of an app whose row is malformed, or not held, stay its own.
            others = (slug for key, slug in self._slugs.items() if key not in self._rows)
            self._index = NameIndex(grants, self._named.union(others, self._malformed()))
        return self._index

    def grant(self, slug: str) -> Grant | None:
        """Return the grant of an app as it was last read, however old, or None.

        Of an app whose row this process does not need there is none, see `keep_only`.
        """
        row = self._rows.get(app_key(slug))
        return row if isinstance(row, Grant) and row.slug == slug else None

    def registered(self, slug: str, physical: str = "") -> bool:
        """Say whether a slug is an app's, and whether it is known to have declared a collection."""
        grant = self.grant(slug)
        if grant is None:
            return not physical and self._slugs.get(app_key(slug)) == slug
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

    async def refresh(self) -> None:
        """Read the grants now, which makes the cache fresh.

        Raises
        ------
        Exception
            Whatever the source raises.
        """
        async with self._reading:
            started = self._clock()
            if self._own is not None:
                await self._read_slugs(started)
            await self._read_rows()
            self._refreshed_at = started

    async def _read_slugs(self, now: float) -> None:
        if self._slugs_at is not None and now - self._slugs_at < SLUGS_SECONDS:
            return
        async with self._time_limit():
            slugs = await self._source.slugs(self._patience)
        self._slugs_at = now
        if slugs != self._slugs:
            self._slugs, self._index = slugs, None

    async def _read_rows(self) -> None:
        """Read the rows that are needed, and again if others came, or are needed, meanwhile."""
        while True:
            self._learned.clear()
            keys = self._needed(self._rows)
            async with self._time_limit():
                found = await self._source.load(keys, self._patience)
            rows = dict(found)
            for key in self._learned:
                rows[key] = _newer(self._rows[key], rows.get(key))
            needed = self._needed(rows)
            if needed is not None:
                rows = {key: row for key, row in rows.items() if key in needed}
            if rows != self._rows:
                self._rows = rows
                self._changed()
            if not self._learned and (keys is None or needed is None or needed <= keys):
                return

    def _needed(self, rows: Rows) -> frozenset[str] | None:
        """Return the keys of the rows that the own one says are needed, or None for all."""
        if self._own is None:
            return None
        own = rows.get(self._own)
        reads = own.read_scopes if isinstance(own, Grant) else frozenset[str]()
        needed = {self._own, *map(app_key, reads)}
        # `a_b_c` may be declared by `a`, as `b_c`: it must not be taken for `a_b`'s `c`.
        shorter = {prefix for key in needed for prefix in _beginnings(key) if prefix in self._slugs}
        return frozenset(needed | shorter)

    def learn(self, grant: Grant) -> None:
        """Take a row that was read elsewhere, unless a newer one is held."""
        key = app_key(grant.slug)
        held = self._rows.get(key)
        newer = grant if held is None else _newer(grant, held)
        self._learned.add(key)
        if newer != held:
            self._rows = {**self._rows, key: newer}
            self._changed()

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

    def _time_limit(self) -> asyncio.Timeout:
        return asyncio.timeout(self._patience + BACKSTOP_SECONDS)

    async def _run(self) -> None:
        interval = self._ttl / READINGS
        # Pods that a rollout starts together do not read together.
        pause = random.uniform(0, interval)  # noqa: S311
        while True:
            with self._rest.here():
                await asyncio.sleep(pause)
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001  # it must go on; index() tells who asks
                self._failed(error)
                pause = min(RETRY_SECONDS, interval)
            else:
                self._recovered()
                pause = interval

    def _malformed(self) -> frozenset[str]:
        return frozenset(key for key, row in self._rows.items() if isinstance(row, GrantMalformed))

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


def _beginnings(key: str) -> Iterator[str]:
    """Yield what stands before each ``_`` of a key."""
    at = key.find("_")
    while at > 0:
        yield key[:at]
        at = key.find("_", at + 1)


def _newer(one: Row, other: Row | None) -> Row:
    """Return the row of the higher epoch, the second of equal ones.

    A malformed one has none; as long as it is not read again, no access is the safer answer.
    """
    if other is None or isinstance(one, GrantMalformed):
        return one
    if isinstance(other, GrantMalformed) or other.epoch >= one.epoch:
        return other
    return one
