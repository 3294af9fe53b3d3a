from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import mdb_engine

DEPENDENCIES = (
    "current_user",
    "end_session",
    "get_engine",
    "get_scoped_db",
    "require",
    "start_session",
)


def loaded(program: str) -> set[str]:
    """Return the modules that a process has after a program."""
    command = [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules, sep='\\n')"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", mdb_engine.__all__)
def test_whatever_the_package_names_is_there(name: str) -> None:
    found = getattr(mdb_engine, name)
    # What is annotated is called as what it is an annotation of.
    assert name in {found.__name__, f"Py{getattr(found, '__origin__', found).__name__}"}


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_paths_of_earlier_documents_lead_to_the_same_objects(name: str) -> None:
    new, old = map(importlib.import_module, ("mdb_engine.fastapi", "mdb_engine.dependencies"))
    assert getattr(new, name) is getattr(old, name)


def test_encryption_is_where_documents_say() -> None:
    core = importlib.import_module("mdb_engine.core.encryption")
    assert core.EnvelopeEncryptionService.generate_master_key()


def test_what_a_pod_runs_loads_nothing_that_registers_apps() -> None:
    modules = loaded(
        "import mdb_engine.engine.pod, mdb_engine.fastapi.app, mdb_engine.scoped\n"
        "from mdb_engine import MongoDBEngine"
    )
    assert "mdb_engine.scoped.database" in modules
    registering = (
        "mdb_engine.registry",
        "mdb_engine.engine.standalone",
        "mdb_engine.core.encryption",
        "mdb_engine.key_managers",
    )
    assert not [module for module in modules if module.startswith(registering)]
    for_tests = ("mdb_engine.testing", "mdb_engine.pytest_plugin", "pytest")
    assert not [module for module in modules if module.startswith(for_tests)]


PLAIN = """
import secrets
from fastapi import FastAPI
from pymongo import AsyncMongoClient
app = FastAPI()
"""

LIBRARY = """
from mdb_engine import MongoDBEngine
from mdb_engine.fastapi import get_scoped_db
engine = MongoDBEngine.from_environment()
app = engine.create_app("shop", {"schema_version": "2.0", "slug": "shop", "name": "Shop"})
"""

MOST_MODULES = 125
"""Of the library and its settings, in an app that neither registers nor has sessions."""


def test_an_app_loads_little_beside_fastapi_and_its_driver() -> None:
    """No Motor with PyMongo, and nothing of sessions, policies or cryptography before their use."""
    beside = loaded(LIBRARY) - loaded(PLAIN)
    unexpected = {"motor", "jwt", "casbin", "cryptography", "urllib", "uvicorn", "concurrent"}
    roots = {module.partition(".")[0] for module in beside}
    assert "mdb_engine" in roots
    assert not roots & unexpected
    assert len(beside) <= MOST_MODULES, sorted(beside)


def test_the_pytest_plugin_loads_nothing_before_a_test_asks_for_it() -> None:
    beside = loaded("import mdb_engine.pytest_plugin") - loaded("import mdb_engine, pytest_asyncio")
    assert beside <= {"mdb_engine.pytest_plugin"}


def test_models_alone_load_neither_driver_nor_fastapi() -> None:
    modules = loaded("from mdb_engine import Manifest, SlugTaken")
    assert not modules & {"pymongo", "bson", "fastapi", "cryptography"}
