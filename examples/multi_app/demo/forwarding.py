"""Make Services answer on this machine for as long as the demo runs.

``kubectl port-forward`` ends with the pod that it leads to, so each one runs in a loop, in a
session of its own that outlives this command. What was started is kept in a file, for `stop`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import click
import settings

from devcluster.paths import state_root

LOOP = "while :; do {command}; sleep 0.3; done"

ENDING_SECONDS = 3.0
"""An earlier forward that was told to end needs a moment to let go of its port."""


def _record() -> Path:
    return state_root() / f"{settings.CLUSTER}-forwards.json"


def start(environment: Mapping[str, str]) -> None:
    """Forward all ports, instead of those that were forwarded before.

    Raises
    ------
    click.ClickException
        If something else listens on one of the ports.
    """
    require_free_ports()
    started: list[int] = []
    for service, (port, target) in settings.FORWARDS.items():
        started.append(_forward(service, f"{port}:{target}", environment))
        # At once: whatever happens next, `stop` finds it.
        _record().write_text(json.dumps(started))


def require_free_ports() -> None:
    """End all forwards of an earlier start, and see that nothing else is in the way.

    Raises
    ------
    click.ClickException
        If something else listens on one of the ports.
    """
    stop()
    deadline = time.monotonic() + ENDING_SECONDS
    for port, _ in settings.FORWARDS.values():
        while not _is_free(port):
            if time.monotonic() > deadline:
                raise click.ClickException(
                    f"port {port} of this machine is taken; end what listens there "
                    f"(ss -ltnp 'sport = :{port}'), then run make demo again, "
                    "or choose another: DEMO_PORT=9000 make demo"
                )
            time.sleep(0.1)


def stop() -> None:
    """End all forwards of an earlier start."""
    record = _record()
    if not record.exists():
        return
    for pid in json.loads(record.read_text()):
        # The number may be somebody else's by now; the command line tells.
        with contextlib.suppress(OSError):
            if b"port-forward" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.killpg(pid, signal.SIGTERM)
    record.unlink()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _forward(service: str, ports: str, environment: Mapping[str, str]) -> int:
    command = shlex.join(
        ["kubectl", "-n", settings.SHOP, "port-forward", f"service/{service}", ports]
    )
    # Not `Popen`: nobody waits for it, as it outlives this process.
    nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    return os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", LOOP.format(command=command)],
        dict(environment),
        file_actions=nowhere,
        setsid=True,
    )
