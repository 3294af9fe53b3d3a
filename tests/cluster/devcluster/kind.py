"""A cluster of kind's, for machines with a Docker engine.

The smallest possible use of it: everything that is special here is that the kubelet looks at
mounted Secrets often, so that tests of them do not wait for a minute. What is missing beside the
engine (kind, kubectl, helm) is compiled; and where kind is insisted on, so are the engine
(`devcluster.engine`) and, without a registry, the node image (`devcluster.kind_node_image`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from devcluster import build, kind_node_image
from devcluster.commands import Run, run
from devcluster.detect import VARIABLE, docker_answers
from devcluster.engine import own
from devcluster.errors import DevclusterError
from devcluster.filelock import hold
from devcluster.golang import find_go
from devcluster.paths import cache_dir, check_name, state_root
from devcluster.progress import Progress
from devcluster.provider import ComponentStatus, Status

KIND_VERSION = "v0.30.0"
"""Compiled where there is no ``kind`` on PATH."""

KIND_MODULE = "sigs.k8s.io/kind"

NODE_IMAGE = "kindest/node:v1.34.0"
"""What this version of kind was released with: the Kubernetes minor version of the single node."""

PULL_DEADLINE_SECONDS = 900.0
"""The node image is 400 MB."""

CREATE_DEADLINE_SECONDS = 600.0
QUICK_DEADLINE_SECONDS = 60.0
LOAD_DEADLINE_SECONDS = 300.0

CONFIGURATION = {
    "kind": "Cluster",
    "apiVersion": "kind.x-k8s.io/v1alpha4",
    "nodes": [{"role": "control-plane"}],
    "kubeadmConfigPatches": [
        "kind: KubeletConfiguration\nsyncFrequency: 2s\n",
        "kind: KubeProxyConfiguration\niptables: {minSyncPeriod: 100ms}\n",
    ],
}
"""A changed Secret reaches its mounts within seconds; kubelet's default is up to a minute. A
Service leads to a pod at once when that is ready; kind's default is up to a second later."""

TOOLS = {"kubectl": build.KUBECTL, "helm": build.HELM}
"""What is used with a cluster, and how it is compiled where it is not on PATH."""


def why_not(progress: Progress, run: Run = run) -> str:
    """Return why kind cannot be used here, or an empty string where it can.

    Parameters
    ----------
    progress
        Shows the download of the node image, which happens here, since without it there will be
        no cluster.
    run
        Runs the programs.
    """
    if not docker_answers():
        return "no Docker engine answers `docker info`"
    try:
        if not _is_there(NODE_IMAGE, run):
            _download(progress, run)
    except DevclusterError as error:
        return f"kind's node image {NODE_IMAGE} cannot be had: {_last_line(error)}"
    return ""


def require_engine(progress: Progress) -> None:
    """See to it that an engine answers, starting one of our own where there is none.

    Raises
    ------
    DevclusterError
        If there is none and none can be started.
    """
    if docker_answers():
        return
    if reason := own.why_not():
        raise DevclusterError(
            f"kind cannot be used here: no Docker engine answers `docker info`, and {reason}",
            f"Start a Docker engine, or unset {VARIABLE} to use what the machine has.",
        )
    own.up(progress, keep=False)
    own.adopt()


def node_image(progress: Progress, run: Run = run) -> str:
    """Return the image for a node: kind's own, or one made here where no registry can be reached.

    Raises
    ------
    DevclusterError
        If there is neither.
    """
    if _is_there(NODE_IMAGE, run):
        return NODE_IMAGE
    try:
        if not kind_node_image.is_there(KIND_VERSION, run):
            _download(progress, run)
            return NODE_IMAGE
    except DevclusterError as error:
        progress.note(f"{NODE_IMAGE} cannot be downloaded: {_last_line(error)}")
    return kind_node_image.ensure(KIND_VERSION, progress, run)


