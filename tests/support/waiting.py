"""Wait for something to become true, with a deadline and a message; never a fixed sleep."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar, overload

Value = TypeVar("Value")

FIRST_PAUSE_SECONDS = 0.01
"""Short, so that what is true at once costs nothing."""

LONGEST_PAUSE_SECONDS = 0.25
"""Long enough not to burden what is waited for, short enough not to be noticed."""


class DeadlineExceededError(AssertionError):
    """What was waited for did not happen; the message says what, and what was seen last."""


def wait_until(
    predicate: Callable[[], Value],
    *,
    deadline: float = 10.0,
    message: str | Callable[[], str],
    ignoring: type[Exception] | tuple[type[Exception], ...] = (),
) -> Value:
    """Call a predicate until it returns something true, and return that.

    Parameters
    ----------
    predicate
        Called at once, then after pauses that grow from 10 ms to 250 ms.
    deadline
        Seconds until it is given up.
    message
        What is waited for, as it should read in the failure; a callable is asked only then.
    ignoring
        Exceptions of the predicate that mean "not yet". Any other ends the waiting at once.

    Raises
    ------
    DeadlineExceededError
        If the deadline passes.
    """
    seen: object = None
    for pause in _pauses(deadline):
        try:
            value = predicate()
        except ignoring as error:
            seen = error
        else:
            if value:
                return value
            seen = value
        time.sleep(pause)
    raise _exceeded(message, deadline, seen)


def wait_unchanged(
    read: Callable[[], object], *, seconds: float, deadline: float, message: str
) -> None:
    """Wait until what is read has been the same for some seconds.

    Raises
    ------
    DeadlineExceededError
        If the deadline passes; it tells what was read last.
    """
    seen, since = read(), time.monotonic()

    def unchanged() -> bool:
        nonlocal seen, since
        if (now := read()) != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > seconds

    wait_until(unchanged, deadline=deadline, message=lambda: f"{message}; last: {seen}")


@overload
async def wait_until_async(
    predicate: Callable[[], Coroutine[Any, Any, Value]],
    *,
    deadline: float = 10.0,
    message: str | Callable[[], str],
    ignoring: type[Exception] | tuple[type[Exception], ...] = (),
) -> Value: ...


@overload
async def wait_until_async(
    predicate: Callable[[], Value],
    *,
    deadline: float = 10.0,
    message: str | Callable[[], str],
    ignoring: type[Exception] | tuple[type[Exception], ...] = (),
) -> Value: ...


async def wait_until_async(
    predicate: Callable[[], Any],
    *,
    deadline: float = 10.0,
    message: str | Callable[[], str],
    ignoring: type[Exception] | tuple[type[Exception], ...] = (),
) -> Any:
    """Do what `wait_until` does, without blocking the loop; the predicate may be a coroutine's.

    Raises
    ------
    DeadlineExceededError
        If the deadline passes.
    """
    seen: object = None
    for pause in _pauses(deadline):
        try:
            outcome = predicate()
            value = await outcome if inspect.isawaitable(outcome) else outcome
        except ignoring as error:
            seen = error
        else:
            if value:
                return value
            seen = value
        await asyncio.sleep(pause)
    raise _exceeded(message, deadline, seen)


def _pauses(deadline: float) -> Iterator[float]:
    """Yield pauses until the deadline; the last attempt is made at the deadline, not before."""
    end = time.monotonic() + deadline
    pause = FIRST_PAUSE_SECONDS
    while (left := end - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
    yield 0.0


def _exceeded(
    message: str | Callable[[], str], deadline: float, seen: object
) -> DeadlineExceededError:
    what = message() if callable(message) else message
    return DeadlineExceededError(f"{what}: not within {deadline:g} s; last seen: {seen!r}")
