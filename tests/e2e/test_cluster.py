"""The cluster itself, on real pods: what every other test on it takes for granted."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from support.clusters import RESTRICTED, Cluster, CommandError, create_namespace
from support.waiting import wait_until

from devcluster import build, detect
from devcluster.images import ImageSpec

pytestmark = pytest.mark.root

FILES = Path(__file__).parent / "secret_server"

ASK_API = """
    import json, ssl, sys, urllib.request
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    token = open(f"{account}/token").read()
    context = ssl.create_default_context(cafile=f"{account}/ca.crt")
    request = urllib.request.Request(
        "https://kubernetes.default.svc" + sys.argv[1], headers={"Authorization": "Bearer " + token}
    )
    try:
        print(urllib.request.urlopen(request, context=context, timeout=5).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""


@dataclass(frozen=True, slots=True)
class Shop:
    """A namespace with a server, that mounts a Secret, and a client."""

    cluster: Cluster
    namespace: str

    def kubectl(self, *arguments: str, manifest: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, manifest=manifest)

    def in_client(self, script: str, *arguments: str) -> str:
        python = ("python3", "-c", textwrap.dedent(script), *arguments)
        return self.kubectl("exec", "client", "--", *python).strip()

    def fetch(self, host: str) -> str:
        """Return what the client gets from a URL's host."""
        script = (
            "import sys, urllib.request\n"
            "print(urllib.request.urlopen('http://' + sys.argv[1], timeout=5).read().decode())"
        )
        return self.in_client(script, host)


def test_the_kubernetes_that_was_asked_for_runs(cluster: Cluster) -> None:
    if cluster.provider.kind != "node":
        pytest.skip("NOT TESTED: only the single node's Kubernetes is chosen; `make test-minors`")
    wanted = build.KUBERNETES_VERSIONS[detect.kubernetes_minor()]
    versions = json.loads(cluster.kubectl("version", "-o", "json"))
    assert versions["serverVersion"]["gitVersion"] == wanted
    assert versions["clientVersion"]["gitVersion"] == wanted
    kubelet = "jsonpath={.items[*].status.nodeInfo.kubeletVersion}"
    assert cluster.kubectl("get", "nodes", "-o", kubelet) == wanted


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Shop]:
    """Give a namespace of the Pod Security level `restricted` in which both pods are ready."""
    image = cluster.provide_image(ImageSpec(tag="localhost/secret-server:test", context=FILES))
    name = f"test-{secrets.token_hex(4)}"
    manifest = (FILES / "manifest.yaml").read_text().replace("IMAGE", image)
    try:
        create_namespace(cluster, name, RESTRICTED)
        shop = Shop(cluster, name)
        shop.kubectl("apply", "-f", "-", manifest=manifest)
        shop.kubectl("wait", "--for=condition=Ready", "--timeout=50s", "pod/server", "pod/client")
        # A Service leads to a pod a moment after that is ready.
        wait_until(
            partial(_reaches, shop), deadline=10, message="the client reaches the ready server"
        )
        yield shop
    finally:
        cluster.api.delete("Namespace", name)


def _reaches(shop: Shop) -> bool:
    try:
        return bool(shop.fetch("server"))
    except CommandError:
        return False


@pytest.mark.long
def test_a_pod_serves_its_secret_to_another_pod_by_the_services_name(shop: Shop) -> None:
    for host in ("server", f"server.{shop.namespace}.svc.cluster.local"):
        assert shop.fetch(host) in {"first value", "second value"}


def test_a_changed_secret_reaches_the_pod_that_mounts_it(shop: Shop) -> None:
    patch = json.dumps({"stringData": {"value": "second value"}})
    shop.kubectl("patch", "secret", "greeting", "-p", patch)

    wait_until(
        lambda: shop.fetch("server") == "second value",
        deadline=90,
        message="the mounted file follows the Secret",
    )


def test_a_restricted_namespace_refuses_a_pod_that_may_do_more(shop: Shop) -> None:
    pod = json.loads(shop.kubectl("get", "pod", "client", "-o", "json"))["spec"]["containers"][0]
    container = {"name": "root", "image": pod["image"], "securityContext": {"privileged": True}}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root"},
        "spec": {"containers": [container]},
    }

    with pytest.raises(CommandError, match=r'violates PodSecurity "restricted:latest"'):
        shop.kubectl("create", "-f", "-", manifest=json.dumps(manifest))


def test_a_service_account_may_do_what_its_role_says_and_nothing_else(shop: Shop) -> None:
    mine = f"/api/v1/namespaces/{shop.namespace}/secrets/greeting"
    other = f"/api/v1/namespaces/{shop.namespace}/secrets/other"

    assert shop.in_client(ASK_API, mine) == "403"

    role = ("--verb=get", "--resource=secrets", "--resource-name=greeting")
    shop.kubectl("create", "role", "reader", *role)
    account = f"--serviceaccount={shop.namespace}:default"
    shop.kubectl("create", "rolebinding", "reader", "--role=reader", account)

    wait_until(
        lambda: shop.in_client(ASK_API, mine) == "200", message="the role binding takes hold"
    )
    assert shop.in_client(ASK_API, other) == "403"
    assert shop.in_client(ASK_API, f"/api/v1/namespaces/{shop.namespace}/secrets") == "403"
    assert shop.in_client(ASK_API, "/api/v1/namespaces/kube-system/secrets") == "403"


def test_a_node_reads_only_the_secrets_that_its_pods_mount(shop: Shop) -> None:
    node = shop.kubectl("get", "pod", "server", "-o", "jsonpath={.spec.nodeName}")
    as_node = (f"--as=system:node:{node}", "--as-group=system:nodes")

    assert "greeting" in shop.kubectl("get", "secret", "greeting", "-o", "name", *as_node)
    with pytest.raises(CommandError, match="Forbidden"):
        shop.kubectl("get", "secret", "other", *as_node)


def test_logs_are_those_of_the_container(shop: Shop) -> None:
    shop.fetch("server/a-path-to-find")

    wait_until(
        lambda: "GET /a-path-to-find" in shop.kubectl("logs", "server"),
        message="the request is in the log",
    )


def test_a_command_runs_in_the_container_as_its_user(shop: Shop) -> None:
    assert shop.in_client("import os; print(os.getuid())") == "10001"

    with pytest.raises(CommandError, match="exit code 3"):
        shop.in_client("raise SystemExit(3)")


def test_a_port_is_forwarded_to_the_service(shop: Shop) -> None:
    command = [shop.cluster.program("kubectl"), "-n", shop.namespace]
    with subprocess.Popen(
        [*command, "port-forward", "service/server", ":80"],
        stdout=subprocess.PIPE,
        text=True,
        env=shop.cluster.environment,
    ) as forwarding:
        try:
            assert forwarding.stdout is not None
            line = forwarding.stdout.readline()
            match = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert match is not None, line
            answer = httpx.get(f"http://127.0.0.1:{match[1]}/", timeout=10)
            assert answer.text in {"first value", "second value"}
        finally:
            forwarding.terminate()


def test_helm_reaches_the_cluster(shop: Shop) -> None:
    listing = shop.cluster.helm("list", "--namespace", shop.namespace, "--output", "json")

    assert json.loads(listing) == []
