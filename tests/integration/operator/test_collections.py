"""What an MdbApp says of its collections, and a collection that it adopts."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from support.clusters import Cluster
from support.installation import Installation, installed
from support.mongo import Server

pytestmark = pytest.mark.long


@pytest.fixture
def adopting(
    control_plane: Cluster, mongo_auth_server: Server, tmp_path: Path
) -> Iterator[Installation]:
    """Give the surroundings of an operator that may adopt, with its documented rights alone."""
    with installed(control_plane, mongo_auth_server, tmp_path) as found:
        found.settings["ADOPT_COLLECTIONS"] = "true"
        yield found


def orders(**more: object) -> list[dict[str, object]]:
    return [{"name": "orders", "adopt": {"from": "orders"}, **more}]


def test_data_of_any_team_comes_to_an_app_with_its_progress_in_a_condition(
    adopting: Installation,
) -> None:
    raw = adopting.mongo
    count = 150_000
    for start in range(0, count, 50_000):
        raw["orders"].insert_many([{"n": n} for n in range(start, start + 50_000)])
    adopting.start()
    adopting.apply("shop", collections=orders(indexes=[{"keys": [{"field": "n"}]}]))
    found = adopting.wait_condition("shop", "CollectionAdopting", "CollectionsReady", deadline=40)
    assert "0 % of its documents have the app's stamp" in found["message"]
    # Killed in the middle, the next one goes on.
    adopting.kill(adopting.processes[-1])
    stamped = raw["orders"].count_documents({"app_id": "shop"})
    left = raw["orders"].count_documents({})
    assert raw["shop_orders"].count_documents({}) + left == count
    adopting.start(name="operator-1")
    adopting.wait_condition("shop", deadline=90)
    assert stamped <= count
    assert raw["shop_orders"].count_documents({"app_id": "shop"}) == count
    assert "orders" not in raw.list_collection_names()
    assert "n_1" in raw["shop_orders"].index_information()
    adopting.stop(adopting.processes[-1])


def test_none_is_adopted_unless_an_administrator_allows_it(running: Installation) -> None:
    running.mongo["of_a_team"].insert_one({"n": 1})
    collections = [{"name": "x", "adopt": {"from": "of_a_team"}}]
    running.apply("taker", collections=collections)
    found = running.wait_condition("taker", "IndexConflict", "CollectionsReady")
    assert "adoptCollections" in found["message"]
    assert list(running.mongo["of_a_team"].find({}, {"_id": 0})) == [{"n": 1}]


def test_what_cannot_be_changed_is_said_and_access_stays(running: Installation) -> None:
    running.apply("fixed", collections=[{"name": "log"}])
    running.wait_condition("fixed")
    running.mongo["fixed_log"].insert_one({"app_id": "fixed"})
    running.apply("fixed", collections=[{"name": "log", "capped": {"sizeBytes": 4096}}])
    found = running.wait_condition("fixed", "IndexConflict", "CollectionsReady")
    assert "not capped, and making it so would drop documents" in found["message"]
    assert running.condition("fixed", "SecretProjected")["status"] == "True"
    assert running.mongo["fixed_log"].count_documents({}) == 1
    running.apply("fixed", collections=[{"name": "log"}])
    running.wait_condition("fixed")


def test_everything_at_once_is_made_with_the_operators_own_rights(running: Installation) -> None:
    schema = {"$jsonSchema": {"required": ["at"]}}
    running.apply(
        "whole",
        collections=[
            {
                "name": "events",
                "validator": json.dumps(schema),
                "preImages": True,
                "collation": {"locale": "en", "strength": 2},
                "indexes": [
                    {"keys": [{"field": "user", "kind": "Hashed"}]},
                    {"name": "all", "keys": [{"field": "*", "kind": "Wildcard"}]},
                    {
                        "name": "some",
                        "keys": [{"field": "n"}],
                        "partialFilter": [
                            {
                                "field": "status",
                                "operator": "in",
                                "values": [{"stringValue": "open"}, {"nullValue": True}],
                            },
                            {"field": "ended", "nullValue": True},
                            {
                                "field": "at",
                                "operator": "gt",
                                "dateValue": "2026-01-31T12:00:00Z",
                            },
                        ],
                    },
                ],
            },
            {"name": "last", "capped": {"sizeBytes": 65536}},
            {"name": "measured", "timeSeries": {"timeField": "at", "metaField": "what"}},
        ],
    )
    running.wait_condition("whole")
    found = {one["name"]: one for one in running.mongo.list_collections()}
    assert found["whole_measured"]["type"] == "timeseries"
    assert found["whole_last"]["options"]["capped"]
    assert found["whole_events"]["options"]["validator"]["$and"][1] == schema
    # The app's own user may use the time series as any other collection.
    uri = running.secret("whole-mdb")["uri"]

    client: MongoClient[dict[str, Any]]
    with MongoClient(uri) as client:
        own: Any = client[running.database]
        own["whole_measured"].insert_one({"at": dt.datetime.now(dt.UTC), "app_id": "whole"})
        assert own["whole_measured"].count_documents({"app_id": "whole"}) == 1


def test_a_server_without_search_is_said(running: Installation) -> None:
    index = {"name": "near", "type": "vectorSearch", "definition": '{"fields": []}'}
    running.apply("seeker", collections=[{"name": "x", "searchIndexes": [index]}])
    found = running.wait_condition("seeker", "IndexConflict", "CollectionsReady")
    assert "the server has no search" in found["message"]
