"""Which kinds of objects the operator deals with, and where they are in the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

__all__ = [
    "CRDS",
    "DEPLOYMENTS",
    "EVENTS",
    "LEASES",
    "MDBAPPS",
    "NAMESPACES",
    "PODS",
    "SECRETS",
    "AppKey",
    "Resource",
    "older",
]


def older(version: str, than: str) -> bool:
    """Compare two resource versions, which grow with every write of a cluster.

    Kubernetes has them comparable as decimal numbers (KEP-5504); where a server's are not numbers,
    nothing is taken for older.
    """
    return version.isdigit() and than.isdigit() and int(version) < int(than)


class AppKey(NamedTuple):
    """The namespace and name of an MdbApp."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Resource:
    """Where objects of one kind live in the API."""

    group_version: str  # ``v1`` for the core group, otherwise ``group/version``
    plural: str
    sensitive: bool = False  # its texts may quote values and are left out of errors

    def path(
        self,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
    ) -> str:
        """Return the URL path of a collection, an object or a subresource of one."""
        parts = ["/api" if "/" not in self.group_version else "/apis", self.group_version]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part is not None]
        return "/".join(parts)


SECRETS = Resource("v1", "secrets", sensitive=True)
MDBAPPS = Resource("mdb-engine.dev/v1", "mdbapps")
NAMESPACES = Resource("v1", "namespaces")
PODS = Resource("v1", "pods")
EVENTS = Resource("events.k8s.io/v1", "events")
LEASES = Resource("coordination.k8s.io/v1", "leases")
DEPLOYMENTS = Resource("apps/v1", "deployments")
CRDS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
