"""What an MdbApp is called in the Kubernetes API, and what a person asks of it by annotation.

The operator and the kubectl plugin know neither each other nor another place for these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "ANNOTATION_REVOKE_PREVIOUS",
    "ANNOTATION_ROTATE_REQUESTED",
    "API_VERSION",
    "DEFAULT_OPERATOR_CLASS",
    "GROUP",
    "KIND",
    "OPERATOR_CLASS_PATTERN",
    "PLURAL",
    "VERSION",
    "mdbapp_document",
    "mdbapp_name",
]

GROUP: Final = "mdb-engine.dev"
"""The API group, and the prefix of every label, annotation and finalizer that is ours."""

VERSION: Final = "v1"
"""The only version there will be: kopf converts nothing, so changes are additive (DESIGN 4)."""

KIND: Final = "MdbApp"
"""The kind of the resource."""

PLURAL: Final = "mdbapps"
"""The resource's name in URLs and RBAC rules."""

API_VERSION: Final = f"{GROUP}/{VERSION}"
"""What stands in ``apiVersion``, in ownerReferences too."""

ANNOTATION_ROTATE_REQUESTED: Final = f"{GROUP}/rotate-requested"
"""Any new value asks for one rotation; one that is there at creation is no request."""

ANNOTATION_REVOKE_PREVIOUS: Final = f"{GROUP}/revoke-previous"
"""Any new value ends every earlier version of the secret at once (a leaked secret)."""

DEFAULT_OPERATOR_CLASS: Final = "default"
"""The class of an MdbApp and of an installation that name none."""

OPERATOR_CLASS_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
"""A class is a DNS label, as the names of Kubernetes' own classes are."""


def mdbapp_name(slug: str) -> str:
    """Return what an MdbApp is called that nobody has given a name: its slug, as DNS has it."""
    return slug.replace("_", "-").rstrip("-")


def mdbapp_document(spec: Mapping[str, Any], name: str, namespace: str | None) -> dict[str, Any]:
    """Return an MdbApp to be applied, without a namespace where none is given."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": dict(spec)}
