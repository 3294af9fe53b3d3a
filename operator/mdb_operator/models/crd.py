"""The CustomResourceDefinition of MdbApp, generated from the pydantic models.

One source: the library, the operator and the API server agree on what a manifest may hold because
all three read it off the same model. What pydantic cannot say to an API server (a slug that never
changes, a list that must hold another field) stands here as CEL, each rule with a message that names
the field. ``make crds`` writes the result to ``crds/`` and to the chart; a test holds them equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from mdb_engine.models.spec import MdbAppSpec
from mdb_operator.constants import GROUP, KIND, PLURAL, VERSION
from mdb_operator.models.status import MdbAppStatus
from mdb_operator.models.structural import structural

__all__ = ["CHART_TEMPLATE", "CRD_FILE", "crd", "render_chart_template", "render_crd", "write_crds"]

CRD_FILE = Path("crds") / f"{PLURAL}.{GROUP}.yaml"
"""Where the CRD stands in the repository."""

CHART_TEMPLATE = Path("charts") / "mdb-operator" / "templates" / "crd.yaml"
"""Where the chart has it: as a template, because Helm never upgrades what is in ``crds/``."""

DESCRIPTION = (
    "An app that shares a MongoDB database with others. The operator registers it, makes its secret"
    " and projects it into a Secret that the app's pods mount."
)

RULES: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "spec": (
        (
            "!has(self.dataAccess) || !has(self.dataAccess.readScopes)"
            " || self.slug in self.dataAccess.readScopes",
            "spec.dataAccess.readScopes must hold spec.slug: an app always reads its own data",
            ".dataAccess.readScopes",
        ),
        (
            "!has(self.dataAccess) || !has(self.dataAccess.writeScope)"
            " || self.dataAccess.writeScope == self.slug",
            "spec.dataAccess.writeScope must be spec.slug: an app writes only its own data",
            ".dataAccess.writeScope",
        ),
    ),
    "spec.slug": (
        (
            "self == oldSelf",
            "spec.slug is immutable, it is the app's identity in MongoDB: create another MdbApp",
            "",
        ),
    ),
}
"""CEL by path: the rule, its message, and below which field the error is reported."""

ROOT_RULES = (
    {
        "rule": "(has(self.spec.secret) && has(self.spec.secret.name))"
        " || size(self.metadata.name) <= 249",
        "message": "spec.secret.name is needed where metadata.name has more than 249 characters,"
        " because its default is <metadata.name>-mdb",
    },
)

PRINTER_COLUMNS = (
    ("Slug", "string", ".spec.slug", "Identity of the app in MongoDB", 0),
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether it may start", 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', "Why or why not", 0),
    ("Secret", "string", ".status.binding.name", "The Secret to mount", 0),
    ("Version", "integer", ".status.secret.version", "Version of the app's secret", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Since when it exists", 0),
)


def crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition as plain data."""
    spec = _with_defaults(structural(MdbAppSpec.model_json_schema(by_alias=True)))
    for path, rules in RULES.items():
        node = spec
        for part in path.split(".")[1:]:
            node = node["properties"][part]
        node["x-kubernetes-validations"] = [
            {"rule": rule, "message": message, **({"fieldPath": below} if below else {})}
            for rule, message, below in rules
        ]
    spec["description"] = "What the app is, what it may read, and how its secret is handled."
    status = structural(MdbAppStatus.model_json_schema(by_alias=True))
    schema = {
        "type": "object",
        "description": DESCRIPTION,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Always {GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"Always {KIND}."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": list(ROOT_RULES),
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["mdba"],
                "categories": ["mdb"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "selectableFields": [{"jsonPath": ".spec.slug"}],
                    "additionalPrinterColumns": [
                        {
                            "name": name,
                            "type": kind,
                            "jsonPath": path,
                            "description": description,
                            "priority": priority,
                        }
                        for name, kind, path, description, priority in PRINTER_COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def render_crd() -> str:
    """Return the text of the file in ``crds/``."""
    return "# Generated from the pydantic models by `make crds`; do not edit.\n" + _dump(crd())


def render_chart_template() -> str:
    """Return the text of the chart's template: the same CRD, kept when the release is removed.

    Deleting the CRD would delete every MdbApp with it, so Helm is told to leave it.
    """
    definition = deepcopy(crd())
    definition["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    return (
        "{{- /* Generated from the pydantic models by `make crds`; do not edit. */ -}}\n"
        "{{- if .Values.crds.install }}\n" + _dump(definition) + "{{- end }}\n"
    )


def write_crds(root: Path, *, check: bool = False) -> list[Path]:
    """Bring the generated files up to date and return those that were not.

    Parameters
    ----------
    root
        The repository's root.
    check
        Whether to write nothing and only say what differs.
    """
    stale = []
    for path, text in ((CRD_FILE, render_crd()), (CHART_TEMPLATE, render_chart_template())):
        target = root / path
        if target.is_file() and target.read_text() == text:
            continue
        stale.append(path)
        if not check:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    return stale


def _with_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """Give every optional object whose fields are all optional the default ``{}``.

    The API server applies the defaults of fields only inside objects that are there.
    """
    for name, part in schema.get("properties", {}).items():
        _with_defaults(part)
        if (
            part.get("type") == "object"
            and name not in schema.get("required", ())
            and not part.get("required")
            and "properties" in part
        ):
            part["default"] = {}
    if "items" in schema:
        _with_defaults(schema["items"])
    return schema


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, width=100, allow_unicode=True)
