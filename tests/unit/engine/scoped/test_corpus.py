"""The adversarial corpus against the pure functions; the integration tests run it on a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from integration.engine.adversarial.corpus import Attack, load
from unit.engine.scoped.apps import LIMITS, access

from mdb_engine.access.model import Target
from mdb_engine.exceptions import MdbEngineError
from mdb_engine.scoped.bulk import scope_requests
from mdb_engine.scoped.rewrite.expressions import scope_let
from mdb_engine.scoped.rewrite.filters import (
    scope_array_filters,
    scope_filter,
    scope_projection,
    scope_upsert_filter,
)
from mdb_engine.scoped.rewrite.indexes import require_own, scope_index
from mdb_engine.scoped.rewrite.pipelines import scope_change_stream_pipeline, scope_pipeline
from mdb_engine.scoped.rewrite.updates import scope_update, stamp_document, stamp_replacement

ATTACKS = load()


def _filter(target: Target, query: Any = None, projection: Any = None, **options: Any) -> None:
    scope_filter(query, target, LIMITS)
    if projection is not None:
        scope_projection(projection, LIMITS)
    if "let" in options:
        scope_let(options["let"], LIMITS)


def _write_filter(target: Target, query: Any, **options: Any) -> None:
    scope = scope_upsert_filter if options.get("upsert") else scope_filter
    scope(query, target, LIMITS)


def _update(target: Target, query: Any, update: Any, **options: Any) -> None:
    _write_filter(target, query, **options)
    scope_array_filters(options.get("array_filters"), LIMITS)
    scope_update(update, target, LIMITS)


def _replace(target: Target, query: Any, document: Any, **options: Any) -> None:
    _write_filter(target, query, **options)
    stamp_replacement(document, target, LIMITS)


READS: dict[str, Callable[..., Any]] = {
    "aggregate": lambda target, pipeline: scope_pipeline(pipeline, target, access(), LIMITS),
    "count_documents": _filter,
    "find": _filter,
    "find_one": _filter,
    "watch": lambda target, pipeline: scope_change_stream_pipeline(pipeline, target, LIMITS),
}

WRITES: dict[str, Callable[..., Any]] = {
    "bulk_write": lambda target, requests: scope_requests(requests, target, LIMITS),
    "create_index": lambda target, keys, **given: scope_index(keys, given, target, LIMITS),
    "delete_many": _write_filter,
    "delete_one": _write_filter,
    "find_one_and_delete": _write_filter,
    "find_one_and_replace": _replace,
    "find_one_and_update": _update,
    "insert_one": lambda target, document: stamp_document(document, target, LIMITS),
    "replace_one": _replace,
    "update_many": _update,
    "update_one": _update,
}

OPTION_FILES = ("misuse-",)
OPTION_ATTACKS = {"explain", "bypass_document_validation", "unknown_option"}
"""Files and operators that only the collection's own methods see."""


def _pure(attack: Attack) -> bool:
    if attack.source.startswith(OPTION_FILES) or attack.operator in OPTION_ATTACKS:
        return False
    return attack.method in READS | WRITES


def run(attack: Attack) -> None:
    target = access().resolve(attack.collection)
    if attack.method in WRITES:
        require_own(target, attack.method)
    (READS | WRITES)[attack.method](target, *attack.args, **attack.options)


@pytest.mark.parametrize("attack", [pytest.param(a, id=a.source) for a in ATTACKS if _pure(a)])
def test_attack_is_refused_with_its_operator_and_path(attack: Attack) -> None:
    with pytest.raises(MdbEngineError) as caught:
        run(attack)
    attack.check(caught.value)


def test_corpus_is_large_and_mostly_reaches_the_pure_functions() -> None:
    assert len(ATTACKS) >= 260
    assert sum(map(_pure, ATTACKS)) >= 260
    assert len({attack.operator for attack in ATTACKS}) >= 60
