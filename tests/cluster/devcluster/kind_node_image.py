"""The image of a kind node, made on this machine where no registry can be reached.

It is what kind's own build makes, from other sources: Debian's systemd, containerd, runc and CNI
plugins; kind's files out of its Go module; Kubernetes and CoreDNS as they are compiled for the
single node (`devcluster.build`). In the place of kindnet, which gives nodes routes to each other,
is a network that suits the one node. ``tests/cluster/images/kind-node`` holds the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster import base_image, build
from devcluster.commands import Run, run
from devcluster.errors import DevclusterError
from devcluster.filelock import hold
from devcluster.golang import find_go
from devcluster.packages import require
from devcluster.paths import cache_dir
from devcluster.progress import Progress, Step

NAME = "localhost/devcluster/kind-node"

SOURCES = Path(__file__).parents[1] / "images" / "kind-node"

_PAUSE = "registry.k8s.io/pause:3.10"
"""What kind's configuration of containerd names, whatever kubeadm would use."""

_RECIPE = 1
"""Counts changes of how the image is made that its key does not see."""

_PROGRAMS = (build.KUBERNETES, build.KUBEADM, build.COREDNS, build.PAUSE)

_NODE_PACKAGES = (
    *("systemd", "conntrack", "iptables", "nftables", "iproute2", "ethtool", "util-linux"),
    *("mount", "kmod", "libseccomp2", "pigz", "bash", "ca-certificates", "jq", "procps"),
    *("containerd", "runc", "containernetworking-plugins"),
)
_PROXY_PACKAGES = ("iptables", "nftables", "conntrack", "kmod")
"""What kube-proxy calls."""

_BOOTSTRAP_SECONDS = 900.0
_STEP_SECONDS = 600.0


def is_there(kind_version: str, run: Run = run) -> bool:
    """Say whether the engine has the image."""
    try:
        return _has(_tag(kind_version), run)
    except DevclusterError:
        return False


def ensure(kind_version: str, progress: Progress, run: Run = run) -> str:
    """Return the name of the node image, making it first where the engine has none.

    Raises
    ------
    DevclusterError
        If this is no Debian, or a tool or program is missing and cannot be had.
    """
    tag = _tag(kind_version)
    waiting = "Another devcluster makes kind's node image; waiting for it"
    with hold(cache_dir() / "kind-node-image.lock", lambda: progress.note(waiting)):
        if not _has(tag, run):
            binaries = [build.ensure(program, progress) for program in _PROGRAMS]
            files = _kind_files(kind_version, progress, run)
            require(base_image.TOOLS, progress)
            with (
                tempfile.TemporaryDirectory(prefix="kind-node-", dir=cache_dir()) as work,
                progress.step("Making kind's node image from Debian's packages") as step,
            ):
                _Recipe(Path(work) / "context", _sources(), run, step).make(tag, binaries, files)
    return tag


def _tag(kind_version: str) -> str:
    """Return the image's name, which changes with all that it is made of."""
    inputs = (_RECIPE, kind_version, _sources(), _NODE_PACKAGES, _PROXY_PACKAGES)
    digest = hashlib.sha256(repr(inputs).encode())
    for program in _PROGRAMS:
        digest.update(build.cache_key(program).encode())
    for path in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return f"{NAME}:{build.KUBERNETES_VERSION}-{digest.hexdigest()[:12]}"


def _sources() -> str:
    return base_image.apt_sources(Path("/etc/apt"))


def _has(tag: str, run: Run) -> bool:
    listing = run(
        ["docker", "images", "--quiet", tag],
        what="Looking for kind's node image",
        timeout=_STEP_SECONDS,
    )
    return bool(listing.strip())


def _kind_files(version: str, progress: Progress, run: Run) -> Path:
    """Return the directory of the files that kind's own base image adds to a Debian."""
    found = run(
        [find_go(progress), "mod", "download", "-json", f"sigs.k8s.io/kind@{version}"],
        what="Downloading kind's sources",
        timeout=_STEP_SECONDS,
        hint="Run this once with a network (GOPROXY names a mirror).",
        environment={"GOFLAGS": ""},
    )
    return Path(json.loads(found)["Dir"]) / "images" / "base" / "files"


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Makes the image.

    Parameters
    ----------
    context
        The directory of the build, which does not exist yet.
    sources
        Where Debian's packages come from, as apt's stanzas.
    run
        Runs the programs.
    step
        Shows what is done.
    """

    context: Path
    sources: str
    run: Run
    step: Step

    def make(self, tag: str, binaries: Sequence[Path], files: Path) -> None:
        """Make the image out of the programs' directories and kind's own files."""
        kubernetes, kubeadm, coredns, pause = binaries
        shutil.copytree(SOURCES, self.context)
        (self.context / "version").write_text(build.KUBERNETES_VERSION)
        (self.context / "debian.sources").write_text(self.sources)
        shutil.copytree(kubernetes, self.context / "kubernetes", symlinks=True, copy_function=_link)
        for directory, name in ((kubeadm, "kubeadm"), (coredns, "coredns"), (pause, "pause")):
            _link(directory / name, self.context / name)
        self.step.detail = "Debian"
        self._bootstrap("proxy.tar", _PROXY_PACKAGES)
        script = self.context / "customize.sh"
        self._bootstrap("node.tar", _NODE_PACKAGES, f'FILES={files} sh {script} "$1"')
        self.step.detail = "images"
        self._save_images(kubeadm)
        self.step.detail = "node"
        self._build("--tag", tag)

    def _bootstrap(self, name: str, packages: Sequence[str], customize: str = "true") -> None:
        self.run(
            [
                *("mmdebstrap", "--quiet", "--variant=essential"),
                f"--include={','.join(packages)}",
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in base_image.LEFT_OUT),
                f"--customize-hook={customize}",
                '--customize-hook=rm -rf "$1"/etc/apt/sources.list* "$1"/var/lib/apt/lists/*',
                *(base_image.SUITE, self.context / name, self.context / "debian.sources"),
            ],
            what="Making a node's file system",
            timeout=_BOOTSTRAP_SECONDS,
            hint="Check that `apt-get update` works here, and that the disk has 3 GB free.",
        )

    def _save_images(self, kubeadm: Path) -> None:
        """Write the images that kubeadm asks for as one archive into the context."""
        listing = self.run(
            [
                *(kubeadm / "kubeadm", "config", "images", "list"),
                f"--kubernetes-version={build.KUBERNETES_VERSION}",
            ],
            what="Listing the control plane's images",
            timeout=_STEP_SECONDS,
        )
        targets = {name: _target(name) for name in [*listing.split(), _PAUSE]}
        for target in sorted(set(targets.values())):
            tags = [f"--tag={name}" for name, of in targets.items() if of == target]
            self._build("--target", target, *tags)
        self.run(
            ["docker", "save", "--output", self.context / "images.tar", *targets],
            what="Saving the control plane's images",
            timeout=_STEP_SECONDS,
        )

    def _build(self, *arguments: str) -> None:
        self.run(
            ["docker", "build", "--quiet", *arguments, self.context],
            what="Building kind's node image",
            timeout=_STEP_SECONDS,
            environment={"DOCKER_BUILDKIT": "1"},
        )


def _target(image: str) -> str:
    name = image.rpartition("/")[2].partition(":")[0]
    return name if name in ("coredns", "pause") else "kubernetes"


def _link(source: str | Path, target: str | Path) -> None:
    """Give a file a second name, since it is large; both are in the cache, on one disk."""
    os.link(source, target, follow_symlinks=False)
