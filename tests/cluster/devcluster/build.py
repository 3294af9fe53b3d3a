"""Compile the programs of clusters and of tests, once for each state of their sources."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.filelock import hold
from devcluster.golang import find_go, required_by
from devcluster.paths import cache_dir
from devcluster.progress import Progress, Step

SOURCES = Path(__file__).parents[1] / "binaries"
"""The Go modules."""

KUBERNETES_VERSIONS = {"1.34": "v1.34.4", "1.37": "v1.37.2"}
"""What can be run, by minor; the first is the default. The modules' hashes are in their go.sum."""

KUBERNETES_MINOR = next(iter(KUBERNETES_VERSIONS))
KUBERNETES_VERSION = KUBERNETES_VERSIONS[KUBERNETES_MINOR]

HELM_VERSION = "v3.19.5"
"""The version in helm/go.mod."""

_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Program:
    """A Go program.

    Parameters
    ----------
    name
        Its name, and that of its module's directory.
    package
        What to build in the module.
    links
        Names under which it is another program.
    variables
        String variables to set at link time.
    space
        GiB that a cold build fills with modules and compiled packages.
    module
        The module's directory where it has another name.
    """

    name: str
    package: str = "."
    links: tuple[str, ...] = ()
    variables: Mapping[str, str] | None = None
    space: int = 1
    module: str = field(default="", repr=False)

    @property
    def sources(self) -> Path:
        """The directory of the module."""
        return SOURCES / (self.module or self.name)

    @property
    def directory(self) -> Path:
        """Where the compiled program is, or will be."""
        return cache_dir() / "bin" / f"{self.name}-{cache_key(self)}"

    @property
    def linker_flags(self) -> str:
        """The linker's flags: no symbols, and the version that the program shall report."""
        set_variables = (f"-X {key}={value}" for key, value in (self.variables or {}).items())
        return " ".join(["-s", "-w", *set_variables])


def _version_variables(version: str) -> dict[str, str]:
    major, minor, _ = version.removeprefix("v").split(".")
    values = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{key}": value for package in packages for key, value in values.items()}


def kubernetes(minor: str) -> Program:
    """Return the programs of a minor in :data:`KUBERNETES_VERSIONS`, which are one program."""
    return Program(
        "kubernetes",
        links=(
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-proxy",
            "kube-scheduler",
            "kubectl",
            "kubelet",
        ),
        variables=_version_variables(KUBERNETES_VERSIONS[minor]),
        space=6,
        module="" if minor == KUBERNETES_MINOR else f"kubernetes-{minor}",
    )


KUBERNETES = kubernetes(KUBERNETES_MINOR)
KUBECTL = Program(
    "kubectl",
    package="k8s.io/kubernetes/cmd/kubectl",
    variables=_version_variables(KUBERNETES_VERSION),
    space=2,
    module="kubernetes",
)
"""For a machine that runs no program of the cluster but this one."""

KUBEADM = Program("kubeadm", variables=_version_variables(KUBERNETES_VERSION), space=6)
COREDNS = Program("coredns")
HELM = Program(
    "helm",
    package="helm.sh/helm/v3/cmd/helm",
    variables={
        "helm.sh/helm/v3/internal/version.version": HELM_VERSION,
        # What charts are checked against where no cluster is asked; helm's own build says so too.
        **{
            f"helm.sh/helm/v3/pkg/{package}.k8sVersion{part}": number
            for package in ("chartutil", "lint/rules")
            for part, number in zip(
                ("Major", "Minor"), KUBERNETES_VERSION.removeprefix("v").split("."), strict=False
            )
        },
    },
)
PAUSE = Program("pause")
COMPOSE = Program(
    "compose",
    package="github.com/docker/compose/v2/cmd",
    links=("docker-compose",),
    variables={"github.com/docker/compose/v2/internal.Version": "v2.40.3"},
    space=3,
)
"""Docker's plugin, which Debian's packages of the engine lack."""

REGISTRY = Program("registry", package="github.com/distribution/distribution/v3/cmd/registry")
"""A registry of images, for tests of what somebody pushes to one."""

PROMTOOL = Program("promtool", package="github.com/prometheus/prometheus/cmd/promtool", space=3)
"""Prometheus' checker of rules, for the chart's alerts."""

KSTATUS = Program("kstatus")
"""What Flux makes of an object's status, for MdbApps' conditions."""

