"""Show the audit trail: who was denied what, who read whose data.

Apps can add to the trail and not read it, so this is for whoever has the operator's rights:
``kubectl exec deploy/mdb-operator -- mdb-operator audit``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from mdb_engine.constants import AUDIT_COLLECTION
from mdb_engine.storage.base import control_view, translated

__all__ = ["DENIED", "event_line", "read_events"]

DENIED = ("denied", "token_rejected")
"""The events in which something was refused."""


async def read_events(
    database: Any, *, slug: str | None, only_denied: bool, limit: int
) -> AsyncIterator[dict[str, Any]]:
    """Yield the newest events, oldest of them first.

    Parameters
    ----------
    database
        The driver's database.
    slug
        Only events of, or about the data of, this app.
    only_denied
        Only what was refused.
    limit
        How many at most.

    Raises
    ------
    DatabaseUnavailable
        If MongoDB does not answer, or refuses.
    """
    query: dict[str, Any] = {}
    if slug is not None:
        query["$or"] = [{"slug": slug}, {"owner": slug}]
    if only_denied:
        query["event"] = {"$in": list(DENIED)}
    collection = control_view(database)[AUDIT_COLLECTION]
    with translated("read the audit trail"):
        found = await collection.find(query).sort("at", -1).limit(limit).to_list(limit)
    for event in reversed(found):
        yield event


def event_line(event: dict[str, Any]) -> str:
    """Return an event as one line: time, kind, who, what on which collection, how often, why."""
    at = event["at"].strftime("%Y-%m-%dT%H:%M:%SZ")
    what = " ".join(filter(None, (event.get("operation"), event.get("collection"))))
    times = f" x{event['count']}" if event.get("count", 1) > 1 else ""
    why = f": {event['message']}" if event.get("message") else ""
    return f"{at} {event['event']} {event.get('slug', '-')} {what}{times}{why}".rstrip()
