"""Files of an app in two declared collections: read by a driver's bucket, by no other app."""

from __future__ import annotations

import io
from typing import Any

import pytest
from gridfs import GridFSBucket
from gridfs.errors import CorruptGridFile, FileExists, NoFile
from support.scoped_world import World

from mdb_engine.exceptions import MdbEngineError, OptionRefused, QueryRefused, ScopeDenied
from mdb_engine.scoped import ScopedDatabase
from mdb_engine.scoped.gridfs import scoped_bucket

TEXT = bytes(range(256)) * 5


@pytest.fixture
def db(world: World) -> ScopedDatabase:
    world.add("shop", {"fs_files", "fs_chunks"}, {"stock"})
    world.add("stock", {"fs_files", "fs_chunks"})
    world.add("hr", {"fs_files", "fs_chunks"})
    return world.db("shop")


async def test_a_file_is_stored_read_renamed_and_deleted(world: World, db: ScopedDatabase) -> None:
    bucket = scoped_bucket(db, "fs", chunk_size_bytes=100)
    first = await bucket.upload_from_stream("a.txt", TEXT, metadata={"by": "ada"})
    await bucket.upload_from_stream("a.txt", io.BytesIO(b"newer"))

    download = await bucket.open_download_stream(first)
    assert (download.length, download.chunk_size) == (len(TEXT), 100)
    assert download.metadata == {"by": "ada"}
    assert await download.read(150) + await download.read() == TEXT
    assert await (await bucket.open_download_stream_by_name("a.txt")).read() == b"newer"
    assert await (await bucket.open_download_stream_by_name("a.txt", 0)).read() == TEXT
    into = io.BytesIO()
    await bucket.download_to_stream(first, into)
    assert into.getvalue() == TEXT
    for collection in ("shop_fs_files", "shop_fs_chunks"):
        assert world.raw[collection].distinct("app_id") == ["shop"]
    assert world.raw["shop_fs_chunks"].index_information()["files_id_1_n_1"]["unique"]

    await bucket.rename(first, "b.txt")
    assert [one["filename"] async for one in bucket.find({}).sort("filename")] == ["a.txt", "b.txt"]
    await bucket.delete(first)
    await bucket.delete_by_name("a.txt")
    assert world.raw["shop_fs_chunks"].count_documents({}) == 0
    with pytest.raises(NoFile):
        await bucket.delete(first)
    with pytest.raises(NoFile):
        await bucket.open_download_stream_by_name("a.txt")


@pytest.mark.parametrize("length", [0, 1, 99, 100, 101, 1000])
async def test_a_drivers_bucket_reads_it_and_is_read(
    world: World, db: ScopedDatabase, length: int
) -> None:
    bucket = scoped_bucket(db, "fs", chunk_size_bytes=100)
    file_id = await bucket.upload_from_stream("f", TEXT[:length])
    for name in ("files", "chunks"):  # where a driver looks for a bucket named fs
        world.raw[f"shop_fs_{name}"].aggregate([{"$out": f"plain.{name}"}])
    theirs = GridFSBucket(world.raw, "plain")

    assert theirs.open_download_stream(file_id).read() == TEXT[:length]
    back = theirs.upload_from_stream("g", TEXT[:length], chunk_size_bytes=100)
    for name in ("files", "chunks"):
        for document in world.raw[f"plain.{name}"].find(
            {"$or": [{"_id": back}, {"files_id": back}]}
        ):
            world.raw[f"shop_fs_{name}"].insert_one({**document, "app_id": "shop"})
    assert await (await bucket.open_download_stream(back)).read() == TEXT[:length]


async def test_what_fails_leaves_no_file_and_harms_no_other(
    world: World, db: ScopedDatabase
) -> None:
    bucket = scoped_bucket(db, "fs", chunk_size_bytes=100)
    await bucket.upload_from_stream_with_id(1, "f", TEXT)
    with pytest.raises(FileExists):
        await bucket.upload_from_stream_with_id(1, "f", b"other")
    assert await (await bucket.open_download_stream(1)).read() == TEXT

    async def fail() -> None:
        async with bucket.open_upload_stream("half") as upload:
            await upload.write(TEXT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert world.raw["shop_fs_files"].count_documents({}) == 1
    world.raw["shop_fs_chunks"].delete_one({"n": 3})
    with pytest.raises(CorruptGridFile):
        await (await bucket.open_download_stream(1)).read()
    for size in (0, -1, 2**30, 1.5, True):
        with pytest.raises(OptionRefused):
            scoped_bucket(db, chunk_size_bytes=size)  # type: ignore[arg-type]


async def test_another_apps_files_are_read_where_granted_and_written_nowhere(
    world: World, db: ScopedDatabase
) -> None:
    theirs = await scoped_bucket(world.db("stock")).upload_from_stream("f", TEXT)
    secret = await scoped_bucket(world.db("hr")).upload_from_stream("f", TEXT)
    granted = scoped_bucket(db.app("stock"))

    assert await (await granted.open_download_stream(theirs)).read() == TEXT
    denied = scoped_bucket(db.app("hr"))
    own = scoped_bucket(db)
    attempts: list[Any] = [
        lambda: granted.upload_from_stream("x", b"x"),
        lambda: granted.upload_from_stream_with_id(theirs, "x", b"x"),
        lambda: granted.delete(theirs),
        lambda: granted.rename(theirs, "x"),
        lambda: granted.delete_by_name("f"),
        lambda: denied.open_download_stream(secret),
        lambda: denied.open_download_stream_by_name("f"),
        lambda: denied.find({}).to_list(),
        lambda: scoped_bucket(db, "hr_fs").open_download_stream(secret),
    ]
    for attempt in attempts:
        with pytest.raises(ScopeDenied):
            await attempt()
    for file_id in (secret, theirs, {"$ne": None}, {"$gt": ""}):
        with pytest.raises((NoFile, MdbEngineError)):
            await own.open_download_stream(file_id)
    world.raw["shop_fs_files"].insert_one(
        {"_id": secret, "filename": "f", "length": 5, "chunkSize": 5, "app_id": "hr"}
    )
    with pytest.raises(NoFile):
        await own.open_download_stream(secret)
    assert world.raw["hr_fs_chunks"].count_documents({}) == 1
    assert world.raw["stock_fs_files"].count_documents({}) == 1


async def test_a_bucket_needs_collections_that_are_declared(world: World) -> None:
    with pytest.raises(QueryRefused, match="declare it"):
        await scoped_bucket(world.db("shop"), "undeclared").upload_from_stream("f", b"")
    for wrong in (world.raw, world.client, None):
        with pytest.raises(OptionRefused):
            scoped_bucket(wrong)  # type: ignore[arg-type]
    with pytest.raises(MdbEngineError):
        await scoped_bucket(world.db("shop"), "fs.x").upload_from_stream("f", b"")
