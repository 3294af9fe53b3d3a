"""What the Docker engine of devcluster's own does without being started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from devcluster.engine import own, runtime
from devcluster.errors import DevclusterError
from devcluster.progress import Progress


@pytest.fixture(autouse=True)
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_the_runtime_takes_out_what_the_machine_lacks_and_nothing_else() -> None:
    process = {
        "capabilities": {
            "bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"],
            "effective": ["CAP_SYS_RESOURCE"],
        },
        "oomScoreAdj": -500,
        "args": ["sh"],
    }

    runtime.fitted(process, {"CAP_SYS_RESOURCE"})

    assert process == {"capabilities": {"bounding": ["CAP_CHOWN"], "effective": []}, "args": ["sh"]}


def test_the_runtime_leaves_all_where_nothing_is_lacking() -> None:
    process = {"capabilities": {"bounding": ["CAP_SYS_RESOURCE"]}, "oomScoreAdj": -500}

    runtime.fitted(process, set())

    assert process == {"capabilities": {"bounding": ["CAP_SYS_RESOURCE"]}, "oomScoreAdj": -500}


def test_without_root_the_engine_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(DevclusterError, match="needs root, and this is user 1000"):
        own.up(Progress())


def test_an_engine_that_does_not_run_gives_no_address_and_runs_nothing() -> None:
    assert not own.runs()
    with pytest.raises(DevclusterError, match="does not run"):
        own.address()
    with pytest.raises(DevclusterError, match="does not run"):
        own.inside(["true"])


def test_a_client_uses_the_engine_and_the_client_that_came_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    once = own.environment()
    monkeypatch.setenv("PATH", once["PATH"])

    assert once["DOCKER_HOST"] == f"unix://{own.socket_path()}"
    assert once["PATH"].endswith(":/usr/bin")
    assert own.environment()["PATH"] == once["PATH"]