def prepare(progress: Progress) -> None:
    """Download or make what a cluster needs, and start nothing that stays."""
    with own.using():  # from before it starts: whoever is done elsewhere would remove it
        require_engine(progress)
        ensure_kind(progress)
        node_image(progress)
        list(missing_tools(progress))
    own.down_if_unused()


def missing_tools(progress: Progress) -> Iterator[tuple[str, Path]]:
    """Compile what is used with a cluster and not on PATH.

    Yields
    ------
    tuple
        The name of a tool and the directory that it is in.
    """
    for name, tool in TOOLS.items():
        if shutil.which(name) is None:
            # Where the node image was made, kubectl is there already: all are one program.
            of_node = tool is build.KUBECTL and build.KUBERNETES.directory.exists()
            program = build.KUBERNETES if of_node else tool
            if not program.directory.exists():
                progress.note(
                    f"{name} is not on PATH: compiling it from its Go module {program.package}"
                )
            yield name, build.ensure(program, progress)


def _is_there(image: str, run: Run) -> bool:
    try:
        run(
            ["docker", "image", "inspect", "--format", "{{.Id}}", image],
            what="Looking for kind's node image",
            timeout=QUICK_DEADLINE_SECONDS,
        )
    except DevclusterError:
        return False
    return True


def _download(progress: Progress, run: Run) -> None:
    with progress.step(f"Downloading kind's node image {NODE_IMAGE}"):
        run(
            ["docker", "pull", "--quiet", NODE_IMAGE],
            what="Downloading it",
            timeout=PULL_DEADLINE_SECONDS,
        )


