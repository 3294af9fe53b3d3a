"""Requests to the API server without a process for each: what tests ask for again and again.

A kubectl costs a fifth of a second of a processor, and waiting for a status asks ten times a
second. What a test is about (what a person types, and what it answers) still goes through kubectl.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from kubernetes.config import new_client_from_config

from mdb_operator.kubernetes.resources import (
    DEPLOYMENTS,
    EVENTS,
    LEASES,
    MDBAPPS,
    NAMESPACES,
    SECRETS,
    Resource,
)

KubeObject = dict[str, Any]

APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"

FIELD_MANAGER = "tests"

STRICT = ("fieldValidation", "Strict")
"""As kubectl does: a misspelt field is an error and not left out in silence."""

KINDS: Mapping[str, Resource] = {
    "ClusterRole": Resource("rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": Resource("rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    "ConfigMap": Resource("v1", "configmaps"),
    "CustomResourceDefinition": Resource("apiextensions.k8s.io/v1", "customresourcedefinitions"),
    "DaemonSet": Resource("apps/v1", "daemonsets"),
    "Deployment": DEPLOYMENTS,
    "Event": EVENTS,
    "Lease": LEASES,
    "MdbApp": MDBAPPS,
    "MutatingWebhookConfiguration": Resource(
        "admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations"
    ),
    "Namespace": NAMESPACES,
    "Node": Resource("v1", "nodes"),
    "NetworkPolicy": Resource("networking.k8s.io/v1", "networkpolicies"),
    "Pod": Resource("v1", "pods"),
    "PodDisruptionBudget": Resource("policy/v1", "poddisruptionbudgets"),
    "Role": Resource("rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": Resource("rbac.authorization.k8s.io/v1", "rolebindings"),
    "Secret": SECRETS,
    "Service": Resource("v1", "services"),
    "ServiceAccount": Resource("v1", "serviceaccounts"),
    "StatefulSet": Resource("apps/v1", "statefulsets"),
    "ValidatingAdmissionPolicy": Resource(
        "admissionregistration.k8s.io/v1", "validatingadmissionpolicies"
    ),
    "ValidatingAdmissionPolicyBinding": Resource(
        "admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings"
    ),
    "ValidatingWebhookConfiguration": Resource(
        "admissionregistration.k8s.io/v1", "validatingwebhookconfigurations"
    ),
}

_open: dict[Path, Api] = {}


def connection(kubeconfig: Path) -> Api:
    """Return this process's connection with the rights of a kubeconfig."""
    if kubeconfig not in _open:
        _open[kubeconfig] = Api(kubeconfig)
    return _open[kubeconfig]


def close_connections() -> None:
    """End what `connection` opened."""
    while _open:
        _open.popitem()[1].close()


def token_kubeconfig(kubeconfig: Path, token: str) -> dict[str, Any]:
    """Return a kubeconfig of the same API server that logs in with a token and nothing else."""
    admin = yaml.safe_load(kubeconfig.read_text())
    context = next(c for c in admin["contexts"] if c["name"] == admin["current-context"])
    wanted = context["context"]["cluster"]
    server = next(c for c in admin["clusters"] if c["name"] == wanted)["cluster"]
    if "certificate-authority" in server:
        ca = (kubeconfig.parent / server.pop("certificate-authority")).read_bytes()
        server["certificate-authority-data"] = base64.b64encode(ca).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": server}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


class ApiError(AssertionError):
    """The API server refused a request that a test expected to succeed.

    Parameters
    ----------
    what
        The request.
    status
        The HTTP status.
    message
        What the server said.
    """

    def __init__(self, what: str, status: int, message: str) -> None:
        super().__init__(f"{what}: {status} {message}")
        self.status = status


class Api:
    """A connection to an API server, kept open.

    Parameters
    ----------
    kubeconfig
        Whose rights it has.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._client = new_client_from_config(  # type: ignore[no-untyped-call]
            config_file=str(kubeconfig), persist_config=False
        )

    def close(self) -> None:
        """End the connection."""
        self._client.rest_client.pool_manager.clear()

    def get(self, kind: str, name: str, namespace: str | None = None) -> KubeObject | None:
        """Return an object, or None where there is none."""
        try:
            return self._send("GET", KINDS[kind].path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def objects(self, kind: str, namespace: str | None = None) -> list[KubeObject]:
        """Return all objects of a kind."""
        items: list[KubeObject] = self._send("GET", KINDS[kind].path(namespace))["items"]
        return items

    def create(self, manifest: Mapping[str, Any], namespace: str | None = None) -> KubeObject:
        """Create an object."""
        path = KINDS[manifest["kind"]].path(namespace)
        return self._send("POST", path, manifest, query=[STRICT])

    def apply(
        self, manifest: Mapping[str, Any], namespace: str | None = None, *, force: bool = True
    ) -> KubeObject:
        """Create an object or make it what the manifest says, as a GitOps tool does."""
        path = KINDS[manifest["kind"]].path(namespace, manifest["metadata"]["name"])
        query = [("fieldManager", FIELD_MANAGER), ("force", str(force).lower()), STRICT]
        return self._send("PATCH", path, manifest, content_type=APPLY_PATCH, query=query)

    def replace(self, manifest: Mapping[str, Any], namespace: str | None = None) -> KubeObject:
        """Replace an object by one with its resource version."""
        path = KINDS[manifest["kind"]].path(namespace, manifest["metadata"]["name"])
        return self._send("PUT", path, manifest, query=[STRICT])

    def patch(
        self, kind: str, name: str, change: Mapping[str, Any], namespace: str | None = None
    ) -> KubeObject:
        """Change an object by a merge patch."""
        path = KINDS[kind].path(namespace, name)
        return self._send("PATCH", path, change, content_type=MERGE_PATCH, query=[STRICT])

    def patch_status(
        self, kind: str, name: str, change: Mapping[str, Any], namespace: str | None = None
    ) -> KubeObject:
        """Change an object's status by a merge patch."""
        path = KINDS[kind].path(namespace, name, "status")
        return self._send("PATCH", path, change, content_type=MERGE_PATCH, query=[STRICT])

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Delete an object and do not wait for its end; one that is not there is no error."""
        try:
            self._send("DELETE", KINDS[kind].path(namespace, name))
        except ApiError as error:
            if error.status != 404:
                raise

    def token(self, account: str, namespace: str, seconds: int = 3600) -> str:
        """Return a token of a ServiceAccount."""
        manifest = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        path = KINDS["ServiceAccount"].path(namespace, account, "token")
        token: str = self._send("POST", path, manifest)["status"]["token"]
        return token

    def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        query: list[tuple[str, str]] | None = None,
    ) -> KubeObject:
        _, url, headers, _, _ = self._client.param_serialize(
            method,
            path,
            query_params=query or [],
            header_params={"Accept": "application/json", "Content-Type": content_type},
            auth_settings=["BearerToken"],
        )
        answer = self._client.rest_client.pool_manager.request(
            method, url, headers=headers, body=None if body is None else json.dumps(body)
        )
        if not 200 <= answer.status < 300:
            # A Status, or plain text where the API server does not know the path (yet).
            raise ApiError(f"{method} {path}", answer.status, answer.data.decode(errors="replace"))
        found: KubeObject = json.loads(answer.data)
        return found
