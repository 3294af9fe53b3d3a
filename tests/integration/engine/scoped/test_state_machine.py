"""Random operations of three apps with changing grants, against a plain-Python model.

The model is a few dicts: which documents a collection holds and who may read whom. It predicts the
answer of every operation, denials included, and what all collections hold afterwards, foreign
documents too. A sequence is a list of operations that hypothesis draws and shrinks.

``MDB_TEST_SEQUENCES`` is how many sequences are run in all, 500 unless it is set; another
``MDB_TEST_SEED`` than 0 draws others.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pymongo import DeleteMany, InsertOne, UpdateMany
from pymongo.errors import BulkWriteError, DuplicateKeyError
from support.mongo import Database
from support.scoped_world import World, connected_world

from mdb_engine.connection.driver import DriverName
from mdb_engine.exceptions import MdbEngineError, ScopeDenied
from mdb_engine.scoped import ScopedCollection, ScopedDatabase

pytestmark = pytest.mark.long

SEQUENCES = int(os.environ.get("MDB_TEST_SEQUENCES", "500"))
SEED = int(os.environ.get("MDB_TEST_SEED", "0"))
PARTS = 2
"""Each driver's sequences are split, so that workers share them."""

APPS = ("red", "green", "blue")
STEPS = 14
FOREIGN = {"_id": "foreign", "app_id": "grey", "n": 1}
"""A document in everybody's collection that is nobody's: no operation may see or change it."""

Documents = dict[Any, dict[str, Any]]


@dataclass
class Model:
    """What should be: documents by app, without their stamp, and who reads whom."""

    documents: dict[str, Documents] = field(default_factory=lambda: {app: {} for app in APPS})
    readers: dict[str, set[str]] = field(default_factory=lambda: {app: set() for app in APPS})

    def may_read(self, app: str, owner: str) -> bool:
        return app == owner or owner in self.readers[app]

    def matching(self, owner: str, query: dict[str, Any]) -> list[dict[str, Any]]:
        low, high = query["n"]["$gte"], query["n"]["$lte"]
        found = [d for d in self.documents[owner].values() if low <= d["n"] <= high]
        return sorted(found, key=lambda document: int(document["_id"]))


@dataclass(frozen=True)
class Step:
    """One operation: who, on whose collection, what, and with which numbers."""

    app: str
    owner: str
    what: str
    key: int
    low: int
    high: int
    spelling: int

    @property
    def query(self) -> dict[str, Any]:
        return {"n": {"$gte": self.low, "$lte": self.high}}


Run = Callable[[ScopedCollection, Step], Any]
Predict = Callable[[Model, Step], Any]


def plain(found: Any) -> Any:
    """Take the stamp off, after making sure that it is there."""
    if isinstance(found, list):
        return [plain(document) for document in found]
    if isinstance(found, dict):
        assert found["app_id"] in APPS
        return {key: value for key, value in found.items() if key != "app_id"}
    return found


async def find(c: ScopedCollection, s: Step) -> Any:
    return plain(await c.find(s.query).sort("_id").batch_size(2).to_list())


async def find_by_or(c: ScopedCollection, s: Step) -> Any:
    query = {"$or": [{"_id": "foreign"}, {"app_id": "grey"}, {"$and": [s.query]}]}
    return plain(await c.find(query).sort("_id").to_list())


async def find_one(c: ScopedCollection, s: Step) -> Any:
    return plain(await c.find_one({"_id": s.key}))


async def count(c: ScopedCollection, s: Step) -> Any:
    return await c.count_documents(s.query)


async def distinct(c: ScopedCollection, s: Step) -> Any:
    return sorted(await c.distinct("n", s.query))


async def aggregate(c: ScopedCollection, s: Step) -> Any:
    group = {"_id": None, "sum": {"$sum": "$n"}, "count": {"$sum": 1}}
    found = await c.aggregate([{"$match": s.query}, {"$group": group}]).to_list()
    return [(document["sum"], document["count"]) for document in found]


async def insert_one(c: ScopedCollection, s: Step) -> Any:
    try:
        document = {"_id": s.key, "n": s.low, "app_id": "grey"}
        return (await c.insert_one(document)).inserted_id
    except DuplicateKeyError:
        return "duplicate"


async def insert_many(c: ScopedCollection, s: Step) -> Any:
    try:
        documents = [{"_id": s.key + n, "n": s.low} for n in range(3)]
        return (await c.insert_many(documents)).inserted_ids
    except BulkWriteError:
        return "duplicate"


async def update_many(c: ScopedCollection, s: Step) -> Any:
    return (await c.update_many(s.query, {"$inc": {"n": 1}})).matched_count


async def update_by_pipeline(c: ScopedCollection, s: Step) -> Any:
    return (await c.update_many(s.query, [{"$set": {"n": {"$add": ["$n", 2]}}}])).matched_count


async def upsert(c: ScopedCollection, s: Step) -> Any:
    return (await c.update_one({"_id": s.key}, {"$set": {"n": s.high}}, upsert=True)).upserted_id


