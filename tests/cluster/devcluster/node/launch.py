"""Start a cluster: what it needs, its plan, its first process, and when it works."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path

from devcluster import build, packages
from devcluster.errors import DevclusterError
from devcluster.node import cgroups, controlplane, machine, record, worker
from devcluster.node.addresses import API_PORT, check_port, free_port
from devcluster.node.api import Client, wait_until
from devcluster.node.component import State
from devcluster.node.controlplane import Endpoints
from devcluster.node.layout import Layout
from devcluster.node.namespace import Plan
from devcluster.node.processes import ProcessId, boot_id
from devcluster.node.record import Kind, Record
from devcluster.progress import Progress

_READY_DEADLINE = 120.0
"""Seconds for all components; 5 to 15 on an idle machine, more while something compiles."""

_CHANGE_DEADLINE = 10.0


def provide(kind: Kind, minor: str, progress: Progress) -> list[Path]:
    """Install and compile what a cluster needs, and return the programs' directories.

    Parameters
    ----------
    kind
        With a node or without.
    minor
        Kubernetes' version.
    progress
        Where to show what is being done.
    """
    if kind is Kind.NODE:
        machine.require(progress)
    programs = [build.kubernetes(minor), build.HELM]
    if kind is Kind.NODE:
        programs += [build.COREDNS, build.PAUSE]
    return [build.ensure(program, progress) for program in programs]


def prepare(layout: Layout, kind: Kind, minor: str, progress: Progress) -> list[Path]:
    """See to all that a cluster needs on the machine, and return the programs' directories."""
    directories = provide(kind, minor, progress)
    for made in (layout.root, layout.tools):
        made.mkdir(mode=0o700)
    for tool, directory in zip(("kubectl", "helm"), directories, strict=False):
        (layout.tools / tool).symlink_to(directory / tool)
    return directories


def start(
    layout: Layout,
    cluster: str,
    kind: Kind,
    minor: str,
    binaries: list[Path],
    port: int | None,
    progress: Progress,
) -> None:
    """Start a cluster and wait until it works.

    Parameters
    ----------
    layout
        The cluster's files.
    cluster
        The cluster's name.
    kind
        With a node or without.
    minor
        Kubernetes' version.
    binaries
        What :func:`prepare` returned.
    port
        The API server's port where there is no node; None for a free one.
    progress
        Where to show what is being done.

    Raises
    ------
    DevclusterError
        If a component dies, or the cluster does not work in time.
    """
    layout.logs.mkdir(mode=0o700)
    with progress.step(f"Starting the cluster {cluster!r}") as step:
        with _endpoints(kind, port) as endpoints:
            node = _write_files(layout, endpoints, cluster, binaries)
            supervisor = _start_supervisor(layout, endpoints)
        index = endpoints.network.index if endpoints.network else None
        version = build.KUBERNETES_VERSIONS[minor]
        record.save(layout, Record(kind, boot_id(), supervisor, endpoints.url, index, version))
        client = Client(layout, endpoints.url)
        if node is not None:
            step.detail = "sandbox image"
            worker.load_sandbox_image(layout, supervisor, binaries[3])
            step.detail = "API server"
            await_ready(layout, {"kube-apiserver"})
            worker.create_objects(client, node.network)
        step.detail = "components"
        await_ready(layout)
        step.detail = "controllers"
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        _await(
            layout,
            lambda: client.get(path) is not None,
            "The controllers did not make the first service account",
        )
        if node is not None:
            step.detail = "node"
            _await(layout, lambda: worker.is_ready(client, node), "The node did not become ready")


def await_ready(layout: Layout, names: Collection[str] = ()) -> None:
    """Wait until components are ready.

    Parameters
    ----------
    layout
        The cluster's files.
    names
        Which; all by default.

    Raises
    ------
    DevclusterError
        If one dies, or they are not ready in time.
    """

    def ready() -> bool:
        health = record.load_health(layout)
        return bool(health) and all(health[name].state is State.READY for name in names or health)

    _await(layout, ready, "The components were not ready")


