"""Real pods work while their secrets rotate, and while kubelet is away: none is ever refused."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.clusters import Cluster
from support.credentials import wait_refused
from support.fault_table import record
from support.installation import Installation, installed
from support.invariants import Ledger, data_of, settled
from support.mongo import start_server
from support.multi_app import example_image
from support.waiting import wait_until

from devcluster.node.provider import NodeProvider
from devcluster.progress import Progress

pytestmark = [pytest.mark.long, pytest.mark.root]

ALL = os.environ.get("MDB_ALL_FAULTS") == "1"

APPS, REPLICAS, ROTATIONS = (5, 10, 5) if ALL else (2, 5, 2)

PROGRAM = Path(__file__).parent / "programs" / "pod.py"

DOCUMENTS = 20
"""Of each app: what the program expects to read."""

OVERLAP_SECONDS = 120
"""The least that an MdbApp can say."""

ROTATED_WITHIN = OVERLAP_SECONDS + 60.0
"""Seconds: where as many versions work as may, the next waits for the first of them to end."""

DELIVERED_WITHIN = 110.0
"""Seconds from the Secret to all pods: kubelet looks every minute, or half as late again."""

STARTED_WITHIN = 180.0
"""Seconds for the pods of one app: two cores are few for the imports of ten Pythons."""


@dataclass
class Fleet:
    """The pods of some apps.

    Parameters
    ----------
    here
        The installation.
    image
        Of the pods: one that has the library.
    sizes
        How many pods each app has.
    pause
        Seconds between two rounds of a pod's work.
    """

    here: Installation = field(repr=False)
    image: str
    sizes: dict[str, int]
    pause: float

    def start(self) -> None:
        """Register the apps, and start the pods of one after the other."""
        progress = Progress()
        for app, size in self.sizes.items():
            collections = [{"name": "c"}, {"name": "pods"}]
            self.here.apply(
                app, collections=collections, secret={"overlapSeconds": OVERLAP_SECONDS}
            )
            self.here.wait_condition(app, deadline=60)
            self.here.mongo[f"{app}_c"].insert_many(
                [{"app_id": app, "n": n} for n in range(DOCUMENTS)]
            )
            with progress.step(f"Starting {size} pods of {app}"):
                self.scale(app, size)
                self.await_version(1, app, deadline=STARTED_WITHIN)

    def scale(self, app: str, size: int) -> None:
        """Have an app run in so many pods."""
        self.sizes[app] = size
        manifest = deployment(app, size, self.image, self.pause)
        self.here.cluster.api.apply(manifest, self.here.apps)

    def rotate(self, version: int) -> dict[str, str]:
        """Make the next version of every secret; return the URIs of those before."""
        before = {app: self.here.secret(f"{app}-mdb")["uri"] for app in self.sizes}
        self.here.annotate(self.sizes, "rotate-requested", str(version))

        def left() -> list[str]:
            now = {app: self.here.secret(f"{app}-mdb")["secret-version"] for app in self.sizes}
            return [f"{app}: {self.here.status(app)}" for app in now if now[app] != str(version)]

        wait_until(
            lambda: not left(),
            deadline=ROTATED_WITHIN,
            message=lambda: f"Secrets with version {version}: {left()}",
        )
        return before

    def await_version(self, version: int, *apps: str, deadline: float = DELIVERED_WITHIN) -> float:
        """Wait until all pods, of some apps or all, are ready and use a version; say how long."""
        began = time.monotonic()
        late = partial(self._late, version, apps or tuple(self.sizes))
        wait_until(
            lambda: not late(),
            deadline=deadline,
            message=lambda: f"all pods at version {version}: {late()}",
        )
        return time.monotonic() - began

    def await_rounds(self) -> None:
        """Wait until every pod has done all of its work again, twice."""
        before = self.told()

        def left() -> list[str]:
            now = self.told()
            return [pod for pod in before if now[pod]["reads"] < before[pod]["reads"] + 4]

        wait_until(lambda: not left(), deadline=60, message=lambda: f"pods at work: not {left()}")

    def told(self, *apps: str) -> dict[str, dict[str, Any]]:
        """Return what the pods of some apps, or of all, said last, by their names."""
        found = (self.here.mongo[f"{app}_pods"].find() for app in apps or self.sizes)
        return {one["pod"]: one for documents in found for one in documents}

    def refused(self) -> list[str]:
        """Return the pods that were refused something, with what they met."""
        told = self.told().values()
        return [f"{one['pod']}: {one['refused']} {one['errors']}" for one in told if one["refused"]]

    def containers(self) -> dict[str, str]:
        """Return the container that each pod runs: another one, if it was started again."""
        return {
            pod["metadata"]["name"]: one["containerID"]
            for pod in self._pods()
            for one in pod["status"]["containerStatuses"]
        }

    def _late(self, version: int, apps: tuple[str, ...]) -> list[str]:
        using = {pod: one["version"] for pod, one in self.told(*apps).items()}
        if list(using.values()) != [version] * sum(self.sizes[app] for app in apps):
            return [f"they use {using}, and Kubernetes says {self._states()}"]
        return [f"{pod} is {state}" for pod, state in self._states().items() if state != "ready"]

    def _states(self) -> dict[str, str]:
        return {pod["metadata"]["name"]: state_of(pod) for pod in self._pods()}

    def _pods(self) -> list[dict[str, Any]]:
        return self.here.cluster.api.objects("Pod", self.here.apps)


def state_of(pod: dict[str, Any]) -> str:
    """Return ``ready``, or what the API server says instead."""
    status = pod["status"]
    conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
    if conditions.get("Ready") == "True":
        return "ready"
    return f"{status['phase']} {[one['state'] for one in status.get('containerStatuses', [])]}"


def deployment(app: str, size: int, image: str, pause: float) -> dict[str, Any]:
    """Return an app's Deployment: the program, and nothing that kubelet has to ask pods for."""
    labels = {"app.kubernetes.io/name": app}
    environment = {"SERVICE_BINDING_ROOT": "/bindings", "SLUG": app, "PAUSE_SECONDS": str(pause)}
    container = {
        "name": "app",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", PROGRAM.read_text()],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": {"requests": {"cpu": "5m", "memory": "48Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "binding", "mountPath": "/bindings/mdb", "readOnly": True}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "binding", "secret": {"secretName": f"{app}-mdb", "defaultMode": 0o440}}
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": app},
        "spec": {
            "replicas": size,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


@pytest.fixture
def here(own_node: Cluster, tmp_path: Path) -> Iterator[Installation]:
    """Give an operator's surroundings on a node of the test's own, whose pods reach MongoDB."""
    assert isinstance(own_node.provider, NodeProvider)
    with (
        start_server(auth=True, address=own_node.provider.machine_address()) as server,
        installed(own_node, server, tmp_path) as found,
    ):
        yield found


def kill_kubelet(cluster: Cluster) -> None:
    os.kill(cluster.pids()["kubelet"], signal.SIGKILL)
    wait_until(lambda: "kubelet" not in cluster.pids(), message="the end of kubelet")


def look_by_default(cluster: Cluster) -> None:
    """Have kubelet look at mounted Secrets each minute, its default, and not every two seconds."""
    assert isinstance(cluster.provider, NodeProvider)
    file = cluster.provider.layout.config("kubelet.yaml")
    settings = yaml.safe_load(file.read_text())
    del settings["syncFrequency"]
    file.write_text(yaml.safe_dump(settings))
    kill_kubelet(cluster)
    cluster.repair()


def await_node_not_ready(cluster: Cluster) -> None:
    """Wait until the control plane has noticed that kubelet is away."""
    states: dict[str, str] = {}

    def unknown() -> bool:
        [node] = cluster.api.objects("Node")
        states.update({one["type"]: one["status"] for one in node["status"]["conditions"]})
        return states["Ready"] == "Unknown"

    wait_until(unknown, deadline=90, message=lambda: f"a node that is not ready: {states}")


def documents_of(here: Installation, *apps: str) -> dict[str, list[str]]:
    """Return the data of apps that no pod changes."""
    return {name: rows for name, rows in data_of(here, *apps).items() if name.endswith("_c")}


@pytest.mark.timeout(900, func_only=True)
def test_pods_go_on_without_kubelet_and_follow_a_rotation_once_it_is_back(
    own_node: Cluster, here: Installation
) -> None:
    process, ledger = here.start(), Ledger()
    fleet = Fleet(here, example_image(own_node), {"shop": 3}, pause=0.25)
    fleet.start()
    data, containers = documents_of(here, "shop"), fleet.containers()
    ledger.collect(here)

    kill_kubelet(own_node)
    first = fleet.rotate(2)["shop"]
    fleet.scale("shop", 4)
    if ALL:
        await_node_not_ready(own_node)
    fleet.await_rounds()
    assert {one["version"] for one in fleet.told().values()} == {1}

    began = time.monotonic()
    own_node.repair()
    fleet.await_version(2)
    seconds = time.monotonic() - began
    if ALL:
        wait_refused(first, "the version before", ROTATED_WITHIN)
    fleet.await_rounds()
    assert fleet.refused() == []
    settled(here, ledger, data)

    # The same counts say so where pods are refused, or they could not fail.
    containers = fleet.containers() | containers
    ledger.collect(here)
    kill_kubelet(own_node)
    second = fleet.rotate(3)["shop"]
    here.annotate("shop", "revoke-previous", "now")
    wait_refused(second, "what was revoked")
    own_node.repair()
    fleet.await_version(3)
    fleet.await_rounds()
    assert len(fleet.refused()) == 4
    settled(here, ledger, data)
    assert fleet.containers() == containers
    here.stop(process)
    record(
        "kubelet is killed while a secret rotates",
        "readings and writes of its pods",
        seconds=seconds,
        readings=sum(one["reads"] for one in fleet.told().values()),
    )


@pytest.mark.timeout(1800, func_only=True)
def test_no_real_pod_is_refused_while_secrets_rotate_and_earlier_versions_end(
    own_node: Cluster, here: Installation
) -> None:
    if ALL:
        look_by_default(own_node)
    process, ledger, progress = here.start(), Ledger(), Progress()
    apps = {f"shop{number}": REPLICAS for number in range(APPS)}
    fleet = Fleet(here, example_image(own_node), apps, pause=1.0)
    fleet.start()
    data, containers = documents_of(here, *apps), fleet.containers()
    ended: dict[str, str] = {}
    delivered = 0.0
    for version in range(2, 2 + ROTATIONS):
        ledger.collect(here)
        with progress.step(f"Rotating to version {version}"):
            ended |= {f"{app} before {version}": uri for app, uri in fleet.rotate(version).items()}
            delivered = max(delivered, fleet.await_version(version))
            fleet.await_rounds()
    if ALL:
        with progress.step("Waiting for the end of the versions before"):
            for what, uri in ended.items():
                wait_refused(uri, what, ROTATED_WITHIN)
    fleet.await_rounds()
    seconds = settled(here, ledger, data)
    assert fleet.refused() == []
    assert fleet.containers() == containers
    here.stop(process)
    told = fleet.told().values()
    record(
        "secrets rotate, and each version before ends",
        f"readings and writes of {len(told)} real pods",
        recovered=ROTATIONS,
        of=ROTATIONS,
        seconds=seconds,
        delivered=round(delivered, 1),
        readings=sum(one["reads"] for one in told),
        writes=sum(one["writes"] for one in told),
    )
