"""Which apps have to be looked at, each once, some of them later.

Handlers, the Secret watch, a change of another app and a due rotation all only say *look at this
app again*. A set that coalesces is enough for that and loses nothing, because reconciling is
level-based: it never asks what happened, only what is. Nothing is written to an app to wake it.
"""

from __future__ import annotations

import asyncio

from mdb_operator.kubernetes.resources import AppKey

__all__ = ["WakeUps"]


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
        self._ready: dict[AppKey, None] = {}
        self._working: set[AppKey] = set()
        self._timers: dict[AppKey, asyncio.TimerHandle] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready)

    def wake(self, key: AppKey, *, after: float = 0) -> None:
        """Have the app looked at, at once or in some seconds.

        Parameters
        ----------
        key
            The app.
        after
            Seconds from now. Of several delayed wake-ups of one app the earliest counts, and an
            immediate one does not cancel them: a rotation stays due.
        """
        if after <= 0:
            self._ready[key] = None
            self._changed.set()
            return
        loop = asyncio.get_running_loop()
        pending = self._timers.get(key)
        if pending is not None:
            if pending.when() <= loop.time() + after:
                return
            pending.cancel()
        self._timers[key] = loop.call_later(after, self._due, key)

    def forget(self, key: AppKey) -> None:
        """Drop every wake-up of an app that is gone."""
        self._ready.pop(key, None)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def take(self) -> AppKey:
        """Wait for the next app that nobody works on; call `done` with it afterwards."""
        while True:
            for key in self._ready:
                if key not in self._working:
                    del self._ready[key]
                    self._working.add(key)
                    return key
            self._changed.clear()
            await self._changed.wait()

    def done(self, key: AppKey) -> None:
        """Say that the app is no longer worked on."""
        self._working.discard(key)
        if key in self._ready:
            self._changed.set()

    def close(self) -> None:
        """Cancel all delayed wake-ups, so that no timer outlives the loop."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _due(self, key: AppKey) -> None:
        self._timers.pop(key, None)
        self.wake(key)
