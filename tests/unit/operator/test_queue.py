from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from mdb_operator.services.queue import Again, WorkQueue


@contextlib.asynccontextmanager
async def running(
    process: Callable[[str], Awaitable[Again]], workers: int = 8
) -> AsyncIterator[WorkQueue[str]]:
    queue = WorkQueue(process, workers=workers)
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def settled(queue: WorkQueue[str]) -> None:
    async with asyncio.timeout(5):
        while len(queue):  # noqa: ASYNC110 - the queue tells nobody that it is empty
            await asyncio.sleep(0.001)


async def test_many_wake_ups_of_one_key_are_one_run() -> None:
    runs: Counter[str] = Counter()

    async def process(key: str) -> Again:
        runs[key] += 1
        return Again()

    async with running(process) as queue:
        for _ in range(50):
            queue.add("a")
        queue.add("b")
        await settled(queue)
    assert runs == {"a": 1, "b": 1}


async def test_one_key_never_runs_twice_at_once_and_a_wake_up_meanwhile_is_kept() -> None:
    started, release = asyncio.Event(), asyncio.Event()
    at_once, most, runs = 0, 0, 0

    async def process(_: str) -> Again:
        nonlocal at_once, most, runs
        at_once, runs = at_once + 1, runs + 1
        most = max(most, at_once)
        started.set()
        await release.wait()
        at_once -= 1
        return Again()

    async with running(process) as queue:
        queue.add("a")
        await started.wait()
        for _ in range(5):
            queue.add("a")
        release.set()
        await settled(queue)
    assert (runs, most) == (2, 1)


async def test_no_more_runs_at_once_than_workers() -> None:
    at_once, most = 0, 0

    async def process(_: str) -> Again:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.002)
        at_once -= 1
        return Again()

    async with running(process, workers=3) as queue:
        for number in range(20):
            queue.add(str(number))
        await settled(queue)
    assert most == 3


async def test_failures_come_back_later_each_time_and_a_success_forgives_them() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def process(_: str) -> Again:
        times.append(loop.time())
        if len(times) == 1:
            raise RuntimeError("unforeseen")
        return Again(failed=len(times) == 2)

    async with running(process) as queue:
        queue.add("a")
        await settled(queue)
    first, second = times[1] - times[0], times[2] - times[1]
    assert len(times) == 3
    assert 0.35 <= first < 0.8
    assert 0.75 <= second < 1.4


async def test_an_event_comes_before_a_planned_look_and_does_not_cancel_it() -> None:
    runs = 0

    async def process(_: str) -> Again:
        nonlocal runs
        runs += 1
        return Again(seconds=0.05) if runs < 3 else Again()

    async with running(process) as queue:
        queue.add("a", delay=60)
        queue.add("a")
        await settled(queue)
    assert runs == 3


async def test_a_forgotten_key_does_not_run() -> None:
    runs = 0

    async def process(_: str) -> Again:
        nonlocal runs
        runs += 1
        return Again()

    async with running(process) as queue:
        queue.add("a", delay=0.02)
        queue.forget("a")
        queue.add("b", delay=0.04)
        await settled(queue)
    assert runs == 1
