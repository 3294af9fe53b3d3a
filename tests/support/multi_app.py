"""The product as a user has it: a Helm release with a MongoDB, and both example apps in pods.

All workers of a run share one installation, as it takes half a minute; tests in it work with users,
pages and apps of their own. Nothing in here knows a secret: what a test needs of one it reads from
the cluster, as an administrator would.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from devcluster import detect
from devcluster.images import ImageSpec, build, can_pull
from devcluster.mongod_binary import find_mongod
from devcluster.progress import Progress
from support.clusters import Cluster, create_namespace, provide_crd
from support.docker import IMAGES, NODE, node_context
from support.installed_operator import remove_policies

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "mdb-operator"
EXAMPLES = ROOT / "examples"
EXAMPLE = EXAMPLES / "multi_app"

OPERATOR = RELEASE = "mdb-operator"
"""The Helm release, and what its objects are called; as in the demo."""

TRIAL = f"{OPERATOR}-trial-mongodb"
"""The StatefulSet of its MongoDB, its Service, and the Secret with its passwords."""

PORTS: Mapping[str, int] = {"click-tracker": 8000, "dashboard": 8001}
"""The apps' Services and their ports."""

INSTALL_SECONDS = 240.0
"""On two cores that other tests use as well it takes about one minute."""


@dataclass(frozen=True, slots=True)
class World:
    """What is installed.

    Parameters
    ----------
    cluster
        Where.
    system
        The operator's namespace.
    shop
        The namespace of both apps.
    elsewhere
        A further namespace that the operator watches.
    operator_image, example_image
        The images that run.
    """

    cluster: Cluster
    system: str
    shop: str
    elsewhere: str
    operator_image: str
    example_image: str

    def apply(self, namespace: str, *objects: Mapping[str, Any]) -> None:
        """Apply objects to a namespace."""
        self.cluster.kubectl(
            "-n", namespace, "apply", "-f", "-", manifest=yaml.safe_dump_all(objects)
        )

    def get(self, namespace: str, what: str) -> dict[str, Any]:
        """Return one object."""
        found: dict[str, Any] = json.loads(
            self.cluster.kubectl("-n", namespace, "get", what, "-o", "json")
        )
        return found

    def python(self, workload: str, script: str) -> str:
        """Run Python in a pod of the shop, with what is mounted there, and return its output."""
        return self.cluster.kubectl("-n", self.shop, "exec", workload, "--", "python", "-c", script)

    def await_app(self, namespace: str, name: str, condition: str = "Ready") -> dict[str, Any]:
        """Wait until an MdbApp's condition holds, and return the MdbApp."""
        self.cluster.kubectl(
            *("-n", namespace, "wait", f"--for=condition={condition}", "--timeout=50s"),
            f"mdbapp/{name}",
        )
        return self.get(namespace, f"mdbapp/{name}")

    def refresh_mounts(self, app: str, namespace: str | None = None) -> None:
        """Let kubelet look at the app's volumes now; by itself it does so about once a minute."""
        selector = f"app.kubernetes.io/name={app}"
        self.cluster.kubectl(
            *("-n", namespace or self.shop, "annotate", "pods", "-l", selector),
            *("--overwrite", f"test/refreshed={next(_numbers)}"),
        )


def _count() -> Iterator[int]:
    number = 0
    while True:
        yield (number := number + 1)


_numbers = _count()


def provide(cluster: Cluster) -> World:
    """Return the run's installation, made by whoever comes first."""
    token = cluster.run.name.removeprefix("test-")
    world = World(
        cluster=cluster,
        system=f"system-{token}",
        shop=f"shop-{token}",
        elsewhere=f"elsewhere-{token}",
        operator_image=cluster.provide_image(
            ImageSpec(
                tag="localhost/mdb-operator:test",
                context=ROOT,
                dockerfile=ROOT / "operator" / "Dockerfile",
            )
        ),
        example_image=example_image(cluster),
    )
    cluster.run.once("multi-app", lambda: _install(world))
    return world


def remove(cluster: Cluster, token: str) -> None:
    """Remove an installation from a cluster that stays."""
    system = f"system-{token}"
    namespaces = [system, f"shop-{token}", f"elsewhere-{token}"]
    try:
        cluster.helm("uninstall", RELEASE, "-n", system, "--ignore-not-found", "--wait")
    finally:
        cluster.kubectl("delete", "namespace", "--ignore-not-found", "--wait=false", *namespaces)


