"""Fixtures of a real Kubernetes.

All workers of a run share one cluster. The first test that asks for it starts it; the process
that began the run removes it at the end, so a worker that dies takes nothing with it. A run that
was killed altogether is cleaned up by the next one.

With ``DEVCLUSTER_NAME`` in the environment the cluster of that name is used, started where it is
not, and left alone if it ran before: the quick way while writing tests.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from devcluster import detect, images
from devcluster.engine import own
from devcluster.errors import DevclusterError
from devcluster.filelock import hold
from devcluster.node.provider import NodeProvider
from devcluster.paths import NAME_VARIABLE, state_root
from devcluster.progress import Progress
from devcluster.provider import Provider
from devcluster.providers import select
from support.api import Api, ApiError, close_connections, connection
from support.shared import TestRun, is_worker
from support.waiting import wait_until

COMMAND_SECONDS = 60.0
"""A kubectl command that waits for something passes its own ``--timeout``, below this."""

CRD = Path(__file__).parents[2] / "crds" / "mdbapps.mdb-engine.dev.yaml"

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
"""The label of a namespace that admits only pods of the strictest Pod Security level."""

REQUIRE_VARIABLE = "MDB_REQUIRE_CLUSTER"
"""Set to 1: a test that needs a cluster fails where there is none, instead of being skipped."""

_FIXTURES = {"cluster", "control_plane", "namespace", "own_control_plane", "own_node"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster.

    Parameters
    ----------
    provider
        What kind it is of.
    kubeconfig
        Its administrator's kubeconfig.
    run
        This test run.
    """

    provider: Provider
    kubeconfig: Path
    run: TestRun

    @property
    def name(self) -> str:
        """The cluster's name."""
        return os.environ.get(NAME_VARIABLE) or self.run.name

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which kubectl and helm, and what calls them, use this cluster."""
        tools = self.provider.tools()
        path = os.environ.get("PATH", "")
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": f"{tools}{os.pathsep}{path}" if tools else path,
        }

    @property
    def api(self) -> Api:
        """An administrator's connection to the API server."""
        return connection(self.kubeconfig)

    def kubectl(
        self, *arguments: str, manifest: str | None = None, timeout: float = COMMAND_SECONDS
    ) -> str:
        """Run kubectl and return its standard output.

        Parameters
        ----------
        arguments
            Its arguments.
        manifest
            What it reads from standard input, for ``apply -f -``.
        timeout
            Seconds until it is killed.

        Raises
        ------
        CommandError
            If it fails; with what it wrote to standard error.
        """
        return self._run("kubectl", arguments, manifest, timeout)

    def helm(self, *arguments: str, timeout: float = COMMAND_SECONDS) -> str:
        """Run helm and return its standard output.

        Raises
        ------
        CommandError
            If it fails; with what it wrote to standard error.
        """
        return self._run("helm", arguments, None, timeout)

    def pids(self) -> dict[str, int]:
        """Return the processes that run of a cluster out of processes, by component."""
        parts = self.provider.status().components
        return {part.name: part.pid for part in parts if part.healthy and part.pid}

    def repair(self) -> None:
        """Start again what has died of a cluster out of processes."""
        self.provider.up(control_plane_only=True)

    def provide_image(self, spec: images.ImageSpec) -> str:
        """Build an image and load it, once in a run, and return its tag."""

        def build_and_load() -> None:
            progress = Progress()
            builder = images.choose_builder(progress)
            images.build(spec, progress, builder)
            images.load(spec.tag, self.provider.load_image, progress, builder)

        self.run.once("image-" + spec.tag.replace("/", "_").replace(":", "_"), build_and_load)
        return spec.tag

    def program(self, name: str) -> str:
        """Return the path of kubectl or helm."""
        found = shutil.which(name, path=self.environment["PATH"])
        assert found is not None, f"{name} is neither the cluster's nor on PATH"
        return found

    def _run(
        self, program: str, arguments: tuple[str, ...], manifest: str | None, timeout: float
    ) -> str:
        outcome = subprocess.run(
            [self.program(program), *arguments],
            input=manifest or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
            check=False,
        )
        if outcome.returncode != 0:
            raise CommandError(f"{program} {' '.join(arguments)}", outcome.stderr.strip())
        return outcome.stdout


class CommandError(AssertionError):
    """A command failed that a test expected to succeed.

    Parameters
    ----------
    command
        The command.
    stderr
        What it wrote to standard error.
    """

    def __init__(self, command: str, stderr: str) -> None:
        super().__init__(f"{command}: {stderr}")
        self.stderr = stderr


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """Give a cluster that runs pods."""
    reason = why_no_pods()
    if reason:
        cannot_test(f"no cluster: {reason}")
    return _started(pods=True)


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Cluster:
    """Give an API server with its controllers; pods may or may not run.

    Where pods can be run it is the same cluster, as two would cost more than one.
    """
    if why_no_pods():
        return _started(pods=False)
    found: Cluster = request.getfixturevalue("cluster")
    return found


@pytest.fixture
def own_control_plane() -> Iterator[Cluster]:
    """Give an API server with its controllers that no other test uses, to be broken."""
    if sys.platform != "linux":
        cannot_test("no control plane of its own: that needs Linux")
    with starting_control_plane() as cluster:
        yield cluster


