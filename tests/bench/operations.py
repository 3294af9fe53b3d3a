"""The operations that are measured: as an app writes them without the library, and with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from bench.data import OTHER, SLUG, wide
from bench.measure import Pair
from bench.web import library_request, plain_request
from mdb_engine import MongoDBEngine

__all__ = ["SINGLE", "TITLES", "concurrencies", "operations"]

TITLES: Final = {
    "find_one": "`find_one` by `_id`",
    "find_100": "`find`, 100 documents, `to_list`",
    "iterate_1000": "`async for` over 1,000 documents",
    "insert_one_1": "`insert_one`, 1 field",
    "insert_one_20": "`insert_one`, 20 fields",
    "insert_many_1000": "`insert_many`, 1,000 documents of 20 fields",
    "update_one": "`update_one` by `_id`",
    "aggregate_4": "`aggregate`, 4 stages",
    "aggregate_20": "`aggregate`, 20 stages",
    "lookup": "`aggregate` with a `$lookup` into another app's collection",
    "count": "`count_documents` by an index",
    "cross_app": "`find_one` in another app's collection",
    "new_handle": "a new scoped database, then `find_one`",
    "request_one": "a FastAPI request that answers with 1 document",
    "request_100": "a FastAPI request that answers with 100 documents",
}

SINGLE: Final = frozenset(TITLES) - {"find_100", "iterate_1000", "insert_many_1000", "request_100"}
"""Single-document operations and pipelines, whose aim differs from that of cursors."""

CONCURRENCIES: Final = (1, 16, 64)

HEAVY: Final = {"iterate_1000": 16, "request_100": 16, "insert_many_1000": 1}
"""How many at once of what takes milliseconds of the event loop: more would only queue."""


def concurrencies(name: str, *, short: bool) -> tuple[int, ...]:
    """Return how many of an operation are run at once."""
    most = min(HEAVY.get(name, 64), 16 if short else 64)
    return tuple(one for one in CONCURRENCIES if one <= most)


FOUR_STAGES: Final = [
    {"$match": {"n": {"$lt": 200}}},
    {"$group": {"_id": "$url", "clicks": {"$sum": 1}}},
    {"$sort": {"clicks": -1}},
    {"$limit": 5},
]

TWENTY_STAGES: Final = [
    {"$match": {"n": {"$lt": 50}}},
    *({"$set": {f"part_{n}": {"$add": ["$n", n]}}} for n in range(8)),
    *({"$unset": f"part_{n}"} for n in range(7)),
    {"$group": {"_id": "$url", "clicks": {"$sum": 1}}},
    {"$project": {"clicks": 1}},
    {"$sort": {"clicks": -1}},
    {"$limit": 5},
]


def joined(collection: str) -> list[dict[str, Any]]:
    """Return a pipeline that joins each of five documents with another collection's."""
    lookup = {"from": collection, "localField": "_id", "foreignField": "_id", "as": "items"}
    return [{"$match": {"_id": {"$lt": 5}}}, {"$lookup": lookup}]


def operations(driver: str, plain: Any, engine: MongoDBEngine) -> Mapping[str, Pair]:
    """Return the pairs.

    Parameters
    ----------
    driver
        ``pymongo`` or ``motor``, which differ in what is awaited.
    plain
        The driver's database, of a client that knows nothing of the library.
    engine
        A running engine of the app.
    """
    mine, scoped = plain.plain_clicks, engine.get_scoped_db(SLUG).clicks
    pages, written = plain.plain_written, engine.get_scoped_db(SLUG).written
    other, client = engine.get_scoped_db(SLUG).app(OTHER).items, plain.client

    async def listed(collection: Any, pipeline: Any) -> Any:
        cursor = collection.aggregate(pipeline)
        if driver == "pymongo" and collection is not scoped:
            cursor = await cursor
        return await cursor.to_list(10)

    def alike(call: Callable[[Any], Awaitable[Any]], a: Any = mine, b: Any = scoped) -> Pair:
        return Pair(lambda: call(a), lambda: call(b))

    async def iterate(collection: Any) -> None:
        async for _ in collection.find({}):
            pass

    return {
        "find_one": alike(lambda c: c.find_one({"_id": 7})),
        "find_100": alike(lambda c: c.find({"n": {"$gte": 0}}).limit(100).to_list(100)),
        "iterate_1000": alike(iterate),
        "insert_one_1": alike(lambda c: c.insert_one({"user": "bob"}), pages, written),
        "insert_one_20": alike(lambda c: c.insert_one(wide()), pages, written),
        "insert_many_1000": alike(
            lambda c: c.insert_many([wide(n) for n in range(1000)]), pages, written
        ),
        "update_one": alike(lambda c: c.update_one({"_id": 7}, {"$inc": {"seen": 1}})),
        "aggregate_4": alike(lambda c: listed(c, FOUR_STAGES)),
        "aggregate_20": alike(lambda c: listed(c, TWENTY_STAGES)),
        "lookup": Pair(
            lambda: listed(mine, joined("plain_items")),
            lambda: listed(scoped, joined(f"{OTHER}_items")),
        ),
        "count": alike(lambda c: c.count_documents({"n": {"$lt": 500}})),
        "cross_app": alike(lambda c: c.find_one({"_id": 7}), plain.plain_items, other),
        "new_handle": Pair(
            lambda: client[plain.name].plain_clicks.find_one({"_id": 7}),
            lambda: engine.get_scoped_db(SLUG).clicks.find_one({"_id": 7}),
        ),
        "request_one": Pair(plain_request(plain, "/one"), library_request(engine, "/one")),
        "request_100": Pair(plain_request(plain, "/many"), library_request(engine, "/many")),
    }
