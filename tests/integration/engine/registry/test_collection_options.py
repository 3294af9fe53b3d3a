"""What a collection is made with: made, changed where MongoDB can, and said where it cannot."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from pymongo.errors import WriteError
from support.registry import Registries, owner

from mdb_engine.exceptions import MdbEngineError
from mdb_engine.models.manifest import Manifest
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.registry import Registration, Registry

STAMP = {"app_id": {"$eq": "a"}}
POSITIVE = {"n": {"$gt": 0}}


def spec(**options: Any) -> MdbAppSpec:
    return MdbAppSpec.parse({"slug": "a", "collections": [{"name": "c", **options}]})


async def make(registry: Registry, **options: Any) -> Registration:
    return await registry.register(spec(**options), owner("a"))


def reasons(done: Registration) -> list[str]:
    return [one.reason for one in done.conflicts]


@pytest.fixture
def raw(registries: Registries) -> Any:
    return registries.database.client[registries.database.name]


def options_of(raw: Any) -> dict[str, Any]:
    (found,) = raw.list_collections(filter={"name": "a_c"})
    options: dict[str, Any] = found["options"]
    return options


# --- validators


async def test_a_validator_stands_beside_the_stamp_is_changed_and_taken_off(
    registries: Registries, raw: Any
) -> None:
    registry = registries.connect()
    done = await make(registry, validator=json.dumps(POSITIVE))
    assert done.record.stamped == {"c"}
    assert options_of(raw)["validator"] == {"$and": [STAMP, POSITIVE]}
    raw["a_c"].insert_one({"app_id": "a", "n": 1})
    for wrong in ({"app_id": "a", "n": 0}, {"app_id": "b", "n": 1}):
        with pytest.raises(WriteError):
            raw["a_c"].insert_one(wrong)
    registries.writes.seen.clear()
    await make(registries.connect(), validator=json.dumps(POSITIVE))
    assert registries.writes.seen == []
    done = await make(registry, validator='{"n": {"$gt": 5}}')
    assert (reasons(done), done.record.stamped) == ([], frozenset({"c"}))
    assert options_of(raw)["validator"] == {"$and": [STAMP, {"n": {"$gt": 5}}]}
    assert raw["a_c"].count_documents({}) == 1, "documents that are there stay"
    await make(registry)
    assert options_of(raw)["validator"] == STAMP


async def test_a_change_of_the_validator_that_was_interrupted_goes_on(
    registries: Registries, raw: Any
) -> None:
    await make(registries.connect(), validator=json.dumps(POSITIVE))
    registry = registries.connect(retryWrites=False)
    for writes in range(20):
        with registries.failing_after(writes):
            try:
                done = await make(registry, validator='{"n": {"$gt": 5}}')
            except MdbEngineError:
                assert options_of(raw)["validator"]["$and"][0] == STAMP
                continue
            break
    else:
        pytest.fail("it never comes to its end")
    assert reasons(done) == []
    assert options_of(raw)["validator"] == {"$and": [STAMP, {"n": {"$gt": 5}}]}
    assert len(registries.documents("apps_config")[0]["validators"]["c"]) == 1


async def test_a_schema_that_lists_all_fields_lets_the_stamp_pass(
    registry: Registry, raw: Any
) -> None:
    schema = {"properties": {"_id": {}, "n": {"bsonType": "int"}}, "additionalProperties": False}
    assert reasons(await make(registry, validator=json.dumps({"$jsonSchema": schema}))) == []
    raw["a_c"].insert_one({"app_id": "a", "n": 1})
    with pytest.raises(WriteError):
        raw["a_c"].insert_one({"app_id": "a", "other": 1})


async def test_a_validator_with_a_time_is_put_once(registries: Registries) -> None:
    text = '{"at": {"$gt": {"$date": "2026-01-31T12:00:00Z"}}}'
    await make(registries.connect(), validator=text)
    registries.writes.seen.clear()
    await make(registries.connect(), validator=text)
    assert registries.writes.seen == []


@pytest.mark.parametrize(
    "validator",
    [
        '{"$nonsense": 1}',
        '{"$where": "true"}',
        '{"$jsonSchema": {"bsonType": "nope"}}',
        '{"$expr": {"$function": {"body": "function() {}", "args": [], "lang": "js"}}}',
        '{"at": {"$date": 7.5, "x": 1}}',
    ],
)
async def test_one_that_mongodb_does_not_take_leaves_the_stamp_and_what_stood_before(
    registry: Registry, raw: Any, validator: str
) -> None:
    assert len(reasons(await make(registry, validator=validator))) == 1
    assert options_of(raw)["validator"] == STAMP
    await make(registry, validator=json.dumps(POSITIVE))
    done = await make(registry, validator=validator)
    assert len(reasons(done)) == 1
    assert done.record.stamped == {"c"}
    assert options_of(raw)["validator"] == {"$and": [STAMP, POSITIVE]}
    assert reasons(await make(registry, validator=json.dumps(POSITIVE))) == []


async def test_a_validator_of_an_administrators_is_left_alone(registry: Registry, raw: Any) -> None:
    raw.create_collection("a_c", validator={"x": 1})
    done = await make(registry, validator=json.dumps(POSITIVE))
    assert reasons(done) == ["OwnValidator"]
    assert options_of(raw)["validator"] == {"$and": [STAMP, {"x": 1}]}
    # And one without a validator in the spec does not take it off.
    assert reasons(await make(registry)) == []
    assert options_of(raw)["validator"] == {"$and": [STAMP, {"x": 1}]}


async def test_a_validator_that_names_the_stamp_undoes_nothing(
    registry: Registry, raw: Any
) -> None:
    await make(registry, validator='{"$or": [{"app_id": "b"}, {"app_id": "a"}]}')
    with pytest.raises(WriteError):
        raw["a_c"].insert_one({"app_id": "b"})


# --- other options


async def test_pre_images_are_kept_and_no_more(registry: Registry, raw: Any) -> None:
    await make(registry, preImages=True)
    assert options_of(raw)["changeStreamPreAndPostImages"] == {"enabled": True}
    await make(registry)
    assert "changeStreamPreAndPostImages" in options_of(raw), "absent is: as it is"
    await make(registry, preImages=False)
    assert "changeStreamPreAndPostImages" not in options_of(raw)


async def test_a_capped_collection_grows_and_never_shrinks(
    registries: Registries, registry: Registry, raw: Any
) -> None:
    done = await make(registry, capped={"sizeBytes": 10_000, "maxDocuments": 5})
    assert (reasons(done), done.record.stamped) == ([], frozenset({"c"}))
    raw["a_c"].insert_many([{"app_id": "a", "n": n} for n in range(5)])
    await make(registry, capped={"sizeBytes": 20_000, "maxDocuments": 9})
    assert (options_of(raw)["size"], options_of(raw)["max"]) == (20_224, 9)
    registries.writes.seen.clear()
    assert reasons(await make(registry, capped={"sizeBytes": 20_000, "maxDocuments": 9})) == []
    assert registries.writes.seen == []
    done = await make(registry, capped={"sizeBytes": 5_000, "maxDocuments": 1})
    assert reasons(done) == ["CappedShrinks", "CappedShrinks"]
    assert raw["a_c"].count_documents({}) == 5


async def test_one_that_is_there_does_not_become_capped_or_a_time_series(
    registry: Registry, raw: Any
) -> None:
    await make(registry)
    raw["a_c"].insert_one({"app_id": "a"})
    assert reasons(await make(registry, capped={"sizeBytes": 10_000})) == ["NotCapped"]
    done = await make(registry, timeSeries={"timeField": "at"})
    assert reasons(done) == ["NoTimeSeries"]
    assert (raw["a_c"].count_documents({}), done.record.stamped) == (1, frozenset({"c"}))


async def test_a_time_series_is_made_and_changed_where_it_can(registry: Registry, raw: Any) -> None:
    series = {"timeField": "at", "metaField": "what", "expireAfterSeconds": 86_400}
    done = await make(registry, timeSeries=series)
    assert (reasons(done), done.record.stamped) == ([], frozenset())
    raw["a_c"].insert_one({"at": dt.datetime.now(dt.UTC), "what": "x", "app_id": "a"})
    coarser = {**series, "granularity": "hours", "expireAfterSeconds": None}
    coarser.pop("expireAfterSeconds")
    assert reasons(await make(registry, timeSeries=coarser)) == []
    assert options_of(raw)["timeseries"]["granularity"] == "hours"
    assert "expireAfterSeconds" not in options_of(raw)
    finer = await make(registry, timeSeries=series)
    assert reasons(finer) == ["TimeSeriesFixed"]
    other = await make(registry, timeSeries={"timeField": "when", "metaField": "what"})
    assert reasons(other) == ["TimeSeriesFixed"]
    assert raw["a_c"].count_documents({}) == 1


async def test_a_collation_is_given_and_its_indexes_have_it(
    registries: Registries, registry: Registry, raw: Any
) -> None:
    wanted: dict[str, Any] = {
        "collation": {"locale": "en", "strength": 2},
        "indexes": [
            {"keys": [{"field": "name"}], "unique": True},
            {"name": "words", "keys": [{"field": "text", "kind": "Text"}]},
            {"name": "bytes", "keys": [{"field": "code"}], "collation": {"locale": "simple"}},
        ],
    }
    done = await make(registry, **wanted)
    assert (reasons(done), done.record.stamped) == ([], frozenset({"c"}))
    found = raw["a_c"].index_information()
    assert found["name_1"]["collation"]["strength"] == 2
    assert "collation" not in found["words"]
    assert "collation" not in found["bytes"]
    registries.writes.seen.clear()
    await make(registries.connect(), **wanted)
    assert registries.writes.seen == []
    with pytest.raises(WriteError):
        raw["a_c"].insert_one({"app_id": "A"})
    raw["a_c"].insert_one({"app_id": "a", "name": "x"})
    done = await make(registry, collation={"locale": "de"}, indexes=wanted["indexes"][:1])
    assert "CollationFixed" in reasons(done)
    assert raw["a_c"].count_documents({}) == 1


# --- indexes

SPECIAL: list[dict[str, Any]] = [
    {"name": "spread", "type": "hashed", "keys": {"user": "hashed"}},
    {"name": "both", "keys": {"day": 1, "shard": "hashed"}},
    {"name": "all", "type": "wildcard", "keys": {"$**": 1}},
    {"name": "below", "type": "wildcard", "keys": {"attributes.$**": 1}},
    {"name": "folded", "keys": {"name": 1}, "collation": {"locale": "de", "strength": 1}},
    {
        "name": "some",
        "type": "partial",
        "keys": {"n": 1},
        "partial_filter_expression": {
            "status": {"$in": ["open", "late", None, 7, True]},
            "ended": None,
            "at": {"$gt": {"$date": "2026-01-31T12:00:00Z"}},
        },
    },
]


async def test_hashed_wildcard_and_collated_indexes_and_all_filters_are_built_once(
    registries: Registries, raw: Any
) -> None:
    wanted = Manifest.load({"slug": "a", "managed_indexes": {"c": SPECIAL}}).to_spec()
    done = await registries.connect().register(wanted, owner("a"))
    assert reasons(done) == []
    assert set(raw["a_c"].index_information()) == {"_id_", *(one["name"] for one in SPECIAL)}
    registries.writes.seen.clear()
    await registries.connect().register(wanted, owner("a"))
    assert registries.writes.seen == []


async def test_an_index_that_gets_another_collation_is_built_beside_the_former(
    registry: Registry, raw: Any
) -> None:
    index = {"name": "by_name", "keys": [{"field": "name"}], "collation": {"locale": "de"}}
    await make(registry, indexes=[index])
    changed = {**index, "collation": {"locale": "de", "strength": 1}}
    assert reasons(await make(registry, indexes=[changed])) == []
    (found,) = (i for n, i in raw["a_c"].index_information().items() if n != "_id_")
    assert found["collation"]["strength"] == 1


async def test_search_indexes_are_refused_by_a_server_that_has_none_and_stop_nothing(
    registry: Registry, raw: Any
) -> None:
    done = await make(
        registry,
        indexes=[{"keys": [{"field": "n"}]}],
        searchIndexes=[{"name": "near", "type": "vectorSearch", "definition": '{"fields": []}'}],
    )
    assert reasons(done) == ["SearchNotEnabled"]
    assert "n_1" in raw["a_c"].index_information()
    assert reasons(await make(registry, indexes=[{"keys": [{"field": "n"}]}])) == []
