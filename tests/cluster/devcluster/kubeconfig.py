"""A cluster that somebody else runs: the current context of the user's kubeconfig."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.provider import Status

_ASK_TIMEOUT = "--request-timeout=5s"


class KubeconfigProvider:
    """Uses a cluster and leaves its life to its owner."""

    @property
    def kind(self) -> str:
        """The kind."""
        return "kubeconfig"

    def up(self, *, control_plane_only: bool = False) -> None:  # noqa: ARG002 - it is what it is
        """Check that the cluster answers."""
        status = self.status()
        if not status.healthy:
            raise DevclusterError(
                status.summary, "Check `kubectl config current-context`, or unset DEVCLUSTER."
            )

    def down(self) -> bool:
        """Do nothing: the cluster was not started here."""
        return False

    def status(self) -> Status:
        """Return whether the cluster answers."""
        kubeconfig = self.kubeconfig()
        kubectl = shutil.which("kubectl")
        if kubectl is None:
            raise DevclusterError("There is no kubectl on PATH", "Install kubectl.")
        asked = subprocess.run(
            [kubectl, "--kubeconfig", kubeconfig, "get", "--raw", "/readyz", _ASK_TIMEOUT],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0:
            return Status(exists=True, healthy=True, summary=f"The cluster of {kubeconfig} answers")
        lines = asked.stderr.strip().splitlines() or ["kubectl said nothing"]
        return Status(
            exists=True,
            healthy=False,
            summary=f"The cluster of {kubeconfig} does not answer: {lines[-1]}",
        )

    def kubeconfig(self) -> Path:
        """Return the user's kubeconfig."""
        named = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
        path = Path(named) if named else Path.home() / ".kube" / "config"
        if not path.is_file():
            raise DevclusterError(
                f"DEVCLUSTER=kubeconfig, but there is no kubeconfig at {path}",
                "Set KUBECONFIG to one, or unset DEVCLUSTER.",
            )
        return path

    def tools(self) -> Path | None:
        """Return None: kubectl and helm on PATH are meant."""
        return None

    def load_image(self, archive: Path) -> None:
        """Refuse: how images get there only the cluster's owner knows."""
        raise DevclusterError(
            f"{archive.name} cannot be loaded into a cluster of somebody else's",
            "Push it to a registry that the cluster pulls from.",
        )
