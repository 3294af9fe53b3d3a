"""A whole operator process with a controller that only says that it works.

Run as a script: settings come from the environment, as for the operator itself.
"""

from __future__ import annotations

import asyncio
import sys
import time

from mdb_operator.config import load_config
from mdb_operator.logging import configure_logging
from mdb_operator.process.context import READY_CONTROLLER
from mdb_operator.process.factory import Factory
from mdb_operator.process.runner import run


async def controller(factory: Factory, stop: asyncio.Event) -> None:
    """Say that it works, block the loop if asked to, and wait for the end."""
    factory.context.readiness.hold(READY_CONTROLLER)
    print("controller works", flush=True)  # noqa: T201 - the test reads it
    if "block" in sys.argv:
        time.sleep(600)  # noqa: ASYNC251 - what is to be noticed
    await stop.wait()
    print("controller stopped", flush=True)  # noqa: T201


if __name__ == "__main__":
    configure_logging("info")
    asyncio.run(run(load_config(), controller))
