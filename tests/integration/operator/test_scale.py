"""Three hundred apps at once, a restart that writes nothing, and no secret where none belongs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from support.installation import Installation, is_ready
from support.waiting import wait_until

APPS = 300


@pytest.mark.long
@pytest.mark.timeout(900)
def test_three_hundred_apps_at_once_then_a_restart_without_writes_and_no_leak(
    installation: Installation, record_property: Callable[[str, object], None]
) -> None:
    process = installation.start()
    names = [f"app-{number:03}" for number in range(APPS)]
    spec: dict[str, Any] = {
        "collections": [{"name": "c", "indexes": [{"keys": [{"field": "at"}]}]}],
        "restart": [{"kind": "Deployment", "name": "none"}],
    }
    started = time.monotonic()
    installation.apply_all(names, **spec)
    installation.wait_all(is_ready, names, message="all apps ready", deadline=400)
    ready = time.monotonic()
    # An app is ready before its last index is there; what is left is done before the restart.
    installation.wait_all(has_collections, names, message="all collections", deadline=120)
    record_property("seconds_until_all_ready", ready - started)
    print(f"{APPS} apps ready in {ready - started:.1f} s")  # noqa: T201 - shown where it fails
    users = {user["user"] for user in installation.mongo.command("usersInfo", 1)["users"]}
    assert users == {"mdb-operator", *(f"{name}.v1" for name in names)}
    installation.stop(process)
    events = count(installation, "events.events.k8s.io")
    assert events == APPS, "one event for each app that became ready"

    versions = resource_versions(installation)
    operations = installation.written_to_mongodb()
    process = installation.start()
    wait_until(
        lambda: (
            installation.metrics(process).get("mdb_operator_apps", 0) == APPS
            and sum(installation.looks(process).values()) >= APPS
        ),
        deadline=60,
        message="a look at every app",
    )
    metrics = installation.metrics(process)
    assert installation.written_to_kubernetes(process) == {}
    assert not [name for name in metrics if name.startswith("mdb_operator_writes_total")]
    assert resource_versions(installation) == versions
    assert installation.written_to_mongodb() == operations
    assert metrics['mdb_operator_reconcile_total{result="unchanged"}'] >= APPS

    installation.annotate(names[:3], "rotate-requested", "1")
    installation.wait_all(
        lambda status: status["secret"]["version"] == 2, names[:3], message="the rotation"
    )
    installation.stop(process)
    assert installation.scan_for_leaks() >= 2 * APPS


def has_collections(status: dict[str, Any]) -> bool:
    rows = status.get("conditions", [])
    return any(row["type"] == "CollectionsReady" and row["status"] == "True" for row in rows)


def count(installation: Installation, kind: str) -> int:
    return len(installation.kubectl("get", kind, "-o", "name").split())


def resource_versions(installation: Installation) -> dict[str, str]:
    """Return the resource version of everything that the operator could have written."""
    template = "{range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{'\\n'}{end}"
    text = installation.kubectl("get", "mdbapps,secrets", "-o", f"jsonpath={template}")
    return dict(line.split() for line in text.splitlines())
