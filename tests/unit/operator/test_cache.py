from __future__ import annotations

from collections.abc import Iterable

from mdb_operator.apps.cache import MdbAppCache
from mdb_operator.apps.resource import MdbAppResource


def app(
    name: str, slug: str = "", reads: Iterable[str] = (), uid: str = "", reason: str = "Provisioned"
) -> MdbAppResource:
    spec = {"slug": slug or name, "dataAccess": {"readScopes": [slug or name, *reads]}}
    return MdbAppResource.from_body(
        {
            "metadata": {"namespace": "shop", "name": name, "uid": uid or f"uid-{name}"},
            "spec": spec,
            "status": {"conditions": [{"type": "Registered", "reason": reason}]},
        }
    )


def names(apps: Iterable[MdbAppResource]) -> list[str]:
    return sorted(one.key.name for one in apps)


def test_related_are_those_that_name_it_that_it_names_and_that_want_its_slug() -> None:
    cache = MdbAppCache()
    hub, rival = app("hub", "the-hub", reads=["stock"]), app("rival", "the_hub")
    for one in (hub, rival, app("reader", reads=["the_hub"]), app("stock"), app("other")):
        cache.update(one)
    assert names(cache.related(hub)) == ["reader", "rival", "stock"]
    assert names(cache.of_slug("the_hub")) == ["hub", "rival"]


def test_the_indexes_follow_a_change_a_successor_and_an_end() -> None:
    cache = MdbAppCache()
    hub, reader = app("hub"), app("reader", reads=["hub"])
    for one in (hub, reader):
        cache.update(one)
    cache.update(app("reader", reads=["stock"]))
    assert names(cache.related(hub)) == []
    cache.update(app("reader", reads=["hub"], uid="another"))
    assert names(cache.related(hub)) == ["reader"]
    assert cache.key_of("another") == reader.key
    assert cache.key_of(reader.uid) is None
    cache.drop(app("reader", uid="another"))
    assert names(cache.related(hub)) == []
    cache.remove(hub)
    assert cache.of_slug("hub") == []
    assert not cache._naming
    assert not cache._wanting


def test_who_waits_for_a_name_is_known_by_its_status() -> None:
    cache = MdbAppCache()
    cache.update(app("late", reason="SlugTaken"))
    cache.update(app("fine"))
    assert [key.name for key in cache.waiting_for_names()] == ["late"]
    cache.update(app("late"))
    assert cache.waiting_for_names() == []
