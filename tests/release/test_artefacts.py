"""A release, built twice, and installed from its files as docs/releasing.md says."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.checkouts import ROOT, clone
from support.clusters import Cluster
from support.image_registry import image_registry
from support.newcomer import SYSTEM_DIRECTORIES, commands_of

from devcluster.base_image import ensure_base
from devcluster.image_builders import BuildahBuilder, ImageSpec
from devcluster.images import load
from devcluster.mongod_binary import find_mongod
from devcluster.packages import Requirement, require
from devcluster.progress import Progress
from mdb_release import archives
from mdb_release.archives import Image

pytestmark = [pytest.mark.root, pytest.mark.timeout(1500, func_only=True)]

PAGE, VERSION, REGISTRY = "docs/releasing.md", "1.2.3", "registry.example.com/mdb"

ORDERS = {
    "apiVersion": "mdb-engine.dev/v1",
    "kind": "MdbApp",
    "metadata": {"name": "orders", "namespace": "default"},
    "spec": {"slug": "orders", "collections": [{"name": "orders"}]},
}


def make_release(directory: Path) -> Path:
    """Run what `make release` runs in a clone, and return the clone."""
    checkout = clone(directory)
    done = subprocess.run(
        [sys.executable, "-m", "mdb_release", "all", VERSION],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout / "release")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a clone with a release in its ``dist``."""
    return make_release(tmp_path_factory.mktemp("one") / "checkout")


@pytest.fixture
def image(checkout: Path) -> Image:
    archive = checkout / "dist" / f"mdb-operator-image-{VERSION}.oci.tar"
    [found] = archives.images_in(archive)
    return found


@pytest.fixture
def registry(tmp_path: Path, cluster: Cluster) -> Iterator[str]:
    with image_registry(tmp_path, None, cluster) as address:
        yield address


@pytest.fixture
def trial_mongodb(cluster: Cluster) -> None:
    """See to it that the node has ``mongo:8``, which it cannot pull."""
    builder = BuildahBuilder(ensure_base(Progress()))
    spec = ImageSpec(
        tag="docker.io/library/mongo:8",
        context=find_mongod(print).parent,
        dockerfile=ROOT / "tests" / "cluster" / "images" / "mongod" / "Dockerfile",
    )
    builder.build(spec)
    load(spec.tag, cluster.provider.load_image, Progress(), builder)


def test_two_builds_in_different_places_are_the_same_byte_by_byte(
    checkout: Path, tmp_path: Path
) -> None:
    other = make_release(tmp_path / "somewhere" / "else")
    sums = [(one / "dist" / "SHA256SUMS").read_text() for one in (checkout, other)]
    assert sums[0].splitlines() == sums[1].splitlines()
    subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=other / "dist", check=True
    )


