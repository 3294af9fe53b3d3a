"""A real MongoDB for tests: the one that ``MDB_TEST_URI`` names, or a ``mongod`` on PATH."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import PyMongoError

__all__ = ["URI_VARIABLE", "random_database", "running_mongod"]

URI_VARIABLE: Final = "MDB_TEST_URI"
"""Names the server to test on, which is used and never stopped."""

START_SECONDS: Final = 30
"""How long a server may take to accept writes; a third of a second where nothing else runs."""

_SET: Final = "rs0"


@contextmanager
def running_mongod() -> Iterator[str]:
    """Give the URI of a server to test on, and stop it afterwards if it was started here.

    Yields
    ------
    str
        Of a replica set, as transactions and change streams need one; with ``MDB_TEST_URI`` of
        whatever that is.

    Raises
    ------
    RuntimeError
        If there is none, or it does not answer.
    """
    given = os.environ.get(URI_VARIABLE, "").strip()
    program = shutil.which("mongod")
    if given:
        _await_primary(given, f"the server that {URI_VARIABLE} names")
        yield given
    elif program is not None:
        with _started(program) as uri:
            yield uri
    else:
        raise RuntimeError(
            f"there is no MongoDB to test on: set {URI_VARIABLE} to the URI of one, or put a "
            "mongod on PATH"
        )


@contextmanager
def random_database(uri: str) -> Iterator[str]:
    """Give the name of a database that nobody uses, and drop it afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    try:
        yield name
    finally:
        with _client(uri) as client:
            client.drop_database(name)


@contextmanager
def _started(program: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="mdb-test-", ignore_cleanup_errors=True) as directory:
        port, log = _free_port(), Path(directory, "log")
        address = f"127.0.0.1:{port}"
        command = [
            *(program, "--dbpath", directory, "--port", str(port), "--bind_ip", "127.0.0.1"),
            *("--replSet", _SET, "--nounixsocket", "--logpath", str(log)),
            *("--wiredTigerCacheSizeGB", "0.25"),
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603
            try:
                with _client(f"mongodb://{address}/?directConnection=true") as client:
                    members = [{"_id": 0, "host": address}]
                    client.admin.command("replSetInitiate", {"_id": _SET, "members": members})
                uri = f"mongodb://{address}/?replicaSet={_SET}"
                _await_primary(uri, program)
                yield uri
            except PyMongoError as error:
                last = log.read_text().strip().splitlines()[-1:] if log.exists() else []
                raise RuntimeError(f"{program} does not start: {last or type(error)}") from None
            finally:
                process.terminate()
                try:
                    process.wait(START_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()


def _await_primary(uri: str, what: str) -> None:
    try:
        with _client(uri) as client:
            client.admin.command("ping")
    except (PyMongoError, ValueError) as error:
        # `from None`: the driver's text may repeat the URI.
        raise RuntimeError(f"{what} does not answer ({type(error).__name__})") from None


def _client(uri: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(uri, serverSelectionTimeoutMS=START_SECONDS * 1000)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