async def replace_one(c: ScopedCollection, s: Step) -> Any:
    return (await c.replace_one({"_id": s.key}, {"n": s.high, "app_id": "grey"})).matched_count


async def find_one_and_update(c: ScopedCollection, s: Step) -> Any:
    update = {"$set": {"n": s.high}}
    return plain(await c.find_one_and_update({"_id": s.key}, update, return_document=True))


async def find_one_and_delete(c: ScopedCollection, s: Step) -> Any:
    return plain(await c.find_one_and_delete(s.query, sort=[("_id", 1)]))


async def delete_one(c: ScopedCollection, s: Step) -> Any:
    return (await c.delete_one({"_id": s.key})).deleted_count


async def delete_many(c: ScopedCollection, s: Step) -> Any:
    return (await c.delete_many(s.query)).deleted_count


async def bulk_write(c: ScopedCollection, s: Step) -> Any:
    insert: InsertOne[dict[str, Any]] = InsertOne({"_id": s.key, "n": s.low})
    update = UpdateMany(s.query, {"$inc": {"n": 1}})
    result = await c.bulk_write([DeleteMany({"_id": s.key}), insert, update])
    return (result.deleted_count, result.inserted_count, result.matched_count)


def model_aggregate(m: Model, s: Step) -> Any:
    found = m.matching(s.owner, s.query)
    return [(sum(d["n"] for d in found), len(found))] if found else []


def model_insert_one(m: Model, s: Step) -> Any:
    if s.key in m.documents[s.owner]:
        return "duplicate"
    m.documents[s.owner][s.key] = {"_id": s.key, "n": s.low}
    return s.key


def model_insert_many(m: Model, s: Step) -> Any:
    for key in range(s.key, s.key + 3):
        if key in m.documents[s.owner]:
            return "duplicate"
        m.documents[s.owner][key] = {"_id": key, "n": s.low}
    return list(range(s.key, s.key + 3))


def model_add(amount: int) -> Predict:
    def predict(m: Model, s: Step) -> Any:
        found = m.matching(s.owner, s.query)
        for document in found:
            document["n"] += amount
        return len(found)

    return predict


def model_upsert(m: Model, s: Step) -> Any:
    created = s.key not in m.documents[s.owner]
    m.documents[s.owner][s.key] = {"_id": s.key, "n": s.high}
    return s.key if created else None


def model_replace_one(m: Model, s: Step) -> Any:
    if s.key not in m.documents[s.owner]:
        return 0
    m.documents[s.owner][s.key] = {"_id": s.key, "n": s.high}
    return 1


def model_find_one_and_update(m: Model, s: Step) -> Any:
    document = m.documents[s.owner].get(s.key)
    if document is not None:
        document["n"] = s.high
    return document and dict(document)


def model_find_one_and_delete(m: Model, s: Step) -> Any:
    found = m.matching(s.owner, s.query)
    return m.documents[s.owner].pop(found[0]["_id"]) if found else None


def model_delete_many(m: Model, s: Step) -> Any:
    found = m.matching(s.owner, s.query)
    for document in found:
        del m.documents[s.owner][document["_id"]]
    return len(found)


def model_bulk_write(m: Model, s: Step) -> Any:
    deleted = int(m.documents[s.owner].pop(s.key, None) is not None)
    m.documents[s.owner][s.key] = {"_id": s.key, "n": s.low}
    return (deleted, 1, model_add(1)(m, s))


READS: dict[str, tuple[Run, Predict]] = {
    "find": (find, lambda m, s: m.matching(s.owner, s.query)),
    "find_by_or": (find_by_or, lambda m, s: m.matching(s.owner, s.query)),
    "find_one": (find_one, lambda m, s: m.documents[s.owner].get(s.key)),
    "count": (count, lambda m, s: len(m.matching(s.owner, s.query))),
    "distinct": (distinct, lambda m, s: sorted({d["n"] for d in m.matching(s.owner, s.query)})),
    "aggregate": (aggregate, model_aggregate),
}

WRITES: dict[str, tuple[Run, Predict]] = {
    "insert_one": (insert_one, model_insert_one),
    "insert_many": (insert_many, model_insert_many),
    "update_many": (update_many, model_add(1)),
    "update_by_pipeline": (update_by_pipeline, model_add(2)),
    "upsert": (upsert, model_upsert),
    "replace_one": (replace_one, model_replace_one),
    "find_one_and_update": (find_one_and_update, model_find_one_and_update),
    "find_one_and_delete": (find_one_and_delete, model_find_one_and_delete),
    "delete_one": (delete_one, lambda m, s: int(m.documents[s.owner].pop(s.key, None) is not None)),
    "delete_many": (delete_many, model_delete_many),
    "bulk_write": (bulk_write, model_bulk_write),
}

BETWEEN_APPS = ("grant", "revoke", "lookup", "merge")
"""What is about two apps: a reader's grant, a join over it, and a copy out of what it reads."""

