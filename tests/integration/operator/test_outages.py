"""MongoDB and the API server fail in all their ways while apps are made, changed and deleted.

The operator is its own process, and what stands between it and the two is a proxy, or MongoDB's own
fail points. When the fault ends everything has to be so that has to be so (`support.invariants`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from pymongo.errors import AutoReconnect
from support.credentials import fail_point, opens, wait_refused
from support.fault_table import record
from support.forwarder import Forwarder
from support.gateway import Gateway, Hangs, gateway
from support.installation import Installation
from support.invariants import Ledger, data_of, settled
from support.waiting import wait_until

from mdb_operator.constants import SECRET_TYPE

pytestmark = pytest.mark.long

SPEC: dict[str, Any] = {
    "collections": [{"name": "c", "indexes": [{"name": "at", "keys": [{"field": "at"}]}]}]
}
CLOSED: dict[str, Any] = {"dataAccess": {"crossAppPolicy": "DenyAll"}}

FAULT_SECONDS = 8.0
"""How long a fault holds at least: several looks of the operator, and the driver's patience."""

APP_NAME = "operator-under-test"
"""By which MongoDB's fail points know the operator's connections."""

TRANSIENT = {189: "PrimarySteppedDown", 10107: "NotWritablePrimary", 11600: "InterruptedAtShutdown"}

COMMANDS = [
    "find", "aggregate", "insert", "update", "delete", "findAndModify", "createUser", "dropUser",
    "createRole", "updateRole", "dropRole", "grantPrivilegesToRole", "revokePrivilegesFromRole",
    "usersInfo", "rolesInfo", "create", "collMod", "createIndexes", "listIndexes",
    "listCollections",
]  # fmt: skip


@dataclass
class Surroundings:
    """An operator between two proxies."""

    here: Installation = field(repr=False)
    mongodb: Forwarder
    kubernetes: Gateway
    ledger: Ledger = field(default_factory=Ledger, repr=False)


Fault = Callable[[Surroundings], AbstractContextManager[object]]


@contextmanager
def mongodb_is(work: Callable[[Forwarder], None], world: Surroundings) -> Iterator[None]:
    work(world.mongodb)
    try:
        yield
    finally:
        world.mongodb.mend()


def down(world: Surroundings) -> AbstractContextManager[object]:
    return mongodb_is(Forwarder.cut, world)


def slow(world: Surroundings) -> AbstractContextManager[object]:
    return mongodb_is(lambda mongodb: setattr(mongodb, "delay", 2.5), world)  # 5 s there and back


def hanging(world: Surroundings) -> AbstractContextManager[object]:
    """Let nothing of what stands come any more, and nothing of what is opened."""
    return mongodb_is(lambda mongodb: setattr(mongodb, "hangs", True), world)


def hanging_at(command: str) -> Fault:
    """Let MongoDB do a command, and from then on nothing come from it."""

    @contextmanager
    def waiting(world: Surroundings) -> Iterator[None]:
        world.mongodb.hang_at = command.encode()
        try:
            yield
            assert world.mongodb.hangs, f"nobody sent {command}"
        finally:
            world.mongodb.mend()

    return waiting


def stepping_down(world: Surroundings) -> AbstractContextManager[object]:
    admin = world.here.server.client.admin
    with suppress(AutoReconnect):  # a primary that goes hangs up
        admin.command("replSetStepDown", 3, secondaryCatchUpPeriodSecs=0, force=True)
    wait_until(
        lambda: admin.command("hello").get("isWritablePrimary"),
        deadline=30,
        message="another election",
        ignoring=AutoReconnect,
    )
    return nullcontext()


def failing_with(code: int) -> Fault:
    data = {"failCommands": COMMANDS, "errorCode": code, "appName": APP_NAME}
    return lambda world: fail_point(world.here.server.client, "failCommand", data=data)


def api_answers(status: int) -> Fault:
    @contextmanager
    def answering(world: Surroundings) -> Iterator[None]:
        world.kubernetes.status = status
        try:
            yield
        finally:
            world.kubernetes.status = 0

    return answering


def api_hangs(what: Hangs) -> Fault:
    @contextmanager
    def hanging(world: Surroundings) -> Iterator[None]:
        world.kubernetes.hangs = what
        try:
            yield
        finally:
            world.kubernetes.hangs = ""

    return hanging


def watches_are(how: Any) -> Fault:
    @contextmanager
    def watching(world: Surroundings) -> Iterator[None]:
        world.kubernetes.watches = how
        world.kubernetes.cut()
        try:
            yield
        finally:
            world.kubernetes.watches = "pass"
            world.kubernetes.cut()

    return watching


FAULTS: dict[str, Fault] = {
    "MongoDB is down": down,
    "MongoDB takes 5 s": slow,
    "MongoDB's connections hang": hanging,
    "MongoDB's connections hang in a rotation": hanging_at("createUser"),
    "MongoDB's connections hang in a withdrawal": hanging_at("revokePrivilegesFromRole"),
    "the primary steps down": stepping_down,
    "the API server answers 409": api_answers(409),
    "the API server answers 422": api_answers(422),
    "the API server answers 429": api_answers(429),
    "the API server answers 500": api_answers(500),
    "the API server's connections hang": api_hangs("all"),
    "the watches hang": api_hangs("watches"),
    "the watch is cut": watches_are("pass"),
    "the watch expires (410)": watches_are("expire"),
    "the watch is refused": watches_are("refuse"),
    **{f"MongoDB answers {name}": failing_with(code) for code, name in TRANSIENT.items()},
}


