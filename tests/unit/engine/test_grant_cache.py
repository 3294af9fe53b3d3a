"""The cache with a source and a clock that a test holds; with MongoDB it is tested elsewhere."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import hmac
import logging
import random
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.waiting import wait_until_async

from mdb_engine.access import gate
from mdb_engine.access.audit import AuditTrail
from mdb_engine.access.gate import PresentedToken, TokenGate, accepted_version
from mdb_engine.access.grant_cache import GrantCache, Row, Rows
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
    """Grants in memory; reading them can fail."""

    def __init__(self, *grants: Grant) -> None:
        self.grants: dict[str, Row] = {app_key(one.slug): one for one in grants}
        self.loads: list[Collection[str] | None] = []
        self.slug_reads = 0
        self.error: Exception | None = None

    async def load(self, keys: Collection[str] | None, _seconds: float) -> Rows:
        if self.error is not None:
            raise self.error
        self.loads.append(keys)
        wanted = self.grants if keys is None else keys
        return {key: self.grants[key] for key in wanted if key in self.grants}

    async def slugs(self, _seconds: float) -> Mapping[str, str]:
        self.slug_reads += 1
        return {
            key: row.slug if isinstance(row, Grant) else key for key, row in self.grants.items()
        }


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
    assert source.loads == [None]


def test_every_verifier_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(mine: bytes, theirs: bytes) -> bool:
        compared.append(theirs)
        return hmac.compare_digest(mine, theirs)

    monkeypatch.setattr(gate, "hmac", SimpleNamespace(compare_digest=compare))
    digests = [hashlib.sha256(text).digest() for text in (b"right", b"old", b"older")]
    verifiers = [Verifier(digest, version) for version, digest in enumerate(digests, start=1)]
    for token, version in (("right", 1), ("older", 3), ("wrong", None)):
        compared.clear()
        assert accepted_version(PresentedToken(token), verifiers, NOW) == version
        assert compared == digests, "neither the first that fits nor one that differs ends it"


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


async def test_changes_take_hold_within_the_ttl() -> None:
    source = Source(grant())
    cache = GrantCache(source, ttl=0.05)
    await cache.refresh()
    cache.start()
    try:
        source.grants["shop"] = grant(epoch=2, tokens=("next",))
        await wait_until_async(
            lambda: gate_of(cache, "next").admit(), message="new token", ignoring=InvalidToken
        )
        del source.grants["shop"]
        await wait_until_async(lambda: cache.grant("shop") is None, message="the row to go")
    finally:
        await cache.stop()


async def test_what_has_not_changed_is_the_same_index() -> None:
    source = Source(grant())
    cache = GrantCache(source)
    changes: list[None] = []
    cache.on_change(lambda: changes.append(None))
    await cache.refresh()
    before = cache.index()
    await cache.refresh()
    assert cache.index() is before
    assert len(changes) == 1


async def test_a_source_that_fails_closes_access_and_one_that_answers_opens_it() -> None:
    source = Source(grant())
    cache = GrantCache(source, ttl=0.05, max_age=0.2)
    await cache.refresh()
    cache.start()
    try:
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
    finally:
        await cache.stop()


async def test_a_row_that_is_learned_while_all_are_read_is_not_overwritten() -> None:
    """A revoked token must not be admitted again because a slow reading began before."""
    source = Source(grant(tokens=("old", "right")))
    cache = GrantCache(source)
    await cache.refresh()
    stale, load = dict(source.grants), source.load

    async def slow(keys: Collection[str] | None, _seconds: float) -> Rows:
        source.load = load  # type: ignore[method-assign]
        source.grants["shop"] = newer = grant(epoch=2, tokens=("right",))
        cache.learn(newer)
        return stale

    source.load = slow  # type: ignore[method-assign]
    await cache.refresh()
    with pytest.raises(InvalidToken):
        gate_of(cache, "old").admit()
    gate_of(cache, "right").admit()
    assert source.loads == [None, None]


class Server:
    """Rows over time: what was true when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rows: dict[str, Grant] = {}
        self.epochs: dict[str, int] = {}
        self.past: dict[str, list[tuple[float, Grant | None]]] = {}
        self.loading: list[tuple[asyncio.Event, asyncio.Event]] = []

    def write(self, slug: str, reads: Collection[str]) -> None:
        self.epochs[slug] = self.epochs.get(slug, 0) + 1
        self.rows[slug] = dataclasses.replace(
            grant(slug, self.epochs[slug]), read_scopes=frozenset({slug, *reads})
        )
        self._note(slug)

    def delete(self, slug: str) -> None:
        if self.rows.pop(slug, None) is not None:
            self._note(slug)

    def _note(self, slug: str) -> None:
        self.now += 1
        self.past.setdefault(slug, []).append((self.now, self.rows.get(slug)))

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

    async def slugs(self, _seconds: float) -> Mapping[str, str]:
        return {slug: slug for slug in self.rows}


