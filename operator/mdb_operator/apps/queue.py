"""Which apps have to be looked at, each once, some of them later, some of them first.

Handlers, the Secret watch, a change of another app and a due rotation all only say *look at this
app again*. A set that coalesces is enough for that and loses nothing, because reconciling is
level-based: it never asks what happened, only what is. Nothing is written to an app to wake it.

There are three lanes. What a person asked for and what withdraws something is urgent and never
waits behind a resync, a burst of new apps or a fight with another writer. What comes in thousands
(new apps, a start, a resync) goes last, so that a repair does not wait behind it either.

Who waits for what all wait for, MongoDB or the master key, is parked: nobody looks at ten thousand
apps every ten seconds to find out ten thousand times what one question tells.

A wake-up is a routine one where nothing is known to have happened: a resync, or the echo of one's
own write. Whoever takes an app that only such ones woke may see first whether anything changed.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import NamedTuple

from mdb_operator.kubernetes.resources import AppKey

__all__ = ["WakeUps"]

URGENT_BURST = 20
"""How many urgent wake-ups of one app in a row are served at once; more than anyone types."""

URGENT_SECONDS = 0.5
"""One further urgent wake-up of an app is served at once for each time that this passes. A writer
that changes an MdbApp in a loop makes two runs a second, and a request still waits for no more."""


class _Lane(NamedTuple):
    """What kind a wake-up is of: of each the earliest counts."""

    urgent: bool
    routine: bool
    last: bool


_LANES = [_Lane(*flags) for flags in itertools.product((False, True), repeat=3)]


class WakeUps:
    """A queue of apps: coalescing, delaying, and never handing out an app that is being worked on.

    Bound to the event loop that calls it; other threads use ``loop.call_soon_threadsafe``.

    Notes
    -----
    The semantics of client-go's workqueue: an app that is woken while somebody works on it is
    handed out once more after `done`, and waking it any number of times before that changes
    nothing.
    """

    def __init__(self) -> None:
        self._urgent: dict[AppKey, None] = {}
        self._ready: dict[AppKey, None] = {}
        self._last: dict[AppKey, None] = {}
        self._working: dict[AppKey, bool] = {}
        self._doubted: set[AppKey] = set()
        self._routine: set[AppKey] = set()
        self._timers: dict[tuple[AppKey, _Lane], asyncio.TimerHandle] = {}
        self._held_until: dict[AppKey, float] = {}
        self._spent: dict[AppKey, float] = {}
        self._parked: dict[AppKey, bool] = {}
        self._notices: set[asyncio.Event] = set()

    def __len__(self) -> int:
        return len(self._urgent.keys() | self._ready.keys() | self._last.keys())

    def wake(
        self,
        key: AppKey,
        *,
        after: float = 0,
        urgent: bool = False,
        routine: bool = False,
        last: bool = False,
    ) -> None:
        """Have the app looked at, at once or in some seconds.

        Of several delayed wake-ups of one app in one lane the earliest counts, and an immediate one
        does not cancel them: a rotation stays due. An urgent one may overtake the others, and what
        `hold` holds back. With ``routine`` nothing is known to have happened, which comes last.
        """
        if after <= 0:
            after = self._pause(key, urgent=urgent)
        if after <= 0:
            behind = self._last if last or routine else self._ready
            (self._urgent if urgent else behind)[key] = None
            if not routine:
                self._doubted.add(key)
            self._notify()
            return
        loop, lane = asyncio.get_running_loop(), _Lane(urgent, routine, last)
        pending = self._timers.get((key, lane))
        if pending is not None:
            if pending.when() <= loop.time() + after:
                return
            pending.cancel()
        self._timers[key, lane] = loop.call_later(after, self._due, key, lane)

    def hold(self, key: AppKey, seconds: float) -> None:
        """Keep everything but urgent wake-ups of an app back for a while."""
        if seconds > 0:
            self._held_until[key] = asyncio.get_running_loop().time() + seconds
        else:
            self._held_until.pop(key, None)

    def park(self, key: AppKey, *, urgent: bool) -> None:
        """Keep an app until `unpark`, unless something else wakes it; what was urgent stays so."""
        self._parked[key] = urgent or self._parked.get(key, False)

    def unpark(self) -> None:
        """Wake all that were parked, the urgent ones first."""
        parked, self._parked = self._parked, {}
        for key, urgent in parked.items():
            self.wake(key, urgent=urgent, last=not urgent)

    def forget(self, key: AppKey) -> None:
        """Drop every wake-up of an app that is gone."""
        self._urgent.pop(key, None)
        self._ready.pop(key, None)
        self._last.pop(key, None)
        self._held_until.pop(key, None)
        self._spent.pop(key, None)
        self._parked.pop(key, None)
        self._doubted.discard(key)
        for lane in _LANES:
            timer = self._timers.pop((key, lane), None)
            if timer is not None:
                timer.cancel()

    async def take(self, *, only_urgent: bool = False) -> AppKey:
        """Wait for the next app that nobody works on; call `done` with it afterwards.

        ``only_urgent`` leaves the other lane to others, so that somebody is free whatever it holds.
        """
        lanes = (self._urgent,) if only_urgent else (self._urgent, self._ready, self._last)
        notice = asyncio.Event()
        self._notices.add(notice)
        try:
            while True:
                for key in (key for lane in lanes for key in lane):
                    if key not in self._working:
                        # One look answers all lanes.
                        self._working[key] = key in self._urgent
                        self._urgent.pop(key, None)
                        self._ready.pop(key, None)
                        self._last.pop(key, None)
                        if key in self._doubted:
                            self._doubted.discard(key)
                        else:
                            self._routine.add(key)
                        return key
                notice.clear()
                await notice.wait()
        finally:
            self._notices.discard(notice)

    def is_working(self, key: AppKey) -> bool:
        """Tell whether somebody works on the app."""
        return key in self._working

    def is_routine(self, key: AppKey) -> bool:
        """Tell whether the app is worked on, and only routine wake-ups led to that."""
        return key in self._routine

    def done(self, key: AppKey) -> bool:
        """Say that the app is no longer worked on; return whether that was urgent."""
        urgent = self._working.pop(key, False)
        self._routine.discard(key)
        if key in self._ready or key in self._urgent or key in self._last:
            self._notify()
        return urgent

    def close(self) -> None:
        """Cancel all delayed wake-ups, so that no timer outlives the loop."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _due(self, key: AppKey, lane: _Lane) -> None:
        self._timers.pop((key, lane), None)
        self.wake(key, urgent=lane.urgent, routine=lane.routine, last=lane.last)

    def _pause(self, key: AppKey, *, urgent: bool) -> float:
        """Return for how long a wake-up has to wait."""
        if not urgent:
            if key not in self._held_until:
                return 0.0
            left = self._held_until[key] - asyncio.get_running_loop().time()
            if left <= 0:
                del self._held_until[key]
            return left
        if key in self._urgent:
            return 0.0  # it waits already: this one changes nothing
        now = asyncio.get_running_loop().time()
        # A leaky bucket: the time up to which the app's urgent wake-ups have been spent.
        spent = max(self._spent.get(key, now), now)
        pause = spent - now - URGENT_BURST * URGENT_SECONDS
        if pause <= 0:
            self._spent[key] = spent + URGENT_SECONDS
        return pause

    def _notify(self) -> None:
        for notice in self._notices:
            notice.set()
