from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.clusters import Cluster
from support.distributions import Environment, install

from mdb_engine.registry.models.app import Owner
from mdb_operator.constants import ANNOTATION_REVOKE_PREVIOUS, ANNOTATION_ROTATE_REQUESTED

pytestmark = pytest.mark.long

MANIFESTS = sorted((Path(__file__).parents[3] / "examples").rglob("manifest.json"))


@dataclass(frozen=True, slots=True)
class Result:
    exit_code: int
    output: str


Run = Callable[..., Result]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Give an environment that has the plugin and nothing but what it needs."""
    return install(tmp_path_factory.mktemp("plugin"), "kubectl-mdb", "mdbapp-engine")


@pytest.fixture
def plain(control_plane: Cluster, installed: Environment) -> Run:
    def run(*arguments: str) -> Result:
        environment = {name: control_plane.environment[name] for name in ("KUBECONFIG", "PATH")}
        done = installed.run("kubectl-mdb", *arguments, environment=environment)
        return Result(done.returncode, done.stdout)

    return run


@pytest.fixture
def run(plain: Run, namespace: str) -> Run:
    return lambda *arguments: plain("-n", namespace, *arguments)


def annotations_of(control_plane: Cluster, namespace: str) -> dict[str, Any]:
    found = control_plane.api.get("MdbApp", "dashboard", namespace)
    assert found is not None
    result: dict[str, Any] = found["metadata"].get("annotations") or {}
    return result


def set_status(control_plane: Cluster, namespace: str, status: dict[str, Any]) -> None:
    control_plane.kubectl(
        *("patch", "mdbapp", "dashboard", "-n", namespace, "--subresource=status"),
        *("--type=merge", "-p", json.dumps({"status": status})),
    )


def test_a_laptop_gets_neither_the_operator_nor_a_driver(installed: Environment) -> None:
    assert installed.distributions == {
        *("kubectl-mdb", "mdbapp-engine"),
        *("click", "pyyaml", "pydantic"),
        *("annotated-types", "pydantic-core", "typing-extensions", "typing-inspection"),
    }
    assert "convert" in installed.run("kubectl-mdb", "--help").stdout


def test_what_the_library_lacks_there_is_named(installed: Environment) -> None:
    said = installed.run("python", "-c", "from mdb_engine import MongoDBEngine").stdout
    assert "is not installed; install mdbapp-engine[fastapi]" in said


def test_each_request_has_a_new_value(
    run: Run, make_app: Callable[..., Owner], control_plane: Cluster, namespace: str
) -> None:
    make_app()
    seen = set()
    for _ in range(2):
        assert run("rotate", "dashboard", "--no-wait").exit_code == 0
        seen.add(annotations_of(control_plane, namespace)[ANNOTATION_ROTATE_REQUESTED])
    assert len(seen) == 2
    assert run("revoke-previous", "dashboard").exit_code == 0
    assert ANNOTATION_REVOKE_PREVIOUS in annotations_of(control_plane, namespace)


def test_the_namespace_may_stand_after_the_command_as_in_all_of_kubectl(
    plain: Run,
    run: Run,
    make_app: Callable[..., Owner],
    control_plane: Cluster,
    namespace: str,
) -> None:
    make_app()
    result = plain("rotate", "dashboard", "-n", namespace, "--no-wait")
    assert result.exit_code == 0, result.output
    assert ANNOTATION_ROTATE_REQUESTED in annotations_of(control_plane, namespace)
    # The one that stands nearer to the command wins, and a context is handed on.
    result = run("status", "dashboard", "--namespace", "default")
    assert "not found" in result.output
    result = run("status", "dashboard", "--context", "of-nobody")
    assert result.exit_code == 1
    assert "of-nobody" in result.output


def test_a_rotation_that_does_not_come_says_where_to_look(
    run: Run, make_app: Callable[..., Owner]
) -> None:
    make_app()
    result = run("rotate", "dashboard", "--timeout", "0.1")
    assert result.exit_code == 1
    assert "kubectl mdb status dashboard" in result.output


def test_the_status_shows_what_is_wrong_and_what_to_do(
    run: Run, make_app: Callable[..., Owner], control_plane: Cluster, namespace: str
) -> None:
    make_app()
    assert "has not looked" in run("status", "dashboard").output
    set_status(
        control_plane,
        namespace,
        {
            "observedGeneration": 1,
            "conditions": [
                {
                    "type": "Ready",
                    "status": "False",
                    "reason": "SlugTaken",
                    "message": "Choose another slug.",
                    "observedGeneration": 1,
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                },
                {
                    "type": "Stalled",
                    "status": "True",
                    "reason": "SlugTaken",
                    "message": "Choose another slug.",
                    "observedGeneration": 1,
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                },
            ],
            "deniedScopes": [{"slug": "hr", "reason": "NotGranted"}],
        },
    )
    output = run("status", "dashboard").output
    assert "- Ready: SlugTaken\n      Choose another slug." in output
    assert output.count("Choose another slug.") == 1, "Stalled is for tools"
    assert "denied: hr (NotGranted)" in output
    assert "has not looked" not in output


def test_an_app_that_is_not_there_is_said_in_kubectls_words(run: Run) -> None:
    result = run("status", "dashboard")
    assert result.exit_code == 1
    assert "not found" in result.output


def test_a_name_is_never_taken_for_an_option(run: Run) -> None:
    assert run("status", "--", "--all-namespaces").exit_code == 1


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.parent.name)
def test_a_manifest_becomes_an_mdbapp_that_the_api_server_accepts(
    run: Run, crd: None, control_plane: Cluster, manifest: Path
) -> None:
    result = run("convert", str(manifest))
    assert result.exit_code == 0, result.output
    assert yaml.safe_load(result.output)["spec"]["slug"]
    control_plane.kubectl("create", "--dry-run=server", "-f", "-", manifest=result.output)


def test_what_is_only_a_default_is_not_printed(run: Run, tmp_path: Path, namespace: str) -> None:
    path = tmp_path / "manifest.json"
    manifest = {
        "managed_indexes": {"orders": [{"keys": {"day": 1}, "name": "by_day"}], "logs": []},
        "data_access": {"cross_app_policy": "Explicit"},
        "slug": "shop_orders",
        "name": "Orders",
    }
    path.write_text(json.dumps(manifest))
    assert run("convert", str(path)).output == (
        "apiVersion: mdb-engine.dev/v1\n"
        "kind: MdbApp\n"
        "metadata:\n"
        "  name: shop-orders\n"
        f"  namespace: {namespace}\n"
        "spec:\n"
        "  slug: shop_orders\n"
        "  displayName: Orders\n"
        "  collections:\n"
        "  - name: orders\n"
        "    indexes:\n"
        "    - name: by_day\n"
        "      keys:\n"
        "      - field: day\n"
        "  - name: logs\n"
    )


def test_a_manifest_of_the_earlier_version_is_converted_as_far_as_it_goes(
    run: Run, crd: None, control_plane: Cluster, tmp_path: Path
) -> None:
    path = tmp_path / "manifest.json"
    manifest = {
        "slug": "chat",
        "auth": {"users": {"enabled": True}},
        "initial_data": {"rooms": [{"name": "hall"}]},
        "websockets": {"live": {"path": "/ws"}},
        "managed_indexes": {
            "messages": [
                {"type": "regular", "name": "by_n", "keys": {"n": 1}},
                {
                    "type": "vectorSearch",
                    "name": "near",
                    "definition": {"fields": [{"type": "vector", "path": "v"}]},
                },
            ]
        },
    }
    path.write_text(json.dumps(manifest))
    assert run("convert", str(path)).exit_code == 1
    result = run("convert", "--lenient", str(path))
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    said = [line for line in lines if line.startswith("left out: ")]  # on stderr
    assert {line.split(": ")[1] for line in said} == {"auth.users", "initial_data", "websockets"}
    manifest_text = "\n".join(line for line in lines if line not in said)
    spec = yaml.safe_load(manifest_text)["spec"]
    assert {one["name"] for one in spec["collections"]} == {"messages", "users", "rooms"}
    # A field that is called n is no boolean to kubectl.
    control_plane.kubectl("create", "--dry-run=server", "-f", "-", manifest=manifest_text)


def test_a_wrong_manifest_is_refused_with_its_faults(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text('{"slug": "Not A Slug"}')
    result = run("convert", str(path))
    assert result.exit_code == 1
    assert "slug" in result.output