ACTIONLINT = Program("actionlint", package="github.com/rhysd/actionlint/cmd/actionlint")
"""The linter of GitHub's workflows; its Python package downloads from where a wall may be."""


FOR_TESTS = {program.name: program for program in (PROMTOOL, KSTATUS)}
"""What some tests need, and no cluster."""


def ensure(program: Program, progress: Progress) -> Path:
    """Return the directory that holds a program, compiling it first if it must be.

    Raises
    ------
    DevclusterError
        If it cannot be compiled: no Go, no network, no space.
    """
    directory = program.directory
    if directory.exists():
        return directory
    directory.parent.mkdir(mode=0o700, exist_ok=True)

    def waiting() -> None:
        progress.note("Another devcluster is compiling; waiting for it")

    with hold(directory.parent / ".lock", waiting):
        if not directory.exists():
            try:
                go = find_go(progress, required_by(program.sources))
                check_space(go, program.space)
                _compile(program, go, directory, progress)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise _no_space(directory, str(error)) from error
                raise
    return directory


def cache_key(program: Program) -> str:
    """Return what changes with the sources, the versions of all modules, and the flags."""
    digest = hashlib.sha256(repr(program).encode())
    for path in sorted(program.sources.glob("*")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def check_space(go: Path, needed: int) -> None:
    """Check that a cold build has the space that it takes.

    Parameters
    ----------
    go
        The Go command, which knows where its caches are.
    needed
        GiB.

    Raises
    ------
    DevclusterError
        If one of the file systems that it fills has too little.
    """
    asked = subprocess.run(
        [go, "env", "GOCACHE", "GOMODCACHE"],
        capture_output=True,
        text=True,
        check=True,
        env=_environment(),
    )
    for directory in (cache_dir(), *(Path(line) for line in asked.stdout.splitlines())):
        there = directory
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free / _GIB
        if free < needed:
            raise _no_space(directory, f"{free:.1f} GiB free, {needed} GiB needed")


def _compile(program: Program, go: Path, directory: Path, progress: Progress) -> None:
    module = program.sources
    if not (module / "go.mod").exists():
        raise DevclusterError(
            f"The sources of {program.name} are not at {module}",
            "Run devcluster from a checkout of the repository, as `.venv/bin/devcluster`.",
        )
    work = Path(tempfile.mkdtemp(dir=directory.parent))
    try:
        command = [
            *(go, "build", "-v", "-trimpath", "-ldflags", program.linker_flags),
            *("-o", work / program.name, program.package),
        ]
        with progress.step(f"Compiling {program.name}") as step:
            _run(program, [str(part) for part in command], module, step)
        for link in program.links:
            (work / link).symlink_to(program.name)
        work.chmod(0o700)
        work.rename(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(program: Program, command: list[str], module: Path, step: Step) -> None:
    tail: deque[str] = deque(maxlen=20)
    packages = 0
    with subprocess.Popen(
        command,
        cwd=module,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        for line in running.stdout or ():
            tail.append(line.rstrip())
            if line.startswith("go: downloading"):
                step.detail = line.split()[2]
            else:
                packages += 1
                step.detail = f"{packages} packages"
    if running.returncode != 0:
        raise _failure(program, "\n".join(tail))


def _failure(program: Program, output: str) -> DevclusterError:
    if "no space left on device" in output:
        return _no_space(cache_dir(), "the compiler met 'no space left on device'")
    network = ("dial tcp", "no such host", "i/o timeout", "connection refused", "TLS handshake")
    if any(sign in output for sign in network):
        return DevclusterError(
            f"Go cannot download the modules of {program.name}: {output.splitlines()[-1]}",
            "Run this once with a network (GOPROXY names a mirror); later builds need none.",
        )
    return DevclusterError(
        f"{program.name} does not compile:\n{output}",
        f"Run `go build` in {program.sources} to see all of it.",
    )


def _no_space(directory: Path, detail: str) -> DevclusterError:
    return DevclusterError(
        f"Too little space to compile the cluster's programs under {directory}: {detail}",
        "Make room (`go clean -cache` empties Go's), or set XDG_CACHE_HOME, GOCACHE and "
        "GOMODCACHE to a larger disk.",
    )


def _environment() -> dict[str, str]:
    return os.environ | {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
