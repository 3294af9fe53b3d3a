"""Everything that the library offers works with the rights of an app's own MongoDB user."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.engine_world import OperatorHand
from support.mongo import Database

from mdb_engine.exceptions import ScopeDenied


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_what_the_library_offers_an_apps_role_allows(
    driver: str, mongo_auth: Database, tmp_path: Path
) -> None:
    hand = OperatorHand(mongo_auth, driver, tmp_path)  # type: ignore[arg-type]
    try:
        await hand.register("owner", "items")
        await hand.register("shop", "orders", "spare", reads=("owner",))
        mongo_auth.client[mongo_auth.name].owner_items.insert_one({"app_id": "owner", "n": 1})
        async with hand.pod("shop") as engine:
            db = engine.get_scoped_db("shop")
            orders = db.orders
            await db.spare.drop()
            await db.create_collection("spare")
            await db.spare.drop()
            await db.spare.insert_one({"n": 1})  # makes it anew
            await orders.insert_many([{"n": n} for n in range(5)])
            assert await orders.count_documents({}) == 5
            assert await orders.estimated_document_count() == 5
            assert sorted(await orders.distinct("n")) == [0, 1, 2, 3, 4]
            found = await orders.find_one_and_update({"n": 1}, {"$set": {"a": 1}})
            assert found is not None
            assert found["n"] == 1
            assert (await orders.replace_one({"n": 2}, {"n": 22})).modified_count == 1
            assert (await orders.delete_one({"n": 3})).deleted_count == 1
            name = await orders.create_index([("n", 1)])
            assert name in await orders.index_information()
            await orders.drop_index(name)
            await orders.aggregate([{"$match": {}}, {"$out": "spare"}]).to_list(None)
            await orders.aggregate([{"$match": {}}, {"$merge": {"into": "spare"}}]).to_list(None)
            assert await db.spare.count_documents({}) == 4
            joined = await orders.aggregate(
                [{"$unionWith": "owner_items"}, {"$group": {"_id": "$app_id"}}]
            ).to_list(None)
            assert {row["_id"] for row in joined} == {"owner", "shop"}
            assert await db.app("owner").items.count_documents({}) == 1
            with pytest.raises(ScopeDenied):
                await db.app("owner").items.insert_one({})
            names = await db.list_collection_names()
            assert {"orders", "spare"} <= {one.removeprefix("shop_") for one in names}
            for watched in (orders, db.app("owner").items):
                async with watched.watch() as stream:
                    write = mongo_auth.client[mongo_auth.name][
                        "shop_orders" if watched is orders else "owner_items"
                    ].insert_one
                    slug = "shop" if watched is orders else "owner"
                    await asyncio.to_thread(write, {"app_id": slug, "seen": 1})
                    change = await asyncio.wait_for(anext(aiter(stream)), 10)
                    assert change["fullDocument"]["seen"] == 1
            async with engine.transaction() as transaction:
                await orders.insert_one({"n": 77}, session=transaction)
            assert await orders.count_documents({"n": 77}) == 1
    finally:
        await hand.close()
