"""Applying a manifest again changes nothing, whoever applies it, as GitOps tools expect."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.clusters import Cluster

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]


def _documented() -> dict[str, dict[str, Any]]:
    """Return the MdbApps that the documents tell people to apply, by where they stand."""
    found = {}
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = [(page.name, text) for page in pages for text in _yaml_blocks(page)]
    texts += [
        (path.name, path.read_text()) for path in sorted((ROOT / "examples").rglob("k8s/*.yaml"))
    ]
    for where, text in texts:
        if "kind: MdbApp" not in text:
            continue
        for number, document in enumerate(yaml.safe_load_all(text)):
            if document and document.get("kind") == "MdbApp" and "slug" in document["spec"]:
                found[f"{where}:{document['metadata']['name']}:{number}"] = document
    return found


def _yaml_blocks(page: Path) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


DOCUMENTED = _documented()


def test_the_documents_have_manifests_with_indexes() -> None:
    indexes = [
        index
        for manifest in DOCUMENTED.values()
        for collection in manifest["spec"].get("collections", ())
        for index in collection.get("indexes", ())
    ]
    assert len(indexes) >= 5


@pytest.mark.parametrize("where", DOCUMENTED)
def test_a_second_apply_changes_nothing(
    crd: None, control_plane: Cluster, namespace: str, where: str
) -> None:
    document = DOCUMENTED[where]
    document["metadata"].pop("namespace", None)
    manifest, name = json.dumps(document), document["metadata"]["name"]

    def apply(*options: str) -> str:
        return control_plane.kubectl(
            "apply", "-n", namespace, *options, "-f", "-", manifest=manifest
        )

    def stands() -> tuple[str, int, Any]:
        found = control_plane.api.get("MdbApp", name, namespace)
        assert found is not None
        metadata = found["metadata"]
        return metadata["resourceVersion"], metadata["generation"], found["spec"]

    def apply_from_server(*managers: str) -> None:
        for manager in managers:
            before = stands()
            # It fails where it conflicts.
            apply("--server-side", f"--field-manager={manager}")
            assert stands()[1:] == before[1:], "it owns what it applied, and changes nothing"
            version = stands()[0]
            apply("--server-side", f"--field-manager={manager}")
            assert stands()[0] == version

    assert "created" in apply()
    assert "unchanged" in apply()
    # It fails where there is a difference.
    control_plane.kubectl("diff", "-n", namespace, "-f", "-", manifest=manifest)

    # As a GitOps tool does. (What kubectl applies on the server rewrites kubectl's own annotation.)
    control_plane.api.apply(document, namespace)
    assert "unchanged" in apply()
    apply_from_server("argocd-controller", "kustomize-controller")

    control_plane.kubectl("delete", "mdbapp", name, "-n", namespace)
    apply("--server-side")
    apply_from_server("kubectl", "argocd-controller")
