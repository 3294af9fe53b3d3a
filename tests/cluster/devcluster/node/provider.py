"""The single node as a provider: up, down and status of a cluster out of processes."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

from devcluster import build, detect
from devcluster.errors import DevclusterError
from devcluster.filelock import hold
from devcluster.node import cleanup, launch, machine, record
from devcluster.node.addresses import NodeNetwork
from devcluster.node.component import State
from devcluster.node.layout import Layout
from devcluster.node.processes import in_namespace_of
from devcluster.node.record import Kind, Record
from devcluster.paths import check_name, state_root
from devcluster.progress import Progress
from devcluster.provider import ComponentStatus, Status


class NodeProvider:
    """A cluster of this machine's own processes.

    Parameters
    ----------
    name
        The cluster's name.
    progress
        Where to show what is being done.
    port
        The API server's port where there is no node; None for a free one.
    """

    def __init__(self, name: str, progress: Progress, port: int | None = None) -> None:
        self.name = check_name(name)
        self.layout = Layout(state_root() / f"cluster-{name}")
        self.port = port
        self._progress = progress

    @property
    def kind(self) -> str:
        """The kind."""
        return "node"

    def up(self, *, control_plane_only: bool = False) -> None:
        """Start the cluster unless it runs; start again what died of it."""
        with self._locked():
            running = self._running()
            minor = detect.kubernetes_minor()
            if running is None:
                self._create(Kind.CONTROL_PLANE if control_plane_only else Kind.NODE, minor)
            elif running.kubernetes != (wanted := build.KUBERNETES_VERSIONS[minor]):
                raise DevclusterError(
                    f"The cluster {self.name!r} runs Kubernetes {running.kubernetes}, not {wanted}",
                    "Remove it with `devcluster down`, or start another with --name.",
                )
            elif running.kind is Kind.CONTROL_PLANE and not control_plane_only:
                raise DevclusterError(
                    f"The cluster {self.name!r} runs without a node, so it can run no pods",
                    "Remove it with `devcluster down`, or start another with --name.",
                )
            else:
                self._revive(running)

    def down(self) -> bool:
        """Remove the cluster, or what is left of it."""
        with self._locked():
            if not self.layout.root.exists():
                return False
            with self._progress.step(f"Removing the cluster {self.name!r}"):
                cleanup.remove(self.layout)
            return True

    def status(self) -> Status:
        """Return how the components fare."""
        known = record.load(self.layout)
        if known is None or not known.runs():
            if not self.layout.root.exists():
                return Status(
                    exists=False, healthy=False, summary=f"There is no cluster {self.name!r}"
                )
            return Status(
                exists=True,
                healthy=False,
                summary=f"The cluster {self.name!r} was killed, or did not come to run; its logs "
                f"are in {self.layout.logs}. `devcluster up` starts it anew, `devcluster down` "
                "removes it",
            )
        components = tuple(self._components(known))
        died = [component.name for component in components if not component.healthy]
        what = "" if known.kind is Kind.NODE else " without a node"
        summary = (
            f"The cluster {self.name!r} runs Kubernetes {known.kubernetes}{what} at {known.url}"
        )
        if died:
            summary += f", but for {', '.join(died)}; `devcluster up` starts it again"
        return Status(exists=True, healthy=not died, summary=summary, components=components)

    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig."""
        if self._running() is None:
            raise DevclusterError(
                f"The cluster {self.name!r} does not run", "Start it with `devcluster up`."
            )
        return self.layout.kubeconfig

    def tools(self) -> Path | None:
        """Return the directory with kubectl and helm."""
        return self.layout.tools

    def load_image(self, archive: Path) -> None:
        """Import an image into the node's containerd."""
        running = self._running()
        if running is None or running.kind is not Kind.NODE:
            raise DevclusterError(
                f"The cluster {self.name!r} has no running node to load an image into",
                "Start one with `devcluster up`.",
            )
        machine.import_image(running.supervisor.pid, archive)

    def machine_address(self) -> str:
        """Return the address at which the node's pods reach what runs on the machine."""
        running = self._running()
        if running is None or running.index is None:
            raise DevclusterError(
                f"The cluster {self.name!r} has no running node, so no pods",
                "Start one with `devcluster up`.",
            )
        return NodeNetwork(running.index).host_ip

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep two commands from changing the same cluster at the same time."""

        def waiting() -> None:
            self._progress.note(f"Another devcluster is at work on {self.name!r}; waiting for it")

        with hold(self.layout.root.with_suffix(".lock"), waiting):
            yield

    def _running(self) -> Record | None:
        known = record.load(self.layout)
        return known if known is not None and known.runs() else None

    def _create(self, kind: Kind, minor: str) -> None:
        if self.layout.root.exists():
            self._progress.note(
                f"The cluster {self.name!r} was killed, or did not come to run; "
                "removing what is left of it"
            )
            cleanup.remove(self.layout)
        binaries = launch.prepare(self.layout, kind, minor, self._progress)
        try:
            launch.start(self.layout, self.name, kind, minor, binaries, self.port, self._progress)
        except BaseException:
            cleanup.remove(self.layout, files=False)
            raise

    def _revive(self, running: Record) -> None:
        dead = [
            name
            for name, health in record.load_health(self.layout).items()
            if health.state is State.DIED
        ]
        if dead:
            with self._progress.step(f"Starting again what died: {', '.join(dead)}"):
                before = self.layout.health.stat().st_mtime_ns
                running.supervisor.kill(signal.SIGHUP)
                launch.await_change(self.layout, before)
                launch.await_ready(self.layout)

    def _components(self, known: Record) -> Iterator[ComponentStatus]:
        outer = in_namespace_of(known.supervisor.pid) if known.kind is Kind.NODE else {}
        for name, health in record.load_health(self.layout).items():
            healthy = health.state is State.READY
            yield ComponentStatus(
                name=name,
                healthy=healthy,
                detail=f"{health.state}: {health.reason}" if health.reason else health.state,
                last_line="" if healthy else record.last_line(self.layout, name),
                log=self.layout.log(name),
                pid=outer.get(health.pid, 0) if known.kind is Kind.NODE else health.pid,
            )
