"""A replica set of three, in which another member is elected when the primary goes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from pymongo.errors import AutoReconnect, ConnectionFailure, OperationFailure

from devcluster.mongo import REPLICA_SET, MongoConfig, MongoServer
from support.mongo import TEST_PARAMETERS, Client, Server
from support.waiting import wait_until

__all__ = ["replica_set", "step_down"]

MEMBERS = 3

QUICK = {"electionTimeoutMillis": 3000, "heartbeatIntervalMillis": 500}
"""A third of the defaults: a member that is silent for so long is not waited for any more."""


@contextmanager
def replica_set() -> Iterator[Server]:
    """Give a replica set that demands a login, with the URI of a root user."""
    password, key = secrets.token_hex(24), secrets.token_bytes(96)
    config = MongoConfig(
        auth=True, member_key=key, parameters=TEST_PARAMETERS, die_with_parent=True
    )
    with ExitStack() as stack:
        members = [stack.enter_context(MongoServer(config)) for _ in range(MEMBERS)]
        hosts = [f"127.0.0.1:{member.port}" for member in members]
        with Client(hosts[0], directConnection=True) as first:
            first.admin.command(
                "replSetInitiate",
                {
                    "_id": REPLICA_SET,
                    # One is elected at first and has the users: localhost's exception is its own.
                    "members": [
                        {"_id": number, "host": host, "priority": 2 - (number > 0)}
                        for number, host in enumerate(hosts)
                    ],
                    "settings": QUICK,
                },
            )
            wait_until(
                lambda: first.admin.command("hello")["isWritablePrimary"],
                deadline=60,
                message="the first election",
                ignoring=AutoReconnect,
            )
            first.admin.command("createUser", "root", pwd=password, roles=["root"])
        uri = f"mongodb://root:{password}@{','.join(hosts)}/?replicaSet={REPLICA_SET}"
        with Client(f"{uri}&authSource=admin", serverSelectionTimeoutMS=30_000) as client:
            yield Server(f"{uri}&authSource=admin", client, None)


def step_down(server: Server) -> None:
    """Have the primary step down, and wait until another is elected."""
    before = _primary(server)

    def another() -> bool:
        now = _primary(server)
        if now == before:
            with suppress(AutoReconnect):  # a primary that goes hangs up
                server.client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)
        return now not in {None, before}

    wait_until(
        another,
        deadline=90,
        message=f"another primary than {before}",
        # It refuses as long as no other member has caught up.
        ignoring=(ConnectionFailure, OperationFailure),
    )


def _primary(server: Server) -> str | None:
    found: str | None = server.client.admin.command("hello").get("primary")
    return found