@pytest.fixture
def own_node() -> Iterator[Cluster]:
    """Give a cluster that runs pods and that no other test uses, to be broken."""
    if sys.platform != "linux" or os.geteuid() != 0:
        cannot_test("no node of its own: that needs root on Linux")
    with _starting([]) as cluster:
        yield cluster


def starting_control_plane() -> AbstractContextManager[Cluster]:
    """Start an API server with its controllers, for the block alone."""
    return _starting(["--control-plane"])


@contextmanager
def _starting(options: list[str]) -> Iterator[Cluster]:
    """Start a cluster for the block alone.

    It is never one of kind's or somebody's own: who asks reaches for its processes and files.
    """
    run = TestRun(f"{TestRun.current().name}-{secrets.token_hex(2)}")
    (run.directory / "started").write_text(run.name)
    try:
        _up(run.name, options, detect.Choice.NODE)
        provider = NodeProvider(run.name, Progress())
        yield Cluster(provider, provider.kubeconfig(), run)
    finally:
        _end(run)


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    """Give a new namespace, ready for pods and removed after the test."""
    name = f"test-{secrets.token_hex(4)}"
    create_namespace(control_plane, name)
    yield name
    control_plane.api.delete("Namespace", name)


def create_namespace(cluster: Cluster, name: str, labels: Mapping[str, str] | None = None) -> None:
    """Create a namespace and wait until pods can run in it.

    A pod is refused before its account exists, and waits a minute for a missing ConfigMap.
    """
    api = cluster.api
    metadata = {"name": name, "labels": dict(labels or {})}
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    for kind, wanted in (("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")):
        wait_until(
            partial(api.get, kind, wanted, name),
            deadline=30,
            message=f"the {kind} {wanted} of the new namespace {name}",
        )


def provide_crd(cluster: Cluster) -> None:
    """See to it that the API server knows MdbApps, as all tests of a run share them."""

    def install() -> None:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
        # Asked here, because `kubectl wait` fails at once where there is no condition yet.
        wait_until(
            lambda: _answers(cluster.api),
            deadline=30,
            message="the API server's knowledge of MdbApps",
        )

    cluster.run.once("mdbapps-crd", install)


def _answers(api: Api) -> bool:
    try:
        api.objects("MdbApp", "default")
    except ApiError:
        return False
    return True


def cannot_test(reason: str) -> NoReturn:
    """Skip a test so that nobody overlooks it; in CI, or where a cluster is required, fail it."""
    if os.environ.get("CI") == "true" or os.environ.get(REQUIRE_VARIABLE) == "1":
        pytest.fail(f"NOT TESTED: {reason}")
    pytest.skip(f"NOT TESTED: {reason}")


def why_no_pods() -> str:
    """Return why this machine and user can have no cluster that runs pods, or an empty string."""
    try:
        choice = detect.choose()
    except DevclusterError as error:
        return str(error)
    if choice is detect.Choice.NODE and os.geteuid() != 0:
        return (
            "pods without a Docker engine need root on Linux (run the tests as root, start a"
            " Docker engine, or set DEVCLUSTER=kubeconfig to use a cluster of yours)"
        )
    if choice is detect.Choice.KIND and not detect.docker_answers() and own.why_not():
        return f"no Docker engine answers `docker info`, and {own.why_not()}"
    return ""


def _started(*, pods: bool) -> Cluster:
    run = TestRun.current()
    chosen = os.environ.get(NAME_VARIABLE)
    name = chosen or run.name
    progress = Progress()

    def start() -> None:
        _remove_killed_runs(progress)
        if not (chosen and select(name, progress, starting=False).status().exists):
            (run.directory / "started").write_text(name)
        _up(name, [] if pods else ["--control-plane"])

    try:
        run.once("cluster", start)
        provider = select(name, progress, starting=False)
        return Cluster(provider, provider.kubeconfig(), run)
    except DevclusterError as error:
        pytest.fail(f"the cluster cannot be started: {error}")


def _up(name: str, options: list[str], kind: detect.Choice | None = None) -> None:
    """Start it with the command, so that it is no child of a worker, which may end before it."""
    devcluster = Path(sys.executable).with_name("devcluster")
    outcome = subprocess.run(
        [devcluster, "up", "--name", name, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | ({detect.VARIABLE: kind} if kind else {}),
        check=False,
    )
    if outcome.returncode != 0:
        raise DevclusterError(outcome.stdout.strip())


def _remove_killed_runs(progress: Progress) -> None:
    with hold(state_root() / ".tests.lock"):
        for run in TestRun.killed():
            progress.note(f"Removing what the killed run {run.name} left")
            _end(run)


def _end(run: TestRun) -> None:
    started = run.path / "started"
    if started.exists():
        name = started.read_text()
        # A control plane of a test's own is no cluster of the kind that the environment asks for.
        if not NodeProvider(name, Progress()).down():
            select(name, Progress(), starting=False).down()
        # Not the whole tree: other clusters' files come and go meanwhile.
        for directory in (state_root(), state_root() / ".kind"):
            for lock in directory.glob(f"*{run.name}.lock"):
                lock.unlink()  # nobody waits for it: no other run has this name
    run.forget()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the limit of a test's time begin after its cluster is there: a first one is compiled."""
    for item in items:
        asks = _FIXTURES & set(getattr(item, "fixturenames", ()))
        if asks and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300, func_only=True))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Remove the cluster when all workers have ended."""
    close_connections()
    if not is_worker():
        _end(TestRun.current())
