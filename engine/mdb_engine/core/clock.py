"""The time, as MongoDB keeps it: UTC, in whole milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["utcnow"]


def utcnow() -> datetime:
    """Return the time now, aware, cut to milliseconds so that a stored one compares equal."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
