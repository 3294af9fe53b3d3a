from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import bson
import pytest
from support.waiting import wait_until_async

from mdb_engine.exceptions import InvalidToken, ScopeDenied
from mdb_engine.services.audit import LONGEST_TEXT, AuditTrail


class Sink:
    """Takes documents, or fails, or hangs, as a database may."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []
        self.batches = 0
        self.error: Exception | None = None

    async def insert(self, documents: Sequence[dict[str, Any]]) -> None:
        if self.error is not None:
            raise self.error
        self.batches += 1
        self.documents.extend(documents)


@pytest.fixture
def sink() -> Sink:
    return Sink()


def trail(sink: Sink, queue_size: int = 10) -> AuditTrail:
    return AuditTrail(sink.insert, instance="pod-1", queue_size=queue_size, flush_seconds=0.01)


async def test_denials_and_cross_app_reads_are_kept_and_own_accesses_are_not(sink: Sink) -> None:
    audit = trail(sink)
    audit.access("dash", "find", "clicks_clicks", "clicks", None)
    audit.access("dash", "find", "dash_own", "dash", None)
    audit.access("dash", "find", "hr_people", "hr", ScopeDenied("no", path="pipeline[0]"))
    audit.access("dash", "find", "x", "", InvalidToken("wrong"))
    await audit.flush()
    kinds = [(one["event"], one["collection"], one["code"]) for one in sink.documents]
    assert kinds == [
        ("cross_app_read", "clicks_clicks", None),
        ("denied", "hr_people", "scope_denied"),
        ("token_rejected", "x", "invalid_token"),
    ]
    assert sink.documents[1]["path"] == "pipeline[0]"
    assert all(one["instance"] == "pod-1" and one["count"] == 1 for one in sink.documents)
    assert sink.batches == 1


async def test_a_flood_of_one_event_is_one_document_with_a_count(sink: Sink) -> None:
    audit = trail(sink)
    began = time.perf_counter()
    for _ in range(10_000):
        audit.access("dash", "find", "hr_people", "hr", ScopeDenied("no"))
    assert time.perf_counter() - began < 1.0
    await audit.flush()
    assert [one["count"] for one in sink.documents] == [10_000]
    assert audit.dropped == 0


async def test_a_full_queue_drops_counts_and_says_so(sink: Sink) -> None:
    audit = trail(sink, queue_size=5)
    for number in range(12):
        audit.access("dash", "find", f"hr_{number}", "hr", ScopeDenied("no"))
    assert (audit.waiting, audit.dropped) == (5, 7)
    await audit.flush()
    assert sink.documents[-1] | {"at": None, "first_at": None} == {
        "event": "dropped",
        "count": 7,
        "at": None,
        "first_at": None,
        "instance": "pod-1",
    }
    audit.access("dash", "find", "hr_later", "hr", ScopeDenied("no"))
    await audit.flush()
    assert sink.documents[-1]["collection"] == "hr_later"


async def test_events_wait_for_a_database_that_is_away_and_are_bounded(sink: Sink) -> None:
    audit = trail(sink, queue_size=3)
    audit.access("dash", "find", "hr_0", "hr", ScopeDenied("no"))
    sink.error = ConnectionError()
    assert not await audit.flush()
    for number in range(5):
        audit.access("dash", "find", f"hr_{number}", "hr", ScopeDenied("no"))
    assert not await audit.flush()
    sink.error = None
    assert await audit.flush()
    found = {one.get("collection"): one["count"] for one in sink.documents}
    assert found == {"hr_0": 2, "hr_1": 1, "hr_2": 1, None: 2}
    assert audit.dropped == 2


async def test_it_writes_by_itself_and_once_more_at_the_end(sink: Sink) -> None:
    audit = trail(sink)
    audit.start()
    audit.access("dash", "find", "hr_0", "hr", ScopeDenied("no"))
    await wait_until_async(lambda: sink.documents, message="the first batch")
    audit.access("dash", "find", "hr_1", "hr", ScopeDenied("no"))
    await audit.stop()
    assert [one["collection"] for one in sink.documents] == ["hr_0", "hr_1"]


async def test_stopping_does_not_wait_for_a_database_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mdb_engine.services.audit.CLOSE_TIMEOUT_SECONDS", 0.05)

    async def hang(_: Sequence[dict[str, Any]]) -> None:
        await asyncio.Event().wait()

    audit = AuditTrail(hang, instance="pod-1")
    audit.access("dash", "find", "hr_0", "hr", ScopeDenied("no"))
    async with asyncio.timeout(2):
        await audit.stop()
    assert audit.waiting == 1


async def test_what_an_attacker_sends_is_cut(sink: Sink) -> None:
    audit = trail(sink)
    audit.access("dash", "find", "x" * 10_000, "hr", ScopeDenied("y" * 10_000))
    await audit.flush()
    assert len(sink.documents[0]["collection"]) == LONGEST_TEXT + 1
    assert len(sink.documents[0]["message"]) == LONGEST_TEXT + 1


async def test_what_cannot_be_stored_or_forges_a_line_is_written_out(sink: Sink) -> None:
    audit = trail(sink)
    audit.access(
        "dash\x1b[2J", "find", "\ud800", "hr\nlevel=info", ScopeDenied("no", path="a\r\u2028b")
    )
    audit.access("dash", "find", "menü", "hr", ScopeDenied("no"))
    await audit.flush()
    for document in sink.documents:
        bson.encode(document)
    found = sink.documents[0]
    assert (found["slug"], found["collection"]) == (r"dash\x1b[2J", r"\ud800")
    assert (found["owner"], found["path"]) == (r"hr\nlevel=info", r"a\r\u2028b")
    assert sink.documents[1]["collection"] == "menü"
