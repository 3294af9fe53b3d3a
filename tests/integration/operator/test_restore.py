"""After a restore of etcd generations and resource versions are lower than what was seen."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import ExitStack
from pathlib import Path

from support.api import ApiError
from support.clusters import Cluster
from support.installation import Installation, installed
from support.mongo import Server
from support.operator_edge import Process
from support.waiting import wait_until

from devcluster.node.provider import NodeProvider
from mdb_operator.constants import EXIT_LEASE_LOST

LATER = 5

ENDS_WITHIN = 90.0
"""Seconds from a restore to the end of a process that saw the API server before it."""

REST_SECONDS = 4.0
"""What spins does so at least once a second, and would be seen in this time."""


def remember_a_later_generation(here: Installation, slug: str) -> None:
    """Let the database know of generations that the restored etcd does not."""
    result = here.mongo["apps_config"].update_one(
        {"slug": slug}, {"$inc": {"generation": LATER, "revision": 1}}
    )
    assert result.modified_count == 1


def test_an_app_of_a_restored_etcd_is_applied_as_it_is(running: Installation) -> None:
    running.apply("restored", collections=[{"name": "c"}])
    running.wait_condition("restored")
    remember_a_later_generation(running, "restored")
    running.apply("restored", collections=[{"name": "c"}, {"name": "after"}])
    running.wait_condition("restored")
    assert "restored_after" in running.mongo.list_collection_names()
    row = running.mongo["apps_config"].find_one({"slug": "restored"})
    assert row is not None
    assert row["generation"] == running.app("restored")["metadata"]["generation"]


def test_a_start_after_a_restore_does_not_spin(installation: Installation) -> None:
    here = installation
    process = here.start()
    here.apply("calm")
    here.wait_condition("calm")
    here.stop(process)
    remember_a_later_generation(here, "calm")
    process = here.start()
    here.annotate("calm", "rotate-requested", "now")
    wait_until(
        lambda: here.secret("calm-mdb")["secret-version"] == "2",
        deadline=10,
        message="the rotation of what was restored",
    )
    metrics = here.metrics(process)
    assert any(name.startswith("mdb_operator_reconcile_total") for name in metrics)
    assert metrics.get('mdb_operator_reconcile_total{result="waiting"}', 0.0) <= 1
    here.stop(process)


def pids(cluster: Cluster) -> dict[str, int]:
    """Return the processes of a control plane that run."""
    return {part.name: part.pid for part in cluster.provider.status().components if part.healthy}


def etcd_of(cluster: Cluster) -> Path:
    """Return the data directory of a cluster's etcd."""
    assert isinstance(cluster.provider, NodeProvider)
    return cluster.provider.layout.data("etcd")


def back_up(cluster: Cluster, kept: Path) -> None:
    """Copy etcd's data as they are in one moment."""
    etcd = pids(cluster)["etcd"]
    os.kill(etcd, signal.SIGSTOP)
    try:
        shutil.copytree(etcd_of(cluster), kept)
    finally:
        os.kill(etcd, signal.SIGCONT)


def restore(cluster: Cluster, kept: Path) -> None:
    """End the control plane, put the copy in the place of etcd's data, and start it again."""
    for pid in pids(cluster).values():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not pids(cluster), message="the end of the control plane")
    shutil.rmtree(etcd_of(cluster))
    shutil.copytree(kept, etcd_of(cluster))
    cluster.repair()


def start_as_kubelet_does(here: Installation, **settings: str) -> Process:
    """Start an operator, again whenever it ends, until it works.

    An API server that has just started refuses what it has not read the Roles for yet.
    """
    here.start(wait=False, **settings)

    def works() -> bool:
        if here.processes[-1].popen.poll() is not None:
            here.start(wait=False, **settings)
        return "The controller has started" in here.processes[-1].text()

    wait_until(
        works, deadline=ENDS_WITHIN, message=lambda: f"a start:\n{here.processes[-1].text()}"
    )
    return here.processes[-1]


def work_done(here: Installation, process: Process) -> dict[str, float]:
    """Return how often an operator reconciled an app, and wrote to Kubernetes and MongoDB."""
    reconciled = {
        name: value
        for name, value in here.metrics(process).items()
        if name.startswith("mdb_operator_reconcile_total")
    }
    assert reconciled
    writes = {"oplog": float(here.written_to_mongodb())}
    return reconciled | here.written_to_kubernetes(process) | writes


def wait_at_rest(here: Installation, process: Process) -> None:
    """Wait until an operator did nothing for a while."""
    seen, since = work_done(here, process), time.monotonic()

    def rests() -> bool:
        nonlocal seen, since
        now = work_done(here, process)
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > REST_SECONDS

    wait_until(rests, deadline=30, message=lambda: f"an operator at rest, but it did {seen}")


def test_a_restore_of_etcd_starts_a_running_operator_anew_on_what_there_is(
    own_control_plane: Cluster, mongo_auth_server: Server, tmp_path: Path
) -> None:
    cluster = own_control_plane
    # The first finds it by its Lease, if it does not lose that while the API server is away. The
    # other has none, and finds it by its list.
    settings: dict[str, dict[str, str]] = {
        "elected": {},
        "alone": {"LEADER_ELECTION": "false", "RELIST_SECONDS": "1"},
    }
    with ExitStack() as stack:
        each = {}
        for name in settings:
            (tmp_path / name).mkdir()
            each[name] = stack.enter_context(
                installed(cluster, mongo_auth_server, tmp_path / name)
            )
        for name, here in each.items():
            here.start(**settings[name])
            here.apply("kept", collections=[{"name": "c"}])
            here.wait_condition("kept")
        back_up(cluster, tmp_path / "etcd")

        known = {}
        for name, here in each.items():
            for number in range(20):
                here.apply("kept", collections=[{"name": "c"}, {"name": f"later{number}"}])
            here.annotate("kept", "rotate-requested", "after the backup")
            here.wait_condition("kept")
            wait_until(
                lambda here=here: here.secret("kept-mdb")["secret-version"] == "2",
                message="the rotation after the backup",
            )
            known[name] = here.app("kept")["metadata"]

        restore(cluster, tmp_path / "etcd")
        began = time.monotonic()
        for name, here in each.items():
            code = here.processes[-1].wait_end(deadline=ENDS_WITHIN)
            print(f"{name} ended with {code} after {time.monotonic() - began:.1f} s")
            assert code == (EXIT_LEASE_LOST if name == "elected" else 1)
        assert "it was restored" in each["alone"].processes[-1].text()

        for name, here in each.items():
            process = start_as_kubelet_does(here, **settings[name])
            metadata = here.app("kept")["metadata"]
            assert metadata["uid"] == known[name]["uid"]
            assert metadata["generation"] < known[name]["generation"]
            here.wait_condition("kept")
            wait_until(
                lambda here=here: here.secret("kept-mdb")["secret-version"] == "2",
                message="the Secret of the version that MongoDB knows",
            )
            row = here.mongo["apps_config"].find_one({"slug": "kept"})
            assert row["generation"] == metadata["generation"]
            wait_at_rest(here, process)

            here.apply("kept", collections=[{"name": "c"}, {"name": "anew"}])
            here.wait_condition("kept")
            assert "kept_anew" in here.mongo.list_collection_names()
            here.annotate("kept", "rotate-requested", "after the restore")
            wait_until(
                lambda here=here: here.secret("kept-mdb")["secret-version"] == "3",
                message="the rotation after the restore",
            )
            here.apply("next")
            here.wait_condition("next")
            wait_at_rest(here, process)
            here.stop(process)
            print(f"{name} done after {time.monotonic() - began:.1f} s")
