"""A registry of images of a test's own, on the loopback interface of whoever pushes or pulls.

One process serves each network namespace, and all of them serve the same directory. So one name,
``127.0.0.1:PORT``, means the same images everywhere, nothing of it is seen beyond this machine, and
engines and nodes take it without TLS, as they take no other address.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from devcluster import build
from devcluster.node.addresses import free_port
from devcluster.progress import Progress
from support.clusters import Cluster
from support.docker import Docker
from support.waiting import wait_until

CONFIGURATION = """
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {directory}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}", secret: shared-by-all-processes}}
"""


@contextmanager
def image_registry(directory: Path, docker: Docker | None, cluster: Cluster) -> Iterator[str]:
    """Serve a registry for this machine, an engine, and the cluster's node; give its address.

    Parameters
    ----------
    directory
        Where the images are kept.
    docker
        An engine that pushes; None where this machine pushes.
    cluster
        What pulls.
    """
    address = f"127.0.0.1:{free_port()}"
    configuration = directory / "registry.yaml"
    configuration.write_text(
        CONFIGURATION.format(directory=directory / "registry", port=address.partition(":")[2])
    )
    registry = str(build.ensure(build.REGISTRY, Progress()) / "registry")
    command = [registry, "serve", str(configuration)]
    places: list[Sequence[str]] = [command, _on_node(cluster, docker, command)]
    if docker is not None and docker.owned:
        places.append(docker.enter(command))
    with ExitStack() as stack:
        for number, place in enumerate(places):
            log = stack.enter_context((directory / f"registry-{number}.log").open("wb"))
            process = stack.enter_context(subprocess.Popen(place, stdout=log, stderr=log))
            stack.callback(process.terminate)
        wait_until(
            lambda: httpx.get(f"http://{address}/v2/", timeout=5).is_success,
            message="the registry answers",
            ignoring=httpx.HTTPError,
        )
        yield address


def _on_node(cluster: Cluster, docker: Docker | None, command: Sequence[str]) -> Sequence[str]:
    """Return a command that runs another in the network of the cluster's node."""
    [component, *_] = cluster.provider.status().components
    pid = component.pid
    if docker is not None and cluster.provider.kind == "kind":
        pid = int(docker.run("inspect", "--format", "{{.State.Pid}}", component.name))
    return ["nsenter", f"--target={pid}", "--net", *command]
