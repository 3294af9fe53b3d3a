"""A Helm release from its installation to its end and back, with an app that runs all the while.

It is a release beside the one that the other tests share, with a database of its own in that one's
MongoDB, which outlives it.
"""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import leakscan
from support.certificates import Authority
from support.clusters import COMMAND_SECONDS, create_namespace
from support.multi_app import (
    CHART,
    OPERATOR,
    ROOT,
    TRIAL,
    World,
    forwarded,
    mdbapp,
    run_click_tracker,
)
from support.steady_requests import under_load

from mdb_engine.core.keyring import generate_master_key
from mdb_operator.crd.render import crd

pytestmark = [pytest.mark.long, pytest.mark.root]

RELEASE = "life"

HELM_SECONDS = 120.0

CRD = "mdbapps.mdb-engine.dev"


@dataclass(frozen=True)
class Life:
    """The surroundings of a release.

    Parameters
    ----------
    world
        Where its MongoDB runs.
    namespace
        The release's.
    apps, doomed
        Namespaces that it watches.
    directory
        Where values and packages are written.
    """

    world: World
    namespace: str
    apps: str
    doomed: str
    directory: Path

    @property
    def database(self) -> str:
        """The release's own: another installation's it would wait for."""
        return self.namespace.replace("-", "_")

    def kubectl(self, *arguments: str, timeout: float = COMMAND_SECONDS) -> str:
        return self.world.cluster.kubectl(*arguments, timeout=timeout)

    def helm(self, command: str, *arguments: str, **values: object) -> str:
        """Run helm on the release."""
        if values:
            file = self.directory / f"{secrets.token_hex(4)}.yaml"
            file.write_text(yaml.safe_dump({**self.values(), **values}))
            arguments = (*arguments, "-f", str(file))
        return self.world.cluster.helm(
            *(command, RELEASE, *arguments, "-n", self.namespace, "--timeout=100s"),
            timeout=HELM_SECONDS,
        )

    def values(self) -> dict[str, object]:
        repository, _, tag = self.world.operator_image.rpartition(":")
        return {
            "image": {"repository": repository, "tag": tag},
            "replicas": 1,
            "watchNamespaces": [self.apps, self.doomed],
            "rbac": {"aggregateToDefaultRoles": False, "serviceBinding": False},
            "mongodb": {"existingSecret": {"name": "mongodb"}, "database": self.database},
        }

    def older_package(self) -> str:
        """Return this chart as a package of an older version."""
        self.world.cluster.helm(
            *("package", str(CHART), "--version", "0.0.9", "--app-version", "0.0.9"),
            *("-d", str(self.directory)),
        )
        return str(self.directory / "mdb-operator-0.0.9.tgz")

    def secrets(self) -> dict[str, str]:
        """Return the version of every Secret that must not change, as the API server counts."""
        found: dict[str, str] = {}
        for namespace in (self.namespace, self.apps):
            listed = self.kubectl("-n", namespace, "get", "secrets", "-o", "json")
            for item in json.loads(listed)["items"]:
                if not item["type"].startswith("helm.sh/"):
                    name = f"{namespace}/{item['metadata']['name']}"
                    found[name] = item["metadata"]["resourceVersion"]
        return found

    def app(self, namespace: str, name: str) -> dict[str, Any]:
        return self.world.get(namespace, f"mdbapp/{name}")


@pytest.fixture
def life(world: World, tmp_path: Path) -> Iterator[Life]:
    token = secrets.token_hex(4)
    life = Life(world, f"life-{token}", f"life-apps-{token}", f"life-doomed-{token}", tmp_path)
    namespaces = (life.namespace, life.apps, life.doomed)
    for namespace in namespaces:
        create_namespace(world.cluster, namespace)
    make_database(life)
    yield life
    life.helm("uninstall", "--ignore-not-found")
    life.kubectl("delete", "namespace", "--ignore-not-found", "--wait=false", *namespaces)


