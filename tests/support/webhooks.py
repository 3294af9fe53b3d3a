"""Admission webhooks that stand between the operator and its Secrets: dead, refusing, or mutating.

The API server has to reach this machine, as the single node's does.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from devcluster.node.addresses import free_port
from devcluster.node.provider import NodeProvider
from support.certificates import Authority
from support.clusters import cannot_test
from support.installation import Installation

__all__ = ["Answers", "dead_webhook", "webhook"]

Answers = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes the answer to an admission request: at least ``allowed``."""


@contextmanager
def webhook(here: Installation, directory: Path, answer: Answers) -> Iterator[list[float]]:
    """Ask a server of the test at every write of a Secret of the apps.

    It gives the times at which it was asked.
    """
    asked: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(time.monotonic())
            request = review["request"]
            review["response"] = {"uid": request["uid"], **answer(request)}
            body = json.dumps(review).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    authority, address = Authority(directory), _own_address(here)
    server = ThreadingHTTPServer((address, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("webhook", [address]))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, name="webhook", daemon=True)
    thread.start()
    try:
        where = f"{address}:{server.server_address[1]}"
        with _configured(here, where, authority.certificate.read_bytes()):
            yield asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def dead_webhook(here: Installation, directory: Path) -> Iterator[str]:
    """Have the API server ask at every write of a Secret a server that is not there.

    It gives the webhook's name.
    """
    where = f"{_own_address(here)}:{free_port()}"
    with _configured(here, where, Authority(directory).certificate.read_bytes()) as name:
        yield name


def patched(operations: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the answer that allows with a JSON patch."""
    patch = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": patch}


def _own_address(here: Installation) -> str:
    """Return this machine's address as the API server sees it, from a network of its own, too."""
    config = yaml.safe_load(here.cluster.kubeconfig.read_text())
    host = urlsplit(config["clusters"][0]["cluster"]["server"]).hostname
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((host, 9))  # sends nothing: it is the way that is chosen
        return str(asking.getsockname()[0])


@contextmanager
def _configured(here: Installation, where: str, authorities: bytes) -> Iterator[str]:
    if not isinstance(here.cluster.provider, NodeProvider):
        cannot_test("the API server does not reach this machine")
    name = f"secrets.{here.apps}.example.com"
    manifest = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": name,
                "clientConfig": {
                    "url": f"https://{where}/",
                    "caBundle": base64.b64encode(authorities).decode(),
                },
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["secrets"],
                    }
                ],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": here.apps}},
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 2,
            }
        ],
    }
    here.cluster.api.create(manifest)
    try:
        yield name
    finally:
        here.cluster.api.delete("MutatingWebhookConfiguration", name)
