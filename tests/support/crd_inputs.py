# ruff: noqa: E501, FBT003 - tables of inputs
"""Specs of MdbApps, made of the CRD's own schema: valid, on the edge, and just outside of it.

Nothing here knows a field by name but the slug, so that a field which is added to the CRD is
fuzzed as well. What the schema says by CEL is not understood: the API server says where a spec
breaks such a rule, and `without` takes that part out.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from zlib import crc32

import yaml
from hypothesis import strategies as st

from support.clusters import CRD

__all__ = ["NAMES", "SPEC", "TEXTS", "mutated", "specs", "without"]

Schema = Mapping[str, Any]

SPEC: Final[Schema] = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"][
    "openAPIV3Schema"
]["properties"]["spec"]

NAMES: Final = (
    "neighbour", "neighbour_c", "neighbour_c_d", "neighbour-c", "old", "old.data", "c", "c_d", "c-d",
    "system.users", "_mdb_engine_grants", "_mdb_engine_app_secrets", "apps_config", "neighbour-mdb",
    "a..b", "x" * 250,
)  # fmt: skip
"""What other apps, the engine and MongoDB are called, and what reads like it."""

TEXTS: Final = (
    "", " ", "$v", "a.b", "a..b", ".", "$", "app_id", "_id", "*", "\x00", "a\x00b", "\u202e", "é" * 200,
    "😀" * 40, "\n", "a\r\nb", "en", "xx", "simple", "klingon", "none", "string", "0", "-1", "null",
)  # fmt: skip

_JSON: Final = (
    '{"n": 1}', "{}", "[]", "1", "{", '{"$jsonSchema": {"required": ["n"]}}', '{"$jsonSchema": 1}',
    '{"$jsonSchema": {"additionalProperties": false, "properties": 1}}', '{"$where": "1"}',
    '{"$oid": "x"}', '{"$oid": "5f0000000000000000000000"}', '{"n": {"$oid": 1}}', '{"$date": 1}',
    '{"n": {"$date": {"$numberLong": "99999999999999999999"}}}', '{"n": {"$numberLong": "x"}}',
    '{"n": 99999999999999999999}', '{"n": NaN}', '{"n": 1e999}', '{"n": "\\ud800"}', '{"\\ud800": 1}',
    '{"a\\u0000b": 1}', '{"": 1}', '{"$and": []}', '{"$nor": 1}', '{"app_id": "neighbour"}',
    '{"$expr": {"$function": {"body": "x", "args": [], "lang": "js"}}}', '{"$expr": {"$eq": [1]}}',
    '{"n": {"$regex": "("}}', '{"n": {"$near": [1, 2]}}', '{"$text": {"$search": "x"}}',
    '{"n": {"$in": 1}}', '{"$ref": "x", "$id": 1}', '{"n": {"$binary": "x"}}', '{"$code": "x"}',
    '{"n": {"$regularExpression": 1}}', '{"n": {"$timestamp": 1}}', '{"n": {"$uuid": "x"}}',
    '{"fields": 1}', '{"fields": [1]}', '{"fields": [{"path": "app_id"}]}', '{"mappings": 1}',
    '{"mappings": {"fields": 1}}', '{"mappings": {}}', '{"mappings": null}',
    '{"a": ' * 120 + "1" + "}" * 120, '{"a": ' * 900 + "1" + "}" * 900, '{"a": ' * 2700 + "1" + "}" * 2700,
    '{"a": ' + "[" * 150 + "]" * 150 + "}",
)  # fmt: skip


def specs(slug: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return specs of that slug which the schema allows, but for its rules across fields."""
    return _object(SPEC).map(lambda spec: {**spec, "slug": slug}).map(_hold_slug)


