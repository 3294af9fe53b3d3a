"""After a restore of etcd generations and resource versions are lower than what was seen."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.api import ApiError
from support.clusters import Cluster
from support.credentials import opens, wait_refused
from support.installation import Installation, installed, is_ready
from support.mongo import Server
from support.operator_edge import Process
from support.waiting import wait_unchanged, wait_until

from devcluster.node.provider import NodeProvider
from mdb_operator.constants import EXIT_LEASE_LOST

pytestmark = pytest.mark.long

LATER = 5

APPS = ("kept", "changed")
"""The second is changed after the restore, too."""

SPEC: dict[str, Any] = {"collections": [{"name": "c"}]}

ENDS_WITHIN = 90.0
"""Seconds from a restore to the end of a process that saw the API server before it."""

REST_SECONDS = 3.0
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


def etcd_of(cluster: Cluster) -> Path:
    """Return the data directory of a cluster's etcd."""
    assert isinstance(cluster.provider, NodeProvider)
    return cluster.provider.layout.data("etcd")


def back_up(cluster: Cluster, kept: Path) -> None:
    """Copy etcd's data as they are in one moment."""
    etcd = cluster.pids()["etcd"]
    os.kill(etcd, signal.SIGSTOP)
    try:
        shutil.copytree(etcd_of(cluster), kept)
    finally:
        os.kill(etcd, signal.SIGCONT)


def restore(cluster: Cluster, kept: Path) -> None:
    """End the control plane, put the copy in the place of etcd's data, and start it again."""
    for pid in cluster.pids().values():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not cluster.pids(), message="the end of the control plane")
    shutil.rmtree(etcd_of(cluster))
    shutil.copytree(kept, etcd_of(cluster))
    cluster.repair()


def start_as_kubelet_does(here: Installation) -> Process:
    """Start an operator, again whenever it ends, until it works.

    An API server that has just started refuses what it has not read the Roles for yet.
    """
    here.start(wait=False)

    def works() -> bool:
        if here.processes[-1].popen.poll() is not None:
            here.start(wait=False)
        return "The controller has started" in here.processes[-1].text()

    wait_until(works, deadline=60, message=lambda: f"a start:\n{here.processes[-1].text()}")
    return here.processes[-1]


def work_done(here: Installation) -> dict[str, float]:
    """Return how often an operator reconciled, and wrote to Kubernetes and MongoDB."""
    reconciles = here.looks(here.processes[-1])
    assert reconciles
    writes = here.written_to_kubernetes(here.processes[-1])
    return reconciles | writes | {"oplog": float(here.written_to_mongodb())}


def wait_at_rest(installations: list[Installation]) -> None:
    """Wait until operators did nothing for a while."""
    wait_unchanged(
        lambda: [work_done(here) for here in installations],
        seconds=REST_SECONDS,
        deadline=30,
        message="operators at rest",
    )


def wait_secret(here: Installation, app: str, version: str) -> None:
    wait_until(
        lambda: here.secret(f"{app}-mdb")["secret-version"] == version,
        deadline=20,
        message=f"version {version} in the Secret of {app}",
    )


def work_on(here: Installation) -> str:
    """Do after the backup what the restored etcd will not know; return the URI of a new app."""
    for number in range(20):
        for app in APPS:
            here.apply(app, **SPEC, displayName=f"Name {number}")
    here.annotate(APPS, "rotate-requested", "after the backup")
    here.apply("lost")
    for app in APPS:
        wait_secret(here, app, "2")
    for app in (*APPS, "lost"):
        here.wait_condition(app)
    uri = here.secret("lost-mdb")["uri"]
    assert opens(uri)
    return uri


def check_works(here: Installation, lost_uri: str) -> None:
    """See that an operator applies what there is, and heeds what is changed now."""
    wait_refused(lost_uri, "whoever has the Secret of a lost MdbApp", deadline=60)
    for app in APPS:
        wait_secret(here, app, "2")
    here.apply("changed", collections=[*SPEC["collections"], {"name": "anew"}])
    here.annotate("changed", "rotate-requested", "after the restore")
    here.apply("next")
    wait_secret(here, "changed", "3")
    for app in (*APPS, "next"):
        here.wait_condition(app)
        row = here.mongo["apps_config"].find_one({"slug": app})
        assert row is not None
        assert row["generation"] == here.app(app)["metadata"]["generation"]
    assert "changed_anew" in here.mongo.list_collection_names()


def test_a_restore_of_etcd_starts_running_operators_anew_on_what_there_is(
    own_control_plane: Cluster, mongo_auth_server: Server, tmp_path: Path
) -> None:
    cluster = own_control_plane
    with ExitStack() as stack:

        def install(name: str, **settings: str) -> Installation:
            directory = tmp_path / name
            directory.mkdir()
            here = stack.enter_context(installed(cluster, mongo_auth_server, directory))
            here.settings.update(settings)
            return here

        # One finds it by its Lease, unless it loses that while the API server is away. The other
        # has none, and finds it by its list.
        elected = install("elected", LEASE_SECONDS="7")
        alone = install("alone", LEADER_ELECTION="false", RELIST_SECONDS="1")
        both = [elected, alone]
        for here in both:
            here.start()
            here.apply_all(APPS, **SPEC)
            here.wait_all(is_ready, APPS, message="all apps ready")
        back_up(cluster, tmp_path / "etcd")
        lost = [work_on(here) for here in both]
        restore(cluster, tmp_path / "etcd")
        wait_until(
            lambda: [here.app("kept")["metadata"]["generation"] for here in both] == [1, 1],
            deadline=30,
            message="the MdbApps as they were at the backup",
            ignoring=ApiError,  # until the API server serves the kind
        )
        assert elected.processes[-1].wait_end(deadline=ENDS_WITHIN) == EXIT_LEASE_LOST
        assert alone.processes[-1].wait_end(deadline=ENDS_WITHIN) == 1
        assert "it was restored" in alone.processes[-1].text()
        for here in both:
            start_as_kubelet_does(here)
        for here, uri in zip(both, lost, strict=True):
            check_works(here, uri)
        wait_at_rest(both)
        for here in both:
            here.stop(here.processes[-1])
