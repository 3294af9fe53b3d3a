"""The time, as MongoDB keeps it: UTC, in whole milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

__all__ = ["Clock", "utcnow"]

Clock: TypeAlias = Callable[[], datetime]
"""Returns the time, as `utcnow` does. The operator's follows MongoDB's own clock, so that the end
of an overlap is not a matter of which replica leads."""


def utcnow() -> datetime:
    """Return the time now, aware, cut to milliseconds so that a stored one compares equal."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
