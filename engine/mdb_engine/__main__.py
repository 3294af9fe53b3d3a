"""``python -m mdb_engine``: what developers and administrators do without Kubernetes."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdb_engine.config import EngineSettings
from mdb_engine.exceptions import (
    Fault,
    ManifestInvalid,
    MasterKeyError,
    MdbEngineError,
    QueryRefused,
)
from mdb_engine.models.manifest import Manifest

if TYPE_CHECKING:
    from mdb_engine import ScopedDatabase

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        print(options.run(options))  # noqa: T201 - its output
    except MdbEngineError as error:
        print(f"mdb_engine: {error}", file=sys.stderr)  # noqa: T201 - its output
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mdb_engine",
        description="Settings are MONGODB_URI, MONGODB_DB, MDB_DRIVER and MDB_ENGINE_MASTER_KEY.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    key = commands.add_parser(
        "key",
        help="print a new master key",
        description="Print a new master key, for MDB_ENGINE_MASTER_KEY. It is kept nowhere.",
    )
    key.set_defaults(run=_key)
    check = commands.add_parser(
        "check",
        help="say what is wrong with manifests, or what they ask for",
        description="Read manifests, and say everything that is wrong with them. Needs no MongoDB.",
    )
    check.add_argument("manifest", nargs="+", type=Path)
    check.set_defaults(run=_check)
    seed = commands.add_parser(
        "seed",
        help="put documents into an app's collections",
        description=(
            "Register an app, in a pod only compare it, and put documents into its collections. A "
            "document with an _id takes the place of the one that has it; documents without are "
            "put into a collection that is empty, so that seeding twice changes nothing."
        ),
    )
    seed.add_argument("manifest", type=Path)
    seed.add_argument(
        "documents",
        type=Path,
        help='MongoDB Extended JSON: {"collection": [{...}, ...], ...}',
    )
    seed.set_defaults(run=lambda options: asyncio.run(_seed(options.manifest, options.documents)))
    rewrap = commands.add_parser(
        "rewrap",
        help="wrap every app's data key with the first key of MDB_ENGINE_MASTER_KEY",
        description=(
            "Wrap every app's data key with the first key, or key manager, of "
            "MDB_ENGINE_MASTER_KEY; the others open what they wrapped. Apps run on meanwhile. It "
            "may be interrupted, and run again, at any time."
        ),
    )
    rewrap.set_defaults(run=lambda _: asyncio.run(_rewrap(EngineSettings.from_environment())))
    return parser


def _key(_: argparse.Namespace) -> str:
    from mdb_engine.core.encryption import EnvelopeEncryptionService  # noqa: PLC0415 - not in a pod

    return EnvelopeEncryptionService.generate_master_key()


def _check(options: argparse.Namespace) -> str:
    lines, faults = [], []
    for path in options.manifest:
        try:
            lines.append(f"{path}: {_summary(Manifest.load(path))}")
        except ManifestInvalid as error:
            faults += [
                Fault(f"{path}: {one.path}" if one.path else str(path), one.message)
                for one in error.faults
            ]
    if faults:
        raise ManifestInvalid(faults)
    return "\n".join(lines)


def _summary(manifest: Manifest) -> str:
    indexes = sum(map(len, manifest.managed_indexes.values()))
    others = [slug for slug in manifest.read_scopes if slug != manifest.slug]
    reads = f"; reads {', '.join(others)}" if others else ""
    names = ", ".join(manifest.managed_indexes) or "no collections"
    return f"app {manifest.slug}: {names} ({indexes} indexes){reads}"


async def _seed(manifest: Path, source: Path) -> str:
    from mdb_engine.engine import MongoDBEngine  # noqa: PLC0415 - nothing else needs it

    loaded = Manifest.load(manifest)
    found = _documents(source)
    undeclared = sorted(set(found) - set(loaded.managed_indexes))
    if undeclared:
        raise ManifestInvalid(
            [
                Fault(f"managed_indexes.{name}", f"is missing, but {source} has it")
                for name in undeclared
            ]
        )
    done = []
    async with MongoDBEngine.from_environment(slug=loaded.slug) as engine:
        await engine.register_app(loaded.slug, loaded)
        db = engine.get_scoped_db(loaded.slug)
        for name, documents in found.items():
            done.append(await _put(db, name, documents))
    return "\n".join(done)


async def _put(db: ScopedDatabase, name: str, documents: Sequence[dict[str, Any]]) -> str:
    from pymongo.errors import PyMongoError  # noqa: PLC0415 - a check of manifests needs no driver

    named = [one for one in documents if "_id" in one]
    others = [one for one in documents if "_id" not in one]
    if others and await db[name].find_one({}):
        others = []
    try:
        for one in named:
            await db[name].replace_one({"_id": one["_id"]}, one, upsert=True)
        if others:
            await db[name].insert_many(others)
    except PyMongoError as error:
        # `from None`: the driver's text repeats what is in the document.
        kind = type(error).__name__
        raise QueryRefused(f"MongoDB refuses a document of {name} ({kind})") from None
    left_out = len(documents) - len(named) - len(others)
    note = f"; it is not empty, so {left_out} without _id were left out" if left_out else ""
    return f"{name}: {len(named) + len(others)} documents{note}"


def _documents(source: Path) -> Mapping[str, list[dict[str, Any]]]:
    from bson import json_util  # noqa: PLC0415 - a check of manifests needs no driver
    from bson.errors import BSONError  # noqa: PLC0415 - as above

    try:
        found = json_util.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestInvalid([Fault("", f"{source}: {error.strerror}")]) from None
    except (BSONError, ValueError, TypeError, RecursionError) as error:
        raise ManifestInvalid([Fault("", f"{source}: is not Extended JSON: {error}")]) from None
    if not isinstance(found, dict) or not all(
        isinstance(documents, list) and all(isinstance(one, dict) for one in documents)
        for documents in found.values()
    ):
        raise ManifestInvalid([Fault("", f"{source}: is not an object of lists of documents")])
    return found


async def _rewrap(settings: EngineSettings) -> str:
    # Nothing of this is for a pod.
    from mdb_engine.connection.driver import get_driver  # noqa: PLC0415
    from mdb_engine.connection.pool import Connections, ConnectionSettings  # noqa: PLC0415
    from mdb_engine.core.encryption import EnvelopeEncryptionService  # noqa: PLC0415
    from mdb_engine.key_managers import open_key_managers  # noqa: PLC0415
    from mdb_engine.registry.registry import Registry  # noqa: PLC0415

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