def make_database(life: Life) -> None:
    """Make a database and an operator's user in the shared MongoDB, as its setup made the first."""
    world = life.world
    pod = world.get(world.system, f"statefulset/{TRIAL}")["spec"]["template"]["spec"]
    pod["containers"] = [one for one in pod["containers"] if one["name"] == "setup"]
    [container] = pod["containers"]
    container["args"] = [
        f"--database={life.database}" if argument.startswith("--database=") else argument
        for argument in container["args"]
        if argument != "--stay"
    ]
    del pod["initContainers"], pod["hostAliases"]
    pod["restartPolicy"] = "OnFailure"
    metadata = {"name": life.namespace}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
    world.apply(world.system, {**job, "spec": {"template": {"spec": pod}}})
    wait = ("wait", "--for=condition=Complete", "--timeout=50s", f"job/{life.namespace}")
    life.kubectl("-n", world.system, *wait)

    uri = base64.b64decode(world.get(world.system, f"secret/{TRIAL}")["data"]["uri"]).decode()
    leakscan.register(uri, "the operator's URI")
    other = uri.replace("authSource=mdb", f"authSource={life.database}")
    assert other != uri
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mongodb"}}
    world.apply(life.namespace, {**secret, "stringData": {"uri": other}})


def run_app(life: Life) -> None:
    """Register ClickTracker with this release, too, and run it; and an app that is to go."""
    life.world.apply(life.doomed, mdbapp("doomed"))
    run_click_tracker(life.world, life.apps)
    life.world.await_app(life.doomed, "doomed")


def crd_annotations(life: Life) -> dict[str, str]:
    found = json.loads(life.kubectl("get", f"crd/{CRD}", "-o", "json"))["metadata"]["annotations"]
    return {name: value for name, value in found.items() if name.startswith("mdb-engine.dev/")}


def say_that_the_crd_is_older(life: Life) -> None:
    """Make the hook of the next upgrade replace the CRD, which all tests share, by its equal."""
    older = ("mdb-engine.dev/crd-version=0.0.9", "mdb-engine.dev/crd-hash=0")
    life.kubectl("annotate", "--overwrite", f"crd/{CRD}", *older)


def test_an_app_notices_neither_an_upgrade_nor_the_release_going_and_coming_back(
    life: Life,
) -> None:
    life.helm("install", life.older_package(), "--wait", concurrency=3, log={"level": "debug"})
    run_app(life)
    before = life.secrets()
    assert f"{life.namespace}/{RELEASE}-mdb-operator-master-key" in before
    assert f"{life.apps}/click-tracker-mdb" in before

    with forwarded(life.world, "click-tracker", life.apps) as url:
        click = ("POST", f"{url}/track", {"user_id": "ada", "url": "/"})
        with under_load([click]) as load:
            say_that_the_crd_is_older(life)
            life.helm("upgrade", str(CHART), "--wait", concurrency=5, resyncSeconds=60)
            assert "0.0.9" not in life.kubectl(
                *("-n", life.namespace, "get", "deployments", "-o", "yaml")
            )
            assert life.secrets() == before
            assert crd_annotations(life) == crd()["metadata"]["annotations"]
            assert "Phase:          Succeeded" in life.helm("test")

            life.helm("uninstall", "--wait")
            for namespace, name in ((life.apps, "click-tracker"), (life.doomed, "doomed")):
                assert "finalizers" not in life.app(namespace, name)["metadata"]
            assert life.secrets() == before
            assert life.kubectl("get", "crd", "mdbapps.mdb-engine.dev", "-o", "name")
            life.kubectl("delete", "namespace", life.doomed, "--timeout=50s")

            create_namespace(life.world.cluster, life.doomed)
            life.helm("install", str(CHART), "--wait", concurrency=5)
            life.kubectl(
                *("-n", life.apps, "wait", "mdbapp/click-tracker", "--timeout=50s"),
                "--for=jsonpath={.metadata.finalizers}",
            )
            life.world.await_app(life.apps, "click-tracker")
            assert life.secrets() == before

    assert load.failures == []
    assert load.sent > 50
    assert life.app(life.apps, "click-tracker")["status"]["secret"]["version"] == 1


GITOPS = ROOT / "docs" / "gitops.md"

