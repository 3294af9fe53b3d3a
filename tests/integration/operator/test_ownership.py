"""Two installations, each with a database of its own, that watch one namespace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clusters import Cluster
from support.credentials import opens
from support.installation import Installation, installed, is_ready
from support.mongo import Server
from support.waiting import wait_until

from mdb_operator.constants import FINALIZER

pytestmark = pytest.mark.long

LOOKS = 10


@pytest.fixture
def second(
    installation: Installation,
    control_plane: Cluster,
    mongo_auth_server: Server,
    tmp_path: Path,
) -> Iterator[Installation]:
    """Give an installation that watches the apps of the first one as well."""
    directory = tmp_path / "second"
    directory.mkdir()
    apps = installation.apps
    with installed(control_plane, mongo_auth_server, directory, shared=apps) as found:
        yield found


def identity_of(here: Installation) -> str:
    namespace = here.cluster.api.get("Namespace", here.namespace)
    assert namespace is not None
    return f"{namespace['metadata']['uid']}/{here.namespace}-leader"


def holder(here: Installation, name: str) -> str | None:
    found: str | None = here.status(name).get("installation")
    return found


def registered(here: Installation, slug: str) -> bool:
    """Tell whether an installation's database has the app, other than as a tombstone."""
    return here.mongo.apps_config.find_one({"slug": slug, "state": "active"}) is not None


def told(here: Installation) -> list[str]:
    events = here.cluster.api.objects("Event", here.apps)
    return [e["regarding"]["name"] for e in events if e["reason"] == "OtherInstallation"]


def version(here: Installation, kind: str, name: str) -> str:
    found = here.get(kind, name)
    assert found is not None
    return str(found["metadata"]["resourceVersion"])


def uninstall(here: Installation) -> None:
    """Do what the chart's pre-delete hook does, as an administrator."""
    done = here.command(
        *("prepare-uninstall", "--deployment=none"),
        KUBECONFIG=str(here.cluster.kubeconfig),
        WATCH_NAMESPACES=",".join(here.watched),
    )
    assert done.returncode == 0, done.stderr


def test_a_second_installation_of_the_class_says_so_once_and_writes_nothing(
    installation: Installation, second: Installation
) -> None:
    first, identity = installation, identity_of(installation)
    leader = first.start()
    first.apply("orders")
    first.wait_condition("orders")
    assert holder(first, "orders") == identity

    rival = second.start()
    rival.wait_for(f"Installation {identity} handles this MdbApp")
    assert f"adopt-database --from={identity}" in rival.text()
    wait_until(lambda: told(first), message="the event")
    assert sum(second.written_to_kubernetes(rival).values()) == 1, "the event alone"
    labels = f'installation="{identity}",name="orders",namespace="{first.apps}"'
    assert second.metrics(rival)[f"mdb_operator_app_held_by_other{{{labels}}}"] == 1

    first.stop(leader)
    secret = version(first, "Secret", "orders-mdb")
    for number in range(LOOKS):
        first.annotate("orders", "look", str(number))
    last = version(first, "MdbApp", "orders")
    # It handles this one, so it has seen all that came before.
    first.apply("probe")
    first.wait_condition("probe")
    assert holder(first, "probe") == identity_of(second)
    assert version(first, "MdbApp", "orders") == last
    assert version(first, "Secret", "orders-mdb") == secret
    assert not registered(second, "orders")
    assert told(first) == ["orders"]
    assert rival.text().count("handles this MdbApp") == 1
    shown = [name for name in second.metrics(rival) if 'name="orders"' in name]
    assert shown == [f"mdb_operator_app_held_by_other{{{labels}}}"]

    # Uninstalling the one that watches releases what is its own, and nothing else.
    second.stop(rival)
    uninstall(second)
    assert holder(first, "probe") is None
    assert FINALIZER not in first.app("probe")["metadata"].get("finalizers", [])
    assert version(first, "MdbApp", "orders") == last

    # And after the other way round this one takes the app over.
    rival = second.start()
    rival.wait_for(f"Installation {identity} handles this MdbApp")
    uninstall(first)
    wait_until(
        lambda: holder(first, "orders") == identity_of(second), message="the claim of the second"
    )
    wait_until(lambda: registered(second, "orders"), message="the registration")
    first.wait_condition("orders")
    assert first.secret("orders-mdb")["database"] == second.database
    assert not [name for name in second.metrics(rival) if "held_by_other{" in name]
    second.stop(rival)


