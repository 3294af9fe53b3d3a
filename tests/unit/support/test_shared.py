from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import clusters, programs
from support.shared import TestRun

from devcluster.node.processes import ProcessId
from devcluster.progress import Progress


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_the_workers_of_a_run_share_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    assert TestRun.current().name == f"test-{os.getppid()}"

    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    assert TestRun.current().name == f"test-{os.getpid()}"


def test_something_is_done_once_and_again_only_after_a_failure() -> None:
    run = TestRun("test-once")
    done: list[str] = []

    def fail() -> None:
        raise LookupError("not now")

    with pytest.raises(LookupError):
        run.once("thing", fail)
    run.once("thing", lambda: done.append("second"))
    run.once("thing", lambda: done.append("third"))

    assert done == ["second"]


def test_a_run_that_ended_leaves_nothing() -> None:
    run = TestRun("test-end")
    run.once("thing", lambda: None)

    run.forget()

    assert not run.path.exists()


def test_a_killed_run_is_found_and_one_at_work_is_not() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        owner = ProcessId.of(other.pid)
        assert owner is not None
        other.kill()
    killed, alive = TestRun("test-killed"), TestRun("test-alive")
    (killed.directory / "owner.json").write_text(json.dumps(owner.dump()))
    alive.once("thing", lambda: None)

    assert list(TestRun.killed()) == [killed]


def test_the_cluster_of_a_killed_run_is_removed_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    removed: list[str] = []

    class Provider:
        def __init__(self, name: str) -> None:
            self.name = name

        def down(self) -> None:
            removed.append(self.name)

    monkeypatch.setattr(clusters, "select", lambda name, *_args, **_options: Provider(name))
    gone = json.dumps({"pid": os.getpid(), "started": 1})  # the number went to another process
    for name, started in (("test-1", "test-1"), ("test-2", "")):
        run = TestRun(name)
        (run.directory / "owner.json").write_text(gone)
        if started:
            (run.directory / "started").write_text(started)
    at_work = TestRun("test-3")
    (at_work.directory / "started").write_text("test-3")

    clusters._remove_killed_runs(Progress(io.StringIO()))

    assert removed == ["test-1"]
    assert list(TestRun.killed()) == []
    assert at_work.path.exists()


def test_a_program_that_is_there_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Path(programs.program("sh")).name == "sh"

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("MDB_REQUIRE_CLUSTER", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"(?s)NOT TESTED.*lacks no-such-browser"):
        programs.ensure_debian_packages(["sh", "no-such-browser"])


@pytest.mark.parametrize(
    ("variable", "value", "outcome"),
    [
        ("CI", "", pytest.skip.Exception),
        ("CI", "true", pytest.fail.Exception),
        ("MDB_REQUIRE_CLUSTER", "1", pytest.fail.Exception),
    ],
)
def test_a_missing_cluster_is_a_failure_where_one_is_required(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, outcome: type[BaseException]
) -> None:
    for name in ("CI", "MDB_REQUIRE_CLUSTER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)

    with pytest.raises(outcome, match="NOT TESTED: no cluster, for a reason"):
        clusters.cannot_test("no cluster, for a reason")


def test_without_root_or_docker_the_reason_and_the_ways_out_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEVCLUSTER", "node")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "need root" in clusters.why_no_pods()
    assert "DEVCLUSTER=kubeconfig" in clusters.why_no_pods()

    monkeypatch.setenv("DEVCLUSTER", "no-such-kind")
    assert "no-such-kind" in clusters.why_no_pods()

    monkeypatch.setenv("DEVCLUSTER", "node")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert clusters.why_no_pods() == ""
