"""The supervisor with real processes, without namespaces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until

from devcluster.node import record
from devcluster.node.component import Component, Health, State
from devcluster.node.layout import Layout
from devcluster.node.processes import ProcessId

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.logs.mkdir()
    return layout


@pytest.fixture
def start(layout: Layout) -> Iterator[Start]:
    """Start a supervisor for components; it is killed after the test."""
    started = []

    def start(*components: Component) -> subprocess.Popen[bytes]:
        plan = {"namespace": None, "components": [component.dump() for component in components]}
        layout.write(layout.plan, json.dumps(plan))
        command = [sys.executable, "-m", "devcluster.node.supervisor", str(layout.root)]
        started.append(subprocess.Popen(command, env=os.environ | {"SECRET": "user's"}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def await_health(layout: Layout, **states: State) -> dict[str, Health]:
    """Wait until components are in given states."""

    def reached() -> dict[str, Health] | None:
        health = record.load_health(layout)
        same = {name: entry.state for name, entry in health.items()} == states
        return health if same else None

    return (
        wait_until(reached, message=lambda: f"{states}, but it is {record.load_health(layout)}")
        or {}
    )


def shell(name: str, script: str, **rest: object) -> Component:
    return Component(name, ("sh", "-c", script), **rest)  # type: ignore[arg-type]


def test_a_component_starts_when_those_before_it_are_ready(
    layout: Layout, start: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    serve = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]);"
        "s.listen(); sys.stdin.close(); __import__('time').sleep(60)"
    )
    wait = f'while [ ! -e {gate} ]; do sleep 0.02; done; exec "$@"'
    first = Component(
        "first",
        ("sh", "-c", wait, "sh", sys.executable, "-c", serve, str(tmp_path / "s")),
        ready=f"unix:{tmp_path / 's'}",
    )
    start(first, shell("second", "exec sleep 60", after=("first",)))

    await_health(layout, first=State.STARTING, second=State.WAITING)
    gate.touch()
    await_health(layout, first=State.READY, second=State.READY)


def test_a_death_is_recorded_with_its_reason_and_its_last_words(
    layout: Layout, start: Start
) -> None:
    start(
        shell("exits", "echo one; echo the disk is on fire >&2; echo; exit 3"),
        shell("lives", "exec sleep 60"),
        Component("missing", ("/no/such/program",)),
    )
    health = await_health(layout, exits=State.DIED, lives=State.READY, missing=State.DIED)
    assert health["exits"].reason == "exit status 3"
    assert record.last_line(layout, "exits") == "the disk is on fire"
    assert "No such file" in record.last_line(layout, "missing")

    os.kill(health["lives"].pid, signal.SIGKILL)
    health = await_health(layout, exits=State.DIED, lives=State.DIED, missing=State.DIED)
    assert health["lives"].reason == "signal 9"


def test_what_died_stays_dead_until_it_is_asked_for(
    layout: Layout, start: Start, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    starts.touch()
    counted = f"echo x >> {starts}; exec sleep 60"
    supervisor = start(shell("counted", counted), shell("other", "exec sleep 60"))
    health = await_health(layout, counted=State.READY, other=State.READY)
    wait_until(lambda: starts.read_text() == "x\n", message="it was started once")
    os.kill(health["counted"].pid, signal.SIGKILL)
    await_health(layout, counted=State.DIED, other=State.READY)

    supervisor.send_signal(signal.SIGHUP)

    revived = await_health(layout, counted=State.READY, other=State.READY)
    wait_until(lambda: starts.read_text() == "x\nx\n", message="it was started twice")
    assert revived["other"].pid == health["other"].pid, "what lives is left alone"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_components_end_with_the_supervisor(
    layout: Layout, start: Start, number: signal.Signals
) -> None:
    supervisor = start(shell("one", "exec sleep 60"), shell("two", "exec sleep 60"))
    health = await_health(layout, one=State.READY, two=State.READY)
    identities = [ProcessId.of(entry.pid) for entry in health.values()]

    supervisor.send_signal(number)

    wait_until(
        lambda: not any(identity and identity.alive() for identity in identities),
        message="the components have ended",
    )


def test_the_record_and_the_logs_are_private(layout: Layout, start: Start) -> None:
    start(shell("one", "echo hello; exec sleep 60"))
    await_health(layout, one=State.READY)
    for path in (layout.health, layout.plan, layout.log("one")):
        assert path.stat().st_mode & 0o077 == 0, path
