"""The operator as its own process, under its own ServiceAccount and with the chart's own RBAC.

Each installation has a namespace of its own for the operator and one or more for apps, which are
all that it watches, and a database of its own: any number of them work side by side in one cluster.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import yaml
from pymongo.uri_parser import parse_uri

from mdb_engine.core.keyring import Keyring, generate_master_key
from mdb_operator.constants import SECRET_TYPE
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.resources import MDBAPPS
from mdb_operator.process.metrics import WRITE_VERBS
from support.api import token_kubeconfig
from support.clusters import Cluster, provide_crd
from support.installed_operator import remove_policies
from support.isolation import operator_uri, restored_operator_uri
from support.leakscan import _forms, register
from support.mongo import Server
from support.operator_edge import Process
from support.waiting import wait_unchanged, wait_until

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "mdb-operator"

MASTER_KEY_SECRET = "master-key"
ACCOUNT = "operator"

SECRET_ENTRIES = (
    "app-secret",
    "app-secret-previous",
    "session-key",
    "session-key-previous",
    "password",
)
"""The entries of a projected Secret that are secrets of the app alone, but for a private key."""

SCANNED_KINDS = ("MdbApp", "Event", "ConfigMap", "Deployment", "Lease")

FAST: dict[str, Any] = {"MASTER_KEY_RELOAD_SECONDS": "0.3"}
"""Shorter than the default, so that tests are. The Lease's times are the defaults: on a loaded
machine a leader that has less time to renew loses it, as it should."""


NO_LOOK_SECONDS = 16.0
"""Longer than any pause after which an app that waits was once looked at again."""


@dataclass
class Installation:
    """One installation of the operator.

    Parameters
    ----------
    cluster
        Where it is installed.
    server, database
        The MongoDB and the database that its apps share.
    namespace
        The operator's own.
    apps
        The namespace of the apps.
    others
        Further namespaces of apps, by what a test calls them.
    directory
        Where processes write to.
    uri
        Of the operator's own MongoDB user, which has exactly the documented rights where the server
        demands a login.
    shared
        A namespace of apps that is another's and is watched as well.
    settings
        Of the operator, over those that all tests share.
    processes
        The operators that were started.
    """

    cluster: Cluster
    server: Server
    database: str
    namespace: str
    apps: str
    others: Mapping[str, str]
    directory: Path
    uri: str = field(default="", repr=False)
    shared: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    @property
    def mongo(self) -> Any:
        """A driver's database for the test's own look at the data."""
        return self.server.client[self.database]

    @property
    def watched(self) -> list[str]:
        """The namespaces whose apps the operator handles."""
        return [self.apps, *self.others.values(), *filter(None, [self.shared])]

    def rendered(self, file: str, **values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what a template of the chart makes for this installation."""
        text = _template(self, self.namespace, self.watched, [file], **values)
        return [document for document in yaml.safe_load_all(text) if document]

    # --- processes

    def start(
        self,
        *,
        name: str = "operator-0",
        wait: bool = True,
        program: Sequence[str | Path] = (Path(sys.executable).with_name("mdb-operator"),),
        **settings: str,
    ) -> Process:
        """Start an operator and wait until it leads."""
        values = {
            "NAMESPACE": self.namespace,
            "POD_NAME": name,
            "KUBECONFIG": str(self.directory / "kubeconfig"),
            "WATCH_NAMESPACES": ",".join(self.watched),
            "MONGODB_URI": self.uri,
            "MONGODB_DATABASE": self.database,
            "ISOLATION": "library" if self.uri == self.server.uri else "database",
            "MASTER_KEY_SECRET": MASTER_KEY_SECRET,
            "LEASE_NAME": f"{self.namespace}-leader",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": "0",
            **FAST,
            **self.settings,
            **settings,
        }
        env = {f"MDB_OPERATOR_{key}": value for key, value in values.items()}
        output = self.directory / f"operator-{len(self.processes)}.log"
        with output.open("wb") as file:
            popen = subprocess.Popen(
                [*program, "run"],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={
                    "PATH": "/usr/bin:/bin",
                    "HOME": str(self.directory),
                    "PYTHONFAULTHANDLER": "1",
                    **env,
                },
            )
        process = Process(popen, output)
        self.processes.append(process)
        if wait:
            process.wait_for("The controller has started", deadline=30)
        return process

    def stop(self, process: Process) -> None:
        """End an operator as kubelet does, and wait for it."""
        process.popen.send_signal(signal.SIGTERM)
        try:
            code = process.wait_end()
        except AssertionError:
            process.popen.send_signal(signal.SIGABRT)  # faulthandler says where it hangs
            process.wait_end()
            raise AssertionError(f"does not end:\n{process.text()[-8000:]}") from None
        assert code == 0, process.text()[-8000:]

    def kill(self, process: Process) -> None:
        """End an operator as a failing node does."""
        process.popen.kill()
        process.wait_end()

    def command(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run ``mdb-operator`` as ``kubectl exec`` in the operator's pod does."""
        values = {
            "NAMESPACE": self.namespace,
            "KUBECONFIG": str(self.directory / "kubeconfig"),
            "MONGODB_URI": self.server.uri,
            "MONGODB_DATABASE": self.database,
            "MASTER_KEY_SECRET": MASTER_KEY_SECRET,
            "LEASE_NAME": f"{self.namespace}-leader",
            **settings,
        }
        return subprocess.run(
            [Path(sys.executable).with_name("mdb-operator"), *arguments],
            env={f"MDB_OPERATOR_{key}": value for key, value in values.items()},
            capture_output=True,
            text=True,
            timeout=1800,  # the benchmark's; a test ends sooner by its own
            check=False,
        )

    def ask(self, process: Process, path: str) -> httpx.Response:
        """Return what an operator answers on its port."""
        port = next(
            json.loads(line)["port"]
            for line in process.text().splitlines()
            if "Serving /healthz" in line
        )
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10)

    def metrics(self, process: Process) -> dict[str, float]:
        """Return the metrics of an operator, by name with labels."""
        text = self.ask(process, "/metrics").text
        rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    def looks(self, process: Process) -> dict[str, float]:
        """Return how often an operator has looked at apps, by the metric with its result."""
        found = self.metrics(process)
        return {k: n for k, n in found.items() if k.startswith("mdb_operator_reconcile_total")}

    def wait_no_looks(self, process: Process) -> None:
        """Wait until an operator has looked at no app for longer than it once paused."""
        wait_unchanged(
            lambda: self.looks(process),
            seconds=NO_LOOK_SECONDS,
            deadline=6 * NO_LOOK_SECONDS,
            message=f"{NO_LOOK_SECONDS:g} s without a look at an app",
        )

    def written_to_kubernetes(self, process: Process) -> dict[str, float]:
        """Return the metrics of an operator's writes to the API server, but for its Lease."""
        return {
            name: value
            for name, value in self.metrics(process).items()
            if name.startswith("mdb_operator_kubernetes_requests_total")
            and any(f'verb="{verb}"' in name for verb in WRITE_VERBS)
            and 'resource="leases"' not in name
        }

    def written_to_mongodb(self) -> int:
        """Count the writes in the replica set's log that are about the installation's database."""
        return int(
            self.server.client.local["oplog.rs"].count_documents(
                {"ns": {"$regex": f"^{self.database}\\."}}
            )
        )

    # --- objects

    def kubectl(self, *arguments: str, namespace: str | None = None, **options: Any) -> str:
        """Run kubectl, in the namespace of the apps where none is named."""
        return self.cluster.kubectl("-n", namespace or self.apps, *arguments, **options)

    def apply(
        self,
        name: str,
        *,
        namespace: str | None = None,
        annotations: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> None:
        """Create an MdbApp or change it; the slug is its name where none is given."""
        self.cluster.api.apply(
            self.manifest(name, annotations=annotations, **spec), namespace or self.apps
        )

    def apply_all(self, names: Iterable[str], namespace: str | None = None, **spec: Any) -> None:
        """Create MdbApps of one shape, at once: kubectl would limit its own rate."""
        where = namespace or self.apps
        manifests = [self.manifest(name, **spec) for name in names]

        async def create(kube: KubeClient) -> None:
            await asyncio.gather(*(kube.create(MDBAPPS, where, one) for one in manifests))

        _with_client(self.cluster, create)

    def statuses(self, namespace: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the statuses of all MdbApps by name, with one request."""
        items = self.cluster.api.objects("MdbApp", namespace or self.apps)
        return {item["metadata"]["name"]: item.get("status") or {} for item in items}

    def wait_all(
        self,
        predicate: Callable[[dict[str, Any]], bool],
        names: Iterable[str],
        *,
        message: str,
        deadline: float = 30,
    ) -> None:
        """Wait until the statuses of some MdbApps are all as they should be."""
        wanted = set(names)

        def left() -> list[str]:
            found = self.statuses()
            return [name for name in wanted if not predicate(found.get(name, {}))]

        wait_until(
            lambda: not left(), deadline=deadline, message=lambda: f"{message}: not {left()[:5]}"
        )

    def manifest(
        self, name: str, annotations: Mapping[str, str] | None = None, **spec: Any
    ) -> dict[str, Any]:
        """Return an MdbApp."""
        return {
            "apiVersion": "mdb-engine.dev/v1",
            "kind": "MdbApp",
            "metadata": {"name": name, "annotations": dict(annotations or {})},
            "spec": {"slug": name, **spec},
        }

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """Return an object, or None where there is none."""
        return self.cluster.api.get(kind, name, namespace or self.apps)

    def app(self, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Return an MdbApp."""
        found = self.get("MdbApp", name, namespace)
        assert found is not None, f"there is no MdbApp {name}"
        return found

    def status(self, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Return an MdbApp's status."""
        found: dict[str, Any] = self.app(name, namespace).get("status") or {}
        return found

    def condition(
        self, name: str, kind: str = "Ready", namespace: str | None = None
    ) -> dict[str, Any]:
        """Return a condition of an MdbApp, or an empty mapping."""
        rows = self.status(name, namespace).get("conditions", [])
        return next((row for row in rows if row["type"] == kind), {})

    def wait_condition(
        self,
        name: str,
        reason: str = "Provisioned",
        kind: str = "Ready",
        *,
        namespace: str | None = None,
        deadline: float = 20,
    ) -> dict[str, Any]:
        """Wait until a condition has a reason, for the generation that the spec has."""

        def holds() -> dict[str, Any] | None:
            app = self.app(name, namespace)
            for row in (app.get("status") or {}).get("conditions", []):
                current = row["observedGeneration"] == app["metadata"]["generation"]
                if row["type"] == kind and row["reason"] == reason and current:
                    return dict(row)
            return None

        found = wait_until(
            holds,
            deadline=deadline,
            message=lambda: f"{kind}/{reason} of {name}: {self.status(name, namespace)}",
        )
        assert found is not None
        return found

    def wait_gone(self, name: str, namespace: str | None = None, deadline: float = 20) -> None:
        """Wait until an MdbApp is gone."""
        wait_until(
            lambda: self.get("MdbApp", name, namespace) is None,
            deadline=deadline,
            message=lambda: f"the end of {name}: {self.get('MdbApp', name, namespace)}",
        )

    def secret(self, name: str, namespace: str | None = None) -> dict[str, str]:
        """Return the decoded entries of a Secret, registered for the leak scan."""
        found = self.get("Secret", name, namespace)
        assert found is not None, f"there is no Secret {name}"
        entries = {key: base64.b64decode(text).decode() for key, text in found["data"].items()}
        for key, value in _secrets_in(entries).items():
            register(value, f"{key} of {name}")
        return entries

    def annotate(self, names: str | Iterable[str], key: str, value: str) -> None:
        """Set an annotation of ours on an MdbApp, or on several."""
        change = {"metadata": {"annotations": {f"mdb-engine.dev/{key}": value}}}
        for name in [names] if isinstance(names, str) else names:
            self.cluster.api.patch("MdbApp", name, change, self.apps)

    def set_keyring(self, keyring: Mapping[str, str], active: str) -> None:
        """Write the master key Secret."""
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": MASTER_KEY_SECRET},
            "stringData": {**keyring, "active": active},
        }
        self.cluster.api.delete("Secret", MASTER_KEY_SECRET, self.namespace)
        self.cluster.api.create(manifest, self.namespace)

    def keyring(self) -> Keyring:
        """Return the keyring as it is now."""
        found = self.get("Secret", MASTER_KEY_SECRET, self.namespace)
        assert found is not None
        texts = {key: base64.b64decode(text).decode() for key, text in found["data"].items()}
        return Keyring.from_files(texts)

    def scan_for_leaks(self) -> int:
        """Look for every secret of the installation in all but the Secrets that hold it.

        Returns
        -------
        int
            How many secrets were looked for.
        """
        # Not registered with the scan of logs: every record of later tests would be searched for
        # what may be thousands of them.
        needles: dict[str, str] = {}
        namespaces = [self.apps, *self.others.values()]
        for namespace in namespaces:
            for secret in self.cluster.api.objects("Secret", namespace):
                if secret["type"] != SECRET_TYPE:
                    continue
                assert "annotations" not in secret["metadata"]
                entries = {
                    key: base64.b64decode(text).decode() for key, text in secret["data"].items()
                }
                for key, value in _secrets_in(entries).items():
                    needles |= _needles(value.encode(), f"{key} of {secret['metadata']['name']}")
        keyring = self.keyring()
        for key_id in keyring.ids:
            needles |= _needles(keyring.key(key_id), f"master key {key_id}")
        for namespace in (*namespaces, self.namespace):
            text = json.dumps([self.cluster.api.objects(kind, namespace) for kind in SCANNED_KINDS])
            assert [label for needle, label in needles.items() if needle in text] == []
        for process in self.processes:
            text = process.text()
            assert [label for needle, label in needles.items() if needle in text] == []
            for line in text.splitlines():
                json.loads(line)  # every line is JSON, whoever wrote it
        return len(set(needles.values()))


@contextmanager
def installed(
    cluster: Cluster,
    server: Server,
    directory: Path,
    others: tuple[str, ...] = (),
    shared: str = "",
    **settings: str,
) -> Iterator[Installation]:
    """Install the operator's surroundings: namespaces, account, RBAC, keyring, CRD."""
    token = secrets.token_hex(4)
    with _installed(cluster, server, directory, token, others, shared, settings) as found:
        yield found


@contextmanager
def restored(
    cluster: Cluster, server: Server, directory: Path, token: str, keyring: Path
) -> Iterator[Installation]:
    """Install the same once more, from backups.

    Parameters
    ----------
    cluster, directory
        As for `installed`.
    server
        Where the database is again, with the operator's user and role.
    token
        What the names of the namespaces and of the database ended with.
    keyring
        The keyring's Secret, as a file.
    """
    with _installed(cluster, server, directory, token, keyring=keyring) as found:
        yield found


@contextmanager
def _installed(
    cluster: Cluster,
    server: Server,
    directory: Path,
    token: str,
    others: tuple[str, ...] = (),
    shared: str = "",
    settings: Mapping[str, str] = MappingProxyType({}),
    keyring: Path | None = None,
) -> Iterator[Installation]:
    provide_crd(cluster)
    installation = Installation(
        cluster=cluster,
        server=server,
        database=f"test_{token}",
        namespace=f"op-{token}",
        apps=f"apps-{token}",
        others={name: f"{name}-{token}" for name in others},
        directory=directory,
        uri=server.uri,
        shared=shared,
        settings=dict(settings),
    )
    if keyring is not None:
        installation.uri = restored_operator_uri(server.uri, installation.database)
    elif parse_uri(server.uri)["username"]:
        installation.uri = operator_uri(server.uri, installation.mongo)
    namespaces = [installation.namespace, installation.apps, *installation.others.values()]
    objects: list[Mapping[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces
    ]
    if keyring is None:
        key = generate_master_key()
        register(key, "the master key")
        objects.append(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": MASTER_KEY_SECRET, "namespace": installation.namespace},
                "stringData": {"k1": key, "active": "k1"},
            }
        )
    objects += _rendered(installation)
    try:
        for manifest in objects:
            cluster.api.apply(manifest, manifest["metadata"].get("namespace"))
        if keyring is not None:
            cluster.kubectl("apply", "-f", str(keyring))
        _write_kubeconfig(installation)
        yield installation
    finally:
        for process in installation.processes:
            if process.popen.poll() is None:
                process.popen.kill()
            process.popen.wait()
        _remove(installation, namespaces)


def _with_client(cluster: Cluster, work: Callable[[KubeClient], Awaitable[None]]) -> None:
    """Do something with an administrator's client of our own."""

    async def run() -> None:
        kube = await KubeClient.connect(kubeconfig=cluster.kubeconfig)
        try:
            await work(kube)
        finally:
            await kube.aclose()

    asyncio.run(run())


def _secrets_in(entries: Mapping[str, str]) -> dict[str, str]:
    """Return what is secret in a projected Secret; of a private key a line that tells it."""
    found = {key: entries[key] for key in SECRET_ENTRIES if entries.get(key)}
    pem = entries.get("client-certificate", "").splitlines()
    return found | ({"client-certificate": pem[-3]} if pem else {})


def _needles(secret: bytes, label: str) -> dict[str, str]:
    return {text: label for text, _ in _forms(secret)}


def _rendered(installation: Installation) -> list[dict[str, Any]]:
    """Return the chart's account, RBAC and admission policies for the installation."""
    names = [installation.namespace, *installation.watched]
    secret_watch = installation.settings.get("SECRET_WATCH") != "false"
    key = (len(names), secret_watch)
    if key not in _renderings:
        _renderings[key] = _render(installation, *key)
    text = _renderings[key]
    for number, name in enumerate(names):
        text = text.replace(_placeholder(number), name)
    return [document for document in yaml.safe_load_all(text) if document]


_renderings: dict[tuple[int, bool], str] = {}
"""What the chart makes, by its namespaces' number and whether Secrets are watched."""


def _placeholder(number: int) -> str:
    return f"namespace-{number:03}-of-the-installation"


def _render(installation: Installation, count: int, secret_watch: bool) -> str:  # noqa: FBT001 - a value
    system, *watched = (_placeholder(number) for number in range(count))
    return _template(
        installation,
        system,
        watched,
        ("rbac.yaml", "serviceaccount.yaml", "admission-policy.yaml"),
        secretWatch={"enabled": secret_watch},
    )


def _template(
    installation: Installation,
    system: str,
    watched: Sequence[str],
    files: Sequence[str],
    **further: Mapping[str, Any],
) -> str:
    values = {
        "serviceAccount": {"name": ACCOUNT},
        "fullnameOverride": system,
        "watchNamespaces": watched,
        "masterKey": {"existingSecret": MASTER_KEY_SECRET},
        "mongodb": {"existingSecret": {"name": "unused"}},
        "workloadRestart": {"enabled": True},
        **further,
        "rbac": {
            "aggregateToDefaultRoles": False,
            "serviceBinding": False,
            **further.get("rbac", {}),
        },
    }
    path = installation.directory / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    return installation.cluster.helm(
        "template", "mdb", str(CHART), "-n", system, "-f", str(path),
        *(f"--show-only=templates/{file}" for file in files),
    )  # fmt: skip


def _write_kubeconfig(installation: Installation) -> None:
    """Write a kubeconfig that holds the ServiceAccount's token and nothing else."""
    cluster = installation.cluster
    token = cluster.api.token(ACCOUNT, installation.namespace)
    register(token, "the operator's token")
    config = token_kubeconfig(cluster.kubeconfig, token)
    path = installation.directory / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))


def _remove(installation: Installation, namespaces: list[str]) -> None:
    cluster = installation.cluster

    async def release(kube: KubeClient) -> None:
        patch = {"metadata": {"finalizers": None}}
        for namespace in namespaces[1:]:
            pages = [page["items"] async for page in kube.pages(MDBAPPS, namespace)]
            for items in pages:  # one after the other: of 10,000 at once, some are not answered
                names = [x["metadata"]["name"] for x in items if x["metadata"].get("finalizers")]
                await asyncio.gather(*(kube.patch(MDBAPPS, namespace, n, patch) for n in names))

    _with_client(cluster, release)
    for namespace in namespaces:
        cluster.api.delete("Namespace", namespace)
    remove_policies(cluster, installation.namespace)
    if installation.uri != installation.server.uri:
        installation.mongo.command("dropAllUsersFromDatabase")
        installation.mongo.command("dropAllRolesFromDatabase")
    installation.server.client.drop_database(installation.database)


def is_ready(status: Mapping[str, Any]) -> bool:
    """Tell whether an MdbApp's status says that it is ready."""
    rows = status.get("conditions", [])
    return any(row["type"] == "Ready" and row["status"] == "True" for row in rows)
