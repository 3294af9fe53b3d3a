"""What tests of the operator on a real API server share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clusters import Cluster, provide_crd
from support.installation import Installation, installed
from support.mongo import Server
from support.operator_edge import Process

from mdb_engine.registry.models.app import Owner
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.mdbapps import app_ref

ROOT = Path(__file__).parents[3]


@pytest.fixture
def requests() -> list[tuple[str, str, int]]:
    """Give the requests that `kube` made: verb, resource, status."""
    return []


@pytest.fixture
async def kube(
    control_plane: Cluster, requests: list[tuple[str, str, int]]
) -> AsyncIterator[KubeClient]:
    """Give a client with an administrator's rights."""
    client = await KubeClient.connect(
        kubeconfig=control_plane.kubeconfig, observer=lambda *seen: requests.append(seen)
    )
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def crd(control_plane: Cluster) -> None:
    """See to it that the API server knows MdbApps."""
    provide_crd(control_plane)


@pytest.fixture
def make_app(control_plane: Cluster, namespace: str, crd: None) -> Callable[..., Owner]:
    """Give a function that creates an MdbApp and returns which one."""

    def make(name: str = "dashboard", **spec: Any) -> Owner:
        manifest = {
            "apiVersion": "mdb-engine.dev/v1",
            "kind": "MdbApp",
            "metadata": {"name": name},
            "spec": {"slug": f"{name}-{namespace}", **spec},
        }
        return app_ref(control_plane.api.create(manifest, namespace))

    return make


@pytest.fixture
def start_python(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Give a function that starts Python with arguments and an environment; ends it afterwards."""
    started: list[Process] = []

    def start(*arguments: str, env: dict[str, str]) -> Process:
        output = tmp_path / f"output-{len(started)}"
        with output.open("wb") as file:
            popen = subprocess.Popen(
                [sys.executable, *arguments], stdout=file, stderr=subprocess.STDOUT, env=env
            )
        started.append(Process(popen, output))
        return started[-1]

    yield start
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait()


@pytest.fixture
def installation(
    control_plane: Cluster, mongo_auth_server: Server, tmp_path: Path
) -> Iterator[Installation]:
    """Give the surroundings of an operator, with a second namespace for apps; start it yourself."""
    with installed(control_plane, mongo_auth_server, tmp_path, others=("bi",)) as found:
        yield found


@pytest.fixture(scope="session")
def running(
    control_plane: Cluster, mongo_auth_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Give a running operator that the tests of a worker share; each uses its own slugs."""
    directory = tmp_path_factory.mktemp("operator")
    with installed(control_plane, mongo_auth_server, directory, others=("bi",)) as found:
        found.start()
        yield found
        found.stop(found.processes[-1])  # a test may have stopped it and started another
        assert found.scan_for_leaks() > 0
