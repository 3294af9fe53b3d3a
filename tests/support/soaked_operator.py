"""The operator, but that its metrics also say how many asyncio tasks it has; and a given overlap.

``python -m support.soaked_operator OVERLAP_SECONDS run`` in the place of ``mdb-operator run``.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Iterable

from prometheus_client import Gauge

from mdb_operator.cli.main import main
from mdb_operator.process.metrics import Metrics
from support.short_overlap import shorten

__all__ = ["TASKS"]

TASKS = "test_asyncio_tasks"
"""The metric."""


def _count_tasks() -> None:
    loops: weakref.WeakSet[asyncio.BaseEventLoop] = weakref.WeakSet()
    run_forever, init = asyncio.BaseEventLoop.run_forever, Metrics.__init__

    def run(loop: asyncio.BaseEventLoop) -> None:
        loops.add(loop)
        run_forever(loop)

    def tasks(running: Iterable[asyncio.AbstractEventLoop] = loops) -> float:
        return sum(len(asyncio.all_tasks(loop)) for loop in tuple(running))

    def with_tasks(self: Metrics, *, each_app: bool = True) -> None:
        init(self, each_app=each_app)
        gauge = Gauge(TASKS, "Tasks of all loops of this process.", registry=self.registry)
        gauge.set_function(tasks)

    asyncio.BaseEventLoop.run_forever = run  # type: ignore[assignment, method-assign]
    Metrics.__init__ = with_tasks  # type: ignore[method-assign]


if __name__ == "__main__":
    shorten(float(sys.argv.pop(1)))
    _count_tasks()
    sys.exit(main())
