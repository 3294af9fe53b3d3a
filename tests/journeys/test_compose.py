"""The example with Docker Compose, as its README says it; and every Dockerfile with Docker."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.docker import MONGO, NODE, PYTHON, Docker
from support.newcomer import ROOT, Newcomer, arrive, commands_of

from devcluster.mongod_binary import find_mongod

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200, func_only=True)]

PAGE = "examples/multi_app/README.md"

UP = "docker compose up --build --wait"
COUNT = "curl http://127.0.0.1:8001/analytics"


@pytest.fixture
def somebody(docker: Docker, tmp_path: Path) -> Iterator[Newcomer]:
    """Give somebody with Docker; their containers go at the end, whatever has happened."""
    docker.provide(PYTHON)
    docker.provide(MONGO)
    somebody = arrive(
        tmp_path,
        # Under a name of its own: what somebody runs already is left alone.
        {**docker.settings, "COMPOSE_PROJECT_NAME": f"test-{secrets.token_hex(4)}"},
        programs={"docker": docker.client},
        enter=docker.enter,
    )
    yield somebody
    down = "docker compose --profile casbin down --volumes"
    somebody.paste([down], directory=somebody.checkout / "examples" / "multi_app")


def test_the_readme_leads_from_nothing_to_clicks_that_stay(somebody: Newcomer) -> None:
    directory = somebody.checkout / "examples" / "multi_app"
    commands = commands_of(PAGE)
    commands = commands[: commands.index("make demo")]  # tests/e2e/test_newcomer.py does the rest
    half = commands.index("docker compose down")
    first, rest = commands[:half], commands[half:]
    assert first[:2] == ["./scripts/setup.sh", UP]

    counted = somebody.paste(first, directory=directory, timeout=900)[-1]
    assert json.loads(counted.output.splitlines()[-1])["total_clicks"] == 1
    key = (directory / ".env").read_text()
    again = somebody.paste(["./scripts/setup.sh", UP, COUNT], directory=directory, timeout=300)
    assert (directory / ".env").read_text() == key
    assert json.loads(again[-1].output.splitlines()[-1])["total_clicks"] == 1

    outcomes = somebody.paste(rest, directory=directory, timeout=600)
    printed = {one.command: one.output.splitlines()[-1] for one in outcomes}
    assert json.loads(printed[COUNT])["total_clicks"] == 1, "down and up lost the click"
    assert json.loads(printed["curl http://127.0.0.1:8002/clicks"])["total"] == 1
    [refused] = [text for command, text in printed.items() if "8002/track" in command]
    assert json.loads(refused)["error"] == "policy_denied"
    assert (directory / ".env").read_text() == key


DOCKERFILES = {
    "operator/Dockerfile": ["mdb-operator", "--help"],
    "examples/multi_app/Dockerfile": ["uvicorn", "--version"],
    "examples/node_app/Dockerfile": ["node", "--version"],
    "examples/simple_app/Dockerfile": ["uvicorn", "--version"],
    "tests/cluster/images/mongod/Dockerfile": ["mongod", "--version"],
    "tests/e2e/secret_server/Dockerfile": ["python3", "--version"],
}
"""Every Dockerfile that builds with any engine, and a command that shows that its image works."""

OF_A_MACHINE = {"tests/cluster/images/kind-node", "tests/journeys/images"}
"""Those that are made for machines without a registry, of what is on the machine."""


def test_every_dockerfile_is_listed() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("[!.]*/**/Dockerfile")}
    theirs = {path for path in found if any(path.startswith(f"{one}/") for one in OF_A_MACHINE)}
    assert found - theirs == set(DOCKERFILES)


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_docker_builds_an_image_that_works(docker: Docker, dockerfile: str) -> None:
    base = NODE if "node_app" in dockerfile else PYTHON
    docker.provide(base)
    tag = f"localhost/test-build:{secrets.token_hex(4)}"
    own = "tests/" in dockerfile or base == NODE
    context = (ROOT / dockerfile).parent if own else ROOT
    if "mongod" in dockerfile:
        context = find_mongod(print).parent
    build = ("build", "--quiet", "--tag", tag, "--build-arg", f"BASE={base}")
    docker.run(*build, "--file", ROOT / dockerfile, context)
    program, *arguments = DOCKERFILES[dockerfile]
    try:
        assert docker.run("run", "--rm", "--entrypoint", program, tag, *arguments)
    finally:
        docker.run("rmi", "--no-prune", tag)
