"""What the supervisor runs: plain data, since it crosses from one process to another."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self


class State(StrEnum):
    """How a component fares."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    DIED = "died"


@dataclass(frozen=True, slots=True)
class Component:
    """One program of the cluster.

    Parameters
    ----------
    name
        Its name, which is also that of its log.
    argv
        Program and arguments.
    after
        The components that must be ready before this one can start.
    ready
        How to see that it is ready: ``tcp:HOST:PORT``, ``http://...``, ``https://...`` or
        ``unix:PATH``; empty where running is all there is to see.
    env
        What to add to the environment.
    """

    name: str
    argv: tuple[str, ...]
    after: tuple[str, ...] = ()
    ready: str = ""
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, data: Any) -> Self:
        """Return the component that :meth:`dump` made a record of."""
        return cls(
            name=data["name"],
            argv=tuple(data["argv"]),
            after=tuple(data["after"]),
            ready=data["ready"],
            env=dict(data["env"]),
        )

    def dump(self) -> dict[str, Any]:
        """Return what a JSON file can hold."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Health:
    """How one component fares, as the supervisor saw it last.

    Parameters
    ----------
    state
        See :class:`State`.
    pid
        Its process id as the supervisor sees it: in the node's namespace, where it has one.
    reason
        How it died: ``exit status 1`` or ``signal 9``.
    """

    state: State
    pid: int = 0
    reason: str = ""
