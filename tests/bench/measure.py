"""Time two ways of doing one thing in turn, so that what the machine does meets both alike."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

__all__ = ["Figure", "Pair", "measure"]

Call = Callable[[], Awaitable[Any]]

WARM_UP: Final = 20
"""Rounds that are not counted."""

FEWEST: Final = 10
"""Rounds that are run however long one takes; half of it of several operations at once."""

BLOCKS: Final = 10
"""Parts of a run; how far their ratios lie apart says what a single figure is worth."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One operation without the library and with it."""

    plain: Call
    library: Call


@dataclass(frozen=True, slots=True)
class Figure:
    """What one operation costs.

    Parameters
    ----------
    plain_us, library_us
        Median microseconds of one operation (p50), both from the same rounds.
    more_cpu_us
        How much more processor time this process, all threads of it, spent on one: the difference
        of the medians, in microseconds.
    ratio
        The second by the first, of the times that passed.
    low, high
        Quartiles of the ratio over the parts of the run.
    """

    plain_us: float
    library_us: float
    more_cpu_us: float
    ratio: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """Return it rounded."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


async def measure(pair: Pair, concurrency: int, seconds: float) -> Figure:
    """Time both in turn, with so many operations under way at once.

    Parameters
    ----------
    pair
        What is timed.
    concurrency
        How many operations begin together; the time of one is that of all by their number.
    seconds
        How long to go on.
    """
    times: tuple[list[float], list[float]] = ([], [])
    spent: tuple[list[float], list[float]] = ([], [])
    calls = (pair.plain, pair.library)
    warm_up = max(2, WARM_UP // concurrency)
    gc.collect()
    gc.freeze()  # the benchmark's own documents are not to be looked through again and again
    end = float("inf")
    number = 0
    fewest = FEWEST if concurrency == 1 else FEWEST // 2
    while number < warm_up + fewest or time.perf_counter() < end:
        if number == warm_up:
            end = time.perf_counter() + seconds
        # First the one, then the other: the second of two finds warmer caches.
        for which in ((0, 1), (1, 0))[number % 2]:
            began, used = time.perf_counter(), time.process_time()
            if concurrency == 1:
                await calls[which]()
            else:
                await asyncio.gather(*(calls[which]() for _ in range(concurrency)))
            used, taken = time.process_time() - used, time.perf_counter() - began
            if number >= warm_up:
                times[which].append(taken / concurrency * 1e6)
                spent[which].append(used / concurrency * 1e6)
        number += 1
    gc.unfreeze()
    return _figure(*times, statistics.median(spent[1]) - statistics.median(spent[0]))


def _figure(plain: list[float], library: list[float], more_cpu: float) -> Figure:
    a, b = statistics.median(plain), statistics.median(library)
    size = max(1, len(plain) // BLOCKS)
    ratios = [
        statistics.median(library[at : at + size]) / statistics.median(plain[at : at + size])
        for at in range(0, len(plain) - size + 1, size)
    ]
    low, _, high = statistics.quantiles(ratios, n=4)
    return Figure(a, b, more_cpu, b / a, low, high)
