"""The cache with a source and a clock that a test holds; with MongoDB it is tested elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.waiting import wait_until_async

from mdb_engine.access.audit import AuditTrail
from mdb_engine.access.gate import PresentedToken, TokenGate, accepted_version
from mdb_engine.access.grant_cache import (
    Change,
    GrantCache,
    Row,
    Rows,
    WatchUnsupportedError,
)
from mdb_engine.access.model import Grant, Verifier
from mdb_engine.access.rows import grant_from_document
from mdb_engine.exceptions import (
    DatabaseUnavailable,
    GrantMalformed,
    InvalidToken,
    NotRegistered,
    TokenRequired,
)
from mdb_engine.models.naming import app_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def grant(slug: str = "shop", epoch: int = 1, tokens: Sequence[str] = ("right",)) -> Grant:
    verifiers = tuple(
        Verifier(hashlib.sha256(token.encode()).digest(), version)
        for version, token in enumerate(tokens, 1)
    )
    return Grant(slug, verifiers, frozenset({slug}), slug, frozenset(), epoch)


class Source:
    """Grants in memory, with a change stream that can be missing, fail or fall silent."""

    def __init__(self, *grants: Grant, streams: bool = True) -> None:
        self.grants: dict[str, Row] = {app_key(one.slug): one for one in grants}
        self.streams = streams
        self.loads = 0
        self.opened = 0
        self.error: Exception | None = None
        self.events: asyncio.Queue[Change | None] = asyncio.Queue()

    async def load(self, keys: Collection[str] | None, _seconds: float) -> Rows:
        if self.error is not None:
            raise self.error
        self.loads += 1
        wanted = self.grants if keys is None else keys
        return {key: self.grants[key] for key in wanted if key in self.grants}

    @asynccontextmanager
    async def changes(self, _wait: float) -> AsyncIterator[Source]:
        if not self.streams:
            raise WatchUnsupportedError("none here")
        self.opened += 1
        yield self

    async def next(self) -> Change | None:
        if self.error is not None:
            raise self.error
        return await self.events.get()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def gate_of(cache: GrantCache, token: str | None, slug: str = "shop") -> TokenGate:
    async def insert(_documents: Sequence[object], _seconds: float) -> None:
        raise AssertionError("nothing is written in these tests")

    held = None if token is None else PresentedToken(token)
    audit = AuditTrail(insert, instance="test")
    return TokenGate(slug, cache, audit, lambda: held, clock=lambda: NOW)


async def test_a_token_is_checked_on_every_operation_against_what_is_cached() -> None:
    source = Source(grant(tokens=("old", "right")))
    cache = GrantCache(source)
    await cache.refresh()
    for token in ("old", "right"):
        assert gate_of(cache, token).admit().slug == "shop"
    held = gate_of(cache, "old")
    held.admit()
    cache.learn(grant(epoch=2, tokens=("right",)))
    with pytest.raises(InvalidToken):
        held.admit()
    for presented, error in ((None, TokenRequired), ("wrong", InvalidToken), ("", InvalidToken)):
        with pytest.raises(error):
            gate_of(cache, presented).admit()
    with pytest.raises(NotRegistered):
        gate_of(cache, "right", "other").admit()
    assert source.loads == 1


def test_a_version_ends_at_its_time_by_the_clock_alone() -> None:
    digest = hashlib.sha256(b"old").digest()
    verifiers = [Verifier(digest, 1, NOW)]
    token = PresentedToken("old")
    assert accepted_version(token, verifiers, NOW - timedelta(milliseconds=1)) == 1
    assert accepted_version(token, verifiers, NOW) is None
    assert "old" not in repr(token)


async def test_grants_that_cannot_be_refreshed_close_access_after_their_age() -> None:
    source, clock = Source(grant()), Clock()
    cache = GrantCache(source, ttl=5, max_age=30, clock=clock)
    with pytest.raises(DatabaseUnavailable, match="not been read"):
        cache.index()
    await cache.refresh()
    gate = gate_of(cache, "right")
    clock.now += 30
    gate.admit()
    clock.now += 0.1
    with pytest.raises(DatabaseUnavailable, match="for 30 s"):
        gate.admit()
    await cache.refresh()
    gate.admit()


async def test_a_row_that_is_older_than_the_one_held_changes_nothing() -> None:
    cache = GrantCache(Source(grant(epoch=5, tokens=("right",))))
    await cache.refresh()
    cache.learn(grant(epoch=4, tokens=("revoked",)))
    with pytest.raises(InvalidToken):
        gate_of(cache, "revoked").admit()


async def test_reading_one_row_does_not_make_the_others_fresh() -> None:
    source, clock = Source(grant()), Clock()
    cache = GrantCache(source, max_age=30, clock=clock)
    await cache.refresh()
    clock.now += 20
    await cache.refresh({"shop"})
    assert cache.age == 20


@pytest.mark.parametrize("streams", [True, False])
async def test_changes_take_hold_with_and_without_a_change_stream(*, streams: bool) -> None:
    source = Source(grant(), streams=streams)
    cache = GrantCache(source, ttl=0.05)
    await cache.refresh()
    cache.start()
    try:
        if streams:
            await wait_until_async(lambda: cache.watching, message="the stream")
        source.grants["shop"] = grant(epoch=2, tokens=("next",))
        source.events.put_nowait(Change("shop", source.grants["shop"]))
        await wait_until_async(
            lambda: gate_of(cache, "next").admit(), message="new token", ignoring=InvalidToken
        )
        del source.grants["shop"]
        source.events.put_nowait(Change("shop", None))
        await wait_until_async(lambda: cache.grant("shop") is None, message="the row to go")
        assert cache.watching is streams
    finally:
        await cache.stop()


async def test_an_idle_stream_that_answers_keeps_grants_fresh_without_reading() -> None:
    source = Source(grant())
    cache = GrantCache(source, ttl=0.2, max_age=0.5)
    await cache.refresh()
    cache.start()
    try:
        await wait_until_async(lambda: cache.watching, message="the stream")
        loads = source.loads
        for _ in range(20):
            source.events.put_nowait(None)
        await wait_until_async(source.events.empty, message="the stream to be read")
        cache.index()
        assert source.loads == loads
    finally:
        await cache.stop()


async def test_a_silent_stream_closes_access_and_a_new_one_opens_it() -> None:
    source = Source(grant())
    cache = GrantCache(source, ttl=0.05, max_age=0.2)
    await cache.refresh()
    cache.start()
    try:
        await wait_until_async(lambda: cache.watching, message="the stream")
        source.error = ConnectionError()
        gate = gate_of(cache, "right")

        def closed() -> bool:
            try:
                gate.admit()
            except DatabaseUnavailable:
                return True
            return False

        await wait_until_async(closed, message="access to close")
        source.error = None
        await wait_until_async(lambda: not closed(), message="access to open")
        assert source.opened > 1
    finally:
        await cache.stop()


async def test_a_new_connection_gets_a_new_stream() -> None:
    source = Source(grant())
    cache = GrantCache(source, ttl=0.1)
    cache.start()
    try:
        await wait_until_async(lambda: cache.watching, message="the stream")
        cache.reopen()
        source.events.put_nowait(None)
        await wait_until_async(lambda: source.opened == 2, message="the second stream")
    finally:
        await cache.stop()


async def test_a_row_that_changes_while_all_are_read_is_not_overwritten() -> None:
    """A revoked token must not be admitted again because a slow reading began before."""
    source = Source(grant(tokens=("old", "right")))
    cache = GrantCache(source)
    await cache.refresh()
    stale, load = dict(source.grants), source.load

    async def slow(keys: Collection[str] | None, _seconds: float) -> Rows:
        if keys is not None:
            return await load(keys, _seconds)
        source.grants["shop"] = grant(epoch=2, tokens=("right",))
        await cache._apply(Change("shop", source.grants["shop"]))
        return stale

    source.load = slow  # type: ignore[method-assign]
    await cache.refresh()
    with pytest.raises(InvalidToken):
        gate_of(cache, "old").admit()
    gate_of(cache, "right").admit()


class Server:
    """Rows over time: what was true when, and the events that a change stream has yet to give."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rows: dict[str, Grant] = {}
        self.epochs: dict[str, int] = {}
        self.past: dict[str, list[tuple[float, Grant | None]]] = {}
        self.events: list[Change] = []
        self.loading: list[tuple[asyncio.Event, asyncio.Event]] = []

    def write(self, slug: str) -> None:
        self.epochs[slug] = self.epochs.get(slug, 0) + 1
        self.rows[slug] = grant(slug, self.epochs[slug])
        self._note(slug)

    def delete(self, slug: str) -> None:
        if self.rows.pop(slug, None) is not None:
            self._note(slug)

    def _note(self, slug: str) -> None:
        self.now += 1
        row = self.rows.get(slug)
        self.past.setdefault(slug, []).append((self.now, row))
        self.events.append(Change(slug, row))

    def since(self, slug: str, moment: float) -> list[Grant | None]:
        """Return what the row was at a moment, and everything that it has been since."""
        known: list[tuple[float, Grant | None]] = [(-1.0, None), *self.past.get(slug, [])]
        before = [row for at, row in known if at <= moment]
        return [before[-1], *(row for at, row in known if at > moment)]

    async def load(self, keys: Collection[str] | None, _seconds: float) -> Rows:
        look, answer = asyncio.Event(), asyncio.Event()
        self.loading.append((look, answer))
        await look.wait()
        found = {key: row for key, row in self.rows.items() if keys is None or key in keys}
        await answer.wait()
        return found

    def changes(self, _wait: float) -> AbstractAsyncContextManager[Source]:
        raise AssertionError("the test delivers the events")