def says_so(world: Surroundings) -> bool:
    """Tell whether the condition of an app says that MongoDB is away, and so does the log."""
    return (
        world.here.condition("made").get("reason") == "DatabaseUnavailable"
        and "MongoDB is not available" in world.here.processes[-1].text()
    )


def says_unanswered(world: Surroundings) -> bool:
    return "no answer" in world.here.processes[-1].text()


SAID: dict[str, Callable[[Surroundings], bool]] = {
    "MongoDB's connections hang": says_so,
    "MongoDB's connections hang in a rotation": says_so,
    "MongoDB's connections hang in a withdrawal": says_so,
    "the API server's connections hang": says_unanswered,
}
"""What somebody can see of a fault while it lasts."""

SAID_SECONDS = 60.0
"""Two looks of the gate, or the longest request: within half a minute on a machine at rest."""

LOST_FOR_LONG = {"the API server's connections hang": 150.0, "the watches hang": 150.0}
"""A stream that shows nothing is given up after 70 s (kopf's) or 90 s (that of Secrets)."""

SHORT = {"MongoDB is down", "the API server answers 429", "MongoDB answers NotWritablePrimary"}


@pytest.fixture
def world(installation: Installation) -> Iterator[Surroundings]:
    here = installation
    mongodb = Forwarder(here.uri)
    here.uri = f"{mongodb.uri}&authSource={here.database}&appName={APP_NAME}"
    # The apps' own way leads past the proxy.
    host = here.server.uri.rpartition("@")[2].partition("/")[0]
    here.settings["MONGODB_APPS_URI"] = f"mongodb://{host}/?directConnection=true"
    with gateway(here.directory / "kubeconfig") as kubernetes:
        here.start(LEADER_ELECTION="false")
        yield Surroundings(here, mongodb, kubernetes)
        here.stop(here.processes[-1])
    mongodb.close()


def test_in_an_outage_nobody_looks_again_and_what_was_asked_for_is_done_after_it(
    world: Surroundings,
) -> None:
    here = world.here
    names = [f"app-{number}" for number in range(6)]
    for name in names:
        here.apply(name)
    for name in names:
        here.wait_condition(name)
    old = here.secret("app-0-mdb")["uri"]

    with down(world):
        here.apply("made")
        for name in (*names, "made"):
            here.wait_condition(name, "DatabaseUnavailable", deadline=40)
        here.annotate("app-0", "rotate-requested", "1")
        here.annotate("app-0", "revoke-previous", "1")
        here.cluster.api.delete("MdbApp", "app-1", here.apps)
        here.wait_no_looks(here.processes[-1])
        assert opens(old), "MongoDB itself is there, and nobody told it"
    wait_refused(old, "the version that was revoked in the outage", deadline=30)
    here.wait_gone("app-1", deadline=30)
    for name in ("app-0", *names[2:], "made"):
        here.wait_condition(name, deadline=30)
    settled(here, world.ledger)


@pytest.mark.parametrize(
    "fault",
    [one if one in SHORT else pytest.param(one, marks=pytest.mark.long) for one in FAULTS],
)
def test_all_is_well_again_after(world: Surroundings, fault: str) -> None:
    here, ledger = world.here, world.ledger
    for name in ("rotated", "closed", "deleted", "changed", "renamed"):
        here.apply(name, **SPEC)
    scopes = ["reader", "closed", "deleted"]
    here.apply("reader", **SPEC, dataAccess={"readScopes": scopes})
    for name in ("rotated", "closed", "deleted", "changed", "renamed", "reader"):
        here.wait_condition(name, deadline=40)
        here.mongo[f"{name}_c"].insert_one({"app_id": name, "at": 1})
    settled(here, ledger)
    kept = data_of(here, "rotated", "closed", "deleted", "changed", "renamed", "reader")

    with FAULTS[fault](world):
        here.apply("made", **SPEC)
        here.annotate("rotated", "rotate-requested", "now")
        here.apply("closed", **SPEC, **CLOSED)
        here.cluster.api.delete("MdbApp", "deleted", here.apps)
        more = {"name": "d", "indexes": [{"name": "by", "keys": [{"field": "by"}]}]}
        here.apply("changed", collections=[*SPEC["collections"], more])
        here.apply("renamed", **SPEC, secret={"name": "other"})
        here.cluster.api.delete("Secret", "reader-mdb", here.apps)
        began = time.monotonic()
        wait_until(
            lambda: time.monotonic() > began + FAULT_SECONDS,
            deadline=FAULT_SECONDS + 5,
            message="the fault's time",
        )
        if fault in SAID:
            wait_until(
                lambda: SAID[fault](world),
                deadline=SAID_SECONDS,
                message=lambda: f"it is said: {here.statuses()}",
            )
        ledger.collect(here)
    ended = time.monotonic()

    def done() -> bool:
        secrets = {
            one["metadata"]["name"]
            for one in here.cluster.api.objects("Secret", here.apps)
            if one["type"] == SECRET_TYPE
        }
        wanted = {f"{name}-mdb" for name in ("made", "rotated", "closed", "changed", "reader")}
        return (
            secrets == wanted | {"other"}
            and here.get("MdbApp", "deleted") is None
            and here.secret("rotated-mdb")["secret-version"] == "2"
        )

    patience = LOST_FOR_LONG.get(fault, 90.0)
    wait_until(done, deadline=patience, message=lambda: f"what was asked for: {here.statuses()}")
    settled(here, ledger, kept, deadline=patience)
    record(fault, "all", seconds=time.monotonic() - ended)
    for process, line in itertools.product(here.processes, ("Traceback", '"level": "critical"')):
        assert line not in process.text()
