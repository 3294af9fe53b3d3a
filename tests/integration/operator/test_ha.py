"""Two replicas: one works, and the other takes over; a request is served by whoever is alive."""

from __future__ import annotations

import time

import pytest
from support.installation import Installation, is_ready
from support.waiting import wait_until

from mdb_operator.constants import EXIT_LEASE_LOST

pytestmark = pytest.mark.long

QUICK = {"LEASE_SECONDS": "5", "LEASE_RENEW_DEADLINE_SECONDS": "3.5", "LEASE_RETRY_SECONDS": "0.5"}
"""Half of the defaults: most of the test is waiting for the Lease of a killed leader to run out."""


def test_the_other_replica_takes_over_and_no_request_is_lost_or_done_twice(
    installation: Installation,
) -> None:
    installation.settings.update(QUICK)
    first = installation.start(name="a")
    second = installation.start(name="b", wait=False)
    second.wait_for("Waiting for the Lease")
    installation.apply("ha")
    installation.wait_condition("ha")
    assert installation.metrics(first)["mdb_operator_leader"] == 1
    assert installation.metrics(second)["mdb_operator_leader"] == 0

    installation.kill(first)
    killed = time.monotonic()
    installation.annotate("ha", "rotate-requested", "while nobody leads")
    installation.kubectl("delete", "secret", "ha-mdb")
    wait_until(
        lambda: installation.status("ha")["secret"]["version"] == 2,
        deadline=20,
        message=lambda: f"the rotation by the other replica, which says:\n{second.text()}",
    )
    assert time.monotonic() - killed < 20
    assert installation.secret("ha-mdb")["secret-version"] == "2"

    # Another takes the Lease, as after a partition: the process ends at once.
    lease = f"{installation.namespace}-leader"
    installation.kubectl(
        "patch", "lease", lease, "--type=merge", "-p", '{"spec": {"holderIdentity": "c"}}',
        namespace=installation.namespace,
    )  # fmt: skip
    assert second.wait_end() == EXIT_LEASE_LOST
    assert installation.status("ha")["secret"]["version"] == 2


def test_two_operators_that_both_lead_leave_every_app_with_one_secret(
    installation: Installation,
) -> None:
    both = [installation.start(name=name, LEADER_ELECTION="false") for name in ("a", "b")]
    names = [f"split-{number}" for number in range(12)]
    installation.apply_all(names)
    installation.wait_all(is_ready, names, message="all apps ready")
    installation.annotate(names, "rotate-requested", "once")
    installation.wait_all(
        lambda status: status["secret"]["version"] == 2, names, message="all apps rotated"
    )
    for process in both:
        installation.stop(process)
    assert installation.mongo["_mdb_engine_installation"].count_documents({}) == 1
    rows = {row["slug"]: row for row in installation.mongo["_mdb_engine_app_secrets"].find()}
    grants = {row["slug"]: row for row in installation.mongo["_mdb_engine_grants"].find()}
    for name in names:
        assert rows[name]["version"] == 2, "one request, one rotation"
        assert [v["version"] for v in grants[name]["verifiers"]] == [2, 1]
        assert installation.secret(f"{name}-mdb")["secret-version"] == "2"
