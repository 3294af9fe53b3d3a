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
import subprocess
from collections.abc import Mapping
from pathlib import Path

import click
import settings

from devcluster.paths import state_root

LOOP = "while :; do {command}; sleep 0.3; done"


def _record() -> Path:
    return state_root() / f"{settings.CLUSTER}-forwards.json"


def start(environment: Mapping[str, str]) -> None:
    """Forward all ports, instead of those that were forwarded before.

    Raises
    ------
    click.ClickException
        If something else listens on one of the ports.
    """
    stop()
    for port in settings.FORWARDS.values():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise click.ClickException(
                    f"port {port} of this machine is taken; end what listens there (ss -ltnp), "
                    "then run make demo again"
                ) from None
    started = [_forward(service, port, environment) for service, port in settings.FORWARDS.items()]
    _record().write_text(json.dumps(started))


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


def _forward(service: str, port: int, environment: Mapping[str, str]) -> int:
    command = shlex.join(
        ["kubectl", "-n", settings.SHOP, "port-forward", f"service/{service}", f"{port}:{port}"]
    )
    process = subprocess.Popen(
        ["sh", "-c", LOOP.format(command=command)],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return process.pid