def _install(world: World) -> None:
    cluster = world.cluster
    provide_crd(cluster)
    repository, _, tag = world.operator_image.rpartition(":")
    values = {
        "image": {"repository": repository, "tag": tag},
        "replicas": 2,
        # The cluster is shared with tests whose operators watch other namespaces.
        "watchNamespaces": [world.shop, world.elsewhere],
        "crds": {"install": False},
        "mongodb": {"trial": {"enabled": True, "image": mongod_image(cluster)}},
    }
    for namespace in (world.system, world.shop, world.elsewhere):
        create_namespace(cluster, namespace)
    with tempfile.TemporaryDirectory(dir=ROOT / "tests") as name:
        directory = Path(name)
        (directory / "values.yaml").write_text(yaml.safe_dump(values))
        cluster.helm(
            *("install", RELEASE, str(CHART), "-n", world.system),
            *("-f", str(directory / "values.yaml"), "--wait", "--timeout=4m"),
            timeout=INSTALL_SECONDS,
        )
        cluster.kubectl("apply", "-k", _overlay(world, directory))
    for name in PORTS:
        rollout = ("rollout", "status", f"deployment/{name}", "--timeout=120s")
        cluster.kubectl("-n", world.shop, *rollout, timeout=INSTALL_SECONDS)


def _overlay(world: World, directory: Path) -> str:
    """Write the overlay with which a user gives ``k8s/`` another namespace and image."""
    repository, _, tag = world.example_image.rpartition(":")
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": world.shop,
        "resources": [f"../../{(EXAMPLE / 'k8s').relative_to(ROOT)}"],
        "images": [{"name": "mdb-example", "newName": repository, "newTag": tag}],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return str(directory)


def example_image(cluster: Cluster) -> str:
    """Return the image of both example apps; it has the library."""
    tag, dockerfile = "localhost/mdb-example:test", EXAMPLE / "Dockerfile"
    return cluster.provide_image(ImageSpec(tag=tag, context=ROOT, dockerfile=dockerfile))


def mongod_image(cluster: Cluster) -> str:
    """Return the image of the trial MongoDB; without a registry, the binary that tests use."""
    if detect.docker_answers() and can_pull("mongo:8"):
        return "mongo:8"
    return cluster.provide_image(
        ImageSpec(
            tag="localhost/trial-mongod:test",
            context=find_mongod(print).parent,
            dockerfile=ROOT / "tests" / "cluster" / "images" / "mongod" / "Dockerfile",
        )
    )


@contextmanager
def forwarded(world: World, service: str, namespace: str | None = None) -> Iterator[str]:
    """Give a URL on this machine that leads to an app's Service."""
    with forwarded_port(world, f"service/{service}", PORTS[service], namespace) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def forwarded_port(
    world: World, what: str, port: int, namespace: str | None = None
) -> Iterator[int]:
    """Give a port of this machine's loopback interface that leads to a pod's, or a Service's."""
    command = [world.cluster.program("kubectl"), "-n", namespace or world.shop]
    with subprocess.Popen(
        [*command, "port-forward", what, f":{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=world.cluster.environment,
    ) as forwarding:
        try:
            assert forwarding.stdout is not None
            line = forwarding.stdout.readline()
            match = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert match is not None, f"{what} cannot be forwarded: {line!r}"
            yield int(match[1])
        finally:
            forwarding.terminate()


def mdbapp(slug: str, **spec: Any) -> dict[str, Any]:
    """Return an MdbApp that is called like its slug and has one collection, ``pages``."""
    return {
        "apiVersion": "mdb-engine.dev/v1",
        "kind": "MdbApp",
        "metadata": {"name": slug},
        "spec": {"slug": slug, "collections": [{"name": "pages"}], **spec},
    }


def run_click_tracker(world: World, namespace: str) -> None:
    """Register ClickTracker in another namespace, too, and run it there until it is ready."""
    labels = {"app.kubernetes.io/name": "click-tracker"}
    probe = {"httpGet": {"path": "/ready", "port": 8000}, "periodSeconds": 1}
    pod = pod_spec(world, "click-tracker-mdb", app="click-tracker", readinessProbe=probe)
    app = mdbapp("click_tracker", collections=[{"name": "clicks"}])
    app["metadata"]["name"] = "click-tracker"
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "click-tracker"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "click-tracker"},
        "spec": {"selector": labels, "ports": [{"port": PORTS["click-tracker"]}]},
    }
    world.apply(namespace, app, deployment, service)
    world.await_app(namespace, "click-tracker")
    rollout = ("rollout", "status", "deployment/click-tracker", "--timeout=50s")
    world.cluster.kubectl("-n", namespace, *rollout)


