"""The cache with a source and a clock that a test holds; with MongoDB it is tested elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from support.waiting import wait_until_async

from mdb_engine.exceptions import DatabaseUnavailable, InvalidToken, NotRegistered, TokenRequired
from mdb_engine.models.access import Grant, Verifier
from mdb_engine.models.naming import app_key
from mdb_engine.services.audit import AuditTrail
from mdb_engine.services.gate import PresentedToken, TokenGate, accepted_version
from mdb_engine.services.grant_cache import Change, GrantCache, WatchUnsupportedError

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
        self.grants = {app_key(one.slug): one for one in grants}
        self.streams = streams
        self.loads = 0
        self.opened = 0
        self.error: Exception | None = None
        self.events: asyncio.Queue[Change | None] = asyncio.Queue()

    async def load(self, keys: Collection[str] | None, _seconds: float) -> Sequence[Grant]:
        if self.error is not None:
            raise self.error
        self.loads += 1
        wanted = self.grants if keys is None else keys
        return [self.grants[key] for key in wanted if key in self.grants]

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
    async def insert(_: Sequence[object]) -> None:
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