SLUGS = ("shop", "bank", "shop_eu")
MOVES = ("write", "write", "delete", "refresh", "learn", "go on", "go on", "go on")


class Overlaps:
    """A cache whose readings, each with its own moment of looking, overlap with changes.

    It holds everything, or what ``shop`` needs: its own row and those of what it may read.
    """

    def __init__(self, *, of_one: bool, chance: random.Random) -> None:
        self.server = Server()
        self.chance = chance
        self.of_one = of_one
        self.cache = GrantCache(self.server, ttl=1000, clock=lambda: self.server.now)
        if of_one:
            self.cache.keep_only("shop")
        self.tasks: set[asyncio.Task[None]] = set()
        self.highest: dict[str, int] = {}

    @property
    def followed(self) -> frozenset[str]:
        """The slugs whose rows are to be held at this moment."""
        if not self.of_one:
            return frozenset(SLUGS)
        own = self.cache.grant("shop")
        return frozenset({"shop"}) | (own.read_scopes if own else frozenset())

    async def settle(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)
        fresh_at = self.cache._refreshed_at
        for slug in SLUGS:
            held = self.cache.grant(slug)
            # What was granted since may not be held yet; what is held, and the own row, is current.
            if fresh_at is not None and (held is not None or slug == "shop" or not self.of_one):
                assert held in self.server.since(slug, fresh_at)
            if held is not None:  # never back to what was withdrawn, not even for a moment
                assert held.epoch >= self.highest.get(slug, 0)
                self.highest[slug] = held.epoch

    def go_on(self, *, all_of_them: bool = False) -> None:
        waiting = [one for pair in self.server.loading for one in pair if not one.is_set()]
        for step in waiting if all_of_them else waiting[:1]:
            step.set()

    async def make(self, move: str, slug: str) -> None:
        match move:
            case "write":
                self.server.write(slug, self.chance.sample(SLUGS, self.chance.randint(0, 2)))
            case "delete":
                self.server.delete(slug)
            case "refresh":
                self.tasks.add(asyncio.create_task(self.cache.refresh()))
            case "learn":
                row = self.server.rows.get("shop")
                if row is not None:
                    self.cache.learn(row)
            case _:
                self.go_on()
        await self.settle()

    async def end(self) -> None:
        self.tasks.add(asyncio.create_task(self.cache.refresh()))
        while not all(task.done() for task in self.tasks):
            self.go_on(all_of_them=True)
            await self.settle()
        for task in self.tasks:
            task.result()
        known = {slug: self.cache.grant(slug) for slug in self.followed}
        assert known == {slug: self.server.rows.get(slug) for slug in self.followed}


@pytest.mark.parametrize("of_one", [True, False])
@settings(max_examples=200, deadline=None)
@given(chance=st.randoms(use_true_random=True))
async def test_what_is_called_fresh_is_never_older_whatever_overlaps(
    *, of_one: bool, chance: random.Random
) -> None:
    """Long runs of evenly drawn moves; Hypothesis's own lists are short and rarely overlap."""
    overlaps = Overlaps(of_one=of_one, chance=chance)
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
    cache = GrantCache(source)
    await cache.refresh()
    source.grants["shop"] = GrantMalformed("row 'shop' is malformed")
    with caplog.at_level(logging.ERROR, "mdb_engine"):
        for _ in range(2):
            await cache.refresh()
    assert [record.getMessage() for record in caplog.records] == ["row 'shop' is malformed"]
    with pytest.raises(GrantMalformed, match="row 'shop' is malformed"):
        gate_of(cache, "right").admit()
    gate_of(cache, "right", "bank").admit()
    source.grants["shop"] = grant("shop", epoch=1)
    await cache.refresh()
    gate_of(cache, "right").admit()
