from __future__ import annotations

from pathlib import Path

import pytest

from devcluster import detect, kind
from devcluster.errors import DevclusterError
from devcluster.kind import KindProvider
from devcluster.kubeconfig import KubeconfigProvider
from devcluster.node.provider import NodeProvider
from devcluster.progress import Progress
from devcluster.provider import Status
from devcluster.providers import select


@pytest.fixture(autouse=True)
def bin_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the only directory on PATH; state and cache are the test's own."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DEVCLUSTER", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    return directory


@pytest.mark.parametrize(
    ("docker", "answers"),
    [
        pytest.param("echo 28.2.2", True, id="an engine answers"),
        pytest.param("echo cannot connect >&2; exit 1", False, id="a client without an engine"),
        pytest.param("echo", False, id="a client that is happy without one"),
        pytest.param(None, False, id="no client"),
    ],
)
def test_the_engine_is_asked_not_the_client(
    bin_directory: Path, docker: str | None, *, answers: bool
) -> None:
    if docker is not None:
        program = bin_directory / "docker"
        program.write_text(f'#!/bin/sh\n[ "$1" = info ] || exit 9\n{docker}\n')
        program.chmod(0o755)

    assert detect.docker_answers() is answers
    assert detect.choose() is (detect.Choice.KIND if answers else detect.Choice.NODE)


@pytest.mark.parametrize("forced", list(detect.Choice))
def test_the_environment_has_the_first_word(
    forced: detect.Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVCLUSTER", forced)

    assert detect.choose() is forced


def test_an_unknown_kind_names_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVCLUSTER", "minikube")

    with pytest.raises(DevclusterError, match=r"(?s)minikube.*kubeconfig, kind, node"):
        detect.choose()


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        ("1.12", "node", "1.12 names no Kubernetes minor.*Use one of 1.34, 1.37"),
        ("1.37", "kind", "1.37 goes with the single node.*Set DEVCLUSTER=node"),
        ("1.37", "kubeconfig", "1.37 goes with the single node.*Set DEVCLUSTER=node"),
    ],
)
def test_a_kubernetes_that_cannot_be_run_is_refused(
    asked: str, kind: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVCLUSTER", kind)
    monkeypatch.setenv("DEVCLUSTER_KUBERNETES", asked)
    with pytest.raises(DevclusterError, match=f"(?s){said}"):
        select("one", Progress(), starting=True)
    assert select("one", Progress(), starting=False).kind == kind, "it can still be removed"


@pytest.mark.parametrize(("asked", "used"), [("1.37", "1.37"), ("", "1.34")])
def test_the_environment_chooses_the_kubernetes_of_the_single_node(
    asked: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVCLUSTER", "node")
    monkeypatch.setenv("DEVCLUSTER_KUBERNETES", asked)
    assert detect.kubernetes_minor() == used


def test_a_mac_without_docker_is_told_what_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")

    with pytest.raises(DevclusterError, match=r"(?s)no Docker engine.*Start Docker"):
        detect.choose()


def test_where_kind_has_no_image_the_single_node_is_used_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(detect, "docker_answers", lambda: True)
    monkeypatch.setattr(kind, "why_not", lambda _progress: "its image cannot be had")

    provider = select("one", Progress(), starting=True)

    assert isinstance(provider, NodeProvider)
    assert "its image cannot be had" in capsys.readouterr().err


def test_only_a_start_asks_for_kinds_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(_progress: Progress) -> str:
        pytest.fail("nothing is to be started")

    monkeypatch.setattr(detect, "docker_answers", lambda: True)
    monkeypatch.setattr(kind, "why_not", asked)

    assert isinstance(select("one", Progress(), starting=False), KindProvider)


def test_a_running_single_node_stays_in_use_when_docker_appears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = Status(exists=True, healthy=True, summary="it runs")
    monkeypatch.setattr(detect, "docker_answers", lambda: True)
    monkeypatch.setattr(NodeProvider, "status", lambda _self: there)

    assert isinstance(select("one", Progress(), starting=False), NodeProvider)


def test_a_cluster_of_somebody_elses_is_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVCLUSTER", "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    provider = select("one", Progress(), starting=False)

    assert isinstance(provider, KubeconfigProvider)
    assert provider.down() is False
    with pytest.raises(DevclusterError, match="there is no kubeconfig at"):
        provider.kubeconfig()
