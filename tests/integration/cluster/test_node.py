"""The single node: it heals, it leaves nothing, it has no effect on another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machines import Machine, private_machine
from support.waiting import wait_until

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(300, func_only=True),  # the first of all compiles in a fixture
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: a node needs root on Linux"),
]

POD = """
kubectl run pause --image=devcluster.local/pause:1 --restart=Never
kubectl wait --for=condition=Ready pod/pause --timeout=50s
"""
"""A pod of the one image that every node has."""


SUPERVISOR = "devcluster.node.supervisor"
KUBELET = "/kubelet --config"
CONTAINERD = "^containerd --config"


@pytest.fixture
def machine(home: Path) -> Iterator[Machine]:
    with private_machine(home) as machine:
        yield machine


def kill(machine: Machine, *programs: str) -> None:
    for program in programs:
        machine.shell(f"kill -9 $(pgrep -o -f '{program}')")


def await_died(machine: Machine, *components: str) -> str:
    """Wait until status names components that died, and return what it says."""

    def said() -> str:
        text = machine.shell("$DEVCLUSTER_COMMAND status || true")
        return text if text.count("died: signal 9") == len(components) else ""

    text = wait_until(said, message=f"status says that {components} died")
    for component in components:
        assert component in text.splitlines()[0]
        assert f"log: {machine.root_of('devcluster')}/logs/{component}.log" in text
    return text


def test_a_cluster_heals_and_leaves_nothing_whatever_is_killed(machine: Machine) -> None:
    before = machine.snapshot()
    machine.devcluster("up")
    record = machine.root_of("devcluster") / "health.json"
    health = record.stat().st_mtime_ns, record.read_text()
    assert "Starting" not in machine.devcluster("up"), "a second up does nothing"
    assert (record.stat().st_mtime_ns, record.read_text()) == health, "the same processes run"
    machine.kubectl(POD)
    seen = machine.changes_since(before)
    assert seen.keys() == {"processes", "links", "routes", "cgroups"}, "what a node consists of"

    kill(machine, KUBELET, CONTAINERD)
    assert "last line: " in await_died(machine, "kubelet", "containerd")
    assert "Starting again what died: containerd, kubelet" in machine.devcluster("up")
    machine.devcluster("status")
    assert "pod/pause" in machine.kubectl("kubectl get pods -o name"), "it is the same cluster"

    kill(machine, SUPERVISOR)
    # The first process of a pid namespace ends after all others of it.
    wait_until(
        lambda: "was killed" in machine.shell("$DEVCLUSTER_COMMAND status || true"),
        message="status says that the cluster was killed",
    )
    machine.devcluster("status", code=1)
    assert "removing what is left of it" in machine.devcluster("up")
    assert machine.kubectl("kubectl get pods -o name") == "", "it is a new cluster"

    machine.kubectl(POD)
    kill(machine, KUBELET, CONTAINERD, "containerd-shim", "/kube-proxy ", "/etcd ")
    machine.devcluster("down")
    assert machine.changes_since(before) == {}
    assert not machine.root_of("devcluster").exists()


def test_down_after_up_was_killed_half_way_leaves_nothing(machine: Machine) -> None:
    before = machine.snapshot()
    with machine.start("up") as up:
        health = machine.root_of("devcluster") / "health.json"
        wait_until(health.exists, deadline=60, message="the cluster began to start")
        kill(machine, "devcluster up")
        up.communicate()
    machine.devcluster("down")
    assert machine.changes_since(before) == {}


def test_clusters_started_at_once_do_not_disturb_each_other(machine: Machine) -> None:
    names = ("devcluster", "devcluster", "other")
    starts = [machine.start("up", "--name", name) for name in names]
    said = [start.communicate(timeout=120)[0] for start in starts]
    assert [start.returncode for start in starts] == [0, 0, 0], said
    assert sum("Starting the cluster 'devcluster'" in text for text in said) == 1
    assert any("Another devcluster is at work on 'devcluster'" in text for text in said)
    assert machine.shell("pgrep -c -x kubelet").strip() == "2"
    machine.kubectl(POD)
    assert machine.kubectl("kubectl get pods -o name", "other") == ""

    machine.devcluster("down")

    machine.devcluster("status", "--name", "other")
    machine.kubectl(POD, "other")


def test_a_full_disk_is_said_before_anything_is_compiled(machine: Machine) -> None:
    cache = machine.home / "small"
    machine.shell(f"mkdir {cache} && mount -t tmpfs -o size=1m tmpfs {cache}")
    said = machine.devcluster("up", "--control-plane", code=1, XDG_CACHE_HOME=str(cache))
    assert f"Error: Too little space to compile the cluster's programs under {cache}" in said
    assert "0.0 GiB free, 6 GiB needed" in said
    assert "Hint: Make room" in said
    assert not machine.root_of("devcluster").exists()


def test_without_containerd_and_apt_it_says_what_to_install(
    machine: Machine, tmp_path: Path
) -> None:
    for program in ("sh", "ip", "env"):
        (tmp_path / program).symlink_to(f"/bin/{program}")
    machine.shell("mount -t tmpfs tmpfs /usr/sbin && mount -t tmpfs tmpfs /usr/lib/cni")
    said = machine.devcluster("up", code=1, PATH=str(tmp_path))
    assert "This machine lacks containerd, runc, containernetworking-plugins" in said
    assert "Hint: Install it yourself: `apt-get install containerd runc" in said
