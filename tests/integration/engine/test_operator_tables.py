"""The tables of operators against what the server itself says that it knows.

``serverStatus`` counts the use of every stage, expression, accumulator, window function and query
operator by name, so the names of its counters are what can be sent to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from support.mongo import Database

from mdb_engine.scoped.rewrite.operators import (
    ACCUMULATORS,
    EXPRESSIONS,
    FIELD_OPERATORS,
    FILTER_OPERATORS,
    WINDOW_FUNCTIONS,
    Rule,
)
from mdb_engine.scoped.rewrite.stages import STAGES

KINDS: dict[str, list[Mapping[str, Rule]]] = {
    "stages": [STAGES],
    "expressions": [EXPRESSIONS],
    "match": [FILTER_OPERATORS, FIELD_OPERATORS],
    "groupAccumulators": [ACCUMULATORS],
    "windowAccumulators": [WINDOW_FUNCTIONS],
}

UNCOUNTED = {
    "$search $searchMeta $vectorSearch": "only where there is a mongot",
    "$ref $id $db": "the parts of a reference, which are data",
    "$options $maxDistance $minDistance": "they modify another operator",
}
"""What we allow and the server does not count, and why."""


@pytest.fixture
def counters(mongo: Database) -> dict[str, set[str]]:
    metrics: dict[str, Any] = mongo.client.admin.command("serverStatus")["metrics"]
    return {
        "stages": set(metrics["aggStageCounters"]),
        **{name: set(found) for name, found in metrics["operatorCounters"].items()},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_public_operator_of_the_server_is_in_a_table(
    counters: dict[str, set[str]], kind: str
) -> None:
    listed = {name for rules in KINDS[kind] for name in rules}
    public = {name for name in counters[kind] if name.startswith("$") and name[1] != "_"}
    assert len(public) > 10, "the server has no counters where they are looked for"
    assert public - listed == set()


@pytest.mark.parametrize("kind", KINDS)
def test_every_operator_that_is_allowed_is_one_of_the_server(
    counters: dict[str, set[str]], kind: str
) -> None:
    allowed = {
        name
        for rules in KINDS[kind]
        for name, rule in rules.items()
        if rule.refused is None and rule.since is None
    }
    assert allowed - counters[kind] - set(" ".join(UNCOUNTED).split()) == set()