ASK_METRICS = """
import ssl, sys, urllib.error, urllib.request
anybody = ssl._create_unverified_context()
for headers in ({}, {"Authorization": "Bearer " + sys.argv[1]}):
    request = urllib.request.Request("https://localhost:8080/metrics", headers=headers)
    try:
        print(urllib.request.urlopen(request, context=anybody, timeout=5).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""


def rendered(life: Life, *options: str) -> str:
    """Return what a GitOps tool makes of the chart; with TLS and a token at the port."""
    values = {
        **life.values(),
        "crds": {"install": False},
        "masterKey": {"existingSecret": "keys"},
        "metrics": {"tls": {"existingSecret": "port"}, "token": {"existingSecret": "token"}},
    }
    file = life.directory / "rendered.yaml"
    file.write_text(yaml.safe_dump(values))
    return life.world.cluster.helm(
        *("template", RELEASE, str(CHART), "-n", life.namespace, "-f", str(file), *options)
    )


def test_what_is_rendered_and_applied_installs_and_goes_without_hooks(
    life: Life, tmp_path: Path
) -> None:
    cluster, here, name = life.world.cluster, ("-n", life.namespace), f"{RELEASE}-mdb-operator"
    served = str(Authority(tmp_path).issue("port", ["localhost"]))
    life.kubectl(*here, *("create", "secret", "tls", "port", f"--cert={served}", f"--key={served}"))
    life.kubectl(*here, *("create", "secret", "generic", "token", "--from-literal=token=hunter2"))
    key = generate_master_key()
    leakscan.register(key, "the master key")
    keys = ("--from-literal=active=k1", f"--from-literal=k1={key}")
    life.kubectl(*here, "create", "secret", "generic", "keys", *keys)

    manifests = rendered(life)
    cluster.kubectl("apply", "-f", "-", manifest=manifests)
    life.kubectl(*here, "rollout", "status", f"deployment/{name}", "--timeout=120s", timeout=130)
    life.world.apply(life.apps, mdbapp("kept"))
    life.world.await_app(life.apps, "kept")
    again = cluster.kubectl("apply", "-f", "-", manifest=manifests).splitlines()
    assert [line for line in again if not line.endswith(" unchanged")] == []
    asked = ("exec", f"deployment/{name}", "--", "python", "-c", ASK_METRICS, "hunter2")
    assert life.kubectl(*here, *asked).split() == ["401", "200"]

    # Rendered with a look into the cluster the hook is there, and does nothing when applied.
    hooks = rendered(life, "--dry-run=server", "-s", "templates/uninstall.yaml")
    cluster.kubectl("apply", "-f", "-", manifest=hooks)
    job = f"job/{name}-uninstall"
    life.kubectl(*here, "wait", "--for=condition=Complete", job, "--timeout=50s")
    assert "not installed by Helm" in life.kubectl(*here, "logs", job)
    assert life.world.get(life.namespace, f"deployment/{name}")["spec"]["replicas"] == 1
    cluster.kubectl("delete", "-f", "-", manifest=hooks)

    text = GITOPS.read_text().partition("## Uninstall without hooks")[2]
    commands = text.partition("```sh\n")[2].partition("```")[0]
    for old, new in (
        ("mdb-system", life.namespace),
        ("deployment mdb-operator", f"deployment {name}"),
        ("--no-headers", f"--no-headers | grep '^{life.apps} '"),
    ):
        assert old in commands
        commands = commands.replace(old, new)
    subprocess.run(["/bin/bash", "-ec", commands], env=cluster.environment, check=True, timeout=90)
    app = life.app(life.apps, "kept")
    assert "finalizers" not in app["metadata"]
    assert "installation" not in app["status"]
    assert life.world.get(life.apps, "secret/kept-mdb")
    cluster.kubectl("delete", "-f", "-", manifest=manifests)
    life.kubectl("-n", life.apps, "delete", "mdbapp", "kept", "--timeout=20s")


def test_replicas_are_ready_and_may_be_evicted_one_at_a_time(world: World) -> None:
    deployment = world.get(world.system, f"deployment/{OPERATOR}")
    assert deployment["status"]["readyReplicas"] == 2
    budget = world.get(world.system, f"poddisruptionbudget/{OPERATOR}")
    assert budget["status"]["disruptionsAllowed"] == 1
