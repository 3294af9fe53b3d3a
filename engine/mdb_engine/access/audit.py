"""Keep a trail of access decisions without ever standing in the way of one.

Recorded are who was denied what (scope, token, policy), who read another app's data, and changes of
tokens. A query that is refused for what it says is no access decision: it is counted, and the log
tells the count. Otherwise whoever's dictionary reaches a filter writes the trail full.

Recording is an addition to a table in memory; a task writes what has gathered once a second, as one
batch. Events of one second with equal keys become one document with a count, and no key holds what
a client may have sent: a name that is not registered is shown as it was in the first of them. Every
kind of event has a share of the table, so that no flood of one kind costs an event of another. When
a share is full, or MongoDB takes no writes, events are dropped and counted, and the count is
written as soon as writing works again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

from mdb_engine.core.tasks import Rest
from mdb_engine.core.text import printable
from mdb_engine.exceptions import InvalidToken, MdbEngineError, ScopeDenied, TokenRequired

__all__ = ["AuditTrail", "EventKind"]

EventKind = Literal["denied", "cross_app_read", "token_rejected", "token_changed", "dropped"]

KINDS: Final = get_args(EventKind)[:-1]
"""The kinds that are recorded; the last, ``dropped``, is about them."""

Insert = Callable[[Sequence[dict[str, Any]], float], Awaitable[None]]
"""Writes documents, within so many seconds or not at all."""

Known = Callable[[str, str], bool]
"""Says whether a slug is registered, or (its collection not being empty) a collection of it."""

FLUSH_SECONDS: Final = 1.0
"""How long an event waits: short enough for whoever looks on, long enough to be worth a batch."""

QUEUE_SIZE: Final = 1_000
"""Different events that may wait, at about 400 bytes each; each kind has an equal share."""

WRITE_TIMEOUT_SECONDS: Final = 10.0
"""After this a batch counts as not written and waits for the next turn."""

BACKSTOP_SECONDS: Final = 1.0
"""How much longer a write may take than its own limit, before it is cancelled."""

CLOSE_TIMEOUT_SECONDS: Final = 3.0
"""How long shutting down waits for the last batch; Kubernetes gives a pod 30 s in all."""

REFUSALS_SECONDS: Final = 60.0
"""How often the log tells how many operations were refused, at most."""

LONGEST_TEXT: Final = 300
"""Names and messages are cut here: what is refused may have been sent by an attacker."""

_logger = logging.getLogger("mdb_engine.audit")


@dataclass(frozen=True, slots=True)
class _Key:
    """What makes events of one second one document: nothing in it is a client's choice."""

    kind: EventKind
    slug: str
    operation: str
    collection: str
    owner: str
    code: str


