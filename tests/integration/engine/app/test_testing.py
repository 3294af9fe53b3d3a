"""What the library gives the tests of an app: fixtures, scopes without a registry, faults."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import AutoReconnect
from support.binding import MountedSecret
from support.mongo import Database, Server
from unit.docs.pages import snippets

from devcluster.mongod_binary import find_mongod
from mdb_engine import (
    DatabaseUnavailable,
    ManifestInvalid,
    MongoDBEngine,
    QueryRefused,
    ScopedDatabase,
    ScopeDenied,
)
from mdb_engine.connection.driver import DriverName, get_driver
from mdb_engine.testing import Faults, scoped_database

pytestmark = pytest.mark.long

MANIFEST = """{"slug": "shop", "managed_indexes": {"orders": []},
  "data_access": {"read_scopes": ["shop", "stock"]}}"""

TESTS = """
    import pytest
    from mdb_engine import MongoDBEngine, ScopeDenied, ScopedDatabase

    async def test_orders(scoped_db: ScopedDatabase) -> None:
        await scoped_db.orders.insert_one({"kind": "tea"})
        found = await scoped_db.orders.find_one({})
        assert found["app_id"] == "shop"

    async def test_nothing_is_left_of_it(scoped_db: ScopedDatabase) -> None:
        assert await scoped_db.orders.count_documents({}) == 0

    async def test_others(mdb_engine: MongoDBEngine, scoped_db: ScopedDatabase) -> None:
        with pytest.raises(ScopeDenied):
            await scoped_db.app("stock").items.find_one({})
        await mdb_engine.register_app("stock", {"slug": "stock", "managed_indexes": {"items": []}})
        await mdb_engine.get_scoped_db("stock").items.insert_one({"kind": "tea"})
        assert await scoped_db.app("stock").items.count_documents({}) == 1
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Give the tests of an app, as its programmers have them."""
    for name in [*os.environ]:
        if name.startswith(("MDB_", "SERVICE_", "PYTEST_")):
            monkeypatch.delenv(name)
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nasyncio_mode = "auto"')
    pytester.path.joinpath("manifest.json").write_text(MANIFEST)
    pytester.makeconftest('pytest_plugins = ["mdb_engine.pytest_plugin"]')
    pytester.makepyfile(TESTS)
    return pytester


def databases(mongo: Database) -> set[str]:
    return set(mongo.client.list_database_names())


def test_fixtures_run_on_the_server_that_is_named_and_leave_nothing(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mongo: Database
) -> None:
    monkeypatch.setenv("MDB_TEST_URI", mongo.uri)
    before = databases(mongo)
    project.runpytest_subprocess().assert_outcomes(passed=3)
    assert databases(mongo) == before


def test_fixtures_start_the_mongod_on_path_and_stop_it(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", f"{find_mongod(print).parent}:/usr/bin:/bin")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    project.runpytest_subprocess().assert_outcomes(passed=3)
    assert list(tmp_path.glob("mdb-test-*")) == []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(tmp_path).encode() not in process.read_bytes()
        except OSError:
            continue


def test_without_any_mongodb_tests_fail_and_say_what_to_do(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    outcome = project.runpytest_subprocess()
    outcome.assert_outcomes(errors=3)
    outcome.stdout.fnmatch_lines(["*set MDB_TEST_URI to the URI of one, or put a mongod on PATH*"])


def test_a_server_that_does_not_answer_is_not_named_with_its_password(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MDB_TEST_URI", "mongodb://root:of-nobody@[")
    outcome = project.runpytest_subprocess("--tb=native")
    outcome.assert_outcomes(errors=3)
    assert "the server that MDB_TEST_URI names does not answer" in outcome.stdout.str()


def test_a_pods_environment_and_a_secret_of_the_shell_are_no_concern_of_the_fixtures(
    project: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    mongo: Database,
    tmp_path: Path,
) -> None:
    entries = {"type": "mongodb", "provider": "mdb-operator", "app-slug": "shop"}
    MountedSecret(tmp_path / "bindings" / "shop", entries)
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path / "bindings"))
    monkeypatch.setenv("SHOP_SECRET", "of-another-registry")
    monkeypatch.setenv("MDB_TEST_URI", mongo.uri)
    project.runpytest_subprocess().assert_outcomes(passed=3)


def test_without_a_manifest_the_error_names_the_file(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mongo: Database
) -> None:
    monkeypatch.setenv("MDB_TEST_URI", mongo.uri)
    project.path.joinpath("manifest.json").rename(project.path / "app.json")
    outcome = project.runpytest_subprocess()
    outcome.assert_outcomes(errors=3)
    outcome.stdout.fnmatch_lines(["*manifest.json: No such file or directory*"])
    project.runpytest_subprocess("-o", "mdb_manifest=app.json").assert_outcomes(passed=3)


@pytest.fixture(params=["motor", "pymongo"])
async def raw(request: pytest.FixtureRequest, mongo: Database) -> AsyncIterator[object]:
    name: DriverName = request.param
    driver = get_driver(name)
    client = driver.connect(mongo.uri)
    yield client[mongo.name]
    await driver.close(client)


async def test_scopes_hold_without_a_registry(raw: object, mongo: Database) -> None:
    shop = scoped_database(raw, "shop", reads=["stock"])
    stock, hr = scoped_database(raw, "stock"), scoped_database(raw, "hr")
    for db in (shop, stock, hr):
        await db.things.insert_one({"app_id": "nobody"})
    assert await shop.things.count_documents({}) == 1
    assert await shop["stock_things"].count_documents({}) == 1
    with pytest.raises(ScopeDenied):
        await shop.app("hr").things.find_one({})
    with pytest.raises(ScopeDenied):
        await shop.app("stock").things.delete_many({})
    with pytest.raises(QueryRefused):
        await shop.things.find_one({"$where": "true"})
    with pytest.raises((ScopeDenied, QueryRefused)):
        await shop.things.aggregate([{"$unionWith": "hr_things"}]).to_list(1)
    with pytest.raises(ScopeDenied):
        await shop.things.aggregate([{"$out": "stock_things"}]).to_list(1)
    kept = mongo.client[mongo.name].shop_things.find_one()
    assert kept is not None
    assert kept["app_id"] == "shop"


async def test_a_handle_without_a_registry_leads_to_no_driver_and_is_not_copied(
    raw: object,
) -> None:
    db = scoped_database(raw, "shop", read_only=True)
    with pytest.raises(ScopeDenied):
        await db.things.insert_one({})
    for name in ("_db", "client", "database"):
        assert "Mongo" not in repr(getattr(db.things, name, None))


async def test_what_is_no_slug_and_no_asynchronous_database_is_refused(
    raw: object, mongo: Database
) -> None:
    with pytest.raises(ManifestInvalid, match="slug"):
        scoped_database(raw, "No Slug")
    with pytest.raises(ManifestInvalid):
        scoped_database(raw, "shop", reads=["*"])
    client: MongoClient[dict[str, object]] = mongo.client
    with pytest.raises(TypeError, match="a database of AsyncMongoClient or of Motor"):
        scoped_database(client[mongo.name], "shop")


@pytest.mark.parametrize("state", ["whole", "broken"])
async def test_where_a_binding_is_mounted_nothing_goes_without_a_token(
    raw: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str
) -> None:
    entries = {"type": "mongodb", "provider": "mdb-operator", "app-slug": "shop"}
    if state == "whole":
        entries |= {"uri": "mongodb://x", "database": "x", "app-secret": "x", "secret-version": "1"}
    db = scoped_database(raw, "shop")
    MountedSecret(tmp_path / "bindings" / "shop", entries)
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path / "bindings"))
    with pytest.raises(ScopeDenied, match=r"use engine\.get_scoped_db"):
        scoped_database(raw, "shop")
    with pytest.raises(ScopeDenied, match="checks no token"):
        Faults().on(db)


@pytest.fixture
async def shop(mongo: Database) -> AsyncIterator[ScopedDatabase]:
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(mongo.uri)
    yield scoped_database(client[mongo.name], "shop")
    await client.close()


async def test_the_operation_that_a_test_names_fails_and_no_other(shop: ScopedDatabase) -> None:
    faults = Faults()
    db = faults.on(shop)
    faults.fail(DatabaseUnavailable("gone"), at=2)
    await db.orders.insert_one({"_id": 1})
    with pytest.raises(DatabaseUnavailable, match="gone"):
        await db.orders.insert_one({"_id": 2})
    await db.orders.insert_one({"_id": 3})
    assert await shop.orders.count_documents({}) == 2
    assert faults.operations == [("insert_one", "shop_orders")] * 2


async def test_an_answer_is_lost_of_what_has_happened(shop: ScopedDatabase) -> None:
    faults = Faults()
    db = faults.on(shop)
    faults.fail(AutoReconnect("lost"), times=2, happens=True)
    for number in range(2):
        with pytest.raises(AutoReconnect):
            await db.orders.insert_one({"_id": number})
    await db.orders.insert_one({"_id": 2})
    assert await shop.orders.count_documents({}) == 3


async def test_faults_of_a_database_are_no_other_databases(shop: ScopedDatabase) -> None:
    faults = Faults()
    db = faults.on(shop)
    faults.fail(DatabaseUnavailable("gone"), times=100)
    await shop.orders.insert_one({})
    for failing in (db.orders.find_one, db.app("shop").orders.count_documents):
        with pytest.raises(DatabaseUnavailable):
            await failing({})
    faults.clear()
    assert await db.orders.count_documents({}) == 1
    with pytest.raises(ValueError, match="count from 1"):
        faults.fail(DatabaseUnavailable("gone"), at=0)


async def test_a_token_that_is_revoked_comes_before_the_fault(
    mdb_engine: MongoDBEngine, mdb_uri: str, mdb_database: str
) -> None:
    """What fails on demand widens nothing: the engine's own gate is asked first."""
    await mdb_engine.register_app("shop", {"slug": "shop", "managed_indexes": {"orders": []}})
    faults = Faults()
    db = faults.on(mdb_engine.get_scoped_db("shop", read_only=True))
    faults.fail(AutoReconnect("lost"), at=2)
    with pytest.raises(ScopeDenied):
        await db.orders.insert_one({})
    await mdb_engine.shutdown()
    with pytest.raises(Exception, match="not running"):
        await db.orders.find_one({})


@pytest.fixture(scope="session")
def mdb_uri(mongo_server: Server) -> str:
    """Let the plugin's fixtures run on the tests' own server."""
    return mongo_server.uri


def test_the_tests_that_the_document_shows_pass(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mongo: Database
) -> None:
    monkeypatch.setenv("MDB_TEST_URI", mongo.uri)
    [shown] = [
        one.code
        for one in snippets("python")
        if one.where.startswith("docs/library.md:") and "faults.fail" in one.code
    ]
    project.makepyfile(shown)
    manifest = {"slug": "shop", "managed_indexes": {"orders": [], "events": []}}
    project.path.joinpath("manifest.json").write_text(json.dumps(manifest))
    project.runpytest_subprocess().assert_outcomes(passed=2)
