"""Work that goes on until it is cancelled ends then, although a driver swallows that once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mdb_engine.core.tasks import end
from mdb_operator.apps.sweep import Sweeper
from mdb_operator.keys.rewrap import Rewrapper

ANYTHING: Any = SimpleNamespace(resync_seconds=3600.0)


async def swallowing() -> None:
    """Do what `asyncio.wait_for` of Python 3.11 does where the answer comes at the same moment."""
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return


@pytest.mark.parametrize(
    ("work", "inner"),
    [
        (Sweeper(ANYTHING, ANYTHING, ANYTHING), "sweep"),
        (Rewrapper(ANYTHING, ANYTHING, ANYTHING), "_rewrap"),
    ],
)
async def test_work_ends_at_the_first_time_of_asking(
    work: Any, inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def once() -> None:
        begun.set()
        await swallowing()

    monkeypatch.setattr(work, inner, once)
    task = asyncio.create_task(work.run())
    try:
        await asyncio.wait_for(begun.wait(), 10)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=10)
        assert done
    finally:
        await end(task)