SLUGS = ("shop", "bank")
MOVES = (
    "write",
    "write",
    "delete",
    "refresh",
    "refresh one",
    "deliver",
    "deliver",
    "go on",
    "go on",
)


class Overlaps:
    """A cache whose readings, each with its own moment of looking, overlap with late events."""

    def __init__(self) -> None:
        self.server = Server()
        self.cache = GrantCache(self.server, ttl=1000, clock=lambda: self.server.now)
        self.tasks: set[asyncio.Task[None]] = set()
        self.highest: dict[str, int] = {}
        self.delivering: asyncio.Task[None] | None = None

    async def settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)
        fresh_at = self.cache._refreshed_at
        for slug in SLUGS:
            held = self.cache.grant(slug)
            if fresh_at is not None:
                assert held in self.server.since(slug, fresh_at)
            if held is not None:  # never back to what was withdrawn, not even for a moment
                assert held.epoch >= self.highest.get(slug, 0)
                self.highest[slug] = held.epoch

    def deliver(self) -> None:
        busy = self.delivering is not None and not self.delivering.done()
        if self.server.events and not busy:  # one after the other, as a stream is read
            change = self.server.events.pop(0)
            self.delivering = asyncio.create_task(self.cache._apply(change))
            self.tasks.add(self.delivering)

    def go_on(self, *, all_of_them: bool = False) -> None:
        waiting = [one for pair in self.server.loading for one in pair if not one.is_set()]
        for step in waiting if all_of_them else waiting[:1]:
            step.set()

    async def make(self, move: str, slug: str) -> None:
        match move:
            case "write":
                self.server.write(slug)
            case "delete":
                self.server.delete(slug)
            case "refresh":
                self.tasks.add(asyncio.create_task(self.cache.refresh()))
            case "refresh one":
                self.tasks.add(asyncio.create_task(self.cache.refresh({slug})))
            case "deliver":
                self.deliver()
            case _:
                self.go_on()
        await self.settle()

    async def end(self) -> None:
        while self.server.events or not all(task.done() for task in self.tasks):
            self.deliver()
            self.go_on(all_of_them=True)
            await self.settle()
        for task in self.tasks:
            task.result()
        if self.cache._refreshed_at is not None:
            known = {slug: self.cache.grant(slug) for slug in SLUGS}
            assert known == {slug: self.server.rows.get(slug) for slug in SLUGS}


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=True))
async def test_what_is_called_fresh_is_never_older_whatever_overlaps(chance: random.Random) -> None:
    """Long runs of evenly drawn moves; Hypothesis's own lists are short and rarely overlap."""
    overlaps = Overlaps()
    for move in chance.choices(MOVES, k=80):
        await overlaps.make(move, chance.choice(SLUGS))
    await overlaps.end()


