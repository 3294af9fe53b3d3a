"""Which kind of cluster a machine gets."""

from __future__ import annotations

from devcluster import detect
from devcluster.kubeconfig import KubeconfigProvider
from devcluster.node.provider import NodeProvider
from devcluster.progress import Progress
from devcluster.provider import ComponentStatus, Provider, Status

__all__ = ["ComponentStatus", "Provider", "Status", "select"]


def select(name: str, progress: Progress | None = None, *, port: int | None = None) -> Provider:
    """Return the provider for this machine and environment.

    Parameters
    ----------
    name
        The cluster's name.
    progress
        Where to show what is being done; standard error by default.
    port
        The API server's port of a single node without its node; None for a free one.

    Raises
    ------
    DevclusterError
        If the environment asks for a kind that there is not, or the machine allows none.
    """
    progress = progress or Progress()
    match detect.choose():
        case detect.Choice.KUBECONFIG:
            return KubeconfigProvider()
        case detect.Choice.KIND:
            from devcluster.kind import KindProvider  # noqa: PLC0415

            return KindProvider(name, progress)
        case detect.Choice.NODE:
            return NodeProvider(name, progress, port)