def run_simple_app(world: World) -> None:
    """Run the smallest app in the shop until it is ready, from its own manifest."""
    _run_example(world, "simple", ROOT)


def run_beanie_app(world: World) -> None:
    """Run the app with Beanie in the shop until it is ready, from its own manifest."""
    _run_example(world, "beanie", ROOT)


def run_node_app(world: World) -> None:
    """Run the app in JavaScript in the shop until it is ready, from its own manifest."""
    _run_example(world, "node", EXAMPLES / "node_app", base=_node_base(world))


def _run_example(world: World, name: str, context: Path, *, base: str = "") -> None:
    directory = EXAMPLES / f"{name}_app"
    image = world.cluster.provide_image(
        ImageSpec(
            tag=f"localhost/mdb-{name}:test",
            context=context,
            dockerfile=directory / "Dockerfile",
            arguments={"BASE": base} if base else {},
        )
    )
    manifest = (directory / "k8s.yaml").read_text().replace(f"mdb-{name}:dev", image)
    kubectl = world.cluster.kubectl
    kubectl("-n", world.shop, "apply", "-f", "-", manifest=manifest)
    world.await_app(world.shop, f"{name}-app")
    kubectl("-n", world.shop, "rollout", "status", f"deployment/{name}-app", "--timeout=50s")


def _node_base(world: World) -> str:
    """Return what the Dockerfile of Node's is built on; empty for its own, from a registry."""
    if detect.docker_answers() and can_pull(NODE):
        return ""
    tag = "localhost/node:test"

    def make() -> None:
        with tempfile.TemporaryDirectory() as directory:
            node_context(Path(directory))
            dockerfile = IMAGES / "node" / "Dockerfile"
            build(ImageSpec(tag=tag, context=Path(directory), dockerfile=dockerfile), Progress())

    world.cluster.run.once("image-node-base", make)
    return tag


def install_release(
    world: World,
    system: str,
    apps: str,
    directory: Path,
    mongodb: Mapping[str, Any],
    **more: Any,
) -> None:
    """Install the chart once more, for one namespace of apps and with another MongoDB.

    Parameters
    ----------
    world
        The installation beside which it is.
    system, apps
        The namespaces of the operator and of the apps.
    directory
        Where the values are written.
    mongodb
        The chart's values about MongoDB.
    more
        Further values.
    """
    repository, _, tag = world.operator_image.rpartition(":")
    values = {
        "image": {"repository": repository, "tag": tag},
        "replicas": 1,
        "watchNamespaces": [apps],
        "rbac": {"aggregateToDefaultRoles": False, "serviceBinding": False},
        "crds": {"install": False},
        "mongodb": dict(mongodb),
        **more,
    }
    (directory / "values.yaml").write_text(yaml.safe_dump(values))
    release = (RELEASE, str(CHART), "-n", system, "-f", str(directory / "values.yaml"))
    world.cluster.helm("install", *release, "--wait", "--timeout=100s", timeout=120)


def remove_release(world: World, system: str, apps: str) -> None:
    """Remove a release that has little outside of these namespaces, faster than Helm does."""
    kubectl = world.cluster.kubectl
    try:
        kubectl("-n", apps, "delete", "mdbapps", "--all", "--timeout=30s")
    finally:
        kubectl("delete", "namespace", "--wait=false", system, apps)
        remove_policies(world.cluster, system)


AS_ON_OPENSHIFT = {"runAsUser": 1000650000, "runAsGroup": 0, "fsGroup": 1000650000}
"""What OpenShift's SCC makes of a pod that asks for no user: one of the namespace's own range, whom
no image knows, and the group root."""


def pod_spec(world: World, secret: str, *, app: str = "dashboard", **container: Any) -> Any:
    """Return the spec of a pod like an app's that mounts another Secret.

    Parameters
    ----------
    world
        Where.
    secret
        The Secret's name.
    app
        Whose pod.
    **container
        What is different about the container; it has no probes unless they are among that.
    """
    spec = world.get(world.shop, f"deployment/{app}")["spec"]["template"]["spec"]
    [original] = spec["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        del original[probe]
    spec["containers"] = [{**original, **container}]
    [binding] = [volume for volume in spec["volumes"] if volume["name"] == "binding"]
    binding["secret"]["secretName"] = secret
    spec["terminationGracePeriodSeconds"] = 0
    return spec
