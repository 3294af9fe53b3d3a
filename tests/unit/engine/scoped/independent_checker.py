"""A second opinion on rewritten pipelines: what has to hold of one, whatever it was made from.

It shares nothing with the engine's walk. It takes the *result*, finds every place that reads or
writes a collection by itself, and asserts that it was granted and that the scope stands there.
"""

from __future__ import annotations

from typing import Any

READABLE = {"shop": "shop", "stock": "stock"}
STAMP = {"$set": {"app_id": {"$literal": "shop"}}}
SEARCHES = {"$search", "$searchMeta", "$vectorSearch"}
FUSIONS = {"$rankFusion", "$scoreFusion"}
JAVASCRIPT = {"$where", "$function", "$accumulator"}


def owner_of(physical: Any) -> str:
    assert isinstance(physical, str), physical
    owner = physical.split("_", 1)[0]
    assert owner in READABLE, f"{physical} was not granted"
    return owner


def check_reading(stages: Any, physical: str) -> None:
    """Assert that a pipeline on a collection begins with the scope of the collection's owner."""
    owner = owner_of(physical)
    assert isinstance(stages, list)
    assert stages, "a pipeline without a scope"
    ((name, body),) = stages[0].items()
    if name == "$geoNear":
        assert body["query"]["app_id"] == owner
    elif name in {"$search", "$searchMeta"}:
        holder = body["facet"]["operator"] if "facet" in body else body
        assert {"equals": {"path": "app_id", "value": owner}} in holder["compound"]["filter"]
    elif name == "$vectorSearch":
        scope, given = {"app_id": {"$eq": owner}}, body["filter"]
        assert given == scope or given["$and"][0] == scope
    elif name in FUSIONS:
        for pipeline in body["input"]["pipelines"].values():
            check_reading(pipeline, physical)
    else:
        assert name == "$match"
        assert body["app_id"] == owner
    check_stages(stages)


def check_stages(stages: list[dict[str, Any]]) -> None:
    """Assert that every stage that reaches a collection does so in its scope."""
    for index, stage in enumerate(stages):
        ((name, body),) = stage.items()
        assert index == 0 or name not in SEARCHES | FUSIONS | {"$geoNear"}
        assert "stats" not in name.lower()
        assert "session" not in name.lower()
        if name == "$lookup":
            check_source(body, body.get("from"))
        elif name == "$graphLookup":
            assert body["restrictSearchWithMatch"]["app_id"] == owner_of(body["from"])
        elif name == "$unionWith":
            check_source(body, body.get("coll"))
        elif name == "$facet":
            for pipeline in body.values():
                assert not any(key in stage for stage in pipeline for key in ("$out", "$merge"))
                check_stages(pipeline)
        elif name in {"$out", "$merge"}:
            assert index == len(stages) - 1
            assert stages[index - 1] == STAMP
            if name == "$out":
                assert owner_of(body) == "shop"
            else:
                check_merging(body)
        check_no_javascript(stage)


def check_source(body: dict[str, Any], physical: Any) -> None:
    if physical is None:
        assert next(iter(body["pipeline"][0])) == "$documents"
        check_stages(body["pipeline"])
    else:
        check_reading(body["pipeline"], physical)
    assert not any(name in stage for stage in body["pipeline"] for name in ("$out", "$merge"))


def check_merging(body: dict[str, Any]) -> None:
    assert owner_of(body["into"]) == "shop"
    matched = body.get("whenMatched")
    if matched in ("fail", "keepExisting"):
        return
    assert isinstance(matched, list)
    assert "$toInt" in str(matched[0])
    assert matched[-1] == STAMP


def check_no_javascript(value: Any) -> None:
    """Assert that no key is an operator that runs JavaScript, but in what is data."""
    if isinstance(value, list):
        for item in value:
            check_no_javascript(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key != "$literal":
                assert key not in JAVASCRIPT or not next(iter(value)).startswith("$")
                check_no_javascript(item)
