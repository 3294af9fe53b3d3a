from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import bson
import pytest
from support.waiting import wait_until_async

from mdb_engine.access.audit import LONGEST_TEXT, AuditTrail
from mdb_engine.exceptions import InvalidToken, LimitExceeded, QueryRefused, ScopeDenied


class Sink:
    """Takes documents, or fails, or hangs, as a database may."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []
        self.batches = 0
        self.error: Exception | None = None

    async def insert(self, documents: Sequence[dict[str, Any]], _seconds: float) -> None:
        if self.error is not None:
            raise self.error
        self.batches += 1
        self.documents.extend(documents)


@pytest.fixture
def sink() -> Sink:
    return Sink()


def trail(sink: Sink, queue_size: int = 40) -> AuditTrail:
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
    audit = trail(sink, queue_size=20)
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
    audit = trail(sink, queue_size=12)
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
    monkeypatch.setattr("mdb_engine.access.audit.CLOSE_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr("mdb_engine.access.audit.BACKSTOP_SECONDS", 0.05)

    async def hang(_documents: Sequence[dict[str, Any]], _seconds: float) -> None:
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


def registered(slug: str, physical: str) -> bool:
    declared = {"dash": set(), "hr": {"hr_people", "hr_salaries"}}
    return slug in declared and (not physical or physical in declared[slug])


async def test_refusals_are_counted_and_leave_every_real_denial_in_the_trail(
    sink: Sink, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client whose dictionary reaches a filter, a million times, each time another one."""
    monkeypatch.setattr("mdb_engine.access.audit.REFUSALS_SECONDS", 0)
    audit = trail(sink, queue_size=1_000)
    flushes = 0
    with caplog.at_level(logging.WARNING, "mdb_engine.audit"):
        for number in range(1_000_000):
            error = QueryRefused(f"operator $x{number} is not allowed", path=f"filter.$x{number}")
            audit.access("dash", "find", "dash_own", "dash", error, known=registered)
            if number % 10_000 == 0:
                denied = ScopeDenied("no")
                audit.access("dash", "find", "hr_people", "hr", denied, known=registered)
                audit.access("dash", "find", "x", "", InvalidToken("wrong"), known=registered)
            if number % 100_000 == 0:
                await audit.flush()
                flushes += 1
        audit.access("dash", "find", "dash_own", "dash", LimitExceeded("much"), known=registered)
        await audit.flush()
    assert audit.refused == {"query_refused": 1_000_000, "limit_exceeded": 1}
    assert audit.dropped == 0
    counts: Counter[str] = Counter()
    for document in sink.documents:
        counts[document["event"]] += document["count"]
    assert counts == {"denied": 100, "token_rejected": 100}
    assert len(sink.documents) <= 2 * (flushes + 1)
    assert sum(len(bson.encode(document)) for document in sink.documents) < 20_000
    told = [one.getMessage() for one in caplog.records if "refused" in one.getMessage()]
    assert len(told) <= flushes + 1
    assert "$x" not in caplog.text


async def test_what_a_client_names_makes_no_event_different_from_another(sink: Sink) -> None:
    audit = trail(sink, queue_size=1_000)
    for number in range(10_000):
        denied = ScopeDenied(f"app 'dash' may not read hr_{number}")
        audit.access("dash", "find", f"hr_{number}", "hr", denied, known=registered)
        audit.access("dash", "find", f"x{number}", f"app{number}", denied, known=registered)
        audit.access("dash", "find", f"hr_{number}", "hr", None, known=registered)
        wrong = InvalidToken("this pod is another")
        audit.access(f"who{number}", "get_scoped_db", "", "", wrong, known=registered)
        audit.access("dash", "find", "hr_people", "hr", denied, known=registered)
        audit.access("dash", "find", "hr_salaries", "hr", denied, known=registered)
    await audit.flush()
    assert [(one["event"], one["collection"], one["count"]) for one in sink.documents] == [
        ("denied", "hr_0", 10_000),
        ("denied", "x0", 10_000),
        ("cross_app_read", "hr_0", 10_000),
        ("token_rejected", "", 10_000),
        ("denied", "hr_people", 10_000),
        ("denied", "hr_salaries", 10_000),
    ]
    assert audit.dropped == 0


async def test_each_kind_has_a_share_that_no_other_takes(sink: Sink) -> None:
    audit = trail(sink, queue_size=4)
    for number in range(50):
        audit.access("dash", "find", f"hr_{number}", "hr", None)
    audit.access("dash", "find", "hr_people", "hr", ScopeDenied("no"))
    audit.access("dash", "find", "hr_people", "hr", InvalidToken("wrong"))
    audit.record("token_changed", "dash", message="version 1 to 2")
    sink.error = ConnectionError()
    assert not await audit.flush()
    audit.access("dash", "find", "hr_people", "hr", ScopeDenied("no"))
    sink.error = None
    assert await audit.flush()
    assert [(one["event"], one["count"]) for one in sink.documents] == [
        ("cross_app_read", 1),
        ("denied", 2),
        ("token_rejected", 1),
        ("token_changed", 1),
        ("dropped", 49),
    ]
