"""A registry on a real MongoDB, the writes that it makes counted and, on demand, made to fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from mdb_engine.connection.driver import DriverName, get_driver
from mdb_engine.constants import (
    APPS_COLLECTION,
    ENGINE_COLLECTIONS,
    GRANTS_COLLECTION,
    SECRETS_COLLECTION,
)
from mdb_engine.core.clock import Clock, utcnow
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.keyring import Keyring
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.models.app import Owner
from mdb_engine.registry.registry import Registry
from support.mongo import Database

__all__ = ["KEYS", "Registries", "Writes", "owner", "spec"]

KEYS = Keyring({"k1": bytes(32), "k2": bytes([1]) * 32}, active="k1")

WRITE_COMMANDS = (
    "insert",
    "update",
    "delete",
    "findAndModify",
    "create",
    "createIndexes",
    "dropIndexes",
    "drop",
    "collMod",
)


def spec(slug: str, *collections: str, **access: Any) -> MdbAppSpec:
    """Return a spec with these collections and these settings of ``dataAccess``."""
    return MdbAppSpec.parse(
        {
            "slug": slug,
            "dataAccess": access,
            "collections": [{"name": name} for name in collections],
        }
    )


def owner(name: str, namespace: str = "shop", uid: str = "1") -> Owner:
    return Owner(namespace, name, f"{namespace}/{name}/{uid}")


class Writes(CommandListener):
    """Counts the commands of a client that change something."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in WRITE_COMMANDS:
            self.seen.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Do nothing: what was sent was counted."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Do nothing: what was sent was counted."""


@dataclass(frozen=True, slots=True)
class Registries:
    """Makes registries, each with a client of its own, as separate processes would have."""

    database: Database
    driver_name: DriverName
    clients: list[Any]
    writes: Writes

    def connect(self, keys: Keyring = KEYS, *, clock: Clock = utcnow, **options: Any) -> Registry:
        driver = get_driver(self.driver_name)
        client = driver.connect(
            self.database.uri,
            appname=self.database.name,
            event_listeners=[self.writes],
            **options,
        )
        self.clients.append(client)
        encryption = EnvelopeEncryptionService(keys)
        return Registry(client[self.database.name], driver, encryption, clock)

    async def close(self) -> None:
        """Close all clients; drop the collections, which is faster one by one than as a database.

        MongoDB waits a tenth of a second in a ``dropDatabase`` that has something to drop.
        """
        database = self.database.client[self.database.name]
        for name in database.list_collection_names():
            if not name.startswith("system."):  # which goes with the time series
                database.drop_collection(name)
        driver = get_driver(self.driver_name)
        await asyncio.gather(*(driver.close(client) for client in self.clients))

    def documents(self, collection: str) -> list[dict[str, Any]]:
        """Return the raw documents, as a stranger's client sees them."""
        return list(self.database.client[self.database.name][collection].find().sort("_id"))

    def traces(self, slug: str) -> int:
        """Count the documents that an app has in the engine's collections."""
        return sum(
            document["slug"] == slug
            for collection in (APPS_COLLECTION, SECRETS_COLLECTION, GRANTS_COLLECTION)
            for document in self.documents(collection)
        )

    def grant(self, slug: str) -> Mapping[str, Any]:
        (found,) = [d for d in self.documents(GRANTS_COLLECTION) if d["slug"] == slug]
        return found

    def versions_accepted(self, slug: str) -> list[int]:
        return [verifier["version"] for verifier in self.grant(slug)["verifiers"]]

    def insert(self, physical: str, *documents: dict[str, Any]) -> None:
        """Insert documents whatever a validator says, as an administrator can."""
        collection = self.database.client[self.database.name][physical]
        collection.insert_many(list(documents), bypass_document_validation=True)

    def collections(self) -> set[str]:
        """Return the names of the apps' collections."""
        names = self.database.client[self.database.name].list_collection_names()
        return set(names) - ENGINE_COLLECTIONS

    def failing_after(self, writes: int) -> contextlib.AbstractContextManager[None]:
        """Let MongoDB refuse every write of our clients but the first few, as if we had died."""
        return self._failing(
            {"skip": writes}, {"failCommands": list(WRITE_COMMANDS), "errorCode": 8}
        )

    def slow_index_builds(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Let MongoDB take so long for every index that our clients ask for."""
        data = {"failCommands": ["createIndexes"], "blockConnection": True}
        return self._failing("alwaysOn", {**data, "blockTimeMS": int(seconds * 1000)})

    def hanging_up(self) -> contextlib.AbstractContextManager[None]:
        """Let MongoDB close the connection instead of answering our clients."""
        commands = [*WRITE_COMMANDS, "find", "listCollections"]
        return self._failing("alwaysOn", {"failCommands": commands, "closeConnection": True})

    @contextlib.contextmanager
    def _failing(self, mode: Any, data: dict[str, Any]) -> Iterator[None]:
        point = {"configureFailPoint": "failCommand"}
        data = {**data, "appName": self.database.name}
        self.database.client.admin.command({**point, "mode": mode, "data": data})
        try:
            yield
        finally:
            self.database.client.admin.command({**point, "mode": "off"})
