"""Real processes contend for a real Lease."""

from __future__ import annotations

import datetime as dt
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import operator_process
from support.clusters import Cluster
from support.operator_edge import Process
from support.waiting import wait_until

from mdb_operator.constants import EXIT_LEASE_LOST

pytestmark = pytest.mark.long

LEASE = "mdb-operator-leader"

TIMES = {"LEASE_SECONDS": "3", "LEASE_RENEW_DEADLINE_SECONDS": "2", "LEASE_RETRY_SECONDS": "0.3"}
"""A third of the defaults: what is tested is proportional to them."""

WAITS = "Waiting for the Lease"
LEADS = "This process leads now"

Start = Callable[..., Process]


@pytest.fixture
def start(
    control_plane: Cluster, namespace: str, crd: None, start_python: Callable[..., Process]
) -> Start:
    """Give a function that starts an operator process with a name and further settings."""

    def start(name: str, *arguments: str, **settings: str) -> Process:
        values = {
            "NAMESPACE": namespace,
            "POD_NAME": name,
            "KUBECONFIG": str(control_plane.kubeconfig),
            # Nobody listens there: neither starting nor leading needs MongoDB.
            "MONGODB_URI": "mongodb://127.0.0.1:1/",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": "0",
            **TIMES,
            **settings,
        }
        env = {
            **control_plane.environment,
            **{f"MDB_OPERATOR_{key}": value for key, value in values.items()},
        }
        return start_python(str(Path(operator_process.__file__)), *arguments, env=env)

    return start


def lease(control_plane: Cluster, namespace: str) -> dict[str, Any]:
    found = control_plane.api.get("Lease", LEASE, namespace)
    assert found is not None
    spec: dict[str, Any] = found["spec"]
    return spec


def logged_at(process: Process, message: str) -> dt.datetime:
    """Return when the process logged something, by its own record: starting it takes seconds."""
    line = next(line for line in process.text().splitlines() if message in line)
    return dt.datetime.fromisoformat(json.loads(line)["time"])


def get(process: Process, path: str) -> httpx.Response:
    found = re.search(r'"port": ?(\d+)', process.text())
    assert found is not None, process.text()
    return httpx.get(f"http://127.0.0.1:{found[1]}{path}", trust_env=False, timeout=5)


def test_when_the_leader_is_killed_the_other_takes_over_and_at_its_end_gives_back(
    control_plane: Cluster, namespace: str, start: Start
) -> None:
    first = start("first")
    first.wait_for("controller works")
    second = start("second")
    second.wait_for(WAITS)
    assert get(second, "/readyz").status_code == 200
    assert "mdb_operator_leader 0.0" in get(second, "/metrics").text
    assert "mdb_operator_leader 1.0" in get(first, "/metrics").text

    killed = dt.datetime.now(dt.UTC)
    first.popen.send_signal(signal.SIGKILL)
    second.wait_for("controller works")
    # lease + 2 retries, and some room for a busy machine; with the defaults 14 s of the 20.
    assert logged_at(second, LEADS) - killed < dt.timedelta(seconds=3 + 2 * 0.3 + 2.5)
    spec = lease(control_plane, namespace)
    assert spec["holderIdentity"].startswith("second_")
    assert spec["leaseTransitions"] == 1

    waiting = start("waiting")
    waiting.wait_for(WAITS)
    waiting.popen.send_signal(signal.SIGTERM)
    assert waiting.wait_end() == 0
    assert "controller works" not in waiting.text()

    second.popen.send_signal(signal.SIGTERM)
    assert second.wait_end() == 0
    assert "controller stopped" in second.text()
    assert lease(control_plane, namespace)["holderIdentity"] == ""
    third = start("third")
    third.wait_for("controller works")
    # It did not wait for the lease to run out: nobody held it.
    assert logged_at(third, LEADS) - logged_at(third, WAITS) < dt.timedelta(seconds=2.5)


def test_a_leader_that_lost_its_lease_ends_at_once_even_with_a_blocked_loop(
    control_plane: Cluster, namespace: str, start: Start
) -> None:
    leader = start("leader", "block")
    leader.wait_for("controller works")
    patch = '{"spec":{"holderIdentity":"somebody-else"}}'
    control_plane.kubectl("patch", "lease", LEASE, "-n", namespace, "--type=merge", "-p", patch)
    assert leader.wait_end(deadline=30) == EXIT_LEASE_LOST
    assert "Another process took the Lease" in leader.text()
    assert "controller stopped" not in leader.text()


def test_a_lease_that_is_deleted_is_made_anew_by_its_holder_and_taken_by_nobody_else(
    control_plane: Cluster, namespace: str, start: Start
) -> None:
    leader = start("leader")
    leader.wait_for("controller works")
    other = start("other")
    other.wait_for(WAITS)
    uids = set()
    for _ in range(3):
        found = control_plane.api.get("Lease", LEASE, namespace)
        assert found is not None
        uids.add(found["metadata"]["uid"])
        control_plane.api.delete("Lease", LEASE, namespace)
        wait_until(
            lambda: control_plane.api.get("Lease", LEASE, namespace) is not None,
            message="the Lease is there again",
        )
        assert lease(control_plane, namespace)["holderIdentity"].startswith("leader_")
    assert len(uids) == 3
    assert LEADS not in other.text()
    leader.popen.send_signal(signal.SIGTERM)
    assert leader.wait_end() == 0, leader.text()
    other.wait_for("controller works")


def test_a_leader_that_may_not_renew_any_more_ends(
    control_plane: Cluster, namespace: str, start: Start
) -> None:
    leader = start("leader")
    leader.wait_for("controller works")
    leader.popen.send_signal(signal.SIGSTOP)  # a paused machine
    other = start("other")
    other.wait_for("controller works")
    leader.popen.send_signal(signal.SIGCONT)
    assert leader.wait_end(deadline=30) == EXIT_LEASE_LOST
    assert lease(control_plane, namespace)["holderIdentity"].startswith("other_")


def test_without_an_answer_of_the_api_server_it_is_alive_not_ready_and_says_why(
    start: Start, tmp_path: Path, control_plane: Cluster
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    text = control_plane.kubeconfig.read_text()
    kubeconfig.write_text(re.sub(r"server: .*", "server: https://127.0.0.1:1", text))
    process = start("lonely", KUBECONFIG=str(kubeconfig))
    process.wait_for("cannot be listed yet")
    assert get(process, "/healthz").status_code == 200
    answer = get(process, "/readyz")
    assert answer.status_code == 503
    wait_until(
        lambda: "no answer" in str(get(process, "/readyz").json()["waiting_for"]),
        message="the reason shows",
    )
    process.popen.send_signal(signal.SIGTERM)
    assert process.wait_end() == 0


def test_a_wrong_setting_ends_the_start_with_its_name(
    control_plane: Cluster, start_python: Callable[..., Process]
) -> None:
    env = {**control_plane.environment, "MDB_OPERATOR_MONGODB_URI": "hunter2://"}
    process = start_python(
        "-c", "from mdb_operator.cli.main import main; main(['release', 'x'])", env=env
    )
    assert process.wait_end() == 78
    assert "MDB_OPERATOR_MONGODB_URI: must start with mongodb://" in process.text()
    assert "hunter2" not in process.text()
    assert "Traceback" not in process.text()
