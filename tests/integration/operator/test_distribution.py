"""The operator as its image installs it: without what only apps need."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.distributions import install

pytestmark = pytest.mark.long

IMPORT_ALL = """
import importlib, pkgutil, mdb_operator
for found in pkgutil.walk_packages(mdb_operator.__path__, "mdb_operator."):
    importlib.import_module(found.name)
"""


def test_all_of_it_works_without_fastapi_and_a_web_server(tmp_path: Path) -> None:
    installed = install(tmp_path, "mdbapp-operator", "mdbapp-engine")
    assert not installed.distributions & {"fastapi", "starlette", "uvicorn", "motor", "pyjwt"}
    done = installed.run("python", "-W", "error", "-c", IMPORT_ALL)
    assert done.returncode == 0, done.stdout
    version = installed.run("mdb-operator", "version")
    assert version.stdout == "0.1.0\n"
