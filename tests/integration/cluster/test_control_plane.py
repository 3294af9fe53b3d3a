"""The cluster without a node: for whoever is not root, and for tests that run no pods."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest
from support.machines import Machine
from support.waiting import wait_until

from devcluster.node import cleanup, record
from devcluster.node.layout import Layout

pytestmark = [pytest.mark.long, pytest.mark.timeout(300, func_only=True)]
"""The first of all compiles in a fixture."""

AS_NOBODY = (
    *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
    # Lets it read the interpreter and the programs, which may be in a home of root's.
    *("--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search"),
)


@pytest.fixture
def machine(home: Path) -> Machine:
    """Give this machine to an unprivileged user: the one who runs the tests, or nobody."""
    if os.geteuid() != 0:
        return Machine(home)
    for path in (home, *home.rglob("*")):
        if not path.is_symlink() and cache_is_not(path, home):
            os.chown(path, 65534, 65534)
    return Machine(home, AS_NOBODY)


def cache_is_not(path: Path, home: Path) -> bool:
    """Say whether a path is the home's own, and not reached through its link to the programs."""
    return path.resolve().is_relative_to(home.resolve())


def test_without_root_up_says_what_is_possible_and_the_control_plane_works(
    machine: Machine,
) -> None:
    said = machine.devcluster("up", code=1)
    assert "need root" in said
    assert "Hint: " in said
    assert "`devcluster up --control-plane`" in said

    machine.devcluster("up", "--control-plane")
    try:
        machine.devcluster("up", "--control-plane")
        refusal = machine.devcluster("up", code=1)
        assert "runs without a node" in refusal
        machine.kubectl("kubectl create namespace shop; kubectl -n shop create secret generic a")
        assert "kubernetes-admin" in machine.kubectl("kubectl auth whoami")
        denied = "kubectl auth can-i list secrets --as=system:serviceaccount:shop:default || true"
        assert machine.kubectl(denied).strip() == "no"
        wait_until(
            lambda: machine.kubectl("kubectl -n shop get serviceaccount -o name").strip(),
            message="the controllers work",
        )
        assert "v3." in machine.kubectl("helm version --short")
        root = machine.root_of("devcluster")
        open_to_others = machine.shell(f"find {root} -maxdepth 0 -perm /077").strip()
        assert not open_to_others
    finally:
        machine.devcluster("down")
    assert not machine.root_of("devcluster").exists()


def test_a_control_plane_ends_with_its_supervisor_and_is_replaced(machine: Machine) -> None:
    root = machine.root_of("devcluster")
    machine.devcluster("up", "--control-plane")
    try:
        assert len(cleanup.processes(root)) == 4
        known = record.load(Layout(root))
        assert known is not None
        known.supervisor.kill()
        wait_until(
            lambda: not cleanup.processes(root), message="everything ends with the supervisor"
        )
        assert "was killed" in machine.devcluster("status", code=1)
        assert "does not run" in machine.devcluster("env", code=1)
        assert "removing what is left of it" in machine.devcluster("up", "--control-plane")
    finally:
        machine.devcluster("down")
    assert not cleanup.processes(root)


def test_a_port_that_is_taken_is_named(machine: Machine) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        said = machine.devcluster("up", "--control-plane", "--port", str(port), code=1)
    assert f"Error: Port {port}, asked for the API server, cannot be used" in said
    assert "Hint: `ss -ltnp" in said


def test_a_record_that_cannot_be_read_stops_nobody(machine: Machine) -> None:
    machine.shell(f"mkdir -p {machine.root_of('devcluster')}")
    machine.shell(f"echo nonsense > {machine.root_of('devcluster')}/cluster.json")
    assert "was killed" in machine.devcluster("status", code=1)
    machine.devcluster("down")
    assert "There is no cluster" in machine.devcluster("down")
