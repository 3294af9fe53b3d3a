"""Rotation: asked for, due, overlapping, revoked; never lost and never done twice."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from support.installation import Installation
from support.waiting import wait_until


def versions(installation: Installation, name: str) -> list[int]:
    """Return the versions whose tokens pods accept, newest first."""
    row = installation.mongo["_mdb_engine_grants"].find_one({"slug": name})
    return [verifier["version"] for verifier in row["verifiers"]] if row else []


def wait_version(installation: Installation, name: str, version: int) -> dict[str, str]:
    """Wait until status and Secret are at a version; return the Secret's entries."""

    def there() -> bool:
        status = installation.status(name)
        return bool(status.get("secret", {}).get("version") == version)

    wait_until(there, deadline=20, message=f"version {version} of {name}")
    entries = installation.secret(f"{name}-mdb")
    assert entries["secret-version"] == str(version)
    return entries


def let_time_pass(installation: Installation, name: str, **changes: Any) -> None:
    """Move times in the app's row of secrets, as if they had passed."""
    result = installation.mongo["_mdb_engine_app_secrets"].update_one(
        {"slug": name}, {"$set": changes, "$inc": {"revision": 1}}
    )
    assert result.modified_count == 1


def wake(installation: Installation, name: str) -> None:
    """Have the operator look at an app without asking for anything."""
    installation.annotate(name, "looked-at", dt.datetime.now(dt.UTC).isoformat())


def test_a_rotation_on_request_overlaps_and_the_previous_version_ends(
    running: Installation,
) -> None:
    running.apply("rot", secret={"overlapSeconds": 120})
    first = wait_version(running, "rot", 1)
    running.annotate("rot", "rotate-requested", "monday")
    second = wait_version(running, "rot", 2)
    assert second["app-secret"] != first["app-secret"]
    assert second["session-key"] != first["session-key"]
    assert second["app-secret-previous"] == first["app-secret"]
    assert second["session-key-previous"] == first["session-key"]
    assert versions(running, "rot") == [2, 1]
    assert "previousExpiresAt" in running.status("rot")["secret"]

    wake(running, "rot")  # the same request again is none
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    let_time_pass(running, "rot", **{"previous.0.expires_at": past})
    wake(running, "rot")
    wait_until(lambda: versions(running, "rot") == [2], message="the end of version 1")
    wait_until(
        lambda: "previousExpiresAt" not in running.status("rot")["secret"], message="the status"
    )
    third = running.secret("rot-mdb")
    assert (third["app-secret"], third["app-secret-previous"]) == (second["app-secret"], "")


def test_the_end_of_a_version_waits_for_nobody_elses_secret(running: Installation) -> None:
    running.apply("rot-held")
    wait_version(running, "rot-held", 1)
    running.kubectl("create", "secret", "generic", "somebodys", "--from-literal=a=b")
    running.apply("rot-held", secret={"name": "somebodys"})
    running.wait_condition("rot-held", "SecretConflict")
    running.annotate("rot-held", "rotate-requested", "now")

    def ends() -> dict[int, bool]:
        row = running.mongo["_mdb_engine_grants"].find_one({"slug": "rot-held"})
        return {one["version"]: one["not_after"] is not None for one in row["verifiers"]}

    wait_until(
        lambda: ends() == {2: False, 1: True},
        message=lambda: f"which versions end: {ends()}",
    )
    assert running.secret("somebodys") == {"a": "b"}


def test_a_request_at_creation_is_none(running: Installation) -> None:
    running.apply(
        "rot-born",
        annotations={"mdb-engine.dev/rotate-requested": "x", "mdb-engine.dev/revoke-previous": "x"},
    )
    running.wait_condition("rot-born")
    wake(running, "rot-born")
    running.annotate("rot-born", "rotate-requested", "y")
    wait_version(running, "rot-born", 2)
    assert versions(running, "rot-born") == [2, 1]


def test_the_period_rotates_by_itself(running: Installation) -> None:
    running.apply("rot-due", secret={"rotationPeriodSeconds": 600})
    wait_version(running, "rot-due", 1)
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=601)
    let_time_pass(running, "rot-due", rotated_at=past)
    wake(running, "rot-due")
    wait_version(running, "rot-due", 2)


def test_at_most_five_versions_and_a_revocation_ends_the_earlier_ones(
    running: Installation,
) -> None:
    running.apply("rot-many")
    wait_version(running, "rot-many", 1)
    for version in range(2, 6):
        running.annotate("rot-many", "rotate-requested", str(version))
        wait_version(running, "rot-many", version)
    running.annotate("rot-many", "rotate-requested", "6")
    wait_until(
        lambda: "waits until" in running.condition("rot-many", "SecretProjected")["message"],
        message="the waiting rotation",
    )
    assert "revoke-previous" in running.condition("rot-many", "SecretProjected")["message"]
    assert versions(running, "rot-many") == [5, 4, 3, 2, 1]

    running.annotate("rot-many", "revoke-previous", "leaked")
    entries = wait_version(running, "rot-many", 6)
    wait_until(lambda: versions(running, "rot-many") == [6], message="the end of all others")
    wait_until(
        lambda: running.secret("rot-many-mdb")["app-secret-previous"] == "",
        message="the end of the previous entry",
    )
    assert running.secret("rot-many-mdb")["app-secret"] == entries["app-secret"]


FULL = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "full"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "full"}},
        "template": {
            # As many bytes as annotations may have: the API server refuses one more.
            "metadata": {"labels": {"app": "full"}, "annotations": {"a": "x" * (2**18 - 1)}},
            "spec": {"containers": [{"name": "x", "image": "none.invalid/x"}]},
        },
    },
}


@pytest.mark.long
def test_listed_workloads_restart_with_the_new_version_and_no_others(
    running: Installation,
) -> None:
    for name in ("rolled", "bystander"):
        running.kubectl("create", "deployment", name, "--image=none.invalid/x", "--replicas=0")
    running.kubectl("create", "-f", "-", manifest=json.dumps(FULL))
    running.apply(
        "rot-roll",
        restart=[
            {"kind": "Deployment", "name": "full"},
            {"kind": "Deployment", "name": "rolled"},
            {"kind": "StatefulSet", "name": "absent"},
        ],
    )
    wait_version(running, "rot-roll", 1)

    def template(name: str) -> dict[str, str]:
        found = running.get("Deployment", name)
        assert found is not None
        return dict(found["spec"]["template"]["metadata"].get("annotations") or {})

    assert template("rolled") == {}
    message = running.condition("rot-roll", "WorkloadsRestarted")["message"]
    assert "StatefulSet/absent" in message
    running.annotate("rot-roll", "rotate-requested", "now")
    wait_until(
        lambda: (
            template("rolled").get("mdb-engine.dev/rot-roll.secret-version", "").startswith("2-")
        ),
        message=lambda: f"the restart: {template('rolled')}",
    )
    assert template("bystander") == {}

    def told() -> str:
        return str(running.condition("rot-roll", "WorkloadsRestarted")["message"])

    wait_until(
        lambda: "Deployment/full (the API server refuses the change)" in told(), message=told
    )
