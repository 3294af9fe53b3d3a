from __future__ import annotations

import pytest

from mdb_engine.access.granted import GrantedAccess, NameIndex
from mdb_engine.access.model import Grant, Target
from mdb_engine.constants import ENGINE_COLLECTIONS
from mdb_engine.exceptions import MdbEngineError, QueryRefused, ScopeDenied


def grant(slug: str, *collections: str, reads: tuple[str, ...] = ()) -> Grant:
    return Grant(slug, (), frozenset({slug, *reads}), slug, frozenset(collections), 1)


INDEX = NameIndex(
    {
        one.slug: one
        for one in (
            grant("click_tracker", "clicks", "hr_people"),
            grant("click_tracker_dashboard", "reports", reads=("click_tracker", "gone")),
            grant("shop-x", "orders"),
            grant("apps", "config"),
        )
    },
    named=frozenset({"hr"}),
)
TRACKER = GrantedAccess("click_tracker", INDEX)
DASHBOARD = GrantedAccess("click_tracker_dashboard", INDEX)


@pytest.mark.parametrize(
    ("access", "name", "app", "expected"),
    [
        (TRACKER, "clicks", None, ("click_tracker_clicks", "click_tracker", True)),
        (TRACKER, "undeclared", None, ("click_tracker_undeclared", "click_tracker", True)),
        (TRACKER, "click_tracker_clicks", None, ("click_tracker_clicks", "click_tracker", True)),
        (TRACKER, "clicks", "click_tracker", ("click_tracker_clicks", "click_tracker", True)),
        # What an app declared comes before what the name might otherwise mean.
        (TRACKER, "hr_people", None, ("click_tracker_hr_people", "click_tracker", True)),
        (DASHBOARD, "click_tracker_clicks", None, ("click_tracker_clicks", "click_tracker", False)),
        (DASHBOARD, "clicks", "click_tracker", ("click_tracker_clicks", "click_tracker", False)),
        (DASHBOARD, "click_tracker_other", None, ("click_tracker_other", "click_tracker", False)),
        # No slug could end there: it has no capitals, and a collection does not begin with one.
        (TRACKER, "Eu_orders", None, ("click_tracker_Eu_orders", "click_tracker", True)),
        (TRACKER, "orders_", None, ("click_tracker_orders_", "click_tracker", True)),
        (
            DASHBOARD,
            "click_tracker_dashboard_reports",
            None,
            ("click_tracker_dashboard_reports", "click_tracker_dashboard", True),
        ),
    ],
)
def test_a_name_means_one_collection(
    access: GrantedAccess, name: str, app: str | None, expected: tuple[str, str, bool]
) -> None:
    assert access.resolve(name, app=app) == Target(*expected)


@pytest.mark.parametrize(
    ("access", "name", "app", "error"),
    [
        (TRACKER, "click_tracker_dashboard_reports", None, ScopeDenied),
        (TRACKER, "reports", "click_tracker_dashboard", ScopeDenied),
        (TRACKER, "orders", "shop-x", ScopeDenied),
        (TRACKER, "orders", "nobody", ScopeDenied),
        (TRACKER, "shop-x_orders", None, ScopeDenied),
        # `dashboard_x` of click_tracker and `x` of click_tracker_dashboard are one name.
        (TRACKER, "dashboard_x", None, QueryRefused),
        (TRACKER, "dashboard-x", None, QueryRefused),
        (DASHBOARD, "dashboard_reports", "click_tracker", QueryRefused),
        # There is no click_tracker_eu yet. Once there
        # was one, what had been written here before would be its own, or locked up.
        (TRACKER, "eu_orders", None, QueryRefused),
        (TRACKER, "eu-orders", None, QueryRefused),
        (TRACKER, "eu_orders", "click_tracker", QueryRefused),
        (TRACKER, "click_tracker_eu_orders", None, QueryRefused),
        (DASHBOARD, "click_tracker_eu_orders", None, QueryRefused),
        (TRACKER, "shop_x_orders", None, QueryRefused),
        # A scope that a manifest names, but whose app is not registered, and one that is gone.
        (DASHBOARD, "hr_people", None, ScopeDenied),
        (DASHBOARD, "gone_things", None, ScopeDenied),
        (GrantedAccess("apps", INDEX), "config", None, ScopeDenied),
        (TRACKER, "clicks", "Not A Slug", QueryRefused),
    ],
)
def test_a_name_that_is_not_granted_or_ambiguous_is_refused(
    access: GrantedAccess, name: str, app: str | None, error: type[MdbEngineError]
) -> None:
    with pytest.raises(error):
        access.resolve(name, app=app)


@pytest.mark.parametrize(
    "name",
    [
        *sorted(ENGINE_COLLECTIONS),
        "_anything",
        "system.users",
        "system.",
        "",
        "a.b",
        "$cmd",
        "a$b",
        "a\x00b",
        "clicks\n",
        "clïcks",
        "x" * 98,
        "-clicks",
        " clicks",
    ],
)
@pytest.mark.parametrize("app", [None, "click_tracker"])
def test_engine_names_and_malformed_names_are_never_mapped(name: str, app: str | None) -> None:
    for access in (TRACKER, DASHBOARD):
        with pytest.raises((ScopeDenied, QueryRefused)):
            access.resolve(name, app=app)


def test_a_slug_without_a_name_is_no_name() -> None:
    with pytest.raises(QueryRefused):
        TRACKER.resolve("click_tracker_")


def test_narrowing_only_ever_narrows() -> None:
    only_other = GrantedAccess("click_tracker_dashboard", INDEX, read_scopes=["click_tracker"])
    assert only_other.read_scopes == {"click_tracker"}
    with pytest.raises(ScopeDenied):
        only_other.resolve("reports")

    wide = GrantedAccess("click_tracker", INDEX, read_scopes=["click_tracker", "shop-x", "apps"])
    assert wide.read_scopes == {"click_tracker"}
    with pytest.raises(ScopeDenied):
        wide.resolve("shop-x_orders")

    reading = GrantedAccess("click_tracker", INDEX, read_only=True)
    assert reading.write_scope is None
    assert not reading.resolve("clicks").writable


def test_a_message_names_the_collection_and_both_apps() -> None:
    with pytest.raises(
        ScopeDenied, match=r"'click_tracker' may not read app 'shop-x'.*read_scopes"
    ):
        TRACKER.resolve("shop-x_orders")
