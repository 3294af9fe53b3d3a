"""Scoped databases of a few apps over a real MongoDB, with grants that a test holds in its hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Unpack

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from mdb_engine.access.granted import GrantedAccess, NameIndex
from mdb_engine.access.model import Access, Grant
from mdb_engine.connection.driver import Driver, DriverName, get_driver
from mdb_engine.connection.pool import Connection
from mdb_engine.exceptions import InvalidToken, MdbEngineError
from mdb_engine.scoped import DEFAULT_LIMITS, Limits, ScopedDatabase, Transaction
from mdb_engine.scoped.concerns import TransactionOptions
from support.mongo import Database


@dataclass(frozen=True, slots=True)
class Event:
    """One call of `Gate.record`."""

    slug: str
    operation: str
    collection: str
    owner: str
    denied: str | None


class Commands(CommandListener):
    """Every command that a client sends but those of the connection itself."""

    def __init__(self) -> None:
        self.started_events: list[CommandStartedEvent] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.started_events.append(event)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass

    @property
    def names(self) -> list[str]:
        return [event.command_name for event in self.started_events]

    @property
    def last(self) -> dict[str, Any]:
        return dict(self.started_events[-1].command)

    def clear(self) -> None:
        self.started_events.clear()


class MemoryGate:
    """A gate over the world's grants; the token is right until the test says otherwise."""

    notes_all = True

    def __init__(self, world: World, slug: str, *, read_only: bool) -> None:
        self._world = world
        self._slug = slug
        self._read_only = read_only

    def admit(self) -> Access:
        self._world.admissions += 1
        if self._slug in self._world.revoked:
            raise InvalidToken(f"the secret presented for app {self._slug!r} is not its own")
        index = NameIndex(self._world.grants)
        return GrantedAccess(self._slug, index, read_only=self._read_only)

    def record(self, operation: str, collection: str, owner: str, denied: Exception | None) -> None:
        code = denied.code if isinstance(denied, MdbEngineError) else None
        assert denied is None or code is not None
        self._world.events.append(Event(self._slug, operation, collection, owner, code))


@dataclass
class World:
    """Apps, their grants and one connection."""

    driver: Driver
    mongo: Database
    client: Any
    commands: Commands
    connection: Connection
    grants: dict[str, Grant] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    admissions: int = 0

    @property
    def raw(self) -> Any:
        """The same database through another client, past the code under test."""
        return self.mongo.client[self.mongo.name]

    def current(self) -> Connection:
        return self.connection

    def add(
        self,
        slug: str,
        collections: Iterable[str],
        reads: Iterable[str] = (),
        stamped: Iterable[str] = (),
    ) -> None:
        self.grants[slug] = Grant(
            slug=slug,
            verifiers=(),
            read_scopes=frozenset({slug, *reads}),
            write_scope=slug,
            collections=frozenset(collections),
            epoch=1,
            stamped=frozenset(stamped),
        )

    def let_read(self, reader: str, *owners: str) -> None:
        self.add(reader, self.grants[reader].collections, owners)

    def db(
        self, slug: str, *, read_only: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> ScopedDatabase:
        gate = MemoryGate(self, slug, read_only=read_only)
        return ScopedDatabase(gate, self.current, self.driver, limits)

    def transaction(self, **options: Unpack[TransactionOptions]) -> Transaction:
        return Transaction(self.driver, self.current, **options)

    def denials(self) -> list[Event]:
        return [event for event in self.events if event.denied is not None]


def connected_world(name: DriverName, mongo: Database, **options: Any) -> World:
    """Make a world of three apps: ``shop`` may read ``stock``, and nobody may read ``hr``."""
    driver, commands = get_driver(name), Commands()
    given = {"uuidRepresentation": "standard", **options}
    client = driver.connect(mongo.uri, event_listeners=[commands], **given)
    connection = Connection(client, client[mongo.name])
    world = World(
        driver=driver, mongo=mongo, client=client, commands=commands, connection=connection
    )
    world.add("shop", {"orders", "clicks", "copies"}, {"stock"})
    world.add("stock", {"items"})
    world.add("hr", {"people"})
    return world
