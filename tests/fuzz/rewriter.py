"""Coverage-guided fuzzing of scoped queries, updates and pipelines: `make fuzz`.

An app's operations are made of bytes that atheris chooses by what code of ``mdb_engine.scoped``
they reach, and run on a real mongod with the data of two other apps and a document of a third in
the app's own collection. Whatever happens, the app never sees what it was not granted (each such
document holds a mark), no command writes outside of its own collections, and nothing but the errors
that are documented comes out.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["mdb_engine.scoped"], enable_loader_override=False):
    import mdb_engine.scoped

from pymongo.errors import PyMongoError
from support.mongo import Database, _database, start_server
from support.scoped_world import World, connected_world
from unit.engine.scoped import expected_operators

from mdb_engine.exceptions import MdbEngineError
from mdb_engine.scoped import Limits, ScopedCollection

MARK = "FOREIGN-MARK"
"""In every document that ``shop`` may not see."""

FOREIGN = [
    ("hr_people", {"_id": 1, "app_id": "hr", "v": 1, "s": MARK}),
    ("hr_people", {"_id": 2, "app_id": "hr", "v": 2, "s": MARK}),
    ("shop_orders", {"_id": "foreign", "app_id": "grey", "v": 1, "s": MARK}),
    ("stock_items", {"_id": "foreign", "app_id": "grey", "v": 1, "s": MARK}),
    ("_mdb_engine_grants", {"_id": "hr", "s": MARK}),
    ("_mdb_engine_app_secrets", {"_id": "hr", "s": MARK}),
]
READABLE = [("stock_items", {"_id": n, "app_id": "stock", "v": n}) for n in range(3)]
OWN = [{"_id": n, "app_id": "shop", "v": n, "x": [n, {"y": n}]} for n in range(3)]
WRITES = {"insert", "update", "delete", "findAndModify", "create", "drop", "createIndexes"}

OPERATORS = sorted(
    {
        name
        for names in vars(expected_operators).values()
        if isinstance(names, list)
        for name in names
        if isinstance(name, str)
    }
)
FIELDS = [
    "v", "x.y", "s", "app_id", "_id", "from", "as", "pipeline", "let", "into", "on", "coll", "db",
    "localField", "foreignField", "startWith", "connectFromField", "connectToField", "input", "in",
    "whenMatched", "whenNotMatched", "restrictSearchWithMatch", "$v", "a", "",
]  # fmt: skip
TEXTS = [
    "$v", "$s", "$$ROOT", "$$CURRENT.s", "$app_id", "hr", "shop", "stock_items", "hr_people",
    "orders", "clicks", "copies", "_mdb_engine_grants", "_mdb_engine_app_secrets", "system.users",
    "admin", "merge", "replace", "s", "v", "",
]  # fmt: skip


class Bytes:
    """Makes values out of bytes."""

    def __init__(self, data: bytes) -> None:
        self._of = atheris.FuzzedDataProvider(data)

    def pick(self, many: list[Any]) -> Any:
        return many[self._of.ConsumeIntInRange(0, len(many) - 1)]

    def number(self, most: int) -> int:
        return int(self._of.ConsumeIntInRange(0, most))

    def value(self, depth: int = 4) -> Any:
        kind = self.number(9 if depth else 4)
        if kind <= 1:
            return self.pick(TEXTS)
        if kind <= 4:
            return self.pick([0, 1, 2, -1, True, None, 1.5])
        if kind == 5:
            return [self.value(depth - 1) for _ in range(self.number(3))]
        return self.document(depth - 1)

    def document(self, depth: int = 4) -> dict[str, Any]:
        keys = [
            self.pick(OPERATORS) if self.number(1) else self.pick(FIELDS)
            for _ in range(self.number(3))
        ]
        return {key: self.value(depth) for key in keys}

    def pipeline(self) -> list[Any]:
        return [
            {self.pick(expected_operators.STAGES_ALLOWED): self.value()}
            if self.number(3)
            else self.document()
            for _ in range(self.number(3) + 1)
        ]


async def operate(c: ScopedCollection, of: Bytes) -> Any:
    """Run one operation; return what the app gets to see."""
    what = of.number(9)
    if what <= 3:
        return await c.aggregate(of.pipeline()).to_list(50)
    if what == 4:
        return await c.find(of.document(), of.document() or None).to_list(50)
    if what == 5:
        change = of.pipeline() if of.number(1) else of.document()
        return (await c.update_many(of.document(), change, upsert=bool(of.number(1)))).raw_result
    if what == 6:
        return await c.find_one_and_update(of.document(), of.document())
    if what == 7:
        return await c.distinct(of.pick(FIELDS), of.document())
    if what == 8:
        return (await c.replace_one(of.document(), of.document(), upsert=True)).raw_result
    return await c.count_documents(of.document())


class Oracle:
    """Runs operations of ``shop`` and says what must not be."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._db = world.db("shop", limits=Limits(max_time_ms=1000))
        self._loop = asyncio.get_event_loop()
        self.counts = {"inputs": 0, "answered": 0, "refused": 0, "failed in MongoDB": 0}
        self._began = time.monotonic()
        self._fill()

    def _fill(self) -> None:
        raw = self._world.raw
        for name in raw.list_collection_names():
            raw[name].delete_many({})
        for name, document in [*FOREIGN, *READABLE]:
            raw[name].insert_one(dict(document))
        raw["shop_orders"].insert_many([dict(one) for one in OWN])

    def one(self, data: bytes) -> None:
        """Run what the bytes say."""
        of, said, seen = Bytes(data), "", None
        self._world.commands.clear()
        self.counts["inputs"] += 1
        name = of.pick(["orders", "clicks", "stock_items"])
        try:
            seen = self._loop.run_until_complete(operate(self._db[name], of))
            self.counts["answered"] += 1
        except MdbEngineError as error:
            said = str(error)
            self.counts["refused"] += 1
        except PyMongoError as error:
            said = str(error)
            self.counts["failed in MongoDB"] += 1
        except (RecursionError, UnicodeError):
            self.counts["refused"] += 1
        assert MARK not in repr(seen) + said, "what was not granted was shown"
        for event in self._world.commands.started_events:
            if event.command_name in WRITES:
                target = str(event.command[event.command_name])
                assert target.startswith("shop_"), f"{event.command_name} of {target}"
        if self.counts["inputs"] % 200 == 0:
            self.check()

    def check(self) -> None:
        """See that what is others' is as it was; begin anew with the own data."""
        raw = self._world.raw
        for name, document in [*FOREIGN, *READABLE]:
            assert raw[name].find_one({"_id": document["_id"]}) == document, name
        others = {name for name in raw.list_collection_names() if not name.startswith("shop_")}
        assert others == {name for name, _ in [*FOREIGN, *READABLE]} - {"shop_orders"}
        self._fill()
        seconds = round(time.monotonic() - self._began)
        out = Path(os.environ.get("MDB_FUZZ_OUT", "build/fuzz-rewriter.json"))
        out.parent.mkdir(exist_ok=True)
        out.write_text(json.dumps({**self.counts, "seconds": seconds}))


def main() -> None:
    assert mdb_engine.scoped is not None
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    with start_server(auth=False) as server, _database(server) as database:
        assert isinstance(database, Database)
        oracle = Oracle(connected_world("pymongo", database))
        atheris.Setup(sys.argv, oracle.one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
