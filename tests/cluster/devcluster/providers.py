"""Which kind of cluster a machine gets."""

from __future__ import annotations

import os
import sys

from devcluster import detect, kind
from devcluster.kubeconfig import KubeconfigProvider
from devcluster.node.provider import NodeProvider
from devcluster.progress import Progress
from devcluster.provider import ComponentStatus, Provider, Status

__all__ = ["ComponentStatus", "Provider", "Status", "select"]


def select(
    name: str,
    progress: Progress | None = None,
    *,
    port: int | None = None,
    starting: bool = False,
) -> Provider:
    """Return the provider for this machine and environment.

    Parameters
    ----------
    name
        The cluster's name.
    progress
        Where to show what is being done; standard error by default.
    port
        The API server's port of a single node without its node; None for a free one.
    starting
        Whether the cluster is to be started: only then is kind's node image asked for, and the
        single node taken where it cannot be had.

    Raises
    ------
    DevclusterError
        If the environment asks for a kind that there is not, or the machine allows none.
    """
    progress = progress or Progress()
    if starting:
        detect.kubernetes_minor()
    match detect.choose():
        case detect.Choice.KUBECONFIG:
            return KubeconfigProvider()
        case detect.Choice.KIND:
            return _kind_or_node(name, progress, port, starting=starting)
        case detect.Choice.NODE:
            return NodeProvider(name, progress, port)


def _kind_or_node(name: str, progress: Progress, port: int | None, *, starting: bool) -> Provider:
    """Return kind's cluster, or the single node where that runs or kind has no node image."""
    if os.environ.get(detect.VARIABLE) == detect.Choice.KIND:
        if starting:
            kind.require_engine(progress)
        return kind.KindProvider(name, progress)
    node = NodeProvider(name, progress, port)
    if sys.platform != "linux":
        return kind.KindProvider(name, progress)
    if node.status().exists:
        return node
    if starting and (reason := kind.why_not(progress)):
        progress.note(f"kind cannot be used here: {reason}; using the single node")
        return node
    return kind.KindProvider(name, progress)
