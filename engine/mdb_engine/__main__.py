"""``python -m mdb_engine``: what an administrator does for programs that run without Kubernetes."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from mdb_engine.config import EngineSettings
from mdb_engine.connection.driver import get_driver
from mdb_engine.connection.pool import Connections, ConnectionSettings
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.exceptions import MasterKeyError, MdbEngineError
from mdb_engine.key_managers import open_key_managers
from mdb_engine.registry.registry import Registry

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mdb_engine",
        description="Settings are MONGODB_URI, MONGODB_DB, MDB_DRIVER and MDB_ENGINE_MASTER_KEY.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser(
        "rewrap",
        help="wrap every app's data key with the first key of MDB_ENGINE_MASTER_KEY",
        description=(
            "Wrap every app's data key with the first key, or key manager, of "
            "MDB_ENGINE_MASTER_KEY; the others open what they wrapped. Apps run on meanwhile. It "
            "may be interrupted, and run again, at any time."
        ),
    )
    parser.parse_args(arguments)
    try:
        print(asyncio.run(_rewrap(EngineSettings.from_environment())))  # noqa: T201 - its output
    except MdbEngineError as error:
        print(f"mdb_engine: {error}", file=sys.stderr)  # noqa: T201 - its output
        return 1
    return 0


async def _rewrap(settings: EngineSettings) -> str:
    key, uri, database = settings.master_key, settings.mongo_uri, settings.db_name
    if key is None or uri is None or not database:
        raise MasterKeyError("Set MDB_ENGINE_MASTER_KEY, MONGODB_URI and MONGODB_DB")
    driver = get_driver(settings.driver)
    manager = open_key_managers(key.get_secret_value())
    connections = Connections(driver)
    try:
        await connections.open(ConnectionSettings(uri, database, {}))
        encryption = EnvelopeEncryptionService(manager)
        active = await encryption.active_key_id()
        report = await Registry(connections.database(), driver, encryption).master_key.run()
    finally:
        await connections.close()
        await manager.aclose()
    return f"{report.done} apps were re-wrapped; everything is wrapped with {active}"


if __name__ == "__main__":
    sys.exit(main())
