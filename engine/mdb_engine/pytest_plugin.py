"""The pytest plugin: an engine and an app's database, on a random database of a real MongoDB.

``pytest_plugins = ["mdb_engine.pytest_plugin"]`` in the root ``conftest.py`` loads it. It is no
entry point (``pytest11``): pytest would rewrite the assertions of every module of a distribution
that has one, in every run of whoever has the library installed, and on Python 3.11 that sometimes
fails ("AST constructor recursion depth mismatch").

Asynchronous fixtures are pytest-asyncio's where that is installed, else anyio's. It imports nothing
of the library until a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mdb_engine import Manifest, MongoDBEngine, ScopedDatabase

__all__ = ["mdb_database", "mdb_engine", "mdb_manifest", "mdb_uri", "scoped_db"]

if find_spec("pytest_asyncio") is not None:
    from pytest_asyncio import fixture as _fixture
else:  # pragma: no cover - the project's own tests have it
    _fixture = pytest.fixture  # type: ignore[assignment]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the settings of a project say where its manifest is."""
    parser.addini(
        "mdb_manifest",
        "the manifest of the app under test, from the root directory of the tests",
        default="manifest.json",
    )


@pytest.fixture(scope="session")
def mdb_uri() -> Iterator[str]:
    """Give the URI of a MongoDB: ``MDB_TEST_URI``, or a ``mongod`` on PATH started for the run."""
    from mdb_engine.testing.server import running_mongod  # noqa: PLC0415 - see above

    with running_mongod() as uri:
        yield uri


@pytest.fixture
def mdb_database(mdb_uri: str) -> Iterator[str]:
    """Give the name of a new database, dropped after the test."""
    from mdb_engine.testing.server import random_database  # noqa: PLC0415 - see above

    with random_database(mdb_uri) as name:
        yield name


@pytest.fixture
def mdb_manifest(pytestconfig: pytest.Config) -> Manifest:
    """Give the manifest of the app under test; define a fixture of this name for another."""
    from mdb_engine import Manifest  # noqa: PLC0415 - see above

    return Manifest.load(pytestconfig.rootpath / str(pytestconfig.getini("mdb_manifest")))


@_fixture
async def mdb_engine(mdb_uri: str, mdb_database: str) -> AsyncIterator[MongoDBEngine]:
    """Give an engine that runs on a new database, with a master key of its own.

    Of the environment it takes the driver and the limits of time, and neither binding nor key.
    """
    from pydantic import SecretStr  # noqa: PLC0415 - see above

    from mdb_engine import MongoDBEngine  # noqa: PLC0415 - see above
    from mdb_engine.config import EngineSettings  # noqa: PLC0415 - see above
    from mdb_engine.core.encryption import EnvelopeEncryptionService  # noqa: PLC0415 - see above

    settings: dict[str, Any] = {
        "binding_root": None,
        "master_key": SecretStr(EnvelopeEncryptionService.generate_master_key()),
    }
    async with MongoDBEngine(mdb_uri, mdb_database, settings=EngineSettings(**settings)) as engine:
        yield engine


@_fixture
async def scoped_db(
    mdb_engine: MongoDBEngine, mdb_manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> ScopedDatabase:
    """Give the database of the app under test, which is registered and has no documents.

    Apps that it reads are granted once a test registers them:
    ``await mdb_engine.register_app("stock", {...})``.
    """
    from mdb_engine.config import secret_variable  # noqa: PLC0415 - see above

    slug = mdb_manifest.slug
    monkeypatch.delenv(secret_variable(slug), raising=False)  # of another registry than this one
    await mdb_engine.register_app(slug, mdb_manifest)
    return mdb_engine.get_scoped_db(slug)
