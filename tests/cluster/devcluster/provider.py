"""What every kind of cluster can do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """How one program of a cluster fares.

    Parameters
    ----------
    name
        The program.
    healthy
        Whether it runs and answers.
    detail
        How it fares, in words: ``ready``, or ``died: signal 9``.
    last_line
        The last line that it wrote, if it is not healthy.
    log
        Where it writes; None where there is no such file.
    pid
        Its process id on this machine; 0 where it has none.
    """

    name: str
    healthy: bool
    detail: str
    last_line: str = ""
    log: Path | None = None
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """How a cluster fares.

    Parameters
    ----------
    exists
        Whether there is a cluster, or what is left of one.
    healthy
        Whether all of it works.
    summary
        One line about it.
    components
        Its programs, where they can be seen.
    """

    exists: bool
    healthy: bool
    summary: str
    components: tuple[ComponentStatus, ...] = ()


class Provider(Protocol):
    """A kind of cluster."""

    @property
    def kind(self) -> str:
        """The kind: ``node``, ``kind`` or ``kubeconfig``."""

    def up(self, *, control_plane_only: bool = False) -> None:
        """Start the cluster unless it runs, and return when it works.

        Parameters
        ----------
        control_plane_only
            API server and controllers are enough: no pod will run.

        Raises
        ------
        DevclusterError
            If it cannot be started.
        """

    def down(self) -> bool:
        """Remove the cluster and all that belongs to it; return whether there was anything."""

    def status(self) -> Status:
        """Return how the cluster fares."""

    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig.

        Raises
        ------
        DevclusterError
            If the cluster does not run.
        """

    def tools(self) -> Path | None:
        """Return a directory with kubectl and helm, or None where those on PATH are meant."""

    def load_image(self, archive: Path) -> None:
        """Bring an image to where pods are run.

        Parameters
        ----------
        archive
            What ``docker save`` or ``buildah push docker-archive:`` wrote.
        """
