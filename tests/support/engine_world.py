"""Engines on a real MongoDB: on their own, and as pods that an operator gives a binding to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from mdb_engine import MongoDBEngine
from mdb_engine.config import EngineSettings
from mdb_engine.connection.driver import DriverName, get_driver
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.secret import RevealedSecrets
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.database_users import DatabaseUserService
from mdb_engine.registry.models.app import AppRecord, Owner
from mdb_engine.registry.registry import Registry
from mdb_engine.scoped.limits import DEFAULT_LIMITS, Limits
from support import leakscan
from support.binding import MountedSecret
from support.mongo import Database

__all__ = ["OperatorHand", "manifest", "standalone_engine"]

MASTER_KEY = EnvelopeEncryptionService.generate_master_key()


def manifest(slug: str, *collections: str, reads: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a manifest as an app's image holds it."""
    return {
        "schema_version": "2.0",
        "slug": slug,
        "name": slug,
        "data_access": {"read_scopes": [slug, *reads], "write_scope": slug},
        "managed_indexes": {name: [] for name in collections},
    }


def standalone_engine(mongo: Database, driver: DriverName, **settings: Any) -> MongoDBEngine:
    """Return an engine as a process makes it that holds the master key."""
    leakscan.register(MASTER_KEY, "the master key")
    made = EngineSettings(master_key=SecretStr(MASTER_KEY), **settings)
    return MongoDBEngine(mongo.uri, mongo.name, driver=driver, settings=made)


@dataclass
class OperatorHand:
    """Does to MongoDB and to the mounted Secret what the operator and kubelet do.

    Parameters
    ----------
    mongo
        A database of a server that demands a login.
    driver_name
        The driver that it works with.
    root
        Below which Secrets are mounted.
    apps_host
        Where apps reach MongoDB, if not where the operator does: a proxy's host and port.
    """

    mongo: Database
    driver_name: DriverName
    root: Path
    apps_host: str = ""
    apps: dict[str, AppRecord] = field(default_factory=dict)
    mounted: dict[str, MountedSecret] = field(default_factory=dict)

    def __post_init__(self) -> None:
        driver = get_driver(self.driver_name)
        self._driver = driver
        self._client = driver.connect(self.mongo.uri)
        database = self._client[self.mongo.name]
        encryption = EnvelopeEncryptionService(EnvelopeEncryptionService.generate_master_key())
        self.registry = Registry(database, driver, encryption)
        self.users = DatabaseUserService(database)

    async def close(self) -> None:
        await self._driver.close(self._client)

    async def register(
        self, slug: str, *collections: str, reads: tuple[str, ...] = (), **access: Any
    ) -> None:
        """Register an app, make its database user, and mount its Secret."""
        await self.registry.prepare()
        spec = MdbAppSpec.parse(
            {
                "slug": slug,
                "collections": [{"name": name} for name in collections],
                "dataAccess": {"readScopes": [slug, *reads], **access},
            }
        )
        owner = Owner("shop", slug, f"uid-{slug}")
        done = await self.registry.register(spec, owner)
        self.apps[slug] = done.record
        await self._users()
        await self.mount(slug)

    async def rotate(self, slug: str) -> int:
        """Rotate, make the next database user, and only then replace the mounted Secret."""
        before = await self.registry.secrets.reveal(slug)
        outcome = await self.registry.rotate(
            slug, expected_version=before.version, overlap_seconds=600
        )
        await self._users()
        await self.mount(slug)
        return outcome.version

    async def end_overlap(self, slug: str) -> None:
        """End all earlier versions: verifiers, then database users."""
        await self.registry.revoke_previous(slug)
        await self._users()

    async def mount(self, slug: str, **changes: str) -> None:
        """Put the newest values into the mounted Secret."""
        revealed = await self.registry.secrets.reveal(slug)
        entries = {**self.entries(revealed), **changes}
        if slug in self.mounted:
            self.mounted[slug].project(entries)
        else:
            self.mounted[slug] = MountedSecret(self.root / slug, entries)

    def entries(self, revealed: RevealedSecrets) -> Mapping[str, str]:
        """Return what the operator projects."""
        slug, current, previous = revealed.slug, revealed.current, revealed.previous
        password = current.database_password.get_secret_value()
        for version in (current, *revealed.earlier):
            leakscan.register(version.token.get_secret_value(), "an app's secret")
            leakscan.register(version.session_key.get_secret_value(), "a session key")
            leakscan.register(version.database_password.get_secret_value(), "a password")
        host = self.mongo.uri.split("@")[-1].split("//")[-1].split("/")[0]
        options = "".join(f"&{one}" for one in ("replicaSet=rs0",) if one in self.mongo.uri)
        if self.apps_host:
            host, options = self.apps_host, "&directConnection=true"
        return {
            "type": "mongodb",
            "provider": "mdb-operator",
            "uri": (
                f"mongodb://{slug}.v{current.version}:{quote(password, safe='')}@{host}/"
                f"?authSource={self.mongo.name}&authMechanism=SCRAM-SHA-256{options}"
            ),
            "host": host,
            "database": self.mongo.name,
            "username": f"{slug}.v{current.version}",
            "password": password,
            "app-slug": slug,
            "app-secret": current.token.get_secret_value(),
            "app-secret-previous": previous.token.get_secret_value() if previous else "",
            "session-key": current.session_key.get_secret_value(),
            "session-key-previous": previous.session_key.get_secret_value() if previous else "",
            "secret-version": str(current.version),
        }

    def pod(self, slug: str, limits: Limits = DEFAULT_LIMITS, **settings: Any) -> MongoDBEngine:
        """Return an engine as a pod makes it that mounts this app's Secret."""
        made = EngineSettings(
            binding_root=self.root, **{"binding_poll": 0.05, "grant_ttl": 0.5, **settings}
        )
        return MongoDBEngine(
            "mongodb://ignored.invalid",
            "ignored",
            slug=slug,
            driver=self.driver_name,
            limits=limits,
            settings=made,
        )

    async def _users(self) -> None:
        for slug, app in self.apps.items():
            outcome = await self.registry.publish(slug)
            revealed = await self.registry.secrets.reveal(slug)
            await self.users.ensure(app, outcome, revealed)
