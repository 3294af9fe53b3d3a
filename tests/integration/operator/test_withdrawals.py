"""What is withdrawn is gone: MongoDB refuses it within seconds, whatever else fails or hangs."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.credentials import (
    REFUSED_WITHIN,
    fail_point,
    hanging_index_builds,
    index_builds,
    opens,
    reads,
    wait_refused,
)
from support.installation import Installation
from support.mongo import Client
from support.waiting import wait_until

from mdb_operator.constants import FINALIZER

SHORT_OVERLAP = Path(__file__).parents[2] / "support" / "short_overlap.py"

BY_TIME = {"name": "at", "keys": [{"field": "at"}]}
BY_USER = {"name": "user", "keys": [{"field": "user"}]}


def collection(*indexes: dict[str, Any], name: str = "c") -> dict[str, Any]:
    return {"collections": [{"name": name, "indexes": list(indexes)}]}


def uri_of(here: Installation, name: str) -> str:
    """Return the URI of an app's Secret, which opens MongoDB."""
    uri = here.secret(f"{name}-mdb")["uri"]
    assert opens(uri)
    return uri


def rotate(here: Installation, name: str, request: str, version: int) -> None:
    """Ask for a rotation, which waits for MongoDB and the Secret and for nothing else."""
    here.annotate(name, "rotate-requested", request)
    wait_until(
        lambda: here.secret(f"{name}-mdb")["secret-version"] == str(version),
        deadline=REFUSED_WITHIN,
        message=lambda: f"version {version} of {name}; its status: {here.status(name)}",
    )


def revoke(here: Installation, name: str, leaked: str) -> None:
    """Ask for the end of all former versions; the last one opens MongoDB afterwards."""
    here.annotate(name, "revoke-previous", dt.datetime.now(dt.UTC).isoformat())
    wait_refused(leaked, f"the revoked URI of {name}")
    wait_until(
        lambda: (
            accepted_versions(here, name) == [int(here.secret(f"{name}-mdb")["secret-version"])]
        ),
        deadline=REFUSED_WITHIN,
        message=lambda: f"only the last token of {name}, not {accepted_versions(here, name)}",
    )
    uri_of(here, name)


def accepted_versions(here: Installation, slug: str) -> list[int]:
    """Return the versions whose tokens pods accept."""
    row = here.mongo["_mdb_engine_grants"].find_one({"slug": slug})
    return [verifier["version"] for verifier in row["verifiers"]] if row else []


def rows(here: Installation, slug: str) -> list[int]:
    """Return how many rows there are of an app: registration, secrets, grants."""
    return [
        here.mongo[name].count_documents({"slug": slug})
        for name in ("apps_config", "_mdb_engine_app_secrets", "_mdb_engine_grants")
    ]


# --- a leaked credential cannot make itself irrevocable


def rename_the_index(here: Installation, name: str, uri: str) -> str:
    """Do with the leaked URI what keeps the index of the spec from being built."""
    with Client(uri) as client:
        mine = client.get_default_database()[f"{name}_c"]
        mine.drop_index("at")
        mine.create_index([("at", 1)], name="mine")
    return "IndexConflict"


def want_what_the_data_is_not(here: Installation, name: str, uri: str) -> str:
    with Client(uri) as client:
        mine = client.get_default_database()[f"{name}_c"]
        mine.insert_many([{"app_id": name, "user": "same"}, {"app_id": name, "user": "same"}])
    here.apply(name, **collection(BY_TIME, {**BY_USER, "unique": True}))
    return "IndexConflict"


def want_a_collection_of_the_engine(here: Installation, name: str, uri: str) -> str:
    here.apply(name, **collection(BY_TIME, name="config"))
    return "CollectionTaken"


def want_a_collection_of_another_app(here: Installation, name: str, uri: str) -> str:
    here.apply(f"{name}-x", slug=f"{name}_x", collections=[{"name": "c"}])
    here.wait_condition(f"{name}-x")
    here.apply(name, collections=[{"name": "x_c"}])
    return "CollectionTaken"


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("reindexed", rename_the_index),
        ("duplicates", want_what_the_data_is_not),
        ("apps", want_a_collection_of_the_engine),  # apps_config
        ("crossed", want_a_collection_of_another_app),
    ],
)
def test_a_leaked_credential_ends_although_its_collections_cannot_be_made(
    running: Installation, name: str, trouble: Callable[[Installation, str, str], str]
) -> None:
    running.apply(name, **collection(BY_TIME))
    running.wait_condition(name)
    leaked = uri_of(running, name)
    reason = trouble(running, name, leaked)
    rotate(running, name, "leaked", 2)
    revoke(running, name, leaked)
    found = running.wait_condition(name, reason, "CollectionsReady")
    assert found["status"] == "False"
    assert running.wait_condition(name, reason)["status"] == "False"
    assert running.wait_condition(name, kind="Registered")["status"] == "True"
    assert running.wait_condition(name, kind="SecretProjected")["status"] == "True"


