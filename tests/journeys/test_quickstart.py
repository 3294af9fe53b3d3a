"""The quickstart, and the demo, on a cluster that somebody has already; word for word."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.clusters import Cluster
from support.docker import PYTHON, Docker
from support.image_registry import image_registry
from support.mongo import Database
from support.newcomer import ROOT, Newcomer, arrive, commands_in, commands_of, two_free_ports

from devcluster.base_image import ensure_base
from devcluster.image_builders import BuildahBuilder, ImageSpec
from devcluster.images import load
from devcluster.mongod_binary import find_mongod
from devcluster.node.addresses import free_port
from devcluster.paths import cache_dir, state_root
from devcluster.progress import Progress

pytestmark = [pytest.mark.root, pytest.mark.timeout(1500, func_only=True)]

PAGE = "docs/quickstart.md"

REGISTRY = "registry.example.com/mdb"
"""The documents' own; a reader puts another in its place."""

STANDALONE = "~/.mdb/bin/pip install './engine[fastapi]'"
"""The first command for those without Kubernetes."""

SIMPLE = "examples/simple_app/README.md"

FILES = ("orders.yaml", "main.py", "manifest.json", "Dockerfile", "deployment.yaml")


@pytest.fixture
def registry(tmp_path: Path, docker: Docker, cluster: Cluster) -> Iterator[str]:
    with image_registry(tmp_path, docker, cluster) as address:
        yield f"{address}/mdb"


@pytest.fixture
def trial_mongodb(docker: Docker, cluster: Cluster) -> None:
    """See to it that the node has ``mongo:8`` where it cannot pull it."""
    if docker.owned:
        spec = ImageSpec(
            tag="docker.io/library/mongo:8",
            context=find_mongod(print).parent,
            dockerfile=ROOT / "tests" / "cluster" / "images" / "mongod" / "Dockerfile",
        )
        builder = BuildahBuilder(ensure_base(Progress()))
        builder.build(spec)
        load(spec.tag, cluster.provider.load_image, Progress(), builder)


@pytest.fixture
def owner(tmp_path: Path, docker: Docker, cluster: Cluster) -> Newcomer:
    """Give somebody with a cluster, kubectl, helm and Docker."""
    docker.provide(PYTHON)
    programs = {name: Path(cluster.program(name)) for name in ("kubectl", "helm")}
    return arrive(
        tmp_path,
        {**at_home(tmp_path), **docker.settings, "KUBECONFIG": str(cluster.kubeconfig)},
        programs={**programs, "docker": docker.client},
        enter=docker.enter,
    )


def at_home(directory: Path) -> dict[str, str]:
    """Give a home of one's own, with the caches of what was downloaded and compiled before."""
    home = directory / "home"
    home.mkdir()
    caches = {"XDG_CACHE_HOME": cache_dir().parent, "XDG_STATE_HOME": state_root().parent}
    return {"HOME": str(home), **{name: str(path) for name, path in caches.items()}}


def file_in_the_page(name: str) -> str:
    """Return a file that the page says to save: the block after the first mention of its name."""
    text = (ROOT / PAGE).read_text()
    block = rf"`{re.escape(name)}`(?:(?!```).)*```\w*\n(.*?)^```"
    found = re.search(block, text, re.DOTALL | re.MULTILINE)
    assert found is not None, f"{PAGE} does not show {name}"
    return found[1]


@pytest.mark.usefixtures("trial_mongodb")
def test_the_quickstart_leads_from_a_build_to_an_answer_and_so_does_the_smallest_app(
    owner: Newcomer, registry: str
) -> None:
    orders = Path(owner.settings["HOME"]) / "orders"
    orders.mkdir()
    for name in FILES:
        (orders / name).write_text(file_in_the_page(name).replace(REGISTRY, registry))
    commands = [command.replace(REGISTRY, registry) for command in commands_of(PAGE)]
    standalone = commands.index(STANDALONE)
    amid = [one for one in commands[standalone:] if one.startswith(("kubectl -n", "kubectl mdb -"))]
    assert len(amid) == 3
    on_the_cluster = commands[:standalone] + amid
    assert on_the_cluster[0] == f"export REGISTRY={registry}"
    simple = commands_of(SIMPLE)
    *in_a_pod, forward = simple[next(n for n, one in enumerate(simple) if "docker" in one) :]
    ask = "curl --silent --retry 9 --retry-connrefused http://127.0.0.1:8000/health  # simple_app"
    in_a_pod = ["kill $(jobs -p); wait", *in_a_pod, f"{forward} &", ask]
    try:
        outcomes = owner.paste([*on_the_cluster, *in_a_pod], timeout=1400)
    finally:
        clean_up(owner)
    healthy = outcomes.pop().output.splitlines()[-1]
    assert json.loads(healthy) == {"status": "healthy", "slug": "simple_app"}
    printed = {one.command: one.output for one in outcomes}
    posted, listed, ready = (text for command, text in printed.items() if "curl" in command)
    assert json.loads(posted.splitlines()[-1])["id"]
    assert [row["item"] for row in json.loads(listed.splitlines()[-1])] == ["tea"]
    assert json.loads(ready.splitlines()[-1])["ready"] is True
    [rotated] = [text for command, text in printed.items() if " rotate " in command]
    assert rotated