def test_of_two_that_come_at_once_exactly_one_has_each_app(
    installation: Installation, second: Installation
) -> None:
    both = {identity_of(here): here for here in (installation, second)}
    processes = {here.namespace: here.start() for here in both.values()}
    names = [f"app-{number}" for number in range(10)]
    installation.apply_all(names)
    installation.wait_all(is_ready, names, message="Ready")
    for name in names:
        owner = both[str(holder(installation, name))]
        assert [here for here in both.values() if registered(here, name)] == [owner], name
        assert installation.secret(f"{name}-mdb")["database"] == owner.database
    for here in both.values():
        here.stop(processes[here.namespace])


def test_another_class_is_none_of_ours_and_a_change_of_class_hands_over(
    installation: Installation, second: Installation
) -> None:
    first = installation
    leader = first.start()
    other = second.start(OPERATOR_CLASS="blue")
    first.apply("orders")
    first.wait_condition("orders")
    before = first.secret("orders-mdb")["uri"]
    assert opens(before)

    first.apply("orders", operatorClass="blue")
    wait_until(
        lambda: holder(first, "orders") == identity_of(second), message="the claim of the second"
    )
    first.wait_condition("orders")
    after = first.secret("orders-mdb")
    assert after["database"] == second.database
    assert opens(after["uri"])
    assert not opens(before), "what the former installation gave has ended"
    assert not registered(first, "orders")
    assert FINALIZER in first.app("orders")["metadata"]["finalizers"]

    # It never was anything to the other: no claim, no word, no series.
    first.apply("probe")
    first.wait_condition("probe")
    assert holder(first, "probe") == identity_of(first)
    assert not [name for name in second.metrics(other) if 'name="probe"' in name]
    assert not [name for name in first.metrics(leader) if 'name="orders"' in name]
    assert told(first) == []

    first.kubectl("delete", "mdbapp", "orders", "--wait=false")
    first.wait_gone("orders")
    assert not registered(second, "orders")
    second.stop(other)
    first.stop(leader)


def test_the_apps_of_an_installation_that_is_lost_are_adopted(
    installation: Installation, second: Installation
) -> None:
    first, identity = installation, identity_of(installation)
    leader = first.start()
    first.apply("orders")
    first.wait_condition("orders")
    first.kill(leader)
    heir = second.start()
    heir.wait_for(f"Installation {identity} handles this MdbApp")

    done = second.command("adopt-database", f"--from={identity}", MONGODB_URI=second.uri)
    assert done.returncode == 0, done.stderr
    wait_until(
        lambda: holder(first, "orders") == identity_of(second), message="the claim of the heir"
    )
    wait_until(lambda: registered(second, "orders"), message="the registration")
    first.wait_condition("orders")
    second.stop(heir)


def test_an_app_of_a_class_that_nobody_is_of_can_be_deleted(running: Installation) -> None:
    """Found by fuzzing: our finalizer stayed on it, and nobody was there to take it off."""
    running.apply("misspelt")
    running.wait_condition("misspelt")
    running.apply("misspelt", operatorClass="defualt")
    wait_until(lambda: holder(running, "misspelt") is None, message="the hand-over")
    assert FINALIZER not in running.app("misspelt")["metadata"].get("finalizers", [])
    running.cluster.api.delete("MdbApp", "misspelt", running.apps)
    running.wait_gone("misspelt")
