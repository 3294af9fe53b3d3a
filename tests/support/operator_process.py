"""A whole operator process with a controller that only says that it works.

Run as a script: settings come from the environment, as for the operator itself.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any

from mdb_operator.config import load_config
from mdb_operator.handlers import operator
from mdb_operator.logging import configure_logging
from mdb_operator.process.context import READY_CONTROLLER
from mdb_operator.process.factory import Factory


class Controller:
    """Says that it works, blocks the loop if asked to, and waits for the end."""

    def __init__(self, factory: Factory) -> None:
        self._readiness = factory.context.readiness
        self.started = asyncio.Event()

    async def wait_for_database(self, _stop: asyncio.Event) -> None:
        """Wait for nothing."""

    def see(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """Ignore it."""

    async def run(self) -> None:
        """Work until cancelled."""
        self._readiness.hold(READY_CONTROLLER)
        self.started.set()
        print("controller works", flush=True)  # noqa: T201 - the test reads it
        if "block" in sys.argv:
            time.sleep(600)  # noqa: ASYNC251 - what is to be noticed
        try:
            await asyncio.Event().wait()
        finally:
            print("controller stopped", flush=True)  # noqa: T201


if __name__ == "__main__":
    configure_logging("info")
    vars(operator)["Controller"] = Controller
    asyncio.run(operator.run(load_config()))
