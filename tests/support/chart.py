"""The chart as Helm renders it without a cluster, as GitOps tools do."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster import build
from devcluster.progress import Progress
from support.installed_operator import CHART

__all__ = ["CHART", "SOMEWHERE", "Objects", "containers", "helm", "pods", "render"]

Objects = list[dict[str, Any]]

SOMEWHERE: dict[str, Any] = {
    "mongodb": {"existingSecret": {"name": "mongodb"}},
    "masterKey": {"existingSecret": "keys"},
}
"""The values without which nothing can be rendered."""


def helm(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run helm, which finds no cluster."""
    program = build.ensure(build.HELM, Progress()) / "helm"
    with tempfile.TemporaryDirectory() as home:
        environment = {"HOME": home, "PATH": os.environ["PATH"]}
        return subprocess.run(
            [program, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=check,
        )


def render(
    values: Mapping[str, Any], *arguments: str, chart: Path = CHART, namespace: str = "system"
) -> Objects:
    """Return what `helm template` makes of values.

    Raises
    ------
    AssertionError
        If the chart refuses them; with what Helm says.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(dict(values), file)
        done = helm(
            *("template", "mdb", str(chart), "-n", namespace, "-f", file.name),
            *arguments,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def pods(objects: Objects) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the kind and name of whatever runs a pod, with the pod's template."""
    for one in objects:
        name = f"{one['kind']}/{one['metadata']['name']}"
        if one["kind"] == "Pod":
            yield name, one
        elif "template" in one.get("spec", {}):
            yield name, one["spec"]["template"]


def containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all containers of a pod's template."""
    spec = pod["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]
