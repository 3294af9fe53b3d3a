"""Slows the operator down where somebody else keeps undoing what it writes.

A webhook that changes Secrets, a tool that syncs them from elsewhere, or a second operator would
otherwise make a loop of writes as fast as the API server takes them. Repairing at once is right for
the first few times, and from then on pointless: the time between two repairs of one app doubles,
all such apps together share one rate, and the status names the fight.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from mdb_operator.kubernetes.resources import AppKey

__all__ = ["Contention"]

FREE_REPAIRS = 5
"""Repairs in a row that are made at once: people do delete a Secret twice."""

QUIET_SECONDS = 30.0
"""A repair that comes this long after the last one, or after the pause that was made of it, is the
first of a new row."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 300.0

SHARED_SECONDS = 0.2
"""All apps in a fight together are repaired five times a second at most."""


class Contention:
    """Counts repairs in a row, by app; the clock is monotonic and in seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._rows: dict[AppKey, tuple[int, float]] = {}
        self._next_slot = 0.0

    def repaired(self, key: AppKey) -> float:
        """Note a repair; return for how many seconds the next one has to wait, 0 at first."""
        now = self._clock()
        count, until = self._rows.get(key, (0, now))
        count = count + 1 if now - until < QUIET_SECONDS else 1
        pause = 0.0
        if count > FREE_REPAIRS:
            pause = min(
                FIRST_PAUSE_SECONDS * 2.0 ** min(count - FREE_REPAIRS - 1, 16),
                LONGEST_PAUSE_SECONDS,
            )
            self._next_slot = max(self._next_slot, now + pause) + SHARED_SECONDS
            pause = self._next_slot - now
        self._rows[key] = (count, now + pause)
        return pause

    def forget(self, key: AppKey) -> None:
        """Begin anew: the app is gone."""
        self._rows.pop(key, None)

    def settled(self, key: AppKey) -> float:
        """Note that nothing had to be repaired; return for how many seconds the pause goes on.

        With the pause the row ends.
        """
        if key not in self._rows:
            return 0.0
        left = self._rows[key][1] - self._clock()
        if left <= 0:
            del self._rows[key]
        return max(0.0, left)
