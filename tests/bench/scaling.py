"""What the operator would need for more apps than can be tried here, from what was measured.

The constants are those of a run of `operator_scale.py`. The queue is simulated as it is built: one
processor that all workers share, a number of workers that wait for servers side by side, two lanes,
and a worker more for what is urgent. ``python tests/bench/scaling.py FIGURES.json`` prints a table;
the first row repeats a run that was measured, so that the model can be held against it.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESYNC_SECONDS = 600.0
WORKERS = 8


@dataclass(frozen=True, slots=True)
class Constants:
    """What one app costs one operator process."""

    apps: int  # of the run that they are from
    create_ms: float  # processor time from apply to Ready
    full_look_ms: float  # of a look that reads everything, as at a start
    routine_ms: float  # of a look at what cannot have changed
    wait_ms: float  # that a full look waits for servers, beside its processor time
    base_mb: float
    app_kb: float
    measured_restart: float

    @classmethod
    def read(cls, path: Path, isolation: str) -> Constants:
        """Read them from the largest run of an isolation."""
        runs = [one for one in json.loads(path.read_text()) if one["isolation"] == isolation]
        run: dict[str, Any] = max(runs, key=lambda one: one["apps"])
        apps, restart = run["apps"], run["restart"]
        looking = restart["until_all_looked_at"] - restart["until_started"]
        full = restart["cpu_ms_per_app"]
        return cls(
            apps=apps,
            create_ms=run["create"]["cpu_ms_per_app"],
            full_look_ms=full,
            routine_ms=run["routine"]["cpu_ms_per_app"],
            wait_ms=max(0.0, looking * 1000 * WORKERS / apps - full),
            base_mb=run["rss_mb_before"],
            app_kb=(run["create"]["rss_mb"] - run["rss_mb_before"]) * 1000 / apps,
            measured_restart=looking,
        )


def restart(constants: Constants, apps: int, changed_at: float) -> tuple[float, float]:
    """Simulate a start; return the seconds until all is looked at, and until a change is served."""
    cpu, wait = constants.full_look_ms / 1000, constants.wait_ms / 1000
    ready = deque([False] * apps)
    # When each worker is free, and whether it takes urgent work only.
    workers: list[tuple[float, int, bool]] = [(0.0, n, n == WORKERS) for n in range(WORKERS + 1)]
    heapq.heapify(workers)
    processor, last, served = 0.0, 0.0, 0.0
    while ready or not served:
        now, number, urgent_only = heapq.heappop(workers)
        urgent = not served and now >= changed_at
        if not urgent and (urgent_only or not ready):
            heapq.heappush(workers, (max(now, changed_at) + 1e-6, number, urgent_only))
            if served:
                heapq.heappop(workers)
            continue
        if not urgent:
            ready.popleft()
        # Its processor time comes in turn with the others', in small parts: on average it waits
        # for as many as are busy; what it waits for servers goes by beside that.
        processor = max(processor, now) + cpu
        end = max(processor, now + cpu + wait * random.uniform(0.5, 1.5))  # noqa: S311 - a model
        if urgent:
            served = end - changed_at
        last = max(last, end)
        heapq.heappush(workers, (end, number, urgent_only))
    return last, served


def rows(constants: Constants, numbers: Iterable[int]) -> Iterable[tuple[str, ...]]:
    """Yield a row for each number of apps."""
    for apps in (constants.apps, *numbers):
        seconds, served = restart(constants, apps, changed_at=min(1.0, apps / 1000))
        rest = apps * constants.routine_ms / 1000 / RESYNC_SECONDS
        yield (
            f"{apps:,}",
            f"{apps * constants.create_ms / 1000:,.0f} s",
            f"{constants.base_mb + apps * constants.app_kb / 1000:,.0f} MB",
            f"{rest:.1%}",
            f"{seconds:,.1f} s",
            f"{served:.2f} s",
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path)
    parser.add_argument("--isolation", default="database")
    asked = parser.parse_args()
    random.seed(1)
    constants = Constants.read(asked.figures, asked.isolation)
    head = ("apps", "processor to create", "memory", "of a core at rest", "start", "a change then")
    print(f"{constants}\nmeasured start: {constants.measured_restart:.1f} s\n")
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for row in rows(constants, (10_000, 25_000, 50_000, 100_000)):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
