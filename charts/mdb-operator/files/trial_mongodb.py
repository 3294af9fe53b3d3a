"""Make a fresh ``mongod`` usable: a replica set of one member, with the operator's user.

This is for the chart's trial MongoDB, which needs somebody to initiate it whenever its pod is new.
It runs beside ``mongod``, with the Python and the PyMongo of the operator's image, and then sleeps
until it is told to stop. Whoever has the key file is the replica set itself (user ``__system``), so
nothing else has to be known beforehand. Running it again changes nothing but what differs.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure

ALREADY_INITIALIZED = 23
USER_EXISTS = 51003

POLL_SECONDS = 0.5
"""How often it is looked whether ``mongod`` answers and has a primary."""

PROGRAM = Path(sys.executable).with_name("mdb-operator")
"""Prints the operator's role, as administrators of a MongoDB of their own have it printed."""

Client = MongoClient[dict[str, Any]]


def main() -> None:
    """Set it up, and with ``--stay`` sleep afterwards, as a sidecar has to."""
    options = parse()
    if options.stay:
        # The first process of a container ignores the signal unless it says what it does.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    deadline = time.monotonic() + options.timeout
    try:
        with connect(options) as client:
            initiate(client, options, deadline)
            await_primary(client, deadline)
            make_user(client, options)
    except OperationFailure as error:
        sys.exit(
            f"MongoDB at {options.host} refused (code {error.code}); is {options.key_file} the key "
            "file that it runs with?"
        )
    except OSError as error:
        sys.exit(f"{error.filename} cannot be read: {error.strerror}")
    if options.stay:
        signal.pause()


def parse() -> argparse.Namespace:
    """Return what to set up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True, help="The member's address: HOST:PORT.")
    parser.add_argument("--replica-set", default="rs0")
    parser.add_argument("--key-file", type=Path, required=True, help="Of mongod.")
    parser.add_argument("--database", default="mdb", help="The one that the apps will share.")
    parser.add_argument("--user", default="mdb-operator", help="The operator's.")
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--timeout", type=float, default=120.0, help="Seconds to wait for mongod.")
    parser.add_argument("--stay", action="store_true", help="Then sleep until told to stop.")
    return parser.parse_args()


def connect(options: argparse.Namespace) -> Client:
    """Return a client that logs in as the replica set itself."""
    key = "".join(options.key_file.read_text(encoding="ascii").split())
    return MongoClient(
        f"mongodb://{options.host}",
        username="__system",
        password=key,
        authSource="local",
        directConnection=True,
        serverSelectionTimeoutMS=2000,
    )


def initiate(client: Client, options: argparse.Namespace, deadline: float) -> None:
    """Make the replica set, as soon as the member answers."""
    config = {"_id": options.replica_set, "members": [{"_id": 0, "host": options.host}]}
    while True:
        try:
            client.admin.command("replSetInitiate", config)
        except ConnectionFailure:
            # The name may not be resolved before the pod is there, and mongod not yet listen.
            give_up_after(deadline, f"MongoDB does not answer at {options.host}")
        except OperationFailure as error:
            if error.code != ALREADY_INITIALIZED:
                raise
            say("The replica set is there already")
            return
        else:
            say(f"Initiated the replica set {options.replica_set}")
            return


def await_primary(client: Client, deadline: float) -> None:
    """Wait until the member may be written to."""
    while not client.admin.command("hello").get("isWritablePrimary"):
        give_up_after(deadline, "The replica set has no primary")


def make_user(client: Client, options: argparse.Namespace) -> None:
    """Make the operator's role and user what they have to be."""
    printed = subprocess.run(
        [PROGRAM, "mongodb-role", "--database", options.database],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    role: dict[str, Any] = json.loads(printed)
    name = role["createRole"]
    database = client[options.database]
    if database.command("rolesInfo", name)["roles"]:
        role = {"updateRole": role.pop("createRole"), **role}
    database.command(role)
    definition: dict[str, Any] = {
        "pwd": options.password_file.read_text(encoding="utf-8").strip(),
        "roles": [name],
        "mechanisms": ["SCRAM-SHA-256"],
    }
    try:
        database.command("createUser", options.user, **definition)
    except OperationFailure as error:
        if error.code != USER_EXISTS:
            raise
        database.command("updateUser", options.user, **definition)
    say(f"The user {options.user} may do what the operator does in database {options.database}")


def give_up_after(deadline: float, what: str) -> None:
    """Pause, or end where it took too long."""
    if time.monotonic() > deadline:
        sys.exit(f"{what}; look at the log of its pod")
    time.sleep(POLL_SECONDS)


def say(what: str) -> None:
    """Log a step."""
    print(what, flush=True)


if __name__ == "__main__":
    main()
