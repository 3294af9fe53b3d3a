"""Growing pauses between attempts, with jitter so that replicas and watches spread."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Doubles from ``first`` to ``most`` seconds; `reset` starts anew after a success.

    The first is short, because most faults are one broken connection. The longest is how long a
    fault that is over may go unnoticed.
    """

    def __init__(self, first: float = 0.1, most: float = 30.0) -> None:
        self._first = first
        self._most = most
        self._next = first

    def next(self) -> float:
        """Return the next pause in seconds: between half of it and all of it."""
        pause = self._next
        self._next = min(self._next * 2, self._most)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreading load, not a secret

    def reset(self) -> None:
        """Start anew from the first pause."""
        self._next = self._first
