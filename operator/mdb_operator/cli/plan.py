"""What a manifest would change of what an app has in MongoDB, said before it is applied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import yaml

from mdb_engine.models.mdbapp import KIND
from mdb_engine.models.naming import physical_name
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.models.app import AppRecord
from mdb_engine.registry.models.layout import IndexAction, IndexChange, IndexesOutcome
from mdb_engine.registry.registry import Registry
from mdb_operator.exceptions import OperatorError

__all__ = ["plan", "read_specs"]

_WORDS = {
    IndexAction.BUILD: "is built, beside what is there",
    IndexAction.MODIFY: "is changed in place",
    IndexAction.REPLACE: "takes the place of {former}, which MongoDB wants dropped first: until it"
    " is built there is none",
    IndexAction.DROP: "is dropped",
}


def read_specs(text: str) -> list[MdbAppSpec]:
    """Return the specs of the MdbApps in a file of YAML.

    Raises
    ------
    OperatorError
        If it is not YAML, or holds no MdbApp.
    ManifestInvalid
        If one is not valid.
    """
    try:
        documents = [one for one in yaml.safe_load_all(text) if isinstance(one, dict)]
    except yaml.YAMLError:
        raise OperatorError("this is not YAML; pass the manifest of an MdbApp") from None
    items: list[Any] = []
    for document in documents:
        items += document.get("items") or [document]
    specs = [one.get("spec") or {} for one in items if one.get("kind") == KIND]
    if not specs:
        raise OperatorError(f"there is no {KIND} in it; pass the manifest of one")
    return [MdbAppSpec.parse(spec).normalised() for spec in specs]


async def plan(registry: Registry, spec: MdbAppSpec) -> list[str]:
    """Return what applying the spec would do to the app's collections and indexes, in sentences."""
    record = await registry.get(spec.slug)
    if record is None or not record.active:
        return [f"{spec.slug}: not registered; everything would be made anew"]
    outcome = await registry.plan_indexes(replace(record, spec=spec))
    lines = [*_collections(record, spec), *_indexes(outcome)]
    return [f"{spec.slug}: {line}" for line in lines or ["no collection and no index changes"]]


def _collections(record: AppRecord, spec: MdbAppSpec) -> Iterator[str]:
    before, after = set(record.spec.collection_names), set(spec.collection_names)
    for name in sorted(after - before):
        if physical_name(spec.slug, name) in record.claims:
            yield f"collection {name} is used again, with the data that it has"
        else:
            yield f"collection {name} is made"
    for name in sorted(before - after):
        yield f"collection {name} is taken from the app; its data and indexes stay"


def _indexes(outcome: IndexesOutcome) -> Iterator[str]:
    blocked = {conflict.collection for conflict in outcome.conflicts}
    for change in outcome.changes:
        if change.action is IndexAction.DROP and change.collection in blocked:
            continue
        yield f"index {_shown(change)} of {change.collection} {_word(change)}"
    for conflict in outcome.conflicts:
        yield f"{conflict.message}. Until then no index of {conflict.collection} is dropped"


def _shown(change: IndexChange) -> str:
    options = {k: v for k, v in change.definition.items() if k not in {"key", "name", "v"}}
    keys = ", ".join(f"{field}: {order}" for field, order in change.definition["key"].items())
    more = "".join(f", {name}={value}" for name, value in sorted(options.items()))
    return f"{change.name} ({keys}{more})"


def _word(change: IndexChange) -> str:
    former = change.former["name"] if change.former is not None else ""
    return _WORDS[change.action].format(former=former)
