"""What a newcomer with a Docker engine and nothing else gets: the tools are made, and work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clusters import Cluster

from devcluster import kind
from devcluster.golang import find_go
from devcluster.paths import cache_dir
from devcluster.progress import Progress

pytestmark = pytest.mark.root

DEVCLUSTER = Path(sys.executable).with_name("devcluster")


@pytest.fixture
def newcomer(cluster: Cluster, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Give the environment of a user whose PATH lacks kind, kubectl, helm and Go.

    Their cache is empty, but for what is expensive and not the tools': Go and the node image. Their
    state is their own, too, since other tests use the cluster's tools.
    """
    if cluster.provider.kind != "kind":
        pytest.skip("NOT TESTED: this is about kind; make test-kind runs it")
    programs = tmp_path / "bin"
    programs.mkdir()
    for directory in os.environ["PATH"].split(os.pathsep):
        for program in Path(directory).glob("*"):
            if program.name not in {"kind", "kubectl", "helm", "go"}:
                link = programs / program.name
                if not link.is_symlink():
                    link.symlink_to(program)
    cache = tmp_path / "cache" / "devcluster"
    (cache / "bin").mkdir(parents=True)
    go = find_go(Progress())
    if go.is_relative_to(cache_dir()):
        (cache / "go").symlink_to(cache_dir() / "go")
    else:
        (programs / "go").symlink_to(go)
    found = subprocess.run([go, "env", "GOCACHE"], capture_output=True, text=True, check=True)
    yield os.environ | {
        "PATH": str(programs),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "GOCACHE": found.stdout.strip(),
    }
    shutil.rmtree(tmp_path / "cache")


@pytest.mark.timeout(900)
def test_kind_kubectl_and_helm_are_made_where_they_are_missing(
    cluster: Cluster, newcomer: dict[str, str]
) -> None:
    name = cluster.kubeconfig.parent.name
    up = subprocess.run(
        [DEVCLUSTER, "up", "--name", name],
        capture_output=True,
        text=True,
        env=newcomer,
        check=False,
    )
    assert up.returncode == 0, up.stderr
    assert f"kind is not on PATH: compiling it from its Go module {kind.KIND_MODULE}" in up.stderr
    for tool in kind.TOOLS:
        assert f"{tool} is not on PATH: compiling it from its Go module" in up.stderr

    script = (
        f'eval "$({DEVCLUSTER} env --name {name})" && kubectl get nodes -o name && helm list -A'
    )
    used = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, env=newcomer, check=False
    )

    assert used.returncode == 0, used.stderr
    assert used.stdout.startswith(f"node/{name}-control-plane\n")