def await_change(layout: Layout, before: int) -> None:
    """Wait until the supervisor wrote how the components fare after a moment.

    Parameters
    ----------
    layout
        The cluster's files.
    before
        When the file was written last, in nanoseconds.
    """
    wait_until(
        lambda: layout.health.stat().st_mtime_ns != before,
        _CHANGE_DEADLINE,
        "The supervisor did not answer",
    )


def _await(layout: Layout, check: Callable[[], bool], message: str) -> None:
    """Wait until a check holds, as long as nothing dies."""

    def holds() -> bool:
        _check_alive(layout)
        return check()

    wait_until(holds, _READY_DEADLINE, message)


def _check_alive(layout: Layout) -> None:
    known = record.load(layout)
    if known is None or not known.runs():
        raise DevclusterError(
            f"The cluster ended while it started: {record.last_line(layout, 'supervisor')}",
            f"See {layout.logs}.",
        )
    for name, health in record.load_health(layout).items():
        if health.state is State.DIED:
            line = record.last_line(layout, name)
            raise DevclusterError(
                f"{name} died while the cluster started ({health.reason}): {line}",
                _hint(layout, name),
            )


def _hint(layout: Layout, name: str) -> str:
    log = layout.log(name)
    if "address already in use" in log.read_text(errors="replace"):
        return "Something took its port at that moment; try again. `ss -ltnp` shows who has it."
    return f"See {log}."


@contextlib.contextmanager
def _endpoints(kind: Kind, port: int | None) -> Iterator[Endpoints]:
    """Give addresses that are free, and that nobody else takes before they are in use."""
    if kind is Kind.NODE:
        with machine.choose_network() as network:
            yield Endpoints(network.node_ip, API_PORT, 2379, 2380, network)
    else:
        chosen = free_port() if port is None else check_port(port)
        yield Endpoints("127.0.0.1", chosen, free_port(), free_port(), None)


def _write_files(
    layout: Layout, endpoints: Endpoints, cluster: str, binaries: list[Path]
) -> worker.Node | None:
    """Write all files that the components read, and the plan to start them."""
    authority = controlplane.write_credentials(layout, endpoints, cluster)
    parts = controlplane.components(layout, endpoints, binaries[0])
    node = plan = None
    if endpoints.network is not None:
        node = worker.Node(layout, endpoints.network, cluster)
        plan = asdict(Plan(endpoints.network.index, node.name))
        worker.write_files(node, endpoints, authority)
        cgroups.create(cgroups.name_of(layout.root))
        parts += worker.components(node, binaries[0], binaries[2])
    content = {"namespace": plan, "components": [part.dump() for part in parts]}
    layout.write(layout.plan, json.dumps(content, indent=2))
    return node


def _environment() -> dict[str, str]:
    """Return what the components get to see: no proxy, no credential, no setting of the user's."""
    kept = ("HOME", "PYTHONPATH", "TZ")
    chosen = {name: os.environ[name] for name in kept if name in os.environ}
    return chosen | {"PATH": packages.search_path(), "LC_ALL": "C.UTF-8"}


def _start_supervisor(layout: Layout, endpoints: Endpoints) -> ProcessId:
    network = endpoints.network
    command = [sys.executable, "-m", "devcluster.node.supervisor", str(layout.root)]
    if network is not None:
        command = machine.in_namespaces(command)
    descriptor = os.open(layout.log("supervisor"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "wb") as log:
        process = subprocess.Popen(
            command,
            env=_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    pid = process.pid if network is None else machine.connect(process, network, layout)
    identity = ProcessId.of(pid)
    if identity is None:
        raise DevclusterError(
            f"The cluster's first process ended: {record.last_line(layout, 'supervisor')}",
            f"See {layout.log('supervisor')}.",
        )
    return identity
