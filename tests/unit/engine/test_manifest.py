"""One model in two spellings: what is read, what is refused, and where the fault is said to be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mdb_engine.exceptions import ManifestInvalid
from mdb_engine.models.base import _models_in
from mdb_engine.models.manifest import Manifest
from mdb_engine.models.spec import Collection, MdbAppSpec
from mdb_engine.registry.options import own_part

FULL_MANIFEST: dict[str, Any] = {
    "schema_version": "2.0",
    "slug": "click_tracker",
    "name": "Click Tracker",
    "description": "Counts",
    "status": "active",
    "developer_id": "dev@example.com",
    "data_access": {
        "read_scopes": ["click_tracker", "hr"],
        "write_scope": "click_tracker",
        "cross_app_policy": "explicit",
        "readers": [{"namespace": "bi", "slug": "sales"}, {"namespace": "*"}],
    },
    "managed_indexes": {
        "clicks": [
            {"type": "regular", "name": "by_time", "keys": {"at": -1, "user": 1}, "unique": True},
            {"type": "ttl", "keys": [["at", 1]], "options": {"expireAfterSeconds": 60}},
            {
                "type": "partial",
                "name": "open",
                "keys": {"n": 1},
                "options": {
                    "partialFilterExpression": {
                        "status": "open",
                        "$and": [{"n": {"$gt": 1, "$lte": 2.5}}, {"on": {"$exists": True}}],
                    },
                    "background": True,
                },
            },
            {
                "type": "text",
                "name": "words",
                "keys": [["title", "text"], ["body", "text"]],
                "weights": {"title": 9},
                "default_language": "german",
            },
            {"type": "geospatial", "keys": {"place": "2dsphere"}},
            {"type": "hashed", "name": "spread", "keys": {"user": "hashed"}},
            {"type": "wildcard", "keys": {"$**": 1}},
            {"type": "wildcard", "keys": {"attributes.$**": 1}},
            {
                "type": "partial",
                "name": "some",
                "keys": {"user": 1},
                "collation": {"locale": "de", "strength": 2},
                "partial_filter_expression": {
                    "status": {"$in": ["open", None, 7]},
                    "ended": None,
                    "at": {"$gt": {"$date": "2026-01-31T12:00:00Z"}},
                },
            },
            {"type": "vectorSearch", "name": "near", "definition": {"fields": []}},
        ],
        "sessions": [],
    },
    "collections": {
        "clicks": {
            "validator": {"$jsonSchema": {"required": ["at"]}},
            "pre_images": True,
            "collation": {"locale": "en", "numeric_ordering": True},
        },
        "log": {"capped": {"size_bytes": 65536, "max_documents": 10}},
        "measured": {"time_series": {"time_field": "at", "meta_field": "what"}},
    },
    "auth": {"mode": "app", "policy": {"provider": "casbin", "required": True}},
    "cors": {"enabled": True, "allow_origins": ["https://example.com"]},
}


def test_a_manifest_says_the_same_as_the_resource_that_it_converts_to() -> None:
    manifest = Manifest.load(FULL_MANIFEST)
    spec = manifest.to_spec()
    assert MdbAppSpec.parse(spec.dump()) == spec
    assert Manifest.from_spec(spec).to_spec() == spec
    assert spec.collection_names == ("clicks", "sessions", "log", "measured")
    assert spec.read_scopes == ("click_tracker", "hr")
    assert json.loads(json.dumps(spec.dump())) == spec.dump()


def test_indexes_become_what_mongodb_takes() -> None:
    clicks = Manifest.load(FULL_MANIFEST).to_spec().collections[0]
    assert [index.document() for index in clicks.indexes] == [
        {"key": {"at": -1, "user": 1}, "name": "by_time", "unique": True},
        {"key": {"at": 1}, "name": "at_1", "expireAfterSeconds": 60},
        {
            "key": {"n": 1},
            "name": "open",
            "partialFilterExpression": {
                "status": {"$eq": "open"},
                "n": {"$gt": 1, "$lte": 2.5},
                "on": {"$exists": True},
            },
        },
        {
            "key": {"title": "text", "body": "text"},
            "name": "words",
            "weights": {"title": 9, "body": 1},
            "default_language": "german",
        },
        {"key": {"place": "2dsphere"}, "name": "place_2dsphere"},
        {"key": {"user": "hashed"}, "name": "spread"},
        {"key": {"$**": 1}, "name": "$**_1"},
        {"key": {"attributes.$**": 1}, "name": "attributes.$**_1"},
        {
            "key": {"user": 1},
            "name": "some",
            "collation": {"locale": "de", "strength": 2},
            "partialFilterExpression": {
                "status": {"$in": ["open", None, 7]},
                "ended": {"$eq": None},
                "at": {"$gt": datetime(2026, 1, 31, 12, tzinfo=UTC)},
            },
        },
    ]


@pytest.mark.parametrize("version", ["1.0", "2.0", None])
def test_data_access_is_validated_with_and_without_a_version(version: str | None) -> None:
    data: dict[str, Any] = {"slug": "a", "data_access": {"read_scopes": ["b"]}}
    if version:
        data["schema_version"] = version
    with pytest.raises(ManifestInvalid) as caught:
        Manifest.load(data)
    assert caught.value.path == "data_access.read_scopes"


def test_scopes_default_to_the_app_itself() -> None:
    spec = MdbAppSpec(slug="a")
    assert spec.read_scopes == ("a",)
    assert spec.normalised().dump()["dataAccess"] == {"readScopes": ["a"], "writeScope": "a"}
    assert spec.normalised() == spec.normalised().normalised()


def index(**parts: Any) -> dict[str, Any]:
    return {"slug": "a", "managed_indexes": {"c": [{"keys": {"x": 1}, **parts}]}}


REFUSED_MANIFESTS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "slug", "required"),
    ({"slug": "A"}, "slug", "pattern"),
    ({"slug": "a" * 49}, "slug", "at most 48"),
    ({"slug": "a", "schema_version": "3.0"}, "schema_version", "'1.0' or '2.0'"),
    ({"slug": "a", "schema_version": 2.0}, "schema_version", "'1.0' or '2.0'"),
    ({"slug": "a", "managed_indices": {}}, "managed_indices", "did you mean 'managed_indexes'?"),
    ({"slug": "a", "encrypted_fields": {}}, "encrypted_fields", "not a known key"),
    ({"slug": "a", "dataAccess": {}}, "dataAccess", "did you mean 'data_access'?"),
    (
        {"slug": "a", "data_access": {"readScopes": ["a"]}},
        "data_access.readScopes",
        "did you mean 'read_scopes'?",
    ),
    ({"slug": "a", "data_access": {"read_scopes": "a"}}, "data_access.read_scopes", "tuple"),
    ({"slug": "a", "data_access": {"read_scopes": []}}, "data_access.read_scopes", "at least 1"),
    ({"slug": "a", "data_access": {"read_scopes": ["a", "a"]}}, "data_access.read_scopes", "twice"),
    (
        {"slug": "a", "data_access": {"read_scopes": ["a", "*"]}},
        "data_access.read_scopes[1]",
        "pat",
    ),
    ({"slug": "a", "data_access": {"write_scope": "b"}}, "data_access.write_scope", "own slug"),
    (
        {"slug": "a", "data_access": {"cross_app_policy": "allow"}},
        "data_access.cross_app_policy",
        "'Explicit' or 'DenyAll'",
    ),
    (
        {"slug": "a", "data_access": {"readers": [{"slug": "b"}]}},
        "data_access.readers[0].namespace",
        "",
    ),
    ({"slug": "a", "managed_indexes": {"_x": []}}, "managed_indexes._x", "pattern"),
    ({"slug": "a", "managed_indexes": {"a.b": []}}, "managed_indexes.a.b", "pattern"),
    (index(type="nonsense"), "managed_indexes.c[0].type", "'regular'"),
    (index(type="hashed"), "managed_indexes.c[0].type", "a key with the value 'hashed'"),
    (index(type="wildcard"), "managed_indexes.c[0].type", "'$**'"),
    (index(type="vectorSearch"), "managed_indexes.c[0]", "needs name and definition"),
    (index(definition={"fields": []}), "managed_indexes.c[0].definition", "vectorSearch"),
    (index(keys={"$**": 1, "x": 1}), "managed_indexes.c[0]", "stands alone"),
    (index(keys={"$**": 1}, unique=True), "managed_indexes.c[0]", "unique"),
    (index(keys={"x": "hashed", "y": "hashed"}), "managed_indexes.c[0]", "two hashed"),
    (
        index(collation={"locale": "de", "strength": 9}),
        "managed_indexes.c[0].collation.strength",
        "5",
    ),
    (
        index(partial_filter_expression={"x": {"$in": []}}),
        "managed_indexes.c[0].partial_filter_expression",
        "neither",
    ),
    (
        index(partial_filter_expression={"x": {"$gt": None}}),
        "managed_indexes.c[0]",
        "eq alone",
    ),
    (
        index(partial_filter_expression={"x": {"$date": "yesterday"}}),
        "managed_indexes.c[0].date_value",
        "pattern",
    ),
    ({"slug": "a", "collections": {"c": {"validator": {}}}}, "collections.c.validator", "at least"),
    ({"slug": "a", "collections": {"c": {"adopt": "x"}}}, "collections.c.adopt", "not a known key"),
    (
        {"slug": "a", "collections": {"c": {"capped": {"size_bytes": 1}}}},
        "collections.c.capped.size_bytes",
        "4096",
    ),
    (
        {
            "slug": "a",
            "collections": {"c": {"pre_images": True, "time_series": {"time_field": "at"}}},
        },
        "collections.c",
        "a time series takes no pre_images",
    ),
    (
        {"slug": "a", "collections": {"c": {"time_series": {"time_field": "app_id"}}}},
        "collections.c.time_series",
        "engine's own",
    ),
    (index(uniqe=True), "managed_indexes.c[0].uniqe", "did you mean 'unique'?"),
    (index(unique="yes"), "managed_indexes.c[0].unique", "boolean"),
    (index(keys={}), "managed_indexes.c[0].keys", "must hold a field"),
    (index(keys={"x": 2}), "managed_indexes.c[0].keys[0][1]", "1, -1"),
    (index(keys={"$bad": 1}), "managed_indexes.c[0].keys[0][0]", "pattern"),
    (index(keys=[["x", 1], ["x", 1]]), "managed_indexes.c[0]", "twice"),
    (index(type="ttl"), "managed_indexes.c[0].type", "expire_after_seconds"),
    (index(type="partial"), "managed_indexes.c[0].type", "partial_filter_expression"),
    (index(type="text"), "managed_indexes.c[0].type", "'text'"),
    (index(type="geospatial"), "managed_indexes.c[0].type", "2dsphere"),
    (index(keys={"x": 1, "y": 1}, expire_after_seconds=1), "managed_indexes.c[0]", "exactly one"),
    (index(expire_after_seconds=-1), "managed_indexes.c[0].expire_after_seconds", "0"),
    (index(weights={"x": 2}), "managed_indexes.c[0].weights", "no text key"),
    (index(default_language="german"), "managed_indexes.c[0]", "text index"),
    (
        index(partial_filter_expression={"x": {"$where": "1"}}),
        "managed_indexes.c[0].partial_filter_expression",
        "$where",
    ),
    (
        index(partial_filter_expression={"$or": [{"x": 1}]}),
        "managed_indexes.c[0].partial_filter_expression",
        "$or",
    ),
    (
        index(partial_filter_expression={"x": {"$exists": False}}),
        "managed_indexes.c[0]",
        "exists only with true",
    ),
    (index(options={"unqiue": True}), "managed_indexes.c[0].options.unqiue", "'unique'"),
    (
        {"slug": "a", "managed_indexes": {"c": [{"keys": {"x": 1}}, {"keys": {"x": 1}}]}},
        "managed_indexes.c",
        "two indexes named x_1",
    ),
    ({"slug": "a", "auth": {"policy": {"provider": "opa"}}}, "auth.policy.provider", "'casbin'"),
    ({"slug": "a", "auth": {"mode": "shared"}}, "auth.mode", "leave it out"),
    ({"slug": "a", "auth": {"users": {"strategy": "app"}}}, "auth.users", "not acted upon"),
]


@pytest.mark.parametrize(("data", "path", "message"), REFUSED_MANIFESTS, ids=str)
def test_a_malformed_manifest_is_refused_with_its_path(
    data: dict[str, Any], path: str, message: str
) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        Manifest.load(data)
    (fault, *_) = caught.value.faults
    assert fault.path == path
    assert message in fault.message


REFUSED_SPECS: list[tuple[dict[str, Any], str, str]] = [
    ({"slug": "a", "display_name": "x"}, "display_name", "did you mean 'displayName'?"),
    ({"slug": "a", "dataAccess": {"readScopes": ["b"]}}, "dataAccess.readScopes", "own slug"),
    ({"slug": "a", "dataAccess": {"writeScope": "b"}}, "dataAccess.writeScope", "own slug"),
    ({"slug": "a", "secret": {"overlapSeconds": 119}}, "secret.overlapSeconds", "120"),
    ({"slug": "a", "secret": {"overlapSeconds": "600"}}, "secret.overlapSeconds", "integer"),
    ({"slug": "a", "secret": {"rotationPeriodSeconds": 5}}, "secret.rotationPeriodSeconds", "600"),
    ({"slug": "a", "restart": [{"kind": "Pod", "name": "x"}]}, "restart[0].kind", "Deployment"),
    ({"slug": "a", "deletionPolicy": "Keep"}, "deletionPolicy", "Retain"),
    ({"slug": "a", "collections": [{"name": "c"}, {"name": "c"}]}, "collections", "twice"),
    (
        {"slug": "a", "collections": [{"name": "c", "indexes": [{"keys": [{"feld": "x"}]}]}]},
        "collections[0].indexes[0].keys[0].field",
        "required",
    ),
    (
        {
            "slug": "a",
            "collections": [
                {
                    "name": "c",
                    "indexes": [
                        {"keys": [{"field": "x"}], "partialFilter": [{"field": "y"}]},
                    ],
                }
            ],
        },
        "collections[0].indexes[0].partialFilter[0]",
        "exactly one",
    ),
]


@pytest.mark.parametrize(("data", "path", "message"), REFUSED_SPECS, ids=str)
def test_a_malformed_spec_is_refused_with_its_path(
    data: dict[str, Any], path: str, message: str
) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        MdbAppSpec.parse(data)
    (fault, *_) = caught.value.faults
    assert fault.path == path
    assert message in fault.message


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ManifestInvalid) as caught:
        Manifest.load({"slug": "A", "nmae": "x", "data_access": {"cross_app_policy": "no"}})
    assert {fault.path for fault in caught.value.faults} == {
        "slug",
        "nmae",
        "data_access.cross_app_policy",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ('{"slug": "a", "slug": "b"}', "'slug' stands twice"),
        ("[]", "dictionary"),
        ("[" * 100_000, "is not JSON"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ManifestInvalid, match=message):
        Manifest.load(path)


def test_the_examples_are_valid() -> None:
    root = Path(__file__).parents[3]
    found = sorted((root / "examples").glob("*/*/manifest.json"))
    assert {Manifest.load(path).slug for path in found} >= {
        "click_tracker",
        "click_tracker_dashboard",
    }


def parts(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in _models_in(field.annotation):
            yield from parts(inner)


@pytest.mark.parametrize("part", sorted(set(parts(MdbAppSpec)), key=str), ids=lambda p: p.__name__)
def test_every_field_of_the_resource_is_described_and_bounded(part: type[BaseModel]) -> None:
    properties = part.model_json_schema()["properties"]
    for name, field in part.model_fields.items():
        assert len(field.description or "") > 20, name
        schema = properties[field.alias or name]
        for option in schema.get("anyOf", [schema]):
            if option.get("type") == "array":
                assert "maxItems" in option, name
            if option.get("type") == "string" and "enum" not in option and "const" not in option:
                assert "maxLength" in option, name
            if option.get("type") in {"integer", "number"} and "enum" not in option:
                assert {"minimum", "maximum"} <= option.keys(), name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"n": 99999999999999999999}', "64 bits"),
        ('{"a\\u0000b": 1}', "NUL"),
        ('{"n": "\\ud800"}', "half a character"),
        ('{"a": ' * 120 + "1" + "}" * 120, "nested more than 100 deep"),
    ],
)
def test_json_that_no_document_can_be_made_of_is_refused_by_its_field(text: str, said: str) -> None:
    """Found by fuzzing: each let the reconcile fail again and again, with a traceback."""
    with pytest.raises(ManifestInvalid, match=rf"collections\[0\]\.validator.*{said}"):
        MdbAppSpec.parse({"slug": "a", "collections": [{"name": "c", "validator": text}]})


@pytest.mark.parametrize(
    "text",
    ['{"n": {"$oid": "x"}}', '{"$oid": "5f0000000000000000000000"}', '{"n": {"$timestamp": 1}}'],
)
def test_extended_json_that_is_malformed_is_a_conflict_of_its_collection(text: str) -> None:
    """Found by fuzzing, as above."""
    part = own_part(Collection(name="c", validator=text), None, ())
    assert part.conflict is not None
    assert part.conflict.reason == "ValidatorMalformed"


@pytest.mark.parametrize(
    ("kind", "definition"),
    [
        ("search", '{"mappings": 1}'),
        ("search", '{"mappings": {"fields": 1}}'),
        ("search", '{"mappings": null}'),
        ("vectorSearch", '{"fields": 1}'),
        ("vectorSearch", '{"fields": [1]}'),
    ],
)
def test_a_search_index_of_a_wrong_shape_is_refused_by_its_field(
    kind: str, definition: str
) -> None:
    index = {"name": "x", "type": kind, "definition": definition}
    with pytest.raises(ManifestInvalid, match=r"searchIndexes\[0\]\.definition"):
        MdbAppSpec.parse({"slug": "a", "collections": [{"name": "c", "searchIndexes": [index]}]})


@pytest.mark.parametrize(
    ("index", "field"),
    [
        ({"keys": [{"field": "a\x00b"}]}, r"keys\[0\]\.field"),
        (
            {"keys": [{"field": "a"}], "partialFilter": [{"field": "\x00", "numberValue": 1}]},
            r"partialFilter\[0\]\.field",
        ),
        (
            {
                "keys": [{"field": "a"}],
                "partialFilter": [{"field": "a", "dateValue": "2026-02-30T12:00:00Z"}],
            },
            r"partialFilter\[0\]\.dateValue",
        ),
    ],
)
def test_an_index_that_no_document_can_be_made_of_is_refused_by_its_field(
    index: dict[str, Any], field: str
) -> None:
    """Found by fuzzing, as above."""
    with pytest.raises(ManifestInvalid, match=rf"indexes\[0\]\.{field}"):
        MdbAppSpec.parse({"slug": "a", "collections": [{"name": "c", "indexes": [index]}]})