@st.composite
def mutated(draw: st.DrawFn, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec that differs in one place, where it may be just outside of the schema."""
    changed = copy.deepcopy(dict(spec))
    places = list(_places(SPEC, changed))
    schema, holder, key = draw(st.sampled_from(places))
    holder[key] = draw(_outside(schema, holder[key]))
    return changed


def without(spec: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return a spec without what stands at a path, as the API server writes it."""
    changed = copy.deepcopy(dict(spec))
    parts = re.findall(r"[A-Za-z0-9_$]+", path.removeprefix("spec"))
    node: Any = changed
    chain: list[tuple[Any, Any]] = []
    for part in parts:
        key: Any = int(part) if isinstance(node, list) and part.isdigit() else part
        try:
            following = node[key]
        except (KeyError, IndexError, TypeError):
            break
        chain.append((node, key))
        node = following
    for holder, key in reversed(chain):
        if key != "slug":
            del holder[key]
            break
    return changed


def _hold_slug(spec: dict[str, Any]) -> dict[str, Any]:
    """Most specs name themselves rightly, or none would get past the rules about that."""
    access = spec.get("dataAccess")
    if isinstance(access, dict):
        if "readScopes" in access:
            access["readScopes"] = [*dict.fromkeys([spec["slug"], *access["readScopes"][:63]])]
        if "writeScope" in access:
            access["writeScope"] = spec["slug"]
    if spec.get("operatorClass") not in {None, "default"} and crc32(repr(spec).encode()) % 16:
        del spec["operatorClass"]  # else few would be the operator's at all
    return spec


def _of(schema: Schema, *, long: bool = True) -> st.SearchStrategy[Any]:
    """Return what a schema allows; with ``long``, lists as long as may be, but none in another."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema["type"]
    if kind == "object":
        return _object(schema, long=long)
    if kind == "array":
        return _array(schema, long=long)
    return _KINDS[kind](schema)  # type: ignore[no-untyped-call,no-any-return,unused-ignore]


def _object(schema: Schema, *, long: bool = True) -> st.SearchStrategy[dict[str, Any]]:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    required = set(schema.get("required", ()))

    @st.composite
    def make(draw: st.DrawFn) -> dict[str, Any]:
        chosen = [n for n in properties if n in required or draw(st.integers(0, 2)) == 0]
        chosen = chosen[: schema.get("maxProperties", len(chosen))]
        if not chosen and schema.get("minProperties"):
            chosen = [draw(st.sampled_from(sorted(properties)))]
        return {name: draw(_of(properties[name], long=long)) for name in chosen}

    return make()


def _array(schema: Schema, *, long: bool) -> st.SearchStrategy[list[Any]]:
    least, most = schema.get("minItems", 0), schema["maxItems"]
    few = st.lists(
        _of(schema["items"], long=long), min_size=least, max_size=min(most, max(least, 3))
    )
    if not long:
        return few
    many = st.tuples(_of(schema["items"], long=False), st.integers(least, most)).map(
        lambda p: _numbered(*p)
    )
    return st.one_of(*[few] * 7, many)


def _numbered(item: Any, count: int) -> list[Any]:
    """Return a long list whose items differ, as lists that are maps or sets need."""
    made = []
    for number in range(count):
        one = copy.deepcopy(item)
        if isinstance(one, str):
            one = f"{one[:40]}{number}"
        elif isinstance(one, dict):
            for key in ("name", "field"):
                if isinstance(one.get(key), str):
                    one[key] = f"{one[key][:40]}{number}"
        made.append(one)
    return made


def _string(schema: Schema) -> st.SearchStrategy[str]:
    most, pattern = schema.get("maxLength", 64), schema.get("pattern")
    if pattern is None:
        known = [*TEXTS, *_JSON, "x" * most] if most > 32 else [*TEXTS]
        fitting = [one for one in known if schema.get("minLength", 0) <= len(one) <= most]
        return st.one_of(
            st.sampled_from(fitting), st.text(st.characters(codec="utf-8"), max_size=20)
        )
    of_pattern = re.compile(pattern.replace("$)", r"\Z)").removesuffix("$") + r"\Z")
    fitting = [one for one in (*NAMES, *TEXTS) if of_pattern.match(one) and len(one) <= most]
    made = st.from_regex(of_pattern, fullmatch=True).filter(
        lambda one: schema.get("minLength", 0) <= len(one) <= most
    )
    return st.one_of(st.sampled_from(fitting), made, made) if fitting else made


def _number(schema: Schema) -> st.SearchStrategy[Any]:
    low, high = schema["minimum"], schema["maximum"]
    edges = st.sampled_from([low, high, min(high, low + 1)])
    whole = st.one_of(edges, st.integers(low, high))
    if schema["type"] == "integer":
        return whole
    return st.one_of(whole, st.floats(low, high, allow_nan=False))


_KINDS: Final = {
    "string": _string,
    "integer": _number,
    "number": _number,
    "boolean": lambda _: st.booleans(),
}


def _places(schema: Schema, value: Any) -> Iterator[tuple[Schema, Any, Any]]:
    """Yield each part of a spec with its schema, its holder and its key there."""
    children: list[tuple[Schema, Any]] = []
    if isinstance(value, dict):
        children = [(schema["properties"][n], n) for n in value if n in schema["properties"]]
    elif isinstance(value, list):
        children = [(schema["items"], number) for number in range(len(value))]
    for below, key in children:
        yield below, value, key
        yield from _places(below, value[key])


def _outside(schema: Schema, value: Any) -> st.SearchStrategy[Any]:
    wrong: list[st.SearchStrategy[Any]] = [
        st.none(), st.just({}), st.just([]), st.just(-1), st.just(True), st.just("\x00"), st.just(1.5),
        st.just({"unknown": 1}), st.just(10**30), _of(schema),
    ]  # fmt: skip
    if isinstance(value, str):
        over = "x" * (schema.get("maxLength", 64) + 1)
        known = [
            over,
            *TEXTS,
            *NAMES,
            f"{value}\n",
            value.upper(),
            f"${value}",
            f"{value}.",
            f"-{value}",
        ]
        wrong += [st.sampled_from(known)] * 3
    elif isinstance(value, dict):
        wrong += [
            st.just({**value, "unknown": 1}),
            *(st.just({k: v for k, v in value.items() if k != one}) for one in value),
        ]
        wrong += [st.just({**value, one: None}) for one in value]
    elif isinstance(value, list):
        wrong += [
            st.just(value * 2),
            st.just(_numbered(value[0] if value else "x", schema["maxItems"] + 1)),
        ]
    elif isinstance(value, int | float) and "minimum" in schema:
        wrong += [
            st.just(schema["minimum"] - 1),
            st.just(schema["maximum"] + 1),
            st.just(str(value)),
        ]
    return st.one_of(wrong)
