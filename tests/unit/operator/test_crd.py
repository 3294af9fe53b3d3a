from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mdb_engine.models.spec import MdbAppSpec
from mdb_operator.constants import ANNOTATION_CRD_HASH
from mdb_operator.crd.render import _hash, crd, write_crds
from mdb_operator.crd.structural import structural, walk

ROOT = Path(__file__).parents[3]
SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
NODES = {path: node for path, node in walk(SCHEMA) if path != "metadata"}


def test_the_files_in_the_repository_are_what_the_models_say() -> None:
    assert write_crds(ROOT, check=True) == [], "run `make crds` and commit the result"


def test_the_hash_changes_with_the_definition_and_with_nothing_else() -> None:
    definition = crd()
    found = definition["metadata"]["annotations"][ANNOTATION_CRD_HASH]
    assert _hash(definition["spec"]) == found
    definition["spec"]["names"]["shortNames"].append("more")
    assert _hash(definition["spec"]) != found


@pytest.mark.parametrize("path", sorted(NODES))
def test_every_field_is_described_and_bounded(path: str) -> None:
    node = NODES[path]
    if not path.endswith(("[]", "{}")):
        description = node.get("description", "")
        assert len(description) > 12, f"kubectl explain has nothing to say about {path}"
        assert description[0].isupper() or description.startswith(("1 ", "exactly"))
        assert description.endswith("."), f"the description of {path} is no sentence"
    match node.get("type"):
        case "array":
            assert "maxItems" in node
        case "integer" | "number":
            assert "enum" in node or ("minimum" in node and "maximum" in node)
        case "string":
            bounded = "enum" in node or "maxLength" in node or node.get("format") == "date-time"
            assert bounded or path in {"apiVersion", "kind"}
        case "object":
            assert "properties" in node
        case "boolean":
            pass
        case other:
            pytest.fail(f"{path} has the type {other!r}")


def test_nothing_unknown_is_preserved_and_every_rule_names_what_it_is_about() -> None:
    for path, node in [("", SCHEMA), *NODES.items()]:
        assert "x-kubernetes-preserve-unknown-fields" not in node
        assert "x-kubernetes-int-or-string" not in node
        for rule in node.get("x-kubernetes-validations", ()):
            assert len(rule["message"]) > 10, f"a rule of {path} says nothing"


def test_what_people_type_and_see_is_there() -> None:
    definition = crd()["spec"]
    version = definition["versions"][0]
    assert definition["names"]["shortNames"] == ["mdba"]
    assert definition["names"]["categories"] == ["mdb"]
    assert version["subresources"] == {"status": {}}
    assert version["selectableFields"] == [{"jsonPath": ".spec.slug"}]
    columns = [column["name"] for column in version["additionalPrinterColumns"]]
    assert columns == [
        *("Slug", "Ready", "Reason", "Secret", "Version"),
        *("Class", "Installation", "Age"),
    ]


def test_defaults_stand_in_the_schema() -> None:
    defaults = {path: node["default"] for path, node in NODES.items() if "default" in node}
    assert defaults["spec.dataAccess"] == {}
    assert defaults["spec.dataAccess.crossAppPolicy"] == "Explicit"
    assert defaults["spec.secret.overlapSeconds"] == 600
    assert defaults["spec.deletionPolicy"] == "Retain"
    assert defaults["spec.suspend"] is False
    assert defaults["spec.operatorClass"] == "default"
    assert [path for path in defaults if "[]" in path] == [], "a second apply would change them"
    filled: dict[str, Any] = {"slug": "orders"}
    for path, default in defaults.items():
        parts = path.split(".")
        if parts[0] == "spec" and len(parts) == 2:
            filled[parts[1]] = default
    assert MdbAppSpec.parse(filled) == MdbAppSpec.parse({"slug": "orders"})


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "integer", "exclusiveMinimum": 0},
        {"type": "object", "patternProperties": {"^a": {"type": "string"}}},
    ],
)
def test_a_constraint_that_a_crd_cannot_express_is_an_error(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot express"):
        structural(schema)
