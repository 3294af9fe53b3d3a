"""An app as a plain process, as ``uvicorn`` runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from devcluster.node.addresses import free_port
from support.waiting import wait_until


@contextmanager
def running(
    app: str, directory: Path, environment: Mapping[str, str], log: Path, *options: str
) -> Iterator[httpx.Client]:
    """Run an app until it is ready, and give a client of it; at the end it must end well.

    Parameters
    ----------
    app
        The module and its app, as uvicorn takes them.
    directory
        Where it is run.
    environment
        All that it is told.
    log
        Where it writes to.
    options
        Further options of uvicorn.
    """
    port = free_port()
    uvicorn = str(Path(sys.executable).with_name("uvicorn"))
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [uvicorn, app, "--port", str(port), *options],
            cwd=directory,
            env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        try:
            wait_until(
                lambda: client.get("/ready").is_success,
                deadline=30,
                message=lambda: f"{app} is ready; its log:\n{log.read_text()}",
                ignoring=httpx.TransportError,
            )
            yield client
        finally:
            process.terminate()
    assert process.returncode in {0, -signal.SIGTERM}, log.read_text()
    assert environment["MDB_ENGINE_MASTER_KEY"] not in log.read_text()
