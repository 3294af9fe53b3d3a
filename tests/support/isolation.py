"""The operator's user in a MongoDB that demands a login, and programs that run in Node."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from pymongo.uri_parser import parse_uri

from devcluster.filelock import hold
from devcluster.paths import cache_dir
from mdb_operator.mongodb.rights import OPERATOR_ROLE
from support.leakscan import register
from support.programs import installed_modules, program

__all__ = ["OPERATOR_USER", "node_program", "operator_uri", "shared_options"]

ROOT = Path(__file__).parents[2]
NODE = ROOT / "tests" / "integration" / "isolation" / "node"

OPERATOR_PASSWORD = "pencil-of-the-operator"  # in a MongoDB that lives for a test
OPERATOR_USER = "mdb-operator"

_DATABASE = "some-database"


def shared_options(uri: str) -> str:
    """Return the options of a URI that everybody needs, as they stand in a URI."""
    options = uri.partition("?")[2].split("&")
    return "&".join(one for one in options if one.startswith("replicaSet"))


def operator_uri(uri: str, database: Any) -> str:
    """Make the operator's MongoDB user as an administrator does, and return its URI.

    Parameters
    ----------
    uri
        The administrator's.
    database
        The driver's database that the apps will share, as the administrator.
    """
    database.command(json.loads(_role_command().replace(_DATABASE, database.name)))
    database.command("createUser", OPERATOR_USER, pwd=OPERATOR_PASSWORD, roles=[OPERATOR_ROLE])
    return restored_operator_uri(uri, database.name)


def restored_operator_uri(uri: str, database: str) -> str:
    """Return the URI of the operator's user, who is there already."""
    register(OPERATOR_PASSWORD, "the operator's MongoDB password")
    hosts = ",".join(f"{host}:{port}" for host, port in parse_uri(uri)["nodelist"])
    options = "&".join(filter(None, [f"authSource={database}", shared_options(uri)]))
    return f"mongodb://{OPERATOR_USER}:{OPERATOR_PASSWORD}@{hosts}/?{options}"


@functools.cache
def _role_command() -> str:
    """Return what ``mdb-operator mongodb-role`` prints for a database of the name `_DATABASE`."""
    return subprocess.run(
        [program_of_ours("mdb-operator"), "mongodb-role", "--database", _DATABASE],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


def program_of_ours(name: str) -> str:
    """Return the path of a command of the workspace."""
    found = shutil.which(name, path=str(ROOT / ".venv" / "bin")) or shutil.which(name)
    assert found is not None, f"{name} is not installed; run: make setup"
    return found


def node_program(name: str) -> list[str]:
    """Return the command of a program in Node, with MongoDB's driver installed for it.

    It is installed into the user's cache, once, by what the lock file says. Node looks for modules
    beside the program, so a copy of the program stands there.
    """
    directory = installed_modules(NODE)
    with hold(cache_dir() / "isolation-node.lock"):
        source = (NODE / name).read_bytes()
        # Named after its content: other runs may use another state of it at the same time.
        copy = directory / f"{hashlib.sha256(source).hexdigest()[:16]}-{name}"
        if not copy.exists():
            copy.write_bytes(source)
    return [program("node"), str(copy)]
