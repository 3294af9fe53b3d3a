"""Background tasks end when they are told to, although a driver swallows that."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from mdb_engine.core.tasks import Rest

LOOP = """
import asyncio
from mdb_engine.core.tasks import Rest

async def work(rest):
    while True:
        with rest.here():
            await asyncio.sleep(0)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("swallowed", flush=True)

async def main():
    task = asyncio.create_task(work(Rest()))
    await asyncio.sleep(0.01)

asyncio.run(main())
"""
"""A program that ends without a shutdown, whose task swallows the cancellation."""


def test_a_program_ends_whose_task_swallowed_a_cancellation() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOP], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "swallowed\n"


async def test_a_time_limit_that_has_run_out_ends_no_task() -> None:
    rest, rounds = Rest(), 0

    async def work() -> None:
        nonlocal rounds
        while rounds < 3:
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.sleep(3600)
            except TimeoutError:
                rounds += 1
            with rest.here():
                await asyncio.sleep(0)

    await asyncio.wait_for(work(), 10)
    assert rounds == 3
