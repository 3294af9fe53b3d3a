"""The Docker engine of devcluster's own: it runs containers, it heals, it leaves nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machines import Machine, private_machine

from devcluster import build, packages
from devcluster.engine import own
from devcluster.filelock import hold
from devcluster.node import sandbox
from devcluster.paths import cache_dir
from devcluster.progress import Progress

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(120, func_only=True),
    pytest.mark.root,
    pytest.mark.skipif(bool(own.why_not()), reason=f"NOT TESTED: {own.why_not()}"),
]


@pytest.fixture
def machine(home: Path) -> Iterator[Machine]:
    with hold(cache_dir() / "packages.lock"):
        packages.require(own.REQUIREMENTS, Progress())
    with private_machine(home) as machine:
        yield machine


def docker(machine: Machine, script: str) -> str:
    return machine.shell(f'set -e; eval "$($DEVCLUSTER_COMMAND engine env)"; {script}')


def load_pause(machine: Machine) -> None:
    """Give the engine the one image that needs neither a registry nor a build."""
    archive = machine.home / "pause.tar"
    program = build.ensure(build.PAUSE, Progress()) / "pause"
    docker(machine, f"docker load --quiet --input {sandbox.write_archive(archive, program)}")
    archive.unlink()


def test_the_engine_runs_containers_and_leaves_nothing_whatever_is_killed(
    machine: Machine,
) -> None:
    before = machine.snapshot()
    machine.devcluster("engine", "up")
    assert "Starting" not in machine.devcluster("engine", "up"), "a second up does nothing"
    load_pause(machine)
    docker(machine, f"docker run --detach --privileged --volume /data {sandbox.IMAGE}")
    assert docker(machine, "docker ps --quiet"), "the privileged container runs"
    # Only the link and the routes to it are the machine's; no rule, no bridge, no mount is.
    changes = machine.changes_since(before)
    assert changes.keys() == {"processes", "links", "routes", "cgroups"}, changes

    machine.shell("kill -9 $(pgrep -o -x docker-init)")
    machine.devcluster("engine", "up")
    assert docker(machine, "docker ps --all --quiet; docker volume ls --quiet") == ""
    assert sandbox.IMAGE.split(":")[0] in docker(machine, "docker images"), "images stay"
    machine.devcluster("engine", "down")

    assert machine.changes_since(before) == {}
    assert "did not run" in machine.devcluster("engine", "down")


def test_a_published_port_is_at_the_engines_address_and_local_inside(machine: Machine) -> None:
    machine.devcluster("engine", "up")
    load_pause(machine)
    docker(machine, f"docker run --detach --publish 8123:80 {sandbox.IMAGE}")

    # Nothing listens in the container. So the port is refused by it, and not by the machine.
    listening = machine.shell("$DEVCLUSTER_COMMAND engine exec ss -Hltn 'sport = :8123'")
    assert "8123" in listening
    assert "8123" not in machine.shell("ss -Hltn 'sport = :8123'")

    machine.devcluster("engine", "down")


def test_an_engine_for_clusters_goes_with_the_last_container(machine: Machine) -> None:
    """`make test-kind` must not leave an engine behind, nor take one that the user started."""
    end = "from devcluster.engine import own; own.down_if_unused(); print(own.runs())"
    begin = (
        "from devcluster.engine import own; from devcluster.progress import Progress;"
        "own.up(Progress(), keep=False)"
    )
    python = sys.executable
    machine.shell(f"{python} -c '{begin}'")
    load_pause(machine)
    container = docker(machine, f"docker run --detach {sandbox.IMAGE}").strip()

    assert machine.shell(f"{python} -c '{end}'") == "True\n", "a container runs on it"
    docker(machine, f"docker rm --force {container}")
    assert machine.shell(f"{python} -c '{end}'") == "False\n"
    machine.devcluster("engine", "up")
    assert machine.shell(f"{python} -c '{end}'") == "True\n", "the user asked for it"
    machine.devcluster("engine", "down")
