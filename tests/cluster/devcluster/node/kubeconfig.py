"""Kubeconfigs: one for the administrator, one for each component that calls the API server."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from devcluster.node.layout import KeyPair, Layout


def write(layout: Layout, user: str, server: str, identity: KeyPair, cluster: str) -> Path:
    """Write a kubeconfig that needs no other file, so that it can be copied elsewhere.

    Parameters
    ----------
    layout
        The cluster's files.
    user
        Whose it is: names the file.
    server
        The API server's URL.
    identity
        The user's client certificate.
    cluster
        The cluster's name: names the context, which ``kubectl config`` shows.

    Returns
    -------
    Path
        The kubeconfig.
    """
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": cluster,
        "clusters": [
            {
                "name": cluster,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": _encoded(layout.ca.certificate),
                },
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _encoded(identity.certificate),
                    "client-key-data": _encoded(identity.key),
                },
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
    }
    return layout.write(layout.kubeconfig_of(user), yaml.safe_dump(content, sort_keys=False))


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
