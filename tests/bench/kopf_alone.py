"""The floor of the operator's bench: kopf alone, creating a Secret and patching a status."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import kopf

from mdb_operator.constants import GROUP, PLURAL, VERSION
from mdb_operator.handlers.operator import configure
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.resources import SECRETS

REGISTRY = kopf.OperatorRegistry()
"""Not the default one, in which the operator's handlers are from the import on."""


@kopf.on.startup(registry=REGISTRY)
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """Set what the operator sets."""
    configure(settings)
    memo.kube = await KubeClient.connect(kubeconfig=Path(os.environ["KUBECONFIG"]))


@kopf.on.login(registry=REGISTRY)
def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in as an administrator."""
    return kopf.login_with_kubeconfig(**kwargs)


@kopf.on.create(GROUP, VERSION, PLURAL, registry=REGISTRY)
async def create(
    name: str, namespace: str | None, patch: kopf.Patch, memo: kopf.Memo, **_: Any
) -> None:
    """Do what an operator has to do at least."""
    body = {"metadata": {"name": f"{name}-mdb"}, "stringData": {"app-secret": "x" * 43}}
    await memo.kube.create(SECRETS, namespace, body)
    now = "2026-01-01T00:00:00Z"
    patch.status["conditions"] = [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Provisioned",
            "message": "The Secret is there.",
            "observedGeneration": 1,
            "lastTransitionTime": now,
        }
    ]


if __name__ == "__main__":
    asyncio.run(
        kopf.operator(registry=REGISTRY, namespaces=[os.environ["WATCHED"]], standalone=True)
    )
