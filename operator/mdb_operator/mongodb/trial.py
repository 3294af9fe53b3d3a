"""Make a fresh ``mongod`` usable: a replica set of one member, with the operator's user.

This is for the chart's trial MongoDB, which needs somebody to initiate it whenever its pod is new.
Whoever has the key file is the replica set itself (user ``__system``), so nothing else has to be
known beforehand. Running it again changes nothing but what differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure

from mdb_operator.exceptions import OperatorError
from mdb_operator.mongodb.rights import OPERATOR_ROLE, create_role_command

__all__ = ["TrialMongoDB", "set_up"]

_ALREADY_INITIALIZED = 23
_USER_EXISTS = 51003

POLL_SECONDS = 0.5
"""How often it is looked whether ``mongod`` answers and has a primary."""


@dataclass(frozen=True, slots=True)
class TrialMongoDB:
    """What to set up.  Its repr hides the secrets.

    Parameters
    ----------
    host
        The member's address, as clients reach it: ``host:port``.
    replica_set
        The replica set's name.
    key_file
        The key file that ``mongod`` runs with.
    database
        The database that the apps will share.
    user
        The operator's user.
    password_file
        The file with its password.
    """

    host: str
    replica_set: str
    key_file: Path
    database: str
    user: str
    password_file: Path = field(repr=False)


def set_up(trial: TrialMongoDB, say: Callable[[str], None], deadline_seconds: float) -> None:
    """Initiate the replica set and make the operator's role and user.

    Parameters
    ----------
    trial
        What to set up.
    say
        Told of each step.
    deadline_seconds
        For how long ``mongod`` may take to come up.

    Raises
    ------
    OperatorError
        If it does not come up in time, or refuses.
    """
    deadline = time.monotonic() + deadline_seconds
    try:
        with _connect(trial) as client:
            _initiate(client, trial, say, deadline)
            _await_primary(client, deadline)
            _make_user(client, trial, say)
    except OperationFailure as error:
        raise OperatorError(
            f"MongoDB at {trial.host} refused (code {error.code}); is {trial.key_file} the key "
            "file that it runs with?"
        ) from None
    except OSError as error:
        raise OperatorError(f"{error.filename} cannot be read: {error.strerror}") from None


def _connect(trial: TrialMongoDB) -> MongoClient[dict[str, Any]]:
    key = "".join(trial.key_file.read_text(encoding="ascii").split())
    return MongoClient(
        f"mongodb://{trial.host}",
        username="__system",
        password=key,
        authSource="local",
        directConnection=True,
        serverSelectionTimeoutMS=2000,
    )


def _initiate(
    client: MongoClient[dict[str, Any]],
    trial: TrialMongoDB,
    say: Callable[[str], None],
    deadline: float,
) -> None:
    member = {"_id": 0, "host": trial.host}
    config = {"_id": trial.replica_set, "members": [member]}
    while True:
        try:
            client.admin.command("replSetInitiate", config)
        except ConnectionFailure:
            # The name may not be resolved before the pod is there, and mongod not yet listen.
            _give_up_after(deadline, f"MongoDB does not answer at {trial.host}")
        except OperationFailure as error:
            if error.code == _ALREADY_INITIALIZED:
                say("The replica set is there already")
                return
            raise
        else:
            say(f"Initiated the replica set {trial.replica_set}")
            return


def _await_primary(client: MongoClient[dict[str, Any]], deadline: float) -> None:
    while not client.admin.command("hello").get("isWritablePrimary"):
        _give_up_after(deadline, "The replica set has no primary")


def _make_user(
    client: MongoClient[dict[str, Any]], trial: TrialMongoDB, say: Callable[[str], None]
) -> None:
    database = client[trial.database]
    role = create_role_command(trial.database, users=True)
    if database.command("rolesInfo", OPERATOR_ROLE)["roles"]:
        role = {"updateRole": role.pop("createRole"), **role}
    database.command(role)
    password = trial.password_file.read_text(encoding="utf-8").strip()
    definition: dict[str, Any] = {
        "pwd": password,
        "roles": [OPERATOR_ROLE],
        "mechanisms": ["SCRAM-SHA-256"],
    }
    try:
        database.command("createUser", trial.user, **definition)
    except OperationFailure as error:
        if error.code != _USER_EXISTS:
            raise
        database.command("updateUser", trial.user, **definition)
    say(f"The user {trial.user} may do what the operator does in database {trial.database}")


def _give_up_after(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise OperatorError(f"{what}; look at the log of its pod")
    time.sleep(POLL_SECONDS)
