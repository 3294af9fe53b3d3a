from __future__ import annotations

import asyncio

import pytest
from support.waiting import wait_until_async

from mdb_operator.apps.queue import WakeUps
from mdb_operator.kubernetes.resources import AppKey

A, B = AppKey("shop", "a"), AppKey("shop", "b")


async def take(wakeups: WakeUps) -> AppKey:
    async with asyncio.timeout(2):
        return await wakeups.take()


async def test_waking_an_app_often_hands_it_out_once() -> None:
    wakeups = WakeUps()
    for key in (A, A, B, A):
        wakeups.wake(key)
    assert [await take(wakeups), await take(wakeups)] == [A, B]
    assert len(wakeups) == 0


async def test_an_app_that_is_worked_on_is_handed_out_again_only_after_that() -> None:
    wakeups = WakeUps()
    wakeups.wake(A)
    assert await take(wakeups) == A
    wakeups.wake(A)
    waiting = asyncio.create_task(wakeups.take())
    wakeups.wake(B)
    assert await asyncio.wait_for(waiting, 2) == B
    again = asyncio.create_task(wakeups.take())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not again.done()
    wakeups.done(A)
    assert await asyncio.wait_for(again, 2) == A


async def test_the_earliest_of_several_delayed_wake_ups_counts() -> None:
    wakeups = WakeUps()
    wakeups.wake(A, after=60)
    wakeups.wake(A, after=0.01)
    wakeups.wake(A, after=30)
    assert await take(wakeups) == A
    wakeups.done(A)
    assert len(wakeups) == 0
    wakeups.close()


async def test_an_immediate_wake_up_leaves_a_delayed_one_standing() -> None:
    wakeups = WakeUps()
    wakeups.wake(A, after=0.05)
    wakeups.wake(A)
    assert await take(wakeups) == A
    wakeups.done(A)
    assert await take(wakeups) == A


async def test_a_forgotten_app_is_not_handed_out() -> None:
    wakeups = WakeUps()
    wakeups.wake(A)
    wakeups.wake(A, after=0.01)
    wakeups.forget(A)
    wakeups.wake(B, after=0.05)
    assert await take(wakeups) == B


@pytest.mark.parametrize("workers", [1, 4])
async def test_no_two_workers_have_one_app_and_no_wake_up_is_lost(workers: int) -> None:
    wakeups = WakeUps()
    level = dict.fromkeys((A, B), 0)
    seen = dict.fromkeys((A, B), 0)
    busy: set[AppKey] = set()

    async def work() -> None:
        while True:
            key = await wakeups.take()
            assert key not in busy
            busy.add(key)
            seen[key] = level[key]
            await asyncio.sleep(0)
            busy.remove(key)
            wakeups.done(key)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        tasks = [group.create_task(work()) for _ in range(workers)]
        for number in range(200):
            key = A if number % 3 else B
            level[key] = number
            wakeups.wake(key)
            if number % 7 == 0:
                await asyncio.sleep(0)
        await wait_until_async(lambda: seen == level, message="every app was seen as it is now")
        for task in tasks:
            task.cancel()


async def test_only_an_app_that_nothing_else_woke_is_a_routine_one() -> None:
    wakeups = WakeUps()
    wakeups.wake(A, routine=True)
    wakeups.wake(B, routine=True)
    wakeups.wake(B)
    assert [await take(wakeups), await take(wakeups)] == [B, A]
    assert (wakeups.is_routine(A), wakeups.is_routine(B)) == (True, False)
    wakeups.wake(A)  # something happened while it is worked on
    wakeups.done(A)
    assert await take(wakeups) == A
    assert not wakeups.is_routine(A)


async def test_a_routine_wake_up_takes_no_doubt_away_and_is_delayed_beside_others() -> None:
    wakeups = WakeUps()
    wakeups.wake(A)
    wakeups.wake(A, routine=True)
    assert await take(wakeups) == A
    assert not wakeups.is_routine(A)
    wakeups.done(A)
    wakeups.wake(A, after=0.02, routine=True)
    wakeups.wake(A, after=0.05)
    assert await take(wakeups) == A
    assert wakeups.is_routine(A)
    wakeups.done(A)
    assert await take(wakeups) == A
    assert not wakeups.is_routine(A)
    wakeups.close()


def test_an_app_that_nobody_took_from_the_queue_is_no_routine_one() -> None:
    assert not WakeUps().is_routine(A)


async def test_what_comes_in_thousands_goes_last() -> None:
    wakeups = WakeUps()
    many = [AppKey("shop", f"new-{number}") for number in range(3)]
    for key in many:
        wakeups.wake(key, last=True)
    wakeups.wake(A)
    wakeups.wake(many[2])
    assert [await take(wakeups) for _ in range(4)] == [A, many[2], *many[:2]]
    assert len(wakeups) == 0
    assert not wakeups.is_routine(many[0])
    wakeups.wake(many[0], last=True)
    wakeups.forget(many[0])
    assert len(wakeups) == 0