def test_a_leaked_credential_ends_while_an_index_is_built(running: Installation) -> None:
    running.apply("building", **collection(BY_TIME))
    running.wait_condition("building")
    leaked = uri_of(running, "building")
    running.mongo["building_c"].insert_one({"app_id": "building", "user": "one"})
    with hanging_index_builds(running.server.client):
        running.apply("building", **collection(BY_TIME, BY_USER))
        wait_until(
            lambda: index_builds(running.server.client, running.database),
            message="the build that hangs",
        )
        rotate(running, "building", "leaked", 2)
        revoke(running, "building", leaked)
        found = running.wait_condition("building", "IndexBuilding", "CollectionsReady")
        assert found["status"] == "False"
        assert running.wait_condition("building")["status"] == "True"  # it can be used
    running.wait_condition("building", kind="CollectionsReady")
    assert "user" in running.mongo["building_c"].index_information()


def test_a_build_that_takes_longer_than_the_driver_waits_is_no_failure(
    installation: Installation,
) -> None:
    """By default it waits for 30 s, and an index over much data takes hours."""
    here = installation
    process = here.start(MONGODB_URI=f"{here.uri}&socketTimeoutMS=2000")
    here.apply("patient", **collection(BY_TIME))
    here.wait_condition("patient")
    here.mongo["patient_c"].insert_one({"app_id": "patient", "user": "one"})
    with hanging_index_builds(here.server.client):
        here.apply("patient", **collection(BY_TIME, BY_USER))
        seen: set[tuple[str, str]] = set()

        def given_up() -> bool:
            for kind in ("Ready", "CollectionsReady"):
                if row := here.condition("patient", kind):
                    seen.add((kind, row["reason"]))
            # Whoever asked first is gone; the build is not.
            builds = index_builds(here.server.client, here.database)
            return any(build.get("secs_running", 0) >= 5 for build in builds)

        wait_until(given_up, deadline=20, message="a build that outlives the driver's patience")
        found = here.wait_condition("patient", "IndexBuilding", "CollectionsReady")
        assert found["status"] == "False"
        assert seen <= {
            ("Ready", "Provisioned"),
            ("CollectionsReady", "Provisioned"),
            ("CollectionsReady", "IndexBuilding"),
        }
    here.wait_condition("patient", kind="CollectionsReady")
    here.stop(process)


# --- the end of an overlap


def test_the_end_of_an_overlap_ends_the_user_without_anybody_looking(
    installation: Installation,
) -> None:
    here = installation
    # Without the watch of Secrets, of which an event could wake the app by chance.
    quiet: dict[str, Any] = {"SECRET_WATCH": "false", "SECRET_POLL_SECONDS": "86400"}
    process = here.start(program=[sys.executable, "-P", SHORT_OVERLAP], **quiet)
    here.apply("over")
    here.wait_condition("over")
    first = uri_of(here, "over")
    rotate(here, "over", "monday", 2)
    end = previous_end(here, "over")
    assert opens(first), "both work during the overlap"
    left = (end - dt.datetime.now(dt.UTC)).total_seconds()
    wait_refused(first, "a version whose overlap is over", left + REFUSED_WITHIN)
    assert dt.datetime.now(dt.UTC) >= end, "and not before"
    wait_until(lambda: accepted_versions(here, "over") == [2], message="the end of the token")
    wait_until(
        lambda: "previousExpiresAt" not in here.status("over")["secret"], message="the status"
    )

    # What a process knew goes with it.
    second = uri_of(here, "over")
    rotate(here, "over", "tuesday", 3)
    here.stop(process)
    wait_until(
        lambda: dt.datetime.now(dt.UTC) >= previous_end(here, "over"),
        message="the end of the overlap",
    )
    assert opens(second), "nobody works"
    process = here.start()
    wait_refused(second, "a version whose overlap ended while nobody worked")
    here.stop(process)


def previous_end(here: Installation, slug: str) -> dt.datetime:
    """Return when the version before the last one ends."""
    row = here.mongo["_mdb_engine_app_secrets"].find_one({"slug": slug})
    assert row is not None
    end: dt.datetime = row["previous"][0]["expires_at"]
    return end if end.tzinfo else end.replace(tzinfo=dt.UTC)


# --- a registration whose MdbApp is gone


