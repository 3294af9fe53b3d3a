"""The CustomResourceDefinition of MdbApp, generated from the pydantic models.

One source: the library, the operator and the API server agree on what a manifest may hold because
all three read it off the same model, CEL for what crosses fields included. Only what concerns the
whole object stands here. ``make crds`` writes the result to ``crds/`` and to the chart; a test
holds them equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import yaml

from mdb_engine.models.spec import MdbAppSpec
from mdb_operator.constants import (
    ANNOTATION_CRD_HASH,
    ANNOTATION_CRD_VERSION,
    GROUP,
    KIND,
    PLURAL,
    VERSION,
)
from mdb_operator.crd.status import MdbAppStatus
from mdb_operator.crd.structural import structural, walk

__all__ = ["CHART_TEMPLATE", "CRD_FILE", "crd", "render_chart_template", "render_crd", "write_crds"]

CRD_FILE = Path("crds") / f"{PLURAL}.{GROUP}.yaml"
"""Where the CRD stands in the repository."""

CHART_TEMPLATE = Path("charts") / "mdb-operator" / "templates" / "_crd.tpl"
"""Where the chart has it: as a named template, because Helm never upgrades what is in ``crds/``."""

DESCRIPTION = (
    "An app that shares a MongoDB database with others. The operator registers it, makes its secret"
    " and projects it into a Secret that the app's pods mount."
)

RULES: Mapping[str, Mapping[str, str]] = {
    "spec.collections[]": {
        "timeSeries excludes capped, preImages, validator and adopt": (
            "!has(self.timeSeries) || (!has(self.capped) && !has(self.preImages)"
            " && !has(self.validator) && !has(self.adopt))"
        ),
        "indexes: a collection can have one text index only": (
            "!has(self.indexes) || self.indexes.filter(i, i.keys.exists(k,"
            " has(k.kind) && k.kind == 'Text')).size() <= 1"
        ),
    },
    "spec.collections[].indexes[]": {
        "expireAfterSeconds needs keys to have exactly one field, of kind Ordered": (
            "!has(self.expireAfterSeconds) || (self.keys.size() == 1"
            " && self.keys.all(k, !has(k.kind) || k.kind == 'Ordered'))"
        ),
        "sparse and partialFilter exclude each other": (
            "!has(self.sparse) || !self.sparse"
            " || !has(self.partialFilter) || self.partialFilter.size() == 0"
        ),
        "a key of kind Wildcard stands alone, in an index that is not sparse": (
            "!self.keys.exists(k, has(k.kind) && k.kind == 'Wildcard')"
            " || (self.keys.size() == 1 && (!has(self.sparse) || !self.sparse))"
        ),
        "an index has one key of kind Hashed at most": (
            "self.keys.filter(k, has(k.kind) && k.kind == 'Hashed').size() <= 1"
        ),
        "collation is not for keys of kind Text or 2d": (
            "!has(self.collation)"
            " || !self.keys.exists(k, has(k.kind) && (k.kind == 'Text' || k.kind == '2d'))"
        ),
        "unique needs all keys to be of kind Ordered": (
            "!has(self.unique) || !self.unique"
            " || self.keys.all(k, !has(k.kind) || k.kind == 'Ordered')"
        ),
        "defaultLanguage needs a key of kind Text": (
            "!has(self.defaultLanguage) || self.keys.exists(k, has(k.kind) && k.kind == 'Text')"
        ),
    },
    "spec.collections[].indexes[].keys[]": {
        "order applies to the kind Ordered only": (
            "!has(self.kind) || self.kind == 'Ordered' || !has(self.order) || self.order == 1"
        ),
        "weight applies to the kind Text only": (
            "!has(self.weight) || self.weight == 1 || (has(self.kind) && self.kind == 'Text')"
        ),
    },
    "spec.collections[].indexes[].partialFilter[]": {
        "operator exists needs booleanValue: true, MongoDB's partial indexes know no other": (
            "!has(self.operator) || self.operator != 'exists'"
            " || (has(self.booleanValue) && self.booleanValue)"
        ),
        "operator type needs stringValue, the name of a BSON type": (
            "!has(self.operator) || self.operator != 'type' || has(self.stringValue)"
        ),
        "nullValue is compared with eq alone": (
            "!has(self.nullValue) || !has(self.operator) || self.operator == 'eq'"
        ),
    },
}
"""The validators of the models that cross fields, as CEL, by path and message."""

UNIQUE_BY: Mapping[str, tuple[str, ...]] = {
    "spec.collections[].indexes[].keys": ("field",),
    "spec.restart": ("kind", "name"),
}
"""Lists in which the API server itself refuses a second item with the same values.

Not CEL: comparing all pairs would exceed its cost budget.
"""

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
    ("Class", "string", ".spec.operatorClass", "Who is to handle it", 1),
    ("Installation", "string", ".status.installation", "Who does handle it", 1),
    ("Age", "date", ".metadata.creationTimestamp", "Since when it exists", 0),
)


def crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition as plain data."""
    definition = _definition()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{PLURAL}.{GROUP}",
            # Service Binding: by this label people and tools find what can be bound to.
            "labels": {"servicebinding.io/provisioned-service": "true"},
            "annotations": {
                ANNOTATION_CRD_VERSION: package_version("mdbapp-operator"),
                ANNOTATION_CRD_HASH: _hash(definition),
            },
        },
        "spec": definition,
    }


def _hash(definition: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:16]


def _definition() -> dict[str, Any]:
    spec = _with_defaults(structural(MdbAppSpec.model_json_schema(by_alias=True)))
    nodes = dict(walk({"properties": {"spec": spec}}))
    for path, rules in RULES.items():
        nodes[path].setdefault("x-kubernetes-validations", []).extend(
            {"rule": rule, "message": message} for message, rule in rules.items()
        )
    for path, keys in UNIQUE_BY.items():
        nodes[path] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
    status = structural(MdbAppStatus.model_json_schema(by_alias=True))
    # To kstatus an object without a status is done. With this one it is under way.
    status["default"] = {"observedGeneration": -1}
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
    }


def render_crd() -> str:
    """Return the text of the file in ``crds/``."""
    return "# Generated from the pydantic models by `make crds`; do not edit.\n" + _dump(crd())


def render_chart_template() -> str:
    """Return the text of the chart's named templates: the CRD's name, labels, hash and spec."""
    definition = crd()
    metadata = definition["metadata"]
    parts = {
        "crdName": metadata["name"],
        "crdLabels": _dump(metadata["labels"]).rstrip("\n") if metadata.get("labels") else "",
        "crdHash": metadata["annotations"][ANNOTATION_CRD_HASH],
        "crdSpec": _dump(definition["spec"]).rstrip("\n"),
    }
    return (
        "{{- /* Generated from the pydantic models by `make crds`; do not edit. */ -}}\n"
        + "".join(
            f'{{{{- define "mdb-operator.{name}" -}}}}\n{text}\n{{{{- end -}}}}\n'
            for name, text in parts.items()
        )
    )


def write_crds(root: Path, *, check: bool = False) -> list[Path]:
    """Bring the generated files up to date and return those that were not.

    With ``check`` nothing is written.
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

    The API server applies the defaults of fields only inside objects that are there. Inside lists
    there are none; the models fill them in: what the server adds to the items of a list makes every
    second ``kubectl apply`` a change, and another field manager's a conflict.
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
        schema["items"].pop("default", None)
        for _, part in walk(schema["items"]):
            part.pop("default", None)
    return schema


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, width=100, allow_unicode=True)
