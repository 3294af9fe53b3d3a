from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator

import pytest
from support.waiting import DeadlineExceededError, wait_until, wait_until_async


def test_what_is_true_at_once_is_returned_without_a_pause() -> None:
    started = time.monotonic()

    assert wait_until(lambda: "ready", message="ready") == "ready"
    assert time.monotonic() - started < 0.01


def test_a_predicate_is_asked_until_it_is_true() -> None:
    counter = itertools.count()

    assert wait_until(lambda: next(counter) >= 3, message="three") is True
    assert next(counter) == 4


def test_the_failure_says_what_was_waited_for_and_seen_last() -> None:
    with pytest.raises(DeadlineExceededError, match=r"the pod runs: not within 0.05 s.*\[\]"):
        wait_until(list, deadline=0.05, message="the pod runs")


def test_a_message_may_be_computed_when_it_is_needed() -> None:
    with pytest.raises(DeadlineExceededError, match="late news"):
        wait_until(lambda: None, deadline=0.02, message=lambda: "late news")


def test_only_the_named_exceptions_mean_not_yet() -> None:
    answers: Iterator[KeyError | int] = iter([KeyError("later"), 7])

    def ask() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert wait_until(ask, message="seven", ignoring=KeyError) == 7
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0, message="never", ignoring=KeyError)


def test_the_last_attempt_is_made_at_the_deadline() -> None:
    started = time.monotonic()

    assert wait_until(lambda: time.monotonic() - started > 0.19, deadline=0.2, message="late")


async def test_waiting_leaves_the_loop_to_others() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, event.set)

    async def happened() -> bool:
        await asyncio.sleep(0)
        return event.is_set()

    assert await wait_until_async(happened, message="the event")
    assert await wait_until_async(event.is_set, message="the event, asked without a coroutine")


async def test_waiting_for_a_coroutine_has_a_deadline_too() -> None:
    async def never() -> bool:
        raise LookupError("not there")

    with pytest.raises(DeadlineExceededError, match="not there"):
        await wait_until_async(never, deadline=0.05, message="something", ignoring=LookupError)