@dataclass(slots=True)
class KindProvider:
    """One cluster of kind's.

    Parameters
    ----------
    name
        Its name.
    progress
        Shows what is done.
    run
        Runs the programs.
    """

    name: str
    progress: Progress
    run: Run = run
    kind: str = field(default="kind", init=False)

    def up(self, *, control_plane_only: bool = False) -> None:  # noqa: ARG002
        """Create the cluster unless it exists; kind has no cluster without a node.

        Raises
        ------
        DevclusterError
            If it cannot be created.
        """
        kubeconfig = self._kubeconfig()
        kubeconfig.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        waiting = "Another devcluster is at work on this cluster; waiting for it"
        with own.using(), hold(self._lock(), lambda: self.progress.note(waiting)):
            if (
                own.in_use() and not own.runs()
            ):  # it may have been removed as unused since it was chosen
                own.up(self.progress, keep=False)
            if self._exists():
                self._export(kubeconfig)
                self._provide_tools()
                return
            image = node_image(self.progress, self.run)
            self._provide_tools()
            configuration = kubeconfig.parent / "kind.yaml"
            configuration.write_text(yaml.safe_dump(CONFIGURATION | _networking()))
            with self.progress.step(f"Creating the kind cluster {self.name}"):
                self._kind(
                    *("create", "cluster", "--name", self.name, "--image", image),
                    *("--kubeconfig", kubeconfig, "--config", configuration, "--wait", "180s"),
                    what="Creating the cluster",
                    timeout=CREATE_DEADLINE_SECONDS,
                    hint="Look at `docker ps -a` and `docker logs` of the node's container.",
                )
            kubeconfig.chmod(0o600)

    def down(self) -> bool:
        """Delete the cluster; return whether there was one."""
        there = self._exists()
        if there:
            self._kind(
                *("delete", "cluster", "--name", self.name, "--kubeconfig", self._kubeconfig()),
                what="Deleting the cluster",
                timeout=CREATE_DEADLINE_SECONDS,
            )
        shutil.rmtree(self._kubeconfig().parent, ignore_errors=True)
        if own.in_use():
            own.down_if_unused()
        return there

    def status(self) -> Status:
        """Return whether the node's container runs."""
        if not self._exists():
            return Status(exists=False, healthy=False, summary=f"no kind cluster {self.name}")
        container = f"{self.name}-control-plane"
        state = self.run(
            ["docker", "inspect", "--format", "{{.State.Status}}", container],
            what="Looking at the node's container",
            timeout=QUICK_DEADLINE_SECONDS,
        ).strip()
        healthy = state == "running"
        return Status(
            exists=True,
            healthy=healthy,
            summary=f"the node's container is {state}",
            components=(ComponentStatus(name=container, healthy=healthy, detail=state),),
        )

    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig.

        Raises
        ------
        DevclusterError
            If the cluster does not run.
        """
        path = self._kubeconfig()
        if not path.exists():
            raise DevclusterError(f"No cluster {self.name} runs.", "Start it: devcluster up")
        return path

    def tools(self) -> Path | None:
        """Return the directory with those of kubectl and helm that are not on PATH, if any."""
        directory = self._tools()
        return directory if directory.exists() else None

    def load_image(self, archive: Path) -> None:
        """Copy an image into the node."""
        self._kind(
            *("load", "image-archive", archive, "--name", self.name),
            what="Loading the image",
            timeout=LOAD_DEADLINE_SECONDS,
        )

    def _provide_tools(self) -> None:
        for name, directory in missing_tools(self.progress):
            link = self._tools() / name
            link.parent.mkdir(mode=0o700, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(directory / name)

    def _tools(self) -> Path:
        return self._kubeconfig().parent / "tools"

    def _exists(self) -> bool:
        if not docker_answers():
            return False
        listing = self._kind(
            "get", "clusters", what="Listing kind's clusters", timeout=QUICK_DEADLINE_SECONDS
        )
        return self.name in listing.split()

    def _export(self, kubeconfig: Path) -> None:
        """Write the kubeconfig again: it may have been removed, or be of an earlier cluster."""
        self._kind(
            *("export", "kubeconfig", "--name", self.name, "--kubeconfig", kubeconfig),
            what="Writing the kubeconfig",
            timeout=QUICK_DEADLINE_SECONDS,
        )
        kubeconfig.chmod(0o600)

    def _kind(self, *arguments: str | Path, what: str, timeout: float, hint: str = "") -> str:
        command = [ensure_kind(self.progress, self.run), *arguments]
        return self.run(command, what=what, timeout=timeout, hint=hint)

    def _kubeconfig(self) -> Path:
        return state_root() / ".kind" / check_name(self.name) / "kubeconfig"

    def _lock(self) -> Path:
        return state_root() / ".kind" / f"{check_name(self.name)}.lock"


def _networking() -> dict[str, dict[str, str | int]]:
    """Return where the API server is published: our own engine has an address of its own."""
    if not own.in_use():
        return {}
    # -1: the engine chooses the port, since kind would look for a free one on the machine.
    return {"networking": {"apiServerAddress": own.address(), "apiServerPort": -1}}


def ensure_kind(progress: Progress, run: Run = run) -> Path:
    """Return the ``kind`` program: the one on PATH, or one compiled from its Go module.

    Raises
    ------
    DevclusterError
        If there is neither, nor a Go and a network to make one.
    """
    on_path = shutil.which("kind")
    if on_path is not None:
        return Path(on_path)
    directory = cache_dir() / "bin" / f"kind-{KIND_VERSION}"
    program = directory / "kind"
    if not program.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        progress.note(f"kind is not on PATH: compiling it from its Go module {KIND_MODULE}")
        with hold(directory / "lock"), progress.step(f"Compiling kind {KIND_VERSION}"):
            run(
                [find_go(progress), "install", f"{KIND_MODULE}@{KIND_VERSION}"],
                what="Compiling kind",
                timeout=CREATE_DEADLINE_SECONDS,
                hint="Install kind by hand, or run with a network.",
                environment={"GOBIN": str(directory), "CGO_ENABLED": "0", "GOFLAGS": ""},
            )
    return program


def _last_line(error: DevclusterError) -> str:
    return str(error).splitlines()[-1]
