"""Show the audit trail: who was denied what, who read whose data.

Apps can add to the trail and not read it, so this is for whoever has the operator's rights:
``kubectl exec deploy/mdb-operator -- mdb-operator audit``.

An app that bypasses the library may insert anything at all. So nothing is taken for granted here:
what no library wrote is left out, and what is shown can neither break a line nor steer a terminal.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from bson.codec_options import CodecOptions, DatetimeConversion

from mdb_engine.access.audit import LONGEST_TEXT
from mdb_engine.connection.control import control_view, translated
from mdb_engine.constants import AUDIT_COLLECTION
from mdb_engine.core.clock import utcnow
from mdb_engine.core.text import printable

__all__ = ["DENIED", "event_line", "read_events"]

DENIED = ("denied", "token_rejected")
"""The events in which something was refused."""

EVENT_BYTES: Final = 16_384
"""The library cuts every text of an event; what is larger is not its own."""

CLOCK_SKEW: Final = dt.timedelta(hours=1)
"""An event from further ahead than this would stand before all others until its time came."""

_LENIENT: Final = CodecOptions[dict[str, Any]](
    tz_aware=True,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
"""Reads what is no proper text or time, too, where the default would fail with the whole batch."""


async def read_events(
    database: Any, *, slug: str | None, only_denied: bool, limit: int
) -> AsyncIterator[dict[str, Any]]:
    """Yield the newest events, oldest of them first; with a slug, of or about that app's.

    Raises
    ------
    DatabaseUnavailable
        If MongoDB does not answer, or refuses.
    """
    query: dict[str, Any] = {
        "at": {"$gte": dt.datetime(2000, 1, 1, tzinfo=dt.UTC), "$lte": utcnow() + CLOCK_SKEW},
        "$expr": {"$lte": [{"$bsonSize": "$$ROOT"}, EVENT_BYTES]},
    }
    if slug is not None:
        query["$or"] = [{"slug": slug}, {"owner": slug}]
    if only_denied:
        query["event"] = {"$in": list(DENIED)}
    collection = control_view(database)[AUDIT_COLLECTION].with_options(_LENIENT)
    with translated("read the audit trail"):
        found = await collection.find(query).sort("at", -1).limit(limit).to_list(limit)
    for event in reversed(found):
        yield event


def event_line(event: Mapping[str, Any]) -> str:
    """Return an event as one line: time, kind, who, what on which collection, how often, why."""
    at = event["at"].strftime("%Y-%m-%dT%H:%M:%SZ")
    kind, slug, *what, why = (
        _shown(event.get(name)) for name in ("event", "slug", "operation", "collection", "message")
    )
    count = event.get("count")
    times = f"x{count}" if isinstance(count, int) and count > 1 else ""
    line = " ".join(filter(None, (at, kind or "?", slug or "-", *what, times)))
    return f"{line}: {why}" if why else line


def _shown(value: Any) -> str:
    """Return a field as text of one line, without what a terminal would obey."""
    if value is None:
        return ""
    return printable(str(value)[:LONGEST_TEXT])
