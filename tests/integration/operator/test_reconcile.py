"""One MdbApp from its manifest to a Secret that works, by an operator in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.clusters import Cluster, CommandError
from support.installation import Installation, installed
from support.mongo import Client, Server
from support.waiting import wait_until

from mdb_operator.constants import SECRET_KEYS

GETS = 'mdb_operator_kubernetes_requests_total{code="200",resource="secrets",verb="get"}'

COLLECTIONS = [{"name": "clicks", "indexes": [{"name": "by_user", "keys": [{"field": "user"}]}]}]


def test_an_app_is_registered_and_its_secret_projected(running: Installation) -> None:
    running.apply("rec-orders", collections=COLLECTIONS)
    running.kubectl("wait", "--for=condition=Ready", "--timeout=20s", "mdbapp/rec-orders")
    app = running.app("rec-orders")
    status = app["status"]
    assert {row["type"]: (row["status"], row["reason"]) for row in status["conditions"]} == {
        "Ready": ("True", "Provisioned"),
        "Registered": ("True", "Provisioned"),
        "GrantsResolved": ("True", "Provisioned"),
        "SecretProjected": ("True", "Provisioned"),
        "DatabaseUserReady": ("True", "Provisioned"),
        "WorkloadsRestarted": ("True", "Provisioned"),
        "CollectionsReady": ("True", "Provisioned"),
    }
    generation = app["metadata"]["generation"]
    assert {row["observedGeneration"] for row in status["conditions"]} == {generation}
    assert status["observedGeneration"] == generation
    assert status["binding"] == {"name": "rec-orders-mdb"}
    active = running.keyring().active_id  # another test may have renewed it
    assert (status["secret"]["version"], status["secret"]["keyId"]) == (1, active)
    assert status["grantedScopes"] == ["rec-orders"]
    assert status["deniedScopes"] == []
    assert "of its own" in running.condition("rec-orders", "DatabaseUserReady")["message"]

    secret = running.get("Secret", "rec-orders-mdb")
    assert secret is not None
    assert secret["type"] == "servicebinding.io/mongodb"
    [owner] = secret["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == (app["metadata"]["uid"], True)
    entries = running.secret("rec-orders-mdb")
    assert set(entries) == set(SECRET_KEYS)
    assert (entries["app-slug"], entries["secret-version"]) == ("rec-orders", "1")
    with Client(entries["uri"]) as client:
        names = client.get_default_database().list_collection_names(authorizedCollections=True)
    assert "rec-orders_clicks" in names
    indexes = running.mongo["rec-orders_clicks"].index_information()
    assert "by_user" in indexes
    assert "kopf" not in json.dumps(app["metadata"])
    assert "annotations" not in app["metadata"], "nor does anything of ours write one"


def test_a_secret_deleted_edited_or_stripped_comes_back(running: Installation) -> None:
    running.apply("healing")
    running.wait_condition("healing")
    running.secret("healing-mdb")  # tells the scan for leaks what its entries are
    before = (running.get("Secret", "healing-mdb") or {})["data"]
    damage = {
        "deleted": ["delete", "secret", "healing-mdb"],
        "edited": ["patch", "secret", "healing-mdb", "-p", '{"data": {"app-secret": "aGFja2Vk"}}'],
        "without an entry": [
            "patch", "secret", "healing-mdb", "--type=json",
            "-p", '[{"op": "remove", "path": "/data/uri"}]',
        ],
        "without its label": ["label", "secret", "healing-mdb", "mdb-engine.dev/owner-uid-"],
    }  # fmt: skip
    for what, arguments in damage.items():
        running.kubectl(*arguments)

        def whole() -> bool:
            secret = running.get("Secret", "healing-mdb")
            if secret is None or "mdb-engine.dev/owner-uid" not in secret["metadata"]["labels"]:
                return False
            return bool(secret["data"] == before)

        wait_until(whole, deadline=2, message=f"the Secret that was {what}")


def test_somebody_elses_secret_is_never_touched(running: Installation) -> None:
    running.kubectl("create", "secret", "generic", "taken-mdb", "--from-literal=mine=1")
    before = running.get("Secret", "taken-mdb")
    running.apply("taken")
    message = running.wait_condition("taken", "SecretConflict")["message"]
    assert "taken-mdb" in message
    assert "spec.secret.name" in message
    status = running.status("taken")
    assert "binding" not in status
    assert running.get("Secret", "taken-mdb") == before
    running.kubectl(
        "patch", "mdbapp", "taken", "--type=merge", "-p", '{"spec": {"secret": {"name": "free"}}}'
    )
    running.wait_condition("taken")
    assert running.status("taken")["binding"] == {"name": "free"}


def test_a_new_name_for_the_secret_is_written_before_the_old_one_goes(
    running: Installation,
) -> None:
    running.apply("renamed")
    running.wait_condition("renamed")
    values = running.secret("renamed-mdb")
    running.apply("renamed", secret={"name": "elsewhere"})
    wait_until(
        lambda: running.status("renamed").get("binding") == {"name": "elsewhere"},
        message="the new binding",
    )
    assert running.secret("elsewhere") == values
    wait_until(
        lambda: running.get("Secret", "renamed-mdb") is None, message="the end of the old Secret"
    )


def test_the_second_of_a_slug_gets_nothing_until_the_first_is_gone(running: Installation) -> None:
    running.apply("rec-first", slug="wanted-slug", deletionPolicy="Delete")
    running.wait_condition("rec-first")
    running.apply("rec-second", slug="wanted_slug")
    message = running.wait_condition("rec-second", "SlugTaken")["message"]
    assert "another slug" in message
    assert running.get("Secret", "rec-second-mdb") is None
    assert not {"secret", "binding", "grantedScopes"} & set(running.status("rec-second"))
    assert running.mongo["apps_config"].count_documents({"slug": "wanted_slug"}) == 0
    running.kubectl("delete", "mdbapp", "rec-first")
    running.wait_condition("rec-second")
    assert running.secret("rec-second-mdb")["app-slug"] == "wanted_slug"


def test_an_ambiguous_collection_is_refused_to_the_later(running: Installation) -> None:
    running.apply("amb", collections=[{"name": "dash_x"}])
    running.wait_condition("amb")
    running.apply("amb-dash", slug="amb_dash", collections=[{"name": "x"}])
    message = running.wait_condition("amb-dash", "CollectionTaken")["message"]
    assert "amb_dash_x" in message
    assert running.get("Secret", "amb-dash-mdb") is None


def test_a_suspended_app_is_left_alone_and_caught_up_afterwards(running: Installation) -> None:
    running.apply("paused")
    running.wait_condition("paused")
    running.apply("paused", suspend=True, collections=[{"name": "later"}])
    running.wait_condition("paused", "Suspended")
    assert running.status("paused")["binding"] == {"name": "paused-mdb"}
    running.kubectl("delete", "secret", "paused-mdb")
    running.annotate("paused", "rotate-requested", "now")
    running.apply("witness")
    running.wait_condition("witness")  # the operator has looked at everything since
    assert running.get("Secret", "paused-mdb") is None
    assert "paused_later" not in running.mongo.list_collection_names()
    running.apply("paused", suspend=False, collections=[{"name": "later"}])
    running.wait_condition("paused")
    wait_until(lambda: running.status("paused")["secret"]["version"] == 2, message="the rotation")
    assert "paused_later" in running.mongo.list_collection_names()


def test_events_tell_transitions_once(running: Installation) -> None:
    running.apply("told", dataAccess={"readScopes": ["told", "nobody_yet"]})
    running.wait_condition("told", "GrantPending", "GrantsResolved")
    running.annotate("told", "unrelated", "1")
    running.apply("told", displayName="Told", dataAccess={"readScopes": ["told", "nobody_yet"]})
    running.wait_condition("told")

    def events() -> list[tuple[str, str]]:
        text = running.kubectl("get", "events.events.k8s.io", "-o", "json")
        return sorted(
            (item["reason"], item["action"])
            for item in json.loads(text)["items"]
            if item["regarding"]["name"] == "told"
        )

    wait_until(lambda: len(events()) >= 2, message=lambda: f"two events: {events()}")
    assert events() == [("GrantPending", "GrantsResolved"), ("Provisioned", "Ready")]


def test_the_series_of_an_app_go_with_it(running: Installation) -> None:
    def series() -> set[str]:
        metrics = running.metrics(running.processes[-1])  # another test may have restarted it
        return {name for name in metrics if 'name="counted"' in name}

    running.apply("counted")
    running.wait_condition("counted")
    wait_until(lambda: len(series()) >= 3, message=lambda: f"the app's series: {series()}")
    running.kubectl("delete", "mdbapp", "counted", "--timeout=20s")
    wait_until(lambda: series() == set(), message=lambda: f"the end of {series()}")


def test_without_the_right_to_list_secrets_they_are_polled(
    control_plane: Cluster, mongo_server: Server, tmp_path: Path
) -> None:
    # The keyring is not looked at again, so that every Secret that is found is one of the poll's.
    settings = {
        "SECRET_WATCH": "false",
        "SECRET_POLL_SECONDS": "0.5",
        "MASTER_KEY_RELOAD_SECONDS": "3600",
    }
    with installed(control_plane, mongo_server, tmp_path, (), **settings) as here:
        process = here.start()
        here.apply("polled")
        here.wait_condition("polled")
        before = here.secret("polled-mdb")
        wait_until(
            lambda: here.metrics(process)[GETS] > 3, message="a round in which it is seen whole"
        )
        here.kubectl("delete", "secret", "polled-mdb")
        wait_until(lambda: here.get("Secret", "polled-mdb"), message="the Secret")
        assert here.secret("polled-mdb") == before
        with pytest.raises(CommandError):
            here.cluster.kubectl(
                "--kubeconfig", str(tmp_path / "kubeconfig"),
                "auth", "can-i", "-q", "list", "secrets", "-n", here.apps,
            )  # fmt: skip
        here.stop(process)


def test_the_operator_may_do_nothing_beyond_its_namespaces(running: Installation) -> None:
    config = str(running.directory / "kubeconfig")
    for namespace, verb, what in (
        (running.namespace, "list", "secrets"),
        ("kube-system", "get", "secrets"),
        ("default", "get", "secrets"),
        (running.apps, "create", "mdbapps"),
        (running.apps, "delete", "mdbapps"),
        (running.apps, "create", "pods"),
        (running.apps, "get", "configmaps"),
    ):
        with pytest.raises(CommandError):
            running.cluster.kubectl(
                "--kubeconfig", config, "auth", "can-i", "-q", verb, what, "-n", namespace
            )