@dataclass(slots=True)
class _Tally:
    """How often it was, and what the first of them said."""

    count: int
    first: datetime
    last: datetime
    fields: dict[str, Any]


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
        self._flush_seconds = flush_seconds
        self._share = max(1, queue_size // len(KINDS))
        self._waiting: dict[_Key, _Tally] = {}
        self._held: Counter[EventKind] = Counter()
        self._refused: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self._told_at = time.monotonic()
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

    @property
    def refused(self) -> Mapping[str, int]:
        """How many operations this process has refused that were no access decisions, by code."""
        return dict(self._refused)

    def access(
        self,
        slug: str,
        operation: str,
        collection: str,
        owner: str,
        denied: Exception | None,
        *,
        known: Known = lambda _slug, _collection: True,
    ) -> None:
        """Note an access: if it was denied, or if it read another app's data.

        Parameters
        ----------
        slug, operation, collection, owner
            The app that asked, and what it asked for, of whom.
        denied
            Why it was denied, or None. What is no access decision is counted, and no more.
        known
            See `record`.
        """
        if denied is None:
            if owner != slug:
                self.record("cross_app_read", slug, operation, collection, owner, known=known)
        elif isinstance(denied, TokenRequired | InvalidToken):
            self.record("token_rejected", slug, operation, collection, owner, denied, known=known)
        elif isinstance(denied, ScopeDenied):
            self.record("denied", slug, operation, collection, owner, denied, known=known)
        else:
            code = denied.code if isinstance(denied, MdbEngineError) else type(denied).__name__
            self._refused[code] += 1

    def record(
        self,
        kind: EventKind,
        slug: str,
        operation: str = "",
        collection: str = "",
        owner: str = "",
        error: Exception | None = None,
        message: str = "",
        *,
        known: Known = lambda _slug, _collection: True,
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
        known
            Says whether a slug, or a slug's collection, is registered. What is not may be a
            client's text, and does not make an event different from another.
        """
        code = path = ""
        if error is not None:
            code = type(error).__name__
            if isinstance(error, MdbEngineError):
                code, path, message = error.code, error.path or "", error.message
        key = _Key(
            kind,
            slug if known(slug, "") else "",
            operation,
            collection if known(owner, collection) else "",
            owner if known(owner, "") else "",
            code,
        )
        now = datetime.now(UTC)
        tally = self._waiting.get(key)
        if tally is not None:
            tally.count += 1
            tally.last = now
        elif self._held[kind] >= self._share:
            self._drop(1)
        else:
            fields = {
                "event": kind,
                "slug": _fit(slug),
                "operation": _fit(operation),
                "collection": _fit(collection),
                "owner": _fit(owner),
                "code": code or None,
                "path": _fit(path) or None,
                "message": _fit(message) or None,
            }
            self._keep(key, _Tally(1, now, now, fields))
            _log(fields)

    def start(self) -> None:
        """Begin to write; needs a running loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="mdb-engine audit")

    async def stop(self) -> None:
        """Write what waits, within a few seconds, and end."""
        await self._rest.end(self._task)
        self._task = None
        try:
            await self.flush(CLOSE_TIMEOUT_SECONDS)
        finally:
            if self._waiting:
                _logger.warning("%s audit events are lost", len(self._waiting))

    async def flush(self, seconds: float = WRITE_TIMEOUT_SECONDS) -> bool:
        """Write what waits, within so many seconds; return whether nothing waits any more."""
        self._tell_refusals()
        if not self._waiting and not self._dropped:
            return True
        batch, self._waiting = self._waiting, {}
        self._held.clear()
        dropped, self._dropped = self._dropped, 0
        documents = [self._document(tally) for tally in batch.values()]
        if dropped:
            documents.append(self._dropped_document(dropped))
        try:
            # The driver keeps the limit; this is for one that does not.
            async with asyncio.timeout(seconds + BACKSTOP_SECONDS):
                await self._insert(documents, seconds)
        except asyncio.CancelledError:
            self._put_back(batch, dropped)
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the app goes on
            self._put_back(batch, dropped)
            _logger.warning(
                "the audit trail could not be written (%s); %s events wait",
                type(error).__name__,
                len(self._waiting),
            )
            return False
        if dropped:
            _logger.warning("%s audit events were dropped", dropped)
        return True

    async def _run(self) -> None:
        while True:
            with self._rest.here():
                await asyncio.sleep(self._flush_seconds)
            await self.flush()

    def _put_back(self, batch: dict[_Key, _Tally], dropped: int) -> None:
        """Let a batch that was not written wait again, before what has gathered since."""
        newer, self._waiting = self._waiting, {}
        self._held.clear()
        self._dropped += dropped
        for key, tally in [*batch.items(), *newer.items()]:
            held = self._waiting.get(key)
            if held is not None:
                held.count += tally.count
                held.last = tally.last
            elif self._held[key.kind] < self._share:
                self._keep(key, tally)
            else:
                self._drop(tally.count)

    def _keep(self, key: _Key, tally: _Tally) -> None:
        self._waiting[key] = tally
        self._held[key.kind] += 1

    def _drop(self, count: int) -> None:
        self._dropped += count
        self._dropped_in_all += count

    def _tell_refusals(self) -> None:
        if self._refused == self._told or time.monotonic() - self._told_at < REFUSALS_SECONDS:
            return
        since = self._refused - self._told
        counts = ", ".join(f"{code} {count}" for code, count in sorted(since.items()))
        _logger.warning("operations were refused: %s", counts)
        self._told, self._told_at = self._refused.copy(), time.monotonic()

    def _document(self, tally: _Tally) -> dict[str, Any]:
        return {
            **tally.fields,
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


def _log(fields: Mapping[str, Any]) -> None:
    """Write one line for the first of equal events in a batch; the batch has the count."""
    level = logging.INFO if fields["event"] == "cross_app_read" else logging.WARNING
    said = (f"{name}={value!r}" for name, value in fields.items() if value and name != "event")
    _logger.log(level, "%s: %s", fields["event"], " ".join(said))


def _fit(text: str) -> str:
    """Cut a text and write out what is not printable.

    With one name that cannot be stored an app could stop the whole trail, its denials with it.
    """
    return printable(text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…")
