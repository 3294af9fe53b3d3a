"""A stream of requests beside a test, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

__all__ = ["Load", "Request", "under_load"]

Request = tuple[str, str, dict[str, Any] | None]
"""Method, URL, and the JSON that is sent."""

PAUSE_SECONDS = 0.02
"""Between two rounds: enough requests to notice a gap, and time for everything else."""


@dataclass
class Load:
    """What came of it.

    Parameters
    ----------
    sent
        Rounds of requests so far.
    failures
        One line each.
    """

    sent: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def under_load(requests: Sequence[Request]) -> Iterator[Load]:
    """Make the requests again and again until the block ends."""
    load, ended = Load(), threading.Event()

    def work() -> None:
        with httpx.Client(timeout=10) as client:
            while not ended.wait(PAUSE_SECONDS):
                load.sent += 1
                load.failures += filter(None, (_failure(client, *one) for one in requests))

    thread = threading.Thread(target=work, name="load")
    thread.start()
    try:
        yield load
    finally:
        ended.set()
        thread.join()


def _failure(client: httpx.Client, method: str, url: str, body: dict[str, Any] | None) -> str:
    try:
        answer = client.request(method, url, json=body)
    except httpx.HTTPError as error:
        return f"{method} {url}: {error!r}"
    return "" if answer.is_success else f"{method} {url}: {answer.status_code} {answer.text}"