def clean_up(owner: Newcomer) -> None:
    """Remove what the quickstart has installed."""
    owner.paste(
        [
            "kubectl -n shop delete mdbapps --all",
            "helm uninstall mdb-operator -n mdb-system --wait",
            "kubectl delete namespace shop mdb-system",
        ],
        timeout=300,
    )


def test_the_demo_runs_on_a_cluster_that_is_there_and_leaves_it_as_it_was(
    owner: Newcomer, registry: str, cluster: Cluster
) -> None:
    [demo] = [one for one in commands_of(PAGE) if one.startswith("DEVCLUSTER=kubeconfig ")]
    demo = f"DEMO_PORT={two_free_ports()} {demo.replace(REGISTRY, registry)}"
    before = cluster.kubectl("get", "namespaces", "-o", "name")
    owner = replace(owner, enter=lambda command: command)  # its ports are free ones anyway

    [outcome] = owner.paste([demo], timeout=1200)
    assert "failed" in outcome.output
    assert " 0 failed" in outcome.output
    *around, down = commands_in(outcome.output)
    owner.paste([*around, down], timeout=300)

    assert cluster.kubectl("get", "namespaces", "-o", "name") == before
    assert cluster.provider.status().healthy


def test_a_namespace_of_somebody_elses_is_left_alone(
    owner: Newcomer, registry: str, cluster: Cluster
) -> None:
    cluster.kubectl("create", "namespace", "mine")
    demo = f"DEVCLUSTER=kubeconfig DEMO_SHOP=mine DEMO_REGISTRY={registry} make demo"
    with pytest.raises(AssertionError, match=r"namespace mine is there already.*choose others"):
        owner.paste([demo], timeout=300)
    owner.paste([f"{demo}-down"], timeout=120)
    assert "mine" in cluster.kubectl("get", "namespaces", "-o", "name")


@pytest.mark.parametrize(("page", "directory"), [(PAGE, "orders"), (SIMPLE, "")])
def test_without_kubernetes_it_runs_with_uvicorn(
    tmp_path: Path, mongo: Database, page: str, directory: str
) -> None:
    somebody = arrive(tmp_path, at_home(tmp_path))
    here = somebody.checkout / "examples" / "simple_app"
    commands = commands_of(page)
    first = next(n for n, one in enumerate(commands) if "pip install" in one and "[fastapi]" in one)
    last = next(n for n, one in enumerate(commands) if "/uvicorn " in one)
    chosen = commands[first - (page != PAGE) : last + 1]
    if directory:
        here = somebody.checkout
        chosen.insert(0, "python3 -m venv ~/.mdb")
        orders = tmp_path / "home" / directory
        orders.mkdir()
        for name in ("main.py", "manifest.json"):
            (orders / name).write_text(file_in_the_page(name))
    port = free_port()
    replaced = {
        "mongodb://localhost:27017/?replicaSet=rs0": mongo.uri,
        "MONGODB_DB=shop": f"MONGODB_DB={mongo.name}",
        "MONGODB_DB=simple": f"MONGODB_DB={mongo.name}",
        "--port 8000": f"--port {port}",
        "--port 8001": f"--port {port}",
    }
    for old, new in replaced.items():
        chosen = [one.replace(old, new) for one in chosen]
    chosen[-1] += " &"
    ask = f"curl --silent --retry 20 --retry-connrefused http://127.0.0.1:{port}/health"
    answer = somebody.paste([*chosen, ask], directory=here, timeout=300)[-1]
    assert json.loads(answer.output.splitlines()[-1])["status"] == "healthy"
