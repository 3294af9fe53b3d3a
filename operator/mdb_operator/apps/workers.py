"""Workers that take woken apps and reconcile them, and decide when each is looked at again.

The bound on work that runs at once stands here, as a number of workers, and nowhere in kopf:
limiting kopf's own workers makes a sleeping retry hold its slot. `WakeUps` hands no app out twice
at once, which is the lock per object. One worker more takes urgent apps only.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from mdb_engine.core.tasks import raise_if_cancelled
from mdb_operator.apps.queue import WakeUps
from mdb_operator.kubernetes.resources import AppKey

__all__ = ["Again", "Workers"]

FIRST_RETRY_SECONDS = 0.5
"""Delay after the first failure; it doubles with each further one."""

LAST_RETRY_SECONDS = 30.0
"""The longest delay, so that an app recovers within half a minute of what it waited for."""

JITTER = 0.2
"""Part of a delay that is random, so that many apps do not come back in one instant."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Again:
    """When an app wants to be looked at next."""

    seconds: float | None = None  # delay until then; None where only an event will wake it up
    routine: bool = False  # and until then nothing is known to happen
    # This run failed: it is repeated, later with each failure in a row, and ``seconds`` bounds the
    # delay from above.
    failed: bool = False
    transient: bool = False  # for a reason that passes: what was urgent is repeated as that
    not_before: float = 0.0  # bounds it from below, where whoever refused the run said so
    parked: bool = False  # it cannot succeed before `WakeUps.unpark`, so it is not repeated


class Workers:
    """Reconciles woken apps, as many at once as there are workers.

    An exception that ``reconcile`` lets through counts as a failure. The count bounds the
    concurrent work for MongoDB and the API server.
    """

    def __init__(
        self,
        wakeups: WakeUps,
        reconcile: Callable[[AppKey], Awaitable[Again]],
        *,
        count: int,
    ) -> None:
        self._wakeups = wakeups
        self._reconcile = reconcile
        self._count = count
        self._failures: dict[AppKey, int] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._work(), name=f"reconcile worker {number}")
            group.create_task(self._work(only_urgent=True), name="reconcile worker, urgent")

    async def _work(self, *, only_urgent: bool = False) -> None:
        # Asked for, because the driver turns a cancellation that hits it at the wrong moment into
        # an error of its own, and the worker would go on for good.
        while True:
            raise_if_cancelled()
            key = await self._wakeups.take(only_urgent=only_urgent)
            try:
                again = await self._reconcile(key)
            except Exception:  # noqa: BLE001 - one app must not stop the others
                _log.exception("A reconcile failed unexpectedly", namespace=key[0], app=key[1])
                again = Again(failed=True, transient=True)
            finally:
                urgent = self._wakeups.done(key)
            if again.parked:
                self._failures.pop(key, None)
                self._wakeups.park(key, urgent=urgent)
                continue
            delay = self._delay(key, again)
            if delay is not None:
                self._wakeups.wake(
                    key,
                    after=delay,
                    urgent=urgent and again.transient,
                    routine=not again.failed and again.routine,
                )

    def _delay(self, key: AppKey, again: Again) -> float | None:
        if not again.failed:
            self._failures.pop(key, None)
            return again.seconds
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay: float = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 16))
        if again.seconds is not None:
            delay = min(delay, again.seconds)
        delay *= random.uniform(1 - JITTER, 1)  # noqa: S311 - spreads load, guards nothing
        return max(delay, again.not_before)
