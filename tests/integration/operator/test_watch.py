"""The watch of MdbApps: what it loses is found, and one that hangs is seen from outside."""

from __future__ import annotations

import signal
from urllib.parse import parse_qs, urlsplit

import pytest
from support.gateway import gateway
from support.installation import Installation, is_ready
from support.waiting import wait_until

from mdb_operator.handlers.operator import CHUNK_SIZE

pytestmark = pytest.mark.long


def series(installation: Installation, name: str) -> list[str]:
    found = installation.metrics(installation.processes[-1])
    return [metric for metric in found if f'name="{name}"' in metric]


def remove_at_once(installation: Installation, name: str) -> None:
    """Delete an MdbApp without its finalizer, as by force."""
    patch = {"metadata": {"finalizers": None}}
    installation.cluster.api.patch("MdbApp", name, patch, installation.apps)
    installation.cluster.api.delete("MdbApp", name, installation.apps)
    installation.wait_gone(name)


def test_a_deletion_that_the_watch_lost_is_found(installation: Installation) -> None:
    here = installation
    with gateway(here.directory / "kubeconfig") as api:
        process = here.start(RELIST_SECONDS="1")
        here.apply("kept")
        here.apply("lost")
        here.wait_condition("kept")
        here.wait_condition("lost")
        wait_until(lambda: series(here, "lost"), message="the metrics of an app")

        api.watches = "refuse"
        api.cut()
        remove_at_once(here, "lost")
        api.watches = "expire"
        # Found by the list, or by whoever looks at the app meanwhile and does not find it.
        wait_until(lambda: not series(here, "lost"), message="the end of the ghost's metrics")
        wait_until(
            lambda: here.mongo["_mdb_engine_grants"].count_documents({"slug": "lost"}) == 0,
            message="the end of the ghost's access",
        )
        assert series(here, "kept")
        here.apply("next")
        here.wait_condition("next", deadline=60)  # kopf tries again after half a minute at most
        assert here.ask(process, "/healthz").status_code == 200
        here.stop(process)


def test_a_watch_that_hangs_makes_the_process_unhealthy_until_it_does_not(
    installation: Installation,
) -> None:
    here = installation
    with gateway(here.directory / "kubeconfig") as api:
        process = here.start(RELIST_SECONDS="1", WATCH_LIMIT_SECONDS="3")
        here.apply("seen")
        here.wait_condition("seen")
        api.watches = "hang"
        api.cut()
        wait_until(
            lambda: here.ask(process, "/healthz").status_code == 200, message="it is healthy"
        )
        here.apply("unseen")
        wait_until(
            lambda: here.ask(process, "/healthz").status_code == 503,
            message="the process says that its watch hangs",
        )
        assert "has not shown 1 changes" in here.ask(process, "/healthz").json()["problem"]
        assert here.status("unseen") == {"observedGeneration": -1}

        api.watches = "pass"
        api.cut()
        here.wait_condition("unseen")
        wait_until(
            lambda: here.ask(process, "/healthz").status_code == 200, message="it is healthy again"
        )
        here.stop(process)


def test_lists_come_in_pages_and_a_start_asks_for_little(installation: Installation) -> None:
    here = installation
    names = [f"page-{number}" for number in range(2 * CHUNK_SIZE + 1)]
    process = here.start()
    here.apply_all(names)
    here.wait_all(is_ready, names, message="all apps ready", deadline=60)
    here.stop(process)
    with gateway(here.directory / "kubeconfig") as api:
        process = here.start()
        key = 'mdb_operator_reconcile_total{result="unchanged"}'
        wait_until(
            lambda: here.metrics(process).get(key, 0) >= len(names),
            deadline=60,
            message="every app is looked at",
        )
        lists = [
            parse_qs(parts.query)
            for parts in map(urlsplit, api.requests)
            if parts.path.endswith(f"/namespaces/{here.apps}/mdbapps")
        ]
        paged = [query for query in lists if query.get("limit") == [str(CHUNK_SIZE)]]
        assert len(paged) == 3
        assert all("limit" in query or "watch" in query for query in lists)
        assert sum(here.written_to_kubernetes(process).values()) == 0
        here.stop(process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_leader_and_the_standby_in_order(
    installation: Installation, number: signal.Signals
) -> None:
    here = installation
    leader = here.start(name="leader")
    standby = here.start(name="standby", wait=False)
    standby.wait_for("Waiting for the Lease")
    standby.popen.send_signal(number)
    assert standby.wait_end(deadline=5) == 0, standby.text()
    assert "The controller has started" not in standby.text()
    leader.popen.send_signal(number)
    assert leader.wait_end(deadline=10) == 0, leader.text()
    assert "The Lease was released" in leader.text()
    assert '"Stopped"' in leader.text()
    assert "Traceback" not in leader.text() + standby.text()
