"""The MongoDB that outlives a command: ``devcluster mongo up``, ``uri`` and ``down``.

One record per name says where the server is and how to log in; it is private to the user, as it
holds the root password.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from devcluster.errors import DevclusterError
from devcluster.filelock import hold, is_held
from devcluster.mongo import MongoConfig, MongoServer
from devcluster.mongo_data import ALIVE, data_of, end_server
from devcluster.mongod_binary import Report
from devcluster.paths import check_name, state_root

URI_VARIABLE = "MDB_TEST_URI"
"""A replica set that the user provides; where it is set, nothing is started or stopped."""

PROBE_MILLISECONDS = 5000
"""A server on the local network answers in far less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a running server."""

    uri: str
    data: str
    auth: bool

    @property
    def alive(self) -> bool:
        """Whether the server still runs."""
        return is_held(Path(self.data) / ALIVE)


def up(name: str, config: MongoConfig, report: Report = lambda _: None) -> str:
    """Start the named server unless it runs, and return its URI.

    Raises
    ------
    DevclusterError
        If it cannot be started, or runs already but with another setting of ``auth``.
    """
    provided = provided_uri()
    if provided is not None:
        report(f"using the server that {URI_VARIABLE} names")
        return provided
    directory = _directory(name)
    with hold(_lock(directory), lambda: report("another command is at work; waiting for it")):
        record = _read(directory)
        if record is not None and record.alive:
            if record.auth != config.auth:
                kind = "with" if record.auth else "without"
                raise DevclusterError(
                    f"The MongoDB named {name!r} runs already, {kind} authentication.",
                    f"Stop it with `devcluster mongo down --name {name}`, or choose another"
                    " --name.",
                )
            return record.uri
        if remains := data_of(_label(directory)):
            report("the last server, or the command that started it, was killed; starting anew")
        for data in remains:
            end_server(data)
        server = MongoServer(dataclasses.replace(config, label=_label(directory)), report)
        server.start()
        record = Record(uri=server.uri, data=str(server.data), auth=config.auth)
        _write(directory, record)
        return record.uri


def down(name: str) -> bool:
    """Stop the named server and remove all that it left; say whether there was one."""
    directory = _directory(name)
    with hold(_lock(directory)):
        found = data_of(_label(directory))
        for data in found:
            end_server(data)
        shutil.rmtree(directory, ignore_errors=True)
    return bool(found)


def uri(name: str) -> str:
    """Return the URI of the named server.

    Raises
    ------
    DevclusterError
        If it does not run.
    """
    provided = provided_uri()
    if provided is not None:
        return provided
    path = _directory(name, create=False)
    record = _read(path)
    if record is None or not record.alive:
        raise DevclusterError(
            f"No MongoDB named {name!r} runs.",
            f"Start it with `devcluster mongo up --name {name}`.",
        )
    return record.uri


def provided_uri() -> str | None:
    """Return the URI that the environment provides, checked to be a replica set's, if any.

    Raises
    ------
    DevclusterError
        If no replica set answers there. The message never holds the URI, which may hold a
        password.
    """
    value = os.environ.get(URI_VARIABLE)
    if not value:
        return None
    try:
        with MongoClient[dict[str, object]](
            value, serverSelectionTimeoutMS=PROBE_MILLISECONDS
        ) as client:
            hello = client.admin.command("hello")
    except PyMongoError as error:
        raise DevclusterError(
            f"The server that {URI_VARIABLE} names does not answer ({type(error).__name__}).",
            f"Correct {URI_VARIABLE}, or unset it to have a server started.",
        ) from None
    if "setName" not in hello:
        raise DevclusterError(
            f"The server that {URI_VARIABLE} names is no replica set.",
            "Transactions and change streams need one: start it with --replSet and initiate it.",
        )
    return value


def _directory(name: str, *, create: bool = True) -> Path:
    path = state_root() / ".mongo" / check_name(name)  # no cluster's name begins with a dot
    if create:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _lock(directory: Path) -> Path:
    """Return the lock's path, beside the directory, since that goes and a lock stays."""
    return directory.with_name(f"{directory.name}.lock")


def _label(directory: Path) -> str:
    """Return what marks the data of this server: it is found even if no record was written."""
    return hashlib.sha256(str(directory).encode()).hexdigest()[:12]


def _read(directory: Path) -> Record | None:
    try:
        return Record(**json.loads((directory / "mongo.json").read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return None  # of another version of this program; its server is found by its label


def _write(directory: Path, record: Record) -> None:
    fresh = directory / "mongo.json.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(record), file)
    fresh.rename(directory / "mongo.json")