def test_a_registration_ends_with_its_mdbapp_whoever_removed_that(
    installation: Installation,
) -> None:
    here, bi = installation, installation.others["bi"]
    process = here.start()
    for name in ("lost", "kept"):
        here.apply(name, **collection(BY_TIME))
    here.apply("renamed", slug="former", **collection(BY_TIME))
    here.apply("elsewhere", namespace=bi)
    for name in ("lost", "kept", "renamed"):
        here.wait_condition(name)
        slug = "former" if name == "renamed" else name
        here.mongo[f"{slug}_c"].insert_one({"app_id": slug, "kept": True})
    here.wait_condition("elsewhere", namespace=bi)
    leaked = {name: uri_of(here, name) for name in ("lost", "renamed")}
    good = [uri_of(here, "kept"), here.secret("elsewhere-mdb", bi)["uri"]]
    here.stop(process)
    for name in leaked:
        here.cluster.api.patch("MdbApp", name, {"metadata": {"finalizers": None}}, here.apps)
        here.cluster.api.delete("MdbApp", name, here.apps)
        here.wait_gone(name)
    here.apply("renamed", slug="latter")  # the name lives on, as another

    process = here.start(WATCH_NAMESPACES=here.apps)
    for name, uri in leaked.items():
        wait_refused(uri, f"{name}, of which there is no MdbApp", 60)
    for slug in ("lost", "former"):
        wait_until(
            lambda slug=slug: rows(here, slug) == [1, 0, 0],  # type: ignore[misc]
            message=lambda slug=slug: f"a tombstone, not {rows(here, slug)}",  # type: ignore[misc]
        )
        assert here.mongo[f"{slug}_c"].count_documents({"kept": True}) == 1
    assert all(map(opens, good)), "what is there, seen or not, keeps its access"
    assert rows(here, "elsewhere") == [1, 1, 1]
    here.stop(process)


# --- nothing waits for an index


def test_eight_builds_that_hang_hold_up_no_withdrawal(installation: Installation) -> None:
    here = installation
    process = here.start()
    hanging = [f"hang-{number}" for number in range(8)]
    here.apply_all(hanging, **collection(BY_TIME))
    here.apply("free", **collection(BY_TIME))
    here.apply(
        "reader", dataAccess={"readScopes": ["reader", "free", "hang-0"]}, **collection(BY_TIME)
    )
    for name in ("free", "reader", *hanging):
        here.wait_condition(name)
    here.wait_condition("reader", kind="GrantsResolved")
    reader = uri_of(here, "reader")
    wait_until(
        lambda: reads(reader, "free_c") and reads(reader, "hang-0_c"), message="the reader's role"
    )
    leaked = {name: uri_of(here, name) for name in ("free", "hang-0", "hang-7")}
    for name in hanging:
        here.mongo[f"{name}_c"].insert_one({"app_id": name, "user": "one"})
    with hanging_index_builds(here.server.client):
        for name in hanging:
            here.apply(name, **collection(BY_TIME, BY_USER))
        wait_until(
            lambda: index_builds(here.server.client, here.database), message="builds that hang"
        )
        for name, uri in leaked.items():
            rotate(here, name, "leaked", 2)
            revoke(here, name, uri)
        closed: dict[str, Any] = {"dataAccess": {"crossAppPolicy": "DenyAll"}}
        here.apply("free", **closed, **collection(BY_TIME))
        here.apply("hang-0", **closed, **collection(BY_TIME, BY_USER))
        for name in ("free", "hang-0"):
            wait_until(
                lambda name=name: not reads(reader, f"{name}_c"),  # type: ignore[misc]
                deadline=REFUSED_WITHIN,
                message=f"the reader still reads {name}",
            )
        here.kubectl("delete", "mdbapp", "hang-7", "--wait=false")
        wait_refused(here.secret("hang-7-mdb")["uri"], "an app that is being deleted")
        here.wait_condition("hang-1", "IndexBuilding", "CollectionsReady")
    for name in hanging[:-1]:
        here.wait_condition(name, kind="CollectionsReady", deadline=30)
    here.stop(process)


# --- one error loses no withdrawal


@pytest.mark.parametrize("command", ["updateRole", "find", "update"])
def test_one_error_of_mongodb_leaves_no_role_wide(running: Installation, command: str) -> None:
    owner, reader = f"once-{command}-o".lower(), f"once-{command}-r".lower()
    running.apply(owner, **collection(BY_TIME))
    running.wait_condition(owner)
    running.apply(reader, dataAccess={"readScopes": [reader, owner]}, **collection(BY_TIME))
    running.wait_condition(reader, kind="GrantsResolved")
    uri = uri_of(running, reader)
    wait_until(lambda: reads(uri, f"{owner}_c"), message="the reader's role")
    failing = {"failCommands": [command], "errorCode": 8, "appName": "mdb-operator"}
    with fail_point(running.server.client, "failCommand", {"times": 1}, failing):
        running.apply(owner, dataAccess={"crossAppPolicy": "DenyAll"}, **collection(BY_TIME))
        wait_until(
            lambda: not reads(uri, f"{owner}_c"),
            deadline=REFUSED_WITHIN,
            message=f"the reader still reads, after one failing {command}",
        )
        running.wait_condition(reader, "NotGranted", "GrantsResolved")


def test_a_deletion_past_the_finalizer_ends_a_running_app(running: Installation) -> None:
    running.apply("torn-off", **collection(BY_TIME))
    running.wait_condition("torn-off")
    leaked = uri_of(running, "torn-off")
    assert FINALIZER in running.app("torn-off")["metadata"]["finalizers"]
    running.kubectl(
        "patch", "mdbapp", "torn-off", "--type=merge",
        "-p", json.dumps({"metadata": {"finalizers": []}}),
    )  # fmt: skip
    running.cluster.api.delete("MdbApp", "torn-off", running.apps)
    wait_refused(leaked, "an app whose MdbApp is gone")
