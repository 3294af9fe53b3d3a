"""Keep a trail of denied, cross-app and token events without ever standing in the way of one.

Recording is an addition to a table in memory; a task writes what has gathered once a second, as
one batch. Equal events of one batch become one document with a count, so that a client that is
refused a thousand times a second costs one document a second. When the table is full, or MongoDB
takes no writes, events are dropped, counted, and the count is written as soon as writing works
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import structlog

from mdb_engine.core.text import printable
from mdb_engine.exceptions import InvalidToken, MdbEngineError, TokenRequired
from mdb_engine.tasks import Rest

__all__ = ["AuditTrail", "EventKind"]

EventKind = Literal["denied", "cross_app_read", "token_rejected", "token_changed", "dropped"]

Insert = Callable[[Sequence[dict[str, Any]]], Awaitable[None]]

FLUSH_SECONDS: Final = 1.0
"""How long an event waits: short enough for whoever looks on, long enough to be worth a batch."""

QUEUE_SIZE: Final = 1_000
"""Different events that may wait, at about 400 bytes each."""

WRITE_TIMEOUT_SECONDS: Final = 10.0
"""After this a batch counts as not written and waits for the next turn."""

CLOSE_TIMEOUT_SECONDS: Final = 3.0
"""How long shutting down waits for the last batch; Kubernetes gives a pod 30 s in all."""

LONGEST_TEXT: Final = 300
"""Names and messages are cut here: what is refused may have been sent by an attacker."""

_logger = structlog.get_logger("mdb_engine.audit")


@dataclass(frozen=True, slots=True)
class _Event:
    kind: EventKind
    slug: str
    operation: str
    collection: str
    owner: str
    code: str
    path: str
    message: str

    def fields(self) -> dict[str, Any]:
        return {
            "event": self.kind,
            "slug": self.slug,
            "operation": self.operation,
            "collection": self.collection,
            "owner": self.owner,
            "code": self.code or None,
            "path": self.path or None,
            "message": self.message or None,
        }


@dataclass(slots=True)
class _Tally:
    count: int
    first: datetime
    last: datetime


class AuditTrail:
    """The audit trail of one process.

    Parameters
    ----------
    insert
        Writes documents to the audit collection; raises if it could not.
    instance
        What tells this process from the others: the pod's name.
    queue_size
        How many different events may wait.
    flush_seconds
        How long they wait.
    """

    def __init__(
        self,
        insert: Insert,
        *,
        instance: str,
        queue_size: int = QUEUE_SIZE,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self._insert = insert
        self._instance = instance
        self._queue_size = queue_size
        self._flush_seconds = flush_seconds
        self._waiting: dict[_Event, _Tally] = {}
        self._dropped = 0
        self._dropped_in_all = 0
        self._task: asyncio.Task[None] | None = None
        self._rest = Rest()

    @property
    def dropped(self) -> int:
        """How many events this process has had to drop since it started."""
        return self._dropped_in_all

    @property
    def waiting(self) -> int:
        """How many different events wait to be written."""
        return len(self._waiting)

    def access(
        self, slug: str, operation: str, collection: str, owner: str, denied: Exception | None
    ) -> None:
        """Note an access: always if it was denied, else only if it read another app's data."""
        if denied is not None:
            rejected = isinstance(denied, TokenRequired | InvalidToken)
            kind: EventKind = "token_rejected" if rejected else "denied"
            self.record(kind, slug, operation, collection, owner, denied)
        elif owner != slug:
            self.record("cross_app_read", slug, operation, collection, owner)

    def record(
        self,
        kind: EventKind,
        slug: str,
        operation: str = "",
        collection: str = "",
        owner: str = "",
        error: Exception | None = None,
        message: str = "",
    ) -> None:
        """Note an event. Never blocks and never raises.

        Parameters
        ----------
        kind
            What happened.
        slug
            The app that asked.
        operation, collection, owner
            What it asked for, of whom; empty where that means nothing.
        error
            Why it was denied. Only an engine error's message is kept: a driver's may hold data.
        message
            What else is worth saying.
        """
        code = path = ""
        if error is not None:
            code = type(error).__name__
            if isinstance(error, MdbEngineError):
                code, path, message = error.code, error.path or "", error.message
        event = _Event(
            kind,
            _fit(slug),
            _fit(operation),
            _fit(collection),
            _fit(owner),
            code,
            _fit(path),
            _fit(message),
        )
        now = datetime.now(UTC)
        tally = self._waiting.get(event)
        if tally is not None:
            tally.count += 1
            tally.last = now
        elif len(self._waiting) >= self._queue_size:
            self._dropped += 1
            self._dropped_in_all += 1
        else:
            self._waiting[event] = _Tally(1, now, now)
            self._log(event)

    def start(self) -> None:
        """Begin to write; needs a running loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="mdb-engine audit")

    async def stop(self) -> None:
        """Write what waits, within a few seconds, and end."""
        await self._rest.end(self._task)
        self._task = None
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self.flush()
        except TimeoutError:
            pass
        if self._waiting:
            _logger.warning("audit_events_lost", events=len(self._waiting))

    async def flush(self) -> bool:
        """Write what waits, now; return whether nothing waits any more."""
        if not self._waiting and not self._dropped:
            return True
        batch, self._waiting = self._waiting, {}
        dropped, self._dropped = self._dropped, 0
        documents = [self._document(event, tally) for event, tally in batch.items()]
        if dropped:
            documents.append(self._dropped_document(dropped))
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_SECONDS):
                await self._insert(documents)
        except asyncio.CancelledError:
            self._put_back(batch, dropped)
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the app goes on
            self._put_back(batch, dropped)
            _logger.warning(
                "audit_write_failed", error=type(error).__name__, waiting=len(self._waiting)
            )
            return False
        if dropped:
            _logger.warning("audit_events_dropped", dropped=dropped)
        return True

    async def _run(self) -> None:
        while True:
            with self._rest.here():
                await asyncio.sleep(self._flush_seconds)
            await self.flush()

    def _put_back(self, batch: dict[_Event, _Tally], dropped: int) -> None:
        """Let a batch that was not written wait again, before what has gathered since."""
        newer, self._waiting = self._waiting, batch
        self._dropped += dropped
        for event, tally in newer.items():
            held = self._waiting.get(event)
            if held is not None:
                held.count += tally.count
                held.last = tally.last
            elif len(self._waiting) < self._queue_size:
                self._waiting[event] = tally
            else:
                self._dropped += tally.count
                self._dropped_in_all += tally.count

    def _document(self, event: _Event, tally: _Tally) -> dict[str, Any]:
        return {
            **event.fields(),
            "count": tally.count,
            "at": tally.last,
            "first_at": tally.first,
            "instance": self._instance,
        }

    def _dropped_document(self, count: int) -> dict[str, Any]:
        now = datetime.now(UTC)
        return {
            "event": "dropped",
            "count": count,
            "at": now,
            "first_at": now,
            "instance": self._instance,
        }

    def _log(self, event: _Event) -> None:
        """Write one line for the first of equal events in a batch; the batch has the count."""
        fields = {name: value for name, value in event.fields().items() if value}
        kind = fields.pop("event")
        if event.kind == "cross_app_read":
            _logger.info(kind, **fields)
        else:
            _logger.warning(kind, **fields)


def _fit(text: str) -> str:
    """Cut a text and write out what is not printable.

    With one name that cannot be stored an app could stop the whole trail, its denials with it.
    """
    return printable(text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…")
