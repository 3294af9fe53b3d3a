"""How an app ends: by its policy, with MongoDB down, forced, or with its namespace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clusters import Cluster
from support.forwarder import Forwarder
from support.installation import Installation, installed
from support.mongo import Server
from support.waiting import wait_until

from mdb_operator.constants import FINALIZER


def rows(installation: Installation, slug: str) -> list[int]:
    """Return how many rows there are of an app: registration, secrets, grants."""
    return [
        installation.mongo[collection].count_documents({"slug": slug})
        for collection in ("apps_config", "_mdb_engine_app_secrets", "_mdb_engine_grants")
    ]


def test_delete_drops_the_data_and_frees_the_slug(running: Installation) -> None:
    running.apply("del-all", collections=[{"name": "c"}], deletionPolicy="Delete")
    running.wait_condition("del-all")
    running.mongo["del-all_c"].insert_one({"app_id": "del-all"})
    running.kubectl("delete", "mdbapp", "del-all", "--timeout=20s")
    assert rows(running, "del-all") == [0, 0, 0]
    assert "del-all_c" not in running.mongo.list_collection_names()
    assert running.get("Secret", "del-all-mdb") is None
    bi = running.others["bi"]
    running.apply("del-all", namespace=bi)
    running.wait_condition("del-all", namespace=bi)


def test_retain_keeps_data_and_slug_for_the_namespace(running: Installation) -> None:
    bi = running.others["bi"]
    running.apply("del-keep", collections=[{"name": "c"}])
    running.wait_condition("del-keep")
    before = running.secret("del-keep-mdb")
    running.mongo["del-keep_c"].insert_one({"app_id": "del-keep", "kept": True})
    running.kubectl("delete", "mdbapp", "del-keep", "--timeout=20s")
    assert rows(running, "del-keep") == [1, 0, 0]

    running.apply("stranger", slug="del-keep", namespace=bi)
    running.wait_condition("stranger", "SlugTaken", namespace=bi)

    running.apply("del-keep-again", slug="del-keep", collections=[{"name": "c"}])
    running.wait_condition("del-keep-again")
    after = running.secret("del-keep-again-mdb")
    assert after["app-secret"] != before["app-secret"]
    assert int(after["secret-version"]) > int(before["secret-version"])
    assert running.mongo["del-keep_c"].count_documents({"kept": True}) == 1


def test_an_app_that_lost_its_finalizer_loses_its_access(running: Installation) -> None:
    running.apply("del-torn")
    running.wait_condition("del-torn")
    running.kubectl(
        "patch", "mdbapp", "del-torn", "--type=merge",
        "-p", json.dumps({"metadata": {"finalizers": []}}),
    )  # fmt: skip
    running.kubectl("delete", "mdbapp", "del-torn", "--timeout=20s")
    wait_until(
        lambda: rows(running, "del-torn") == [1, 0, 0],
        message=lambda: f"a tombstone: {rows(running, 'del-torn')}",
    )


@pytest.fixture
def forwarder(mongo_server: Server) -> Iterator[Forwarder]:
    """Give the way to MongoDB, to be cut."""
    found = Forwarder(mongo_server.uri)
    yield found
    found.close()


def test_with_mongodb_down_apps_say_so_and_deletion_waits_or_is_forced(
    control_plane: Cluster, mongo_server: Server, forwarder: Forwarder, tmp_path: Path
) -> None:
    uri = f"{forwarder.uri}&serverSelectionTimeoutMS=500"  # each look at it waits for so long
    with installed(control_plane, mongo_server, tmp_path, MONGODB_URI=uri) as here:
        process = here.start()
        for name in ("down", "down-waits", "down-forced"):
            here.apply(name)
        for name in ("down", "down-waits", "down-forced"):
            here.wait_condition(name)
        forwarder.cut()
        message = here.wait_condition("down", "DatabaseUnavailable", deadline=40)["message"]
        assert "tried again" in message
        status = here.status("down")
        assert status["binding"] == {"name": "down-mdb"}  # what is there may still be mounted
        assert status["secret"]["version"] == 1

        for name in ("down-waits", "down-forced"):
            here.kubectl("delete", "mdbapp", name, "--wait=false")
        message = here.wait_condition("down-forced", "Deleting", deadline=40)["message"]
        assert "force-delete" in message
        here.annotate("down-forced", "force-delete", "true")
        here.wait_gone("down-forced", deadline=40)
        assert here.get("Secret", "down-forced-mdb") is None
        assert FINALIZER in here.app("down-waits")["metadata"]["finalizers"]

        forwarder.mend()
        here.wait_gone("down-waits", deadline=40)
        lease = (here.namespace, f"{here.namespace}-leader")
        # One of the outage, one of its end, however many apps there are.
        wait_until(
            lambda: reasons(here, *lease) == ["DatabaseUnavailable", "DatabaseAvailable"],
            message=lambda: f"two events of the outage: {reasons(here, *lease)}",
        )
        here.wait_condition("down", deadline=40)
        assert rows(here, "down-waits") == [1, 0, 0]
        # What was forced counts as a tombstone: the namespace gets its slug back.
        here.apply("down-heir", slug="down-forced")
        here.wait_condition("down-heir")
        here.stop(process)


def reasons(here: Installation, namespace: str, regarding: str) -> list[str]:
    """Return why events were posted about something, in their order."""
    found = [
        event
        for event in here.cluster.api.objects("Event", namespace)
        if event["regarding"]["name"] == regarding
    ]
    return [event["reason"] for event in sorted(found, key=lambda event: event["eventTime"])]


@pytest.fixture
def everywhere(installation: Installation) -> Iterator[Installation]:
    """Give an installation whose right to let go of MdbApps does not end with a namespace.

    What a cluster-wide installation has; a Role in a namespace is deleted with it, before the
    MdbApps that are held by their finalizers.
    """
    name = installation.namespace
    kubectl = installation.cluster.kubectl
    kubectl("create", "clusterrole", name, "--verb=get,patch", "--resource=mdbapps")
    account = f"--serviceaccount={name}:operator"
    kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", account)
    yield installation
    kubectl("delete", "clusterrolebinding,clusterrole", name)


def test_a_namespace_takes_its_apps_with_it(everywhere: Installation) -> None:
    process = everywhere.start()
    namespace = everywhere.others["bi"]
    for number in range(3):
        everywhere.apply(f"del-ns-{number}", namespace=namespace)
    for number in range(3):
        everywhere.wait_condition(f"del-ns-{number}", namespace=namespace)
    everywhere.cluster.api.delete("Namespace", namespace)
    for number in range(3):
        everywhere.wait_gone(f"del-ns-{number}", namespace)  # and nothing else holds the namespace
        assert rows(everywhere, f"del-ns-{number}") == [1, 0, 0]
    everywhere.stop(process)
