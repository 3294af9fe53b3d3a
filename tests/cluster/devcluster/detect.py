"""Which kind of cluster to use: what the environment says, else what the machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from enum import StrEnum

from devcluster.build import KUBERNETES_MINOR, KUBERNETES_VERSIONS
from devcluster.engine import own
from devcluster.errors import DevclusterError

VARIABLE = "DEVCLUSTER"
"""The environment variable that forces a kind."""

KUBERNETES_VARIABLE = "DEVCLUSTER_KUBERNETES"
"""The environment variable that names another Kubernetes minor than the default."""

_ENGINE_TIMEOUT = 10.0
"""Seconds: a Docker client whose engine is on an unreachable machine waits for much longer."""


class Choice(StrEnum):
    """A kind of cluster."""

    KUBECONFIG = "kubeconfig"
    KIND = "kind"
    NODE = "node"


def choose() -> Choice:
    """Return the kind of cluster to use.

    Raises
    ------
    DevclusterError
        If the environment names none that there is, or the machine allows none.
    """
    forced = os.environ.get(VARIABLE)
    if forced:
        try:
            return Choice(forced)
        except ValueError:
            raise DevclusterError(
                f"{VARIABLE}={forced} names no kind of cluster",
                f"Use one of {', '.join(Choice)}, or unset it.",
            ) from None
    if docker_answers():
        return Choice.KIND
    if sys.platform == "linux":
        return Choice.NODE
    raise DevclusterError(
        "This machine has no Docker engine that answers, and is no Linux",
        f"Start Docker, or set {VARIABLE}=kubeconfig to use the cluster of your kubeconfig.",
    )


def kubernetes_minor() -> str:
    """Return the minor of Kubernetes to use, which the single node alone can choose.

    Raises
    ------
    DevclusterError
        If the environment names one that there is not.
    """
    minor = os.environ.get(KUBERNETES_VARIABLE) or KUBERNETES_MINOR
    if minor not in KUBERNETES_VERSIONS:
        raise DevclusterError(
            f"{KUBERNETES_VARIABLE}={minor} names no Kubernetes minor that is pinned here",
            f"Use one of {', '.join(KUBERNETES_VERSIONS)}, or unset it.",
        )
    if minor != KUBERNETES_MINOR and choose() is not Choice.NODE:
        raise DevclusterError(
            f"{KUBERNETES_VARIABLE}={minor} goes with the single node alone",
            f"Set {VARIABLE}={Choice.NODE}, or unset it.",
        )
    return minor


def docker_answers() -> bool:
    """Say whether a Docker engine answers; a client alone is on many machines without one.

    Where kind is insisted on, an engine of devcluster's own will do. This process, and what it
    starts, then uses that one.
    """
    if _client_reaches_engine():
        return True
    if os.environ.get(VARIABLE) == Choice.KIND and own.runs():
        own.adopt()
        return True
    return False


def _client_reaches_engine() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        asked = subprocess.run(
            [docker, "info", "--format", "{{.ServerVersion}}"],
            capture_output=True,
            text=True,
            timeout=_ENGINE_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0 and bool(asked.stdout.strip())
