"""Names that can be cut in two places belong to one app."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdb_engine.constants import ENGINE_COLLECTIONS
from mdb_engine.models.naming import app_key, is_engine_collection, longest_owner, physical_name

words = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("_".join)


@given(slug=words, name=words, others=st.lists(words, max_size=4))
def test_a_name_falls_into_the_longest_slug_that_begins_it(
    slug: str, name: str, others: list[str]
) -> None:
    physical = physical_name(slug, name)
    owner = longest_owner(physical, [slug, *others])
    assert owner is not None
    assert physical.startswith(f"{owner}_")
    assert all(len(s) <= len(owner) for s in [slug, *others] if physical.startswith(f"{s}_"))


def test_a_slug_is_no_prefix_of_a_longer_word() -> None:
    assert longest_owner("clicks_x", ["click"]) is None
    assert longest_owner("click_tracker_dashboard_x", ["click_tracker"]) == "click_tracker"


@pytest.mark.parametrize("slug", ["a-b_c", "a_b-c", "a-b-c", "a_b_c"])
def test_dashes_and_underscores_are_one_character(slug: str) -> None:
    assert app_key(slug) == "a_b_c"


@pytest.mark.parametrize("name", [*sorted(ENGINE_COLLECTIONS), "_mdb_engine_more", "system.views"])
def test_the_engines_own_names_are_known(name: str) -> None:
    assert is_engine_collection(name)


def test_an_ordinary_name_is_nobodys() -> None:
    assert not is_engine_collection("click_tracker_clicks")