def test_the_image_has_no_shell_and_no_installer_and_says_what_it_is(image: Image) -> None:
    names = {Path(entry.name).name for entry, _ in image.entries() if not entry.isdir()}
    assert {"python3.11", "mdb-operator", "ca-certificates.crt"} <= names
    assert not names & {"sh", "bash", "dash", "busybox", "apt", "dpkg", "pip", "ensurepip", "uv"}
    config = image.config["config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["mdb-operator"]
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert labels["version"] == VERSION
    assert labels["licenses"] == "Apache-2.0"
    assert len(labels["revision"]) == 40
    assert {"title", "description", "name"} <= set(labels)


def test_everything_in_the_image_is_as_its_record_says(image: Image) -> None:
    files = {entry.name: content for entry, content in image.entries() if entry.isfile()}
    records = [name for name in files if name.endswith(".dist-info/RECORD")]
    assert len(records) > 20
    wrong = []
    for record in records:
        packages = Path(record).parents[1]
        for path, digest, _ in csv.reader(files[record].decode().splitlines()):
            name = os.path.normpath(packages / path)
            kind, _, expected = digest.partition("=")
            actual = hashlib.sha256(files.get(name, b"")).digest()
            encoded = base64.urlsafe_b64encode(actual).decode().rstrip("=")
            if name not in files or (kind and encoded != expected):
                wrong.append(name)
    assert wrong == []


@pytest.mark.usefixtures("trial_mongodb")
def test_a_stranger_installs_it_from_its_files(
    checkout: Path, cluster: Cluster, registry: str, tmp_path: Path
) -> None:
    require([Requirement("skopeo", ("skopeo",))], Progress())
    commands = commands_of(PAGE)
    begin = commands.index("python3 -m venv ~/mdb")
    end = next(n for n, one in enumerate(commands) if one.startswith("helm install "))
    chosen = [one.replace(REGISTRY, f"{registry}/mdb") for one in commands[begin : end + 1]]
    assert [one.split()[0] for one in chosen] == [
        "python3", "~/mdb/bin/pip", "export", "skopeo", "helm"
    ]  # fmt: skip
    insecure = tmp_path / ".config" / "containers" / "registries.conf"
    insecure.parent.mkdir(parents=True)
    insecure.write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    programs = {Path(cluster.program(name)).parent for name in ("helm", "kubectl")}
    environment = {
        **{name: value for name, value in os.environ.items() if name.startswith(("SSL", "PIP"))},
        "HOME": str(tmp_path),
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": ":".join([*map(str, programs), *SYSTEM_DIRECTORIES]),
    }
    look = [
        "~/mdb/bin/python -c 'import mdb_engine; print(mdb_engine.MongoDBEngine.__name__)'",
        "~/mdb/bin/kubectl-mdb --help",
    ]
    done = subprocess.run(
        ["/bin/bash", "-eu", "-s"],
        input="\n".join([*chosen, *look]),
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "\nMongoDBEngine\n" in done.stdout
    assert "Usage: kubectl-mdb" in done.stdout

    packed = (checkout / "dist" / f"mdb-operator-{VERSION}.tgz").read_bytes()
    values = yaml.safe_load(archives.files_of(packed)["mdb-operator/values.yaml"])
    runs = cluster.kubectl(
        *("-n", "mdb-system", "get", "pods", "-l", "app.kubernetes.io/name=mdb-operator"),
        *("-o", "jsonpath={.items[*].spec.containers[*].image}"),
    )
    assert f"{registry}/mdb/mdb-operator@{values['image']['digest']}" in runs.split()
    cluster.kubectl("apply", "-f", "-", manifest=yaml.safe_dump(ORDERS))
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=50s", "mdbapp/orders")
    version = cluster.kubectl(
        *("-n", "mdb-system", "exec", "deploy/mdb-operator", "--", "mdb-operator", "version")
    )
    assert version == f"{VERSION}\n"
    cluster.kubectl("delete", "mdbapp/orders", "--timeout=50s")
    cluster.helm("uninstall", "mdb-operator", "-n", "mdb-system", "--wait", timeout=120)
    cluster.kubectl("delete", "namespace", "mdb-system", "--wait=false")


def test_the_chart_as_an_artefact_is_what_helm_pulls(
    checkout: Path, cluster: Cluster, registry: str, tmp_path: Path
) -> None:
    require([Requirement("skopeo", ("skopeo",))], Progress())
    archive = checkout / "dist" / f"mdb-operator-chart-{VERSION}.oci.tar"
    place = f"{registry}/charts/mdb-operator"
    done = subprocess.run(
        ["skopeo", "copy", "--preserve-digests", "--dest-tls-verify=false",
         f"oci-archive:{archive}", f"docker://{place}:{VERSION}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cluster.helm(
        "pull", f"oci://{place}", "--version", VERSION, "--plain-http", "-d", str(tmp_path)
    )
    name = f"mdb-operator-{VERSION}.tgz"
    assert (tmp_path / name).read_bytes() == (checkout / "dist" / name).read_bytes()