def document(**changes: Any) -> Mapping[str, Any]:
    verifier = {"sha256": b"x" * 32, "version": 1, "not_after": None}
    return {
        "_id": "shop",
        "slug": "shop",
        "verifiers": [verifier],
        "read_scopes": ["shop"],
        "write_scope": "shop",
        "collections": ["orders"],
        "epoch": 3,
        **changes,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"slug": None},
        {"slug": "bank"},
        {"verifiers": None},
        {"verifiers": [7]},
        {"verifiers": [{"sha256": "text", "version": 1, "not_after": None}]},
        {"verifiers": [{"version": 1, "not_after": None}]},
        {"verifiers": [{"sha256": b"x", "version": 1, "not_after": "soon"}]},
        {"read_scopes": "shop"},
        {"read_scopes": [["shop"]]},
        {"write_scope": 1},
        {"collections": {"orders": 1}},
        {"epoch": "3"},
        {"epoch": True},
    ],
    ids=str,
)
def test_a_malformed_row_is_an_error_that_names_the_row(changes: dict[str, Any]) -> None:
    assert grant_from_document(document()).slug == "shop"
    with pytest.raises(GrantMalformed, match=r"row 'shop' of _mdb_engine_grants is malformed"):
        grant_from_document(document(**changes))
    incomplete = {key: value for key, value in document().items() if key not in changes}
    with pytest.raises(GrantMalformed):
        grant_from_document(incomplete)


async def test_a_malformed_row_costs_its_own_app_only_and_heals(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Source(grant("shop"), grant("bank"))
    cache = GrantCache(source, ttl=0.1)
    await cache.refresh()
    cache.start()
    try:
        await wait_until_async(lambda: cache.watching, message="the stream")
        source.grants["shop"] = GrantMalformed("row 'shop' is malformed")
        with caplog.at_level(logging.ERROR, "mdb_engine"):
            source.events.put_nowait(Change("shop", source.grants["shop"]))
            await wait_until_async(lambda: cache.malformed("shop"), message="the row to be seen")
        assert [record.getMessage() for record in caplog.records] == ["row 'shop' is malformed"]
        with pytest.raises(GrantMalformed, match="row 'shop' is malformed"):
            gate_of(cache, "right").admit()
        gate_of(cache, "right", "bank").admit()
        source.grants["shop"] = grant("shop", epoch=1)
        source.events.put_nowait(Change("shop", source.grants["shop"]))
        await wait_until_async(
            lambda: gate_of(cache, "right").admit(), message="it to heal", ignoring=GrantMalformed
        )
    finally:
        await cache.stop()