STEP = st.builds(
    Step,
    app=st.sampled_from(APPS),
    owner=st.sampled_from(APPS),
    what=st.sampled_from((*READS, *WRITES, *BETWEEN_APPS, *("grant", "insert_many") * 2)),
    key=st.integers(0, 5),
    low=st.integers(0, 4),
    high=st.integers(2, 8),
    spelling=st.integers(0, 1),
)


class Machine:
    """Runs a step on the real thing and on the model, and compares."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = Model()
        self.dbs: dict[str, ScopedDatabase] = {app: world.db(app) for app in APPS}
        for app in APPS:
            world.add(app, {"things"})
            world.raw[f"{app}_things"].delete_many({})
            world.raw[f"{app}_things"].insert_one(dict(FOREIGN))

    async def step(self, step: Step) -> None:
        if step.what in {"grant", "revoke"}:
            readers = self.model.readers[step.app]
            (readers.add if step.what == "grant" else readers.discard)(step.owner)
            self.world.add(step.app, {"things"}, readers)
            return
        expected = self.predict(step)
        found = await self.run(step)
        assert found == expected, f"{step}: found {found}, expected {expected}"

    def predict(self, step: Step) -> Any:
        allowed = self.model.may_read(step.app, step.owner)
        if step.what == "lookup":
            return self.predict_lookup(step) if allowed else "denied"
        if step.what == "merge":
            return self.predict_merge(step) if allowed else "denied"
        if step.what in READS:
            return READS[step.what][1](self.model, step) if allowed else "denied"
        return WRITES[step.what][1](self.model, step) if step.app == step.owner else "denied"

    def predict_lookup(self, step: Step) -> Any:
        other = self.model.documents[step.owner].values()
        return [
            sorted(d["_id"] for d in other if d["n"] == own["n"])
            for own in self.model.matching(step.app, step.query)
        ]

    def predict_merge(self, step: Step) -> Any:
        for document in self.model.matching(step.owner, step.query):
            self.model.documents[step.app][document["_id"]] = dict(document)
        return []

    async def run(self, step: Step) -> Any:
        db = self.dbs[step.app]
        try:
            collection = self.collection(step)
            if step.what == "lookup":
                return await self.lookup(db, step)
            if step.what == "merge":
                merge = {"into": "things", "whenMatched": "replace"}
                pipeline = [{"$match": step.query}, {"$merge": merge}]
                return await collection.aggregate(pipeline).to_list()
            return await (READS | WRITES)[step.what][0](collection, step)
        except ScopeDenied:
            return "denied"
        except MdbEngineError as error:
            raise AssertionError(f"{step}: {error}") from error

    async def lookup(self, db: ScopedDatabase, step: Step) -> Any:
        join: dict[str, Any] = {
            "from": f"{step.owner}_things",
            "localField": "n",
            "foreignField": "n",
            "as": "others",
        }
        if step.spelling:
            join["pipeline"] = [{"$match": {}}]
        stages = [{"$match": step.query}, {"$sort": {"_id": 1}}, {"$lookup": join}]
        found = await db.things.aggregate(stages).to_list()
        return [sorted(other["_id"] for other in document["others"]) for document in found]

    def collection(self, step: Step) -> ScopedCollection:
        db = self.dbs[step.app]
        if step.app == step.owner:
            return db.things if step.spelling else db["things"]
        return db.app(step.owner).things if step.spelling else db[f"{step.owner}_things"]

    def compare_all(self) -> None:
        """Look at everything past the code under test: stamps, foreign documents, all of it."""
        for app in APPS:
            stored = {d.pop("_id"): d for d in self.world.raw[f"{app}_things"].find()}
            foreign = {key: value for key, value in FOREIGN.items() if key != "_id"}
            assert stored.pop("foreign", None) == foreign, f"the foreign document of {app} changed"
            expected = {
                key: {"n": document["n"], "app_id": app}
                for key, document in self.model.documents[app].items()
            }
            assert stored == expected, f"{app} holds {stored}, expected {expected}"


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", ["motor", "pymongo"])
def test_every_app_sees_and_changes_what_the_model_says(
    name: DriverName, part: int, mongo: Database
) -> None:
    with asyncio.Runner() as runner:
        world = connected_world(name, mongo)
        ran = 0

        async def sequence(steps: list[Step]) -> None:
            machine = Machine(world)
            for step in steps:
                await machine.step(step)
            machine.compare_all()

        @seed(f"{SEED} {name} {part}")
        @settings(
            max_examples=max(1, SEQUENCES // (2 * PARTS)),
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        @given(st.lists(STEP, min_size=STEPS // 2, max_size=STEPS))
        def check(steps: list[Step]) -> None:
            nonlocal ran
            ran += 1
            runner.run(sequence(steps))

        try:
            check()
        finally:
            runner.run(world.driver.close(world.client))
        assert ran >= SEQUENCES // (2 * PARTS)
