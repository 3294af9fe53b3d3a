from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from support.waiting import wait_until_async

from mdb_operator.apps.queue import WakeUps
from mdb_operator.apps.workers import Again, Workers
from mdb_operator.kubernetes.resources import AppKey

KEY = AppKey("shop", "orders")


@contextlib.asynccontextmanager
async def running(
    reconcile: Callable[[AppKey], Awaitable[Again]], count: int = 4
) -> AsyncIterator[WakeUps]:
    wakeups = WakeUps()
    task = asyncio.create_task(Workers(wakeups, reconcile, count=count).run())
    try:
        yield wakeups
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        wakeups.close()


async def test_one_app_never_runs_twice_at_once_and_a_wake_up_meanwhile_is_kept() -> None:
    started, release, again_started = asyncio.Event(), asyncio.Event(), asyncio.Event()
    at_once = most = runs = 0

    async def reconcile(_: AppKey) -> Again:
        nonlocal at_once, most, runs
        at_once, runs = at_once + 1, runs + 1
        most = max(most, at_once)
        (started if runs == 1 else again_started).set()
        await release.wait()
        at_once -= 1
        return Again()

    async with running(reconcile) as wakeups, asyncio.timeout(5):
        wakeups.wake(KEY)
        await started.wait()
        for _ in range(5):
            wakeups.wake(KEY)
        release.set()
        await again_started.wait()
    assert (runs, most) == (2, 1)


async def test_no_more_runs_at_once_than_workers() -> None:
    at_once = most = runs = 0
    done = asyncio.Event()

    async def reconcile(_: AppKey) -> Again:
        nonlocal at_once, most, runs
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        at_once, runs = at_once - 1, runs + 1
        if runs == 20:
            done.set()
        return Again()

    async with running(reconcile, count=3) as wakeups, asyncio.timeout(5):
        for number in range(20):
            wakeups.wake(AppKey("shop", str(number)))
        await done.wait()
    assert most == 3


async def test_failures_come_back_later_each_time_and_a_success_forgives_them() -> None:
    workers = Workers(WakeUps(), lambda _: asyncio.sleep(0, Again()), count=1)
    delays = [workers._delay(KEY, Again(failed=True)) for _ in range(9)]
    for delay, longest in zip(delays, [0.5, 1, 2, 4, 8, 16, 30, 30, 30], strict=True):
        assert delay is not None
        assert longest * 0.8 <= delay <= longest
    assert workers._delay(KEY, Again(seconds=600)) == 600
    after_success = workers._delay(KEY, Again(failed=True))
    assert after_success is not None
    assert after_success <= 0.5


async def test_a_failure_that_knows_when_to_come_back_does_not_come_later() -> None:
    workers = Workers(WakeUps(), lambda _: asyncio.sleep(0, Again()), count=1)
    for _ in range(9):
        delay = workers._delay(KEY, Again(seconds=2, failed=True))
        assert delay is not None
        assert delay <= 2


async def test_whoever_refused_says_how_soon_it_may_be_asked_again() -> None:
    workers = Workers(WakeUps(), lambda _: asyncio.sleep(0, Again()), count=1)
    assert workers._delay(KEY, Again(failed=True, not_before=7)) == 7


async def test_an_unforeseen_error_of_one_app_neither_stops_the_workers_nor_loses_the_app() -> None:
    runs = 0
    done = asyncio.Event()

    async def reconcile(_: AppKey) -> Again:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("unforeseen")
        done.set()
        return Again()

    async with running(reconcile, count=1) as wakeups, asyncio.timeout(5):
        wakeups.wake(KEY)
        await done.wait()
    assert runs == 2


async def test_a_worker_ends_although_what_it_does_swallows_the_cancellation() -> None:
    started = asyncio.Event()

    async def reconcile(_: AppKey) -> Again:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise RuntimeError("what a driver makes of it") from error
        return Again()

    wakeups = WakeUps()
    wakeups.wake(KEY)
    task = asyncio.create_task(Workers(wakeups, reconcile, count=2).run())
    async with asyncio.timeout(5):
        await started.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    wakeups.close()


async def test_what_was_urgent_and_failed_does_not_wait_behind_the_rest() -> None:
    busy, repeated, runs = asyncio.Event(), asyncio.Event(), 0

    async def reconcile(key: AppKey) -> Again:
        nonlocal runs
        if key != KEY:
            busy.set()
            await asyncio.Event().wait()
        runs += 1
        if runs == 1:
            return Again(failed=True, transient=True)
        repeated.set()
        return Again()

    async with running(reconcile, count=1) as wakeups:
        wakeups.wake(AppKey("shop", "slow"))
        await asyncio.wait_for(busy.wait(), 2)
        wakeups.wake(KEY, urgent=True)
        await asyncio.wait_for(repeated.wait(), 5)


async def test_who_waits_for_what_all_wait_for_is_not_tried_again_before_it_is_there() -> None:
    there = False
    looks: list[AppKey] = []
    new, other, revoked, last = (AppKey("shop", name) for name in ("new", "other", "gone", "last"))

    async def reconcile(key: AppKey) -> Again:
        looks.append(key)
        return Again() if there else Again(failed=True, transient=True, parked=True)

    async with running(reconcile, count=1) as wakeups, asyncio.timeout(5):
        for key in (new, other, revoked):
            wakeups.wake(key, urgent=key == revoked, last=key == new)
        await wait_until_async(
            lambda: len(looks) == 3 and not any(wakeups.is_working(one) for one in looks),
            message="a look at each",
        )
        assert not len(wakeups)
        assert not wakeups._timers
        there = True
        wakeups.forget(other)
        wakeups.wake(other, last=True)
        wakeups.unpark()
        wakeups.unpark()
        assert len(wakeups) == 3
        wakeups.wake(last, last=True)
        await wait_until_async(lambda: len(looks) == 7, message="another look at each")
    assert looks[3] == revoked, "what was urgent goes first"
    assert looks[4:] == [other, new, last]
