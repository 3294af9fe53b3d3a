"""Whether a Docker engine answers; a ``docker`` program on PATH may be a client without one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from devcluster.commands import Run, run
from devcluster.errors import DevclusterError

_DEADLINE_SECONDS = 15.0
"""An engine answers in milliseconds; one behind a dead socket or host never."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What was found.

    Parameters
    ----------
    running
        Whether an engine answered.
    reason
        Why none did, as a person is told it; empty where one did.
    """

    running: bool
    reason: str = ""


def docker_engine(run: Run = run) -> Engine:
    """Ask the engine, not for the program."""
    if shutil.which("docker") is None:
        return Engine(running=False, reason="there is no docker program on PATH")
    try:
        version = run(
            ["docker", "info", "--format", "{{.ServerVersion}}"],
            what="docker info",
            timeout=_DEADLINE_SECONDS,
        )
    except DevclusterError as error:
        return Engine(running=False, reason=str(error).splitlines()[-1])
    if not version.strip():  # some clients succeed and print an empty version
        return Engine(running=False, reason="docker is a client without an engine")
    return Engine(running=True)
