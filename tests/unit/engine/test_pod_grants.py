"""What a pod holds of the grants: what its own app needs, and of all others the slugs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdb_engine.access.grant_cache import SLUGS_SECONDS, GrantCache, Row, Rows
from mdb_engine.access.granted import GrantedAccess, NameIndex
from mdb_engine.access.model import Grant, Target
from mdb_engine.exceptions import GrantMalformed, MdbEngineError, QueryRefused, ScopeDenied
from mdb_engine.models.naming import app_key


def app(slug: str, *collections: str, reads: Collection[str] = (), epoch: int = 1) -> Grant:
    return Grant(slug, (), frozenset({slug, *reads}), slug, frozenset(collections), epoch)


class Source:
    """Rows in memory, which remembers what was asked for."""

    def __init__(self, *rows: Grant) -> None:
        self.rows: dict[str, Row] = {app_key(row.slug): row for row in rows}
        self.asked: list[frozenset[str]] = []
        self.slug_reads = 0

    def put(self, row: Grant) -> None:
        self.rows[app_key(row.slug)] = row

    async def load(self, keys: Collection[str] | None, _seconds: float) -> Rows:
        assert keys is not None, "a pod never reads all rows"
        self.asked.append(frozenset(keys))
        return {key: self.rows[key] for key in keys if key in self.rows}

    async def slugs(self, _seconds: float) -> Mapping[str, str]:
        self.slug_reads += 1
        return {key: row.slug if isinstance(row, Grant) else key for key, row in self.rows.items()}


class Pod:
    """The cache of a pod of ``shop``."""

    def __init__(self, *rows: Grant) -> None:
        self.now = 0.0
        self.source = Source(*rows)
        self.cache = GrantCache(self.source, clock=lambda: self.now)
        self.cache.keep_only("shop")

    async def read(self, seconds: float = 2.5) -> list[frozenset[str]]:
        """Let time pass and read; returns the keys of each reading."""
        self.now += seconds
        self.source.asked.clear()
        await self.cache.refresh()
        return self.source.asked

    def resolve(self, name: str) -> Target:
        return GrantedAccess("shop", self.cache.index()).resolve(name)


async def test_a_pod_reads_its_own_row_and_those_that_it_may_read() -> None:
    others = [app(f"app-{n}", "things") for n in range(50)]
    pod = Pod(app("shop", "orders", reads=["app-3"]), *others)
    assert await pod.read() == [{"shop"}, {"shop", "app_3"}]  # the first time, it learns whose
    assert await pod.read() == [{"shop", "app_3"}]
    assert set(pod.cache.index().grants) == {"shop", "app-3"}
    assert pod.resolve("app-3_things").owner == "app-3"
    with pytest.raises(ScopeDenied, match="may not read app 'app-4'"):
        pod.resolve("app-4_things")
    assert pod.cache.registered("app-4")
    assert not pod.cache.registered("app_4")
    assert not pod.cache.registered("app-4", "app-4_things")  # which only a pod of app-4 knows


async def test_changes_of_other_apps_change_nothing() -> None:
    pod = Pod(app("shop", "orders", reads=["bank"]), app("bank", "accounts"), app("hr", "people"))
    await pod.read()
    before = pod.cache.index()
    pod.source.put(app("hr", "people", "salaries", reads=["bank"], epoch=2))
    assert await pod.read(SLUGS_SECONDS) == [{"shop", "bank"}]
    assert pod.cache.index() is before


async def test_slugs_are_read_now_and_then() -> None:
    pod = Pod(app("shop", "orders"))
    for _ in range(12):
        await pod.read(SLUGS_SECONDS / 4)
    assert pod.source.slug_reads == 3


async def test_the_collections_of_a_new_app_are_refused_before_and_after_its_slug_is_known() -> (
    None
):
    pod = Pod(app("shop", "orders"))
    await pod.read()
    pod.source.put(app("hr", "people"))
    await pod.read()
    with pytest.raises(QueryRefused, match="not declared"):
        pod.resolve("hr_people")
    await pod.read(SLUGS_SECONDS)
    with pytest.raises(ScopeDenied, match="may not read app 'hr'"):
        pod.resolve("hr_people")


async def test_a_scope_brings_its_rows_and_takes_them_away() -> None:
    pod = Pod(app("shop", "orders"), app("bank", "accounts"))
    await pod.read()
    pod.source.put(app("shop", "orders", reads=["bank"], epoch=2))
    assert await pod.read() == [{"shop"}, {"shop", "bank"}]  # and again with the new one, at once
    assert pod.resolve("bank_accounts").owner == "bank"
    pod.source.put(app("shop", "orders", epoch=3))
    assert await pod.read() == [{"shop", "bank"}]
    with pytest.raises(ScopeDenied):
        pod.resolve("bank_accounts")
    assert set(pod.cache.index().grants) == {"shop"}


async def test_a_scope_that_is_withdrawn_while_its_rows_are_read_is_not_granted() -> None:
    pod = Pod(app("shop", "orders"), app("bank", "accounts"))
    await pod.read()
    pod.source.put(app("shop", "orders", reads=["bank"], epoch=2))
    load = pod.source.load

    async def withdrawn_after_the_first(keys: Collection[str] | None, _seconds: float) -> Rows:
        found = await load(keys, _seconds)
        pod.source.put(app("shop", "orders", epoch=3))
        return found

    pod.source.load = withdrawn_after_the_first  # type: ignore[method-assign]
    assert await pod.read() == [{"shop"}, {"shop", "bank"}]
    with pytest.raises(ScopeDenied):
        pod.resolve("bank_accounts")


async def test_a_slug_that_another_owner_registers_anew_is_another_app() -> None:
    """Its grant names nobody any more, and what is held of the one before is gone with it."""
    pod = Pod(app("shop", "orders", reads=["bank"]), app("bank", "accounts", epoch=4))
    await pod.read()
    del pod.source.rows["bank"]
    await pod.read()
    with pytest.raises(ScopeDenied):
        pod.resolve("bank_accounts")
    pod.source.put(app("bank", "vaults", epoch=5))
    pod.source.put(app("shop", "orders", epoch=2))
    await pod.read()
    for name in ("bank_accounts", "bank_vaults"):
        with pytest.raises(ScopeDenied):
            pod.resolve(name)
    assert "bank" not in pod.cache.index().grants


async def test_a_row_that_goes_back_to_an_older_epoch_counts_as_it_is_read() -> None:
    """As after a restore of MongoDB; what was read later is what holds."""
    pod = Pod(app("shop", "orders", reads=["bank"], epoch=9), app("bank", "accounts"))
    await pod.read()
    pod.source.put(app("shop", "orders", epoch=3))
    await pod.read()
    with pytest.raises(ScopeDenied):
        pod.resolve("bank_accounts")


async def test_a_collection_that_reads_like_one_of_a_longer_slug_is_its_owners() -> None:
    """`a_b_c` is `b_c` of `a`, which the pod may not read, and not `c` of `a_b`, which it may."""
    pod = Pod(app("shop", "orders", reads=["a_b"]), app("a_b", "items"), app("a", "b_c"))
    assert await pod.read() == [{"shop"}, {"shop", "a_b", "a"}]
    with pytest.raises(ScopeDenied, match="may not read app 'a' "):
        pod.resolve("a_b_c")
    assert pod.resolve("a_b_items").owner == "a_b"


async def test_damaged_rows_cost_their_own_app(caplog: pytest.LogCaptureFixture) -> None:
    pod = Pod(app("shop", "orders", reads=["bank"]), app("bank", "accounts"), app("hr", "people"))
    await pod.read()
    pod.source.rows["hr"] = GrantMalformed("row 'hr' is malformed")
    pod.source.rows["bank"] = GrantMalformed("row 'bank' is malformed")
    with caplog.at_level(logging.ERROR, "mdb_engine"):
        await pod.read(SLUGS_SECONDS)
    # Of a row that it does not need, a pod need not know that it is damaged.
    assert [record.getMessage() for record in caplog.records] == ["row 'bank' is malformed"]
    for name in ("bank_accounts", "hr_people"):
        with pytest.raises(ScopeDenied):
            pod.resolve(name)
    pod.source.rows["shop"] = GrantMalformed("row 'shop' is malformed")
    assert await pod.read() == [{"shop", "bank"}]
    assert pod.cache.malformed("shop") is not None
    pod.source.put(app("shop", "orders", epoch=1))
    assert await pod.read() == [{"shop"}]
    assert pod.resolve("orders").writable


async def test_slugs_that_cannot_be_read_close_access_in_the_end() -> None:
    pod = Pod(app("shop", "orders"))
    await pod.read()

    async def failing(_seconds: float) -> Mapping[str, str]:
        raise ConnectionError

    pod.source.slugs = failing  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await pod.read(SLUGS_SECONDS)
    assert pod.cache.age == SLUGS_SECONDS


PARTS = ("shop", "a", "b", "a_b", "a-b", "a_b_c", "shop_a", "c")
SLUGS = st.sampled_from(PARTS)
NAMES = st.sampled_from(("a", "b", "c", "b_c", "b-c", "a_b", "orders", "c_orders"))


@st.composite
def worlds(draw: st.DrawFn) -> list[Grant]:
    """Draw rows of which no two declare one physical name: the registry sees to that."""
    slugs = draw(st.lists(SLUGS, unique_by=app_key, max_size=6))
    taken: set[str] = set()
    rows = []
    for slug in ("shop", *(slug for slug in slugs if slug != "shop")):
        names = draw(st.frozensets(NAMES, max_size=4))
        names = frozenset(name for name in names if f"{slug}_{name}" not in taken)
        taken |= {f"{slug}_{name}" for name in names}
        reads = draw(st.frozensets(st.sampled_from(slugs))) if slugs else frozenset()
        rows.append(app(slug, *names, reads=reads if slug == "shop" else ()))
    return rows


def outcome(index: NameIndex, name: str) -> tuple[Target, bool, bool] | str:
    try:
        target = GrantedAccess("shop", index).resolve(name)
    except MdbEngineError:
        return "refused"
    return target, target.declared, target.stamped


@settings(max_examples=300, deadline=None)
@given(worlds(), st.lists(st.tuples(SLUGS, NAMES), min_size=5, max_size=30))
async def test_names_mean_to_a_pod_what_they_mean_to_who_knows_all_rows(
    rows: list[Grant], asked: list[tuple[str, str]]
) -> None:
    pod = Pod(*rows)
    await pod.read()
    everything = NameIndex({row.slug: row for row in rows})
    for slug, name in asked:
        for text in (name, f"{slug}_{name}"):
            assert outcome(pod.cache.index(), text) == outcome(everything, text), text
