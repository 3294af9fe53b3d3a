"""What happens to names that one app leaves and another wants, and to apps that go half-way."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.clusters import Cluster
from support.credentials import opens, wait_refused
from support.forwarder import Forwarder
from support.installation import Installation, installed
from support.mongo import Server
from support.waiting import wait_until

from mdb_operator.constants import FINALIZER

pytestmark = pytest.mark.long

FOREIGN_FINALIZER = "example.com/hold"


def tear_off(here: Installation, name: str) -> None:
    """Delete an MdbApp past the operator's finalizer, as an administrator can."""
    here.cluster.api.patch("MdbApp", name, {"metadata": {"finalizers": None}}, here.apps)
    here.cluster.api.delete("MdbApp", name, here.apps)
    here.wait_gone(name)


def test_whoever_takes_over_a_slug_in_another_spelling_ends_the_former_users(
    installation: Installation,
) -> None:
    here = installation
    process = here.start()
    here.apply("former", slug="a-b")
    here.wait_condition("former")
    uri = here.secret("former-mdb")["uri"]
    assert opens(uri)
    here.stop(process)
    tear_off(here, "former")
    here.apply("latter", slug="a_b")  # one slug with the former: - and _ count as one
    process = here.start()
    wait_refused(uri, "the user of the former a-b", 10)
    # It keeps the spelling, too: a tombstone of a-b is nobody's but a-b's.
    wait_until(
        lambda: here.condition("latter").get("status"), deadline=20, message="the other's status"
    )
    roles = {role["role"] for role in here.mongo.command("rolesInfo", 1)["roles"]}
    assert "mdb-engine.app.a-b" not in roles
    here.stop(process)


def test_whoever_waits_for_a_collection_gets_it_when_its_holder_goes(running: Installation) -> None:
    running.apply("t-one", slug="t_one", collections=[{"name": "two_c"}], deletionPolicy="Delete")
    running.wait_condition("t-one")
    running.apply("t-two", slug="t_one_two", collections=[{"name": "c"}])
    running.wait_condition("t-two", "CollectionTaken")
    assert running.get("Secret", "t-two-mdb") is None
    running.kubectl("delete", "mdbapp", "t-one", "--timeout=20s")
    running.wait_condition("t-two", deadline=10)


def test_an_app_that_another_finalizer_holds_is_not_ready(running: Installation) -> None:
    running.apply("held")
    running.wait_condition("held")
    uri = running.secret("held-mdb")["uri"]
    finalizers = [*running.app("held")["metadata"]["finalizers"], FOREIGN_FINALIZER]
    running.cluster.api.patch(
        "MdbApp", "held", {"metadata": {"finalizers": finalizers}}, running.apps
    )
    running.cluster.api.delete("MdbApp", "held", running.apps)
    wait_refused(uri, "an app that is being deleted")
    try:
        wait_until(
            lambda: running.app("held")["metadata"]["finalizers"] == [FOREIGN_FINALIZER],
            message="the end of our finalizer",
            deadline=20,
        )
        assert running.get("Secret", "held-mdb") is None
        ready = running.condition("held")
        assert ready["status"] != "True", "nothing works any more"
        assert ready["reason"] == "Deleting"
        assert "binding" not in running.status("held")
    finally:
        running.kubectl(
            "patch", "mdbapp", "held", "--type=merge",
            "-p", json.dumps({"metadata": {"finalizers": None}}),
        )  # fmt: skip
    running.wait_gone("held")


@pytest.fixture
def cut(
    control_plane: Cluster,
    mongo_auth_server: Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Installation, Forwarder]]:
    """Give an installation whose way to MongoDB can be cut."""
    directory = tmp_path_factory.mktemp("cut")
    with installed(control_plane, mongo_auth_server, directory) as here:
        forwarder = Forwarder(here.uri)
        try:
            yield here, forwarder
        finally:
            forwarder.close()


def test_an_app_made_anew_while_mongodb_is_down_has_a_status(
    cut: tuple[Installation, Forwarder],
) -> None:
    here, forwarder = cut
    way = f"{forwarder.uri}&authSource={here.database}&serverSelectionTimeoutMS=500"
    process = here.start(MONGODB_URI=way)
    here.apply("anew")
    here.wait_condition("anew")
    forwarder.cut()
    here.wait_condition("anew", "DatabaseUnavailable", deadline=40)
    tear_off(here, "anew")
    here.apply("anew")
    here.wait_condition("anew", "DatabaseUnavailable", deadline=20)
    forwarder.mend()
    here.wait_condition("anew", deadline=40)
    assert FINALIZER in here.app("anew")["metadata"]["finalizers"]
    here.stop(process)
