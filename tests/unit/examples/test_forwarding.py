"""The demo's port forwards: they come, come back, go, and leave nothing behind."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from support.waiting import wait_until

from devcluster.node.addresses import free_port

DEMO = Path(__file__).parents[3] / "examples" / "multi_app" / "demo"

KUBECTL = """#!/bin/sh
# Listens as `kubectl port-forward` does, until it is told to end.
echo "$$" >> "{directory}/started"
exec {python} -c '
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[-1].split(":")[0])))
while True: time.sleep(1)
' "$@"
"""


@pytest.fixture
def forwarding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Give the module with free ports, a state of its own, and a kubectl that only listens."""
    monkeypatch.syspath_prepend(str(DEMO))
    for name in ("settings", "forwarding"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(KUBECTL.format(directory=tmp_path, python=sys.executable))
    program.chmod(0o755)
    spec = importlib.util.spec_from_file_location("forwarding", DEMO / "forwarding.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    forwards = {"click-tracker": (free_port(), 8000), "dashboard": (free_port(), 8001)}
    monkeypatch.setattr(module.settings, "FORWARDS", forwards)
    monkeypatch.setattr(module, "ENDING_SECONDS", 1.0)
    yield module
    module.stop()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def ports(forwarding: ModuleType) -> list[int]:
    return [port for port, _ in forwarding.settings.FORWARDS.values()]


def await_ports(forwarding: ModuleType) -> None:
    wait_until(lambda: all(map(answers, ports(forwarding))), message="both ports answer")


def test_both_ports_answer_until_they_are_stopped(
    forwarding: ModuleType, environment: dict[str, str]
) -> None:
    forwarding.start(environment)
    await_ports(forwarding)
    forwarding.stop()
    wait_until(lambda: not any(map(answers, ports(forwarding))), message="no port answers")
    forwarding.stop()


def test_a_forward_that_ends_with_its_pod_comes_back(
    forwarding: ModuleType, environment: dict[str, str], tmp_path: Path
) -> None:
    forwarding.start(environment)
    await_ports(forwarding)
    first = (tmp_path / "started").read_text().split()
    for pid in first:
        os.kill(int(pid), 9)
    wait_until(
        lambda: len((tmp_path / "started").read_text().split()) == 2 * len(first),
        message="both were started again",
    )
    await_ports(forwarding)


def test_a_second_start_takes_the_place_of_the_first(
    forwarding: ModuleType, environment: dict[str, str]
) -> None:
    forwarding.start(environment)
    await_ports(forwarding)
    forwarding.start(environment)
    await_ports(forwarding)


def test_a_port_that_is_taken_is_named(forwarding: ModuleType, environment: dict[str, str]) -> None:
    taken = ports(forwarding)[1]
    with (
        socket.create_server(("127.0.0.1", taken)),
        pytest.raises(click.ClickException, match=f"port {taken} of this machine is taken"),
    ):
        forwarding.start(environment)
    assert not answers(ports(forwarding)[0])


def test_a_process_that_is_somebody_elses_by_now_is_left_alone(
    forwarding: ModuleType, environment: dict[str, str]
) -> None:
    forwarding._record().write_text(f"[{os.getpid()}]")
    forwarding.stop()
    assert not forwarding._record().exists()
