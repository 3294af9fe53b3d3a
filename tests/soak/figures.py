"""What processes hold, sampled over time, and whether it grows."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from bench.operator_scale import memory_mb
from pymongo.errors import PyMongoError

__all__ = ["REQUESTS", "Grown", "Sampler", "Series", "growth", "over_time"]

SAMPLE_SECONDS: Final = 5.0

ALLOWED: Final[Mapping[str, tuple[float, float]]] = {
    "memory, MB": (0.05, 3.0),
    "file descriptors": (0.05, 3.0),
    "threads": (0.05, 2.0),
    "asyncio tasks": (0.05, 3.0),
    "connections": (0.05, 5.0),
    "rows of the registry": (0.05, 10.0),
    "requests to Kubernetes a minute": (0.25, 30.0),
}
"""By how much a figure of the last third may be above that of the second: a part of it, and at
least so much. Kills and restarts alone make as much of a difference."""

REQUESTS: Final = "requests to Kubernetes a minute"
"""Sampled as their number since the process began."""

MEMORY_FROM_SECONDS: Final = 600.0
"""Shorter runs say nothing about memory: caches still fill."""

Figures = Mapping[str, float]


@dataclass
class Series:
    """What one process held, from its start to its end.

    Parameters
    ----------
    name
        Of the process, unique.
    kind
        ``operator``, ``pod`` or ``mongod``.
    pid
        Of the process.
    more
        What is to be sampled of it beside what Linux says.
    points
        Figures with the seconds since the run's beginning.
    """

    name: str
    kind: str
    pid: int
    more: Callable[[], Figures] = field(repr=False)
    points: list[tuple[float, Figures]] = field(default_factory=list, repr=False)

    def look(self, at: float) -> None:
        """Take one sample; one that cannot be had is left out, as the process may just end."""
        with suppress(OSError, StopIteration, ValueError, httpx.HTTPError, PyMongoError):
            process = Path(f"/proc/{self.pid}")
            status = (process / "status").read_text()
            figures = {
                "memory, MB": round(memory_mb(self.pid), 1),
                "file descriptors": len(list((process / "fd").iterdir())),
                "threads": int(status.split("Threads:")[1].split()[0]),
            }
            self.points.append((at, {**figures, **self.more()}))

    def median(self, figure: str, begin: float, end: float) -> float | None:
        """Return the median within a time, or the rate; None where nothing was sampled."""
        found = [
            (at, one[figure]) for at, one in self.points if begin <= at < end and figure in one
        ]
        if figure == REQUESTS and len(found) > 1:
            (first, former), (last, count) = found[0], found[-1]
            return round((count - former) / (last - first) * 60)
        return statistics.median(value for _, value in found) if found else None


class Sampler:
    """Samples processes in a thread of its own, from `start` to `stop`."""

    def __init__(self) -> None:
        self.all: list[Series] = []
        self._now: dict[str, Series] = {}
        self._began = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def start(self) -> None:
        self._began = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def watch(self, slot: str, series: Series) -> None:
        """Sample a process from now on, in the place of the one that had its slot."""
        self.all.append(series)
        self._now[slot] = series

    def last(self, slot: str) -> Figures:
        """Return the newest figures of a slot; nothing where there are none."""
        points = self._now[slot].points
        return points[-1][1] if points else {}

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            for series in tuple(self._now.values()):
                series.look(self.seconds)


@dataclass(frozen=True)
class Grown:
    """One figure of one process in the second and the last third of a run.

    Parameters
    ----------
    process, figure
        Whose, and which.
    second, last
        The medians.
    most
        What the last may be at most; None where it is not judged.
    """

    process: str
    figure: str
    second: float
    last: float
    most: float | None

    @property
    def flat(self) -> bool:
        """Whether it has not grown."""
        return self.most is None or self.last <= self.most

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "flat": self.flat}


def growth(series: Sequence[Series], seconds: float) -> list[Grown]:
    """Compare the last third of a run with the second, process by process.

    Only those that lived through both. Of processes of one kind the one that grew most is named.
    """
    third = seconds / 3
    found: dict[tuple[str, str], Grown] = {}
    for one in series:
        if not one.points or one.points[0][0] > third + 2 * SAMPLE_SECONDS:
            continue
        if one.points[-1][0] < seconds - 4 * SAMPLE_SECONDS:
            continue
        for figure, (part, least) in ALLOWED.items():
            second = one.median(figure, third, 2 * third)
            last = one.median(figure, 2 * third, seconds)
            if second is None or last is None:
                continue
            judged = figure != "memory, MB" or (
                one.kind != "mongod" and seconds >= MEMORY_FROM_SECONDS
            )
            most = round(second + max(part * second, least), 1) if judged else None
            grown = Grown(one.name, figure, second, last, most)
            former = found.get((one.kind, figure))
            if former is None or last - second > former.last - former.second:
                found[one.kind, figure] = grown
    return list(found.values())


def over_time(
    series: Sequence[Series], kind: str, figure: str, seconds: float, step: float = 30.0
) -> Iterator[tuple[int, float]]:
    """Yield what those of a kind had in each step: the leader of the operators, pods' median."""
    for number in range(int(seconds // step)):
        within = (number * step, (number + 1) * step)
        found = [
            points[figure]
            for one in series
            if one.kind == kind
            for at, points in one.points
            if within[0] <= at < within[1] and figure in points and points.get("leads", 1)
        ]
        if found:
            yield round(within[1]), round(statistics.median(found), 1)
