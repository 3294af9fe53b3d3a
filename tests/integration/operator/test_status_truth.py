"""The status says what was reached, of the object that was looked at, and of nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.credentials import reads
from support.faults import Call, Fault
from support.installation import Installation, is_ready
from support.live_operator import LiveOperator, live_operator
from support.waiting import wait_until, wait_until_async

pytestmark = pytest.mark.long

INDEXED: dict[str, Any] = {
    "collections": [{"name": "c", "indexes": [{"name": "at", "keys": [{"field": "at"}]}]}]
}

WORKLOAD = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "x", "image": "none.invalid/x"}]},
        },
    },
}


@pytest.fixture
async def operator(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LiveOperator]:
    async with live_operator(installation, monkeypatch) as found:
        yield found


def is_call(method: str, *parts: str) -> Any:
    """Return whether a call is a request of a method, whose path has some parts."""
    return lambda call: (
        call.what.startswith(f"{method} ") and all(part in call.what for part in parts)
    )


def secrets_of(here: Installation) -> list[str]:
    """Return the names of the projected Secrets."""
    return sorted(
        found["metadata"]["name"]
        for found in here.cluster.api.objects("Secret", here.apps)
        if found["type"] == "servicebinding.io/mongodb"
    )


# --- of which generation, and of whose


@pytest.mark.parametrize("call", ["POST /api/v1", "find _mdb_engine_grants", "createUser"])
async def test_a_change_during_a_run_is_not_said_to_be_applied(
    operator: LiveOperator, call: str
) -> None:
    here = operator.here
    here.apply("moving", **INDEXED)
    changed = False

    def change(made: Call) -> None:
        nonlocal changed
        if not changed and made.what.startswith(call):
            changed = True
            here.apply("moving", collections=[{"name": "c"}, {"name": "later"}])
            operator.see("moving")

    operator.see("moving")
    operator.faults.watch()
    operator.faults.before = change
    await operator.look("moving")
    operator.faults.before = None
    assert changed, operator.faults.calls
    status = here.status("moving")
    assert "moving_later" not in here.mongo.list_collection_names()
    generations = {row["observedGeneration"] for row in status.get("conditions", [])}
    assert generations <= {1}, "nothing of generation 2 was applied"
    assert status["observedGeneration"] in {-1, 1}
    await operator.settle("moving")
    assert here.status("moving")["observedGeneration"] == 2
    assert "moving_later" in here.mongo.list_collection_names()


async def test_a_successor_of_the_name_does_not_inherit_a_status(operator: LiveOperator) -> None:
    here = operator.here
    here.apply("heir", slug="first")
    replaced = False

    def replace(made: Call) -> None:
        nonlocal replaced
        if not replaced and made.what.startswith("createUser"):
            replaced = True
            here.cluster.api.patch("MdbApp", "heir", {"metadata": {"finalizers": None}}, here.apps)
            here.cluster.api.delete("MdbApp", "heir", here.apps)
            here.wait_gone("heir")
            here.apply("heir", slug="second")
            operator.see("heir")

    operator.see("heir")
    operator.faults.watch()
    operator.faults.before = replace
    await operator.look("heir")
    operator.faults.before = None
    assert replaced, operator.faults.calls
    assert here.status("heir") == {"observedGeneration": -1}, "nobody has looked at the second yet"
    await operator.settle("heir")
    assert is_ready(here.status("heir"))
    assert here.secret("heir-mdb")["app-slug"] == "second"


# --- one error of the API server is no end of what was under way


@pytest.mark.parametrize("part", ["/secrets/owner-mdb", "/mdbapps/owner/status", "/events"])
async def test_a_reader_learns_of_a_withdrawn_consent_although_one_request_is_refused(
    operator: LiveOperator, part: str
) -> None:
    here = operator.here
    here.apply("owner", **INDEXED)
    here.apply("reader", dataAccess={"readScopes": ["reader", "owner"]}, **INDEXED)
    async with operator.running():

        def condition() -> str:
            return str(here.condition("reader", "GrantsResolved").get("reason"))

        await wait_until_async(
            lambda: condition() == "Provisioned", message="the reader's grant", deadline=20
        )
        uri = here.secret("reader-mdb")["uri"]
        assert reads(uri, "owner_c")
        await operator.quiet()  # or a look that was under way would hide what is lost

        def comes_after_the_claim(call: Call) -> bool:
            """Whether it is of the run that withdraws, and not of one for nothing before it."""
            claimed = any(made.what == "update apps_config" for made in operator.faults.calls)
            return claimed and call.target == "kubernetes" and call.what.endswith(part)

        operator.faults.fail_next(comes_after_the_claim, Fault.ERROR, status=429)
        here.apply("owner", dataAccess={"crossAppPolicy": "DenyAll"}, **INDEXED)
        await wait_until_async(
            lambda: operator.faults.failed, deadline=5, message="the request that is refused"
        )
        await wait_until_async(
            lambda: condition() == "NotGranted", deadline=5, message="what the reader is told"
        )
        assert not reads(uri, "owner_c")


# --- the binding


def test_a_bad_index_leaves_the_binding_of_an_app_that_works(running: Installation) -> None:
    running.apply("bound", **INDEXED)
    running.wait_condition("bound")
    assert running.status("bound")["binding"] == {"name": "bound-mdb"}
    before = running.condition("bound", "SecretProjected")
    running.mongo["bound_c"].drop_index("at")
    running.mongo["bound_c"].create_index([("at", 1)], name="mine")
    running.annotate("bound", "rotate-requested", "now")
    wait_until(
        lambda: running.condition("bound")["status"] == "False",
        message="what is wrong",
        deadline=20,
    )
    status = running.status("bound")
    assert status["binding"] == {"name": "bound-mdb"}
    assert running.wait_condition("bound", "IndexConflict")["status"] == "False"
    after = running.condition("bound", "SecretProjected")
    assert (after["status"], after["lastTransitionTime"]) == ("True", before["lastTransitionTime"])
    running.mongo["bound_c"].drop_index("mine")
    running.annotate("bound", "looked-at", "again")
    running.wait_condition("bound")


def test_the_binding_goes_with_the_secret_alone(running: Installation) -> None:
    running.kubectl("create", "secret", "generic", "theirs")
    running.apply("unbound", secret={"name": "theirs"})
    running.wait_condition("unbound", "SecretConflict", "SecretProjected")
    assert "binding" not in running.status("unbound")
    running.kubectl("delete", "secret", "theirs")
    running.annotate("unbound", "looked-at", "again")
    running.wait_condition("unbound")
    assert running.status("unbound")["binding"] == {"name": "theirs"}


# --- what comes after the projection


async def test_a_former_secret_that_stays_is_told_and_stops_nothing(
    operator: LiveOperator,
) -> None:
    here = operator.here
    here.kubectl("create", "-f", "-", manifest=json.dumps(WORKLOAD))
    restart = [{"kind": "Deployment", "name": "web"}]
    here.apply("former", secret={"name": "a"}, restart=restart)
    await operator.settle("former")
    here.apply("former", secret={"name": "b"}, restart=restart)
    here.annotate("former", "rotate-requested", "1")
    operator.faults.fail_next(is_call("DELETE", "/secrets/a"), Fault.ERROR, status=403)
    again = await operator.look("former")
    assert operator.faults.failed is not None
    assert again.failed, "it is tried again"
    told = {row["type"]: row for row in here.status("former")["conditions"]}
    assert [row for row in told.values() if row["status"] == "False"], "it is not hidden"
    deployment = here.get("Deployment", "web")
    assert deployment is not None
    template = deployment["spec"]["template"]["metadata"].get("annotations", {})
    assert template.get("mdb-engine.dev/former.secret-version", "").startswith("2-")
    await operator.settle("former")
    assert secrets_of(here) == ["b"]


@pytest.mark.parametrize("way", ["quickly", "past-a-conflict", "past-a-restart"])
async def test_of_all_names_of_the_secret_only_the_last_stays(
    operator: LiveOperator, way: str
) -> None:
    here = operator.here
    here.apply("names", secret={"name": "a"})
    await operator.settle("names")
    if way == "past-a-conflict":
        here.kubectl("create", "secret", "generic", "b")
        here.apply("names", secret={"name": "b"})
        await operator.look("names")
    else:
        here.apply("names", secret={"name": "b"})
        delete = is_call("DELETE", "/secrets/a")
        status = is_call("PATCH", "/mdbapps/names/status")
        operator.faults.fail_next(delete if way == "quickly" else status, Fault.ERROR, status=500)
        await operator.look("names")
    here.apply("names", secret={"name": "c"})
    await operator.settle("names")
    assert secrets_of(here) == ["c"]
    assert here.status("names")["binding"] == {"name": "c"}


def test_a_restart_that_fails_has_a_condition_of_its_own(running: Installation) -> None:
    running.apply("rest", restart=[{"kind": "Deployment", "name": "nowhere"}])
    message = running.wait_condition("rest", "RestartFailed", "WorkloadsRestarted")["message"]
    assert "Deployment/nowhere" in message
    assert running.wait_condition("rest")["status"] == "True"
    assert running.wait_condition("rest", kind="SecretProjected")["status"] == "True"


# --- timers, and what cannot get better


@pytest.mark.parametrize("call", ["PATCH /status", "POST /secrets", "POST /events"])
async def test_no_404_ends_the_timers_of_an_app(operator: LiveOperator, call: str) -> None:
    method, part = call.split()
    operator.here.apply("timed")
    if part == "/status":
        await operator.settle("timed")  # whose it is was written, too
    operator.here.apply("timed", secret={"rotationPeriodSeconds": 600})
    operator.faults.fail_next(is_call(method, part), Fault.ERROR, status=404)
    again = await operator.look("timed")
    assert operator.faults.failed is not None
    assert again.failed or again.seconds is not None


@pytest.mark.parametrize("status", [404, 409, 422, 429, 500])
async def test_a_status_that_cannot_be_written_is_nothing_unexpected(
    operator: LiveOperator, status: int
) -> None:
    """Nobody's log shows a traceback for it, and how long to wait is heeded."""
    operator.here.apply("unsaid")
    await operator.settle("unsaid")  # whose it is was written, too
    operator.here.apply("unsaid", collections=[{"name": "c"}])
    operator.faults.fail_next(is_call("PATCH", "/status"), Fault.ERROR, status=status)
    again = await operator.look("unsaid")
    assert operator.faults.failed is not None
    assert operator.unexpected == []
    if status == 429:
        assert again.not_before == 1.0, "what Retry-After says"


async def test_what_cannot_get_better_is_not_tried_every_second(operator: LiveOperator) -> None:
    """A CRD that is older than the operator refuses its status."""
    operator.here.apply("refused")
    await operator.settle("refused")
    operator.here.apply("refused", collections=[{"name": "c"}])
    again = None
    for _ in range(8):
        operator.faults.fail_next(is_call("PATCH", "/status"), Fault.ERROR, status=422)
        again = await operator.look("refused")
        assert operator.faults.failed is not None
    assert again is not None
    # None is the growing delay of those that fail again and again.
    assert again.seconds is None or again.seconds > 10
