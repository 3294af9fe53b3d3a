"""Hold the connection to MongoDB, and swap it for another while operations are under way.

Credentials rotate without a restart. The new connection is opened and tried first; from then on
every operation that begins uses it, while those that are under way end on the old one. It is closed
when nothing is under way on it any more: no command, no cursor that has more to give, no
transaction.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import SecretStr
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from mdb_engine.connection.driver import Driver, RawDatabase
from mdb_engine.core.tasks import end, finish
from mdb_engine.exceptions import DatabaseUnavailable, NotInitialized

__all__ = ["ConnectionSettings", "Connections"]

GRACE_SECONDS: Final = 1.0
"""An old connection stays at least this long: whoever asked for it may not have sent yet."""

RETIREMENT_SECONDS: Final = 300.0
"""After this an old connection is closed whatever is under way on it: half of the usual overlap."""

IDLE_POLL_SECONDS: Final = 0.5
"""How often it is looked whether an old connection has become idle."""

PING_SECONDS: Final = 10.0
"""How long a new connection is tried for."""

CLIENT_OPTIONS: Final[Mapping[str, Any]] = {
    "appname": "mdb-engine",
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 5_000,
    "tz_aware": True,
    "uuidRepresentation": "standard",
}
"""Fail while a client still waits for the answer; dates say that they are UTC, so JSON does too."""

_logger = logging.getLogger("mdb_engine.connection")


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Where to connect, and as whom.  Its repr hides the URI.

    Parameters
    ----------
    uri
        Of the MongoDB deployment, with user and password where there are any.
    database
        Name of the database.
    options
        Arguments of the driver's client, over those of the URI.
    """

    uri: SecretStr
    database: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Activity(CommandListener):
    """Counts what is under way on one client.

    The drivers call it on the loop or on threads of their own, so it takes a lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._commands: dict[int, int | None] = {}  # by request; of a getMore, its cursor
        self._cursors: set[int] = set()
        self._transactions: set[bytes] = set()

    @property
    def idle(self) -> bool:
        """Whether no command, cursor or transaction is under way."""
        with self._lock:
            return not (self._commands or self._cursors or self._transactions)

    def started(self, event: CommandStartedEvent) -> None:
        """Note a command, and the transaction that it begins or ends."""
        command = event.command
        with self._lock:
            self._commands[event.request_id] = command.get("getMore")
            if command.get("startTransaction"):
                self._transactions.add(bytes(command["lsid"]["id"]))
            elif event.command_name in {"commitTransaction", "abortTransaction"}:
                self._transactions.discard(bytes(command["lsid"]["id"]))
            elif event.command_name == "killCursors":
                self._cursors.difference_update(command["cursors"])

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Forget a command; note the cursor that it leaves open, or forget that it ended."""
        cursor = event.reply.get("cursor")
        left = cursor.get("id") if isinstance(cursor, Mapping) else None
        with self._lock:
            read = self._commands.pop(event.request_id, None)
            if left:
                self._cursors.add(left)
            elif read is not None:
                self._cursors.discard(read)

    def failed(self, event: CommandFailedEvent) -> None:
        """Forget a command, and the cursor that it failed to read."""
        with self._lock:
            read = self._commands.pop(event.request_id, None)
            if read is not None:
                self._cursors.discard(read)


@dataclass(frozen=True, slots=True)
class _Connection:
    client: Any = field(repr=False)
    database: RawDatabase = field(repr=False)
    activity: Activity = field(repr=False)


class Connections:
    """The connection that is current, and the old ones that are not idle yet.

    Parameters
    ----------
    driver
        What connects.
    grace, retirement
        See ``GRACE_SECONDS`` and ``RETIREMENT_SECONDS``.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        grace: float = GRACE_SECONDS,
        retirement: float = RETIREMENT_SECONDS,
    ) -> None:
        self._driver = driver
        self._grace = grace
        self._retirement = retirement
        self._current: _Connection | None = None
        self._retired: dict[asyncio.Task[None], _Connection] = {}

    @property
    def driver(self) -> Driver:
        """The driver that all connections are of."""
        return self._driver

    @property
    def retiring(self) -> int:
        """How many old connections are still open."""
        return len(self._retired)

    def database(self) -> RawDatabase:
        """Return the database on the connection that is current.

        Raises
        ------
        NotInitialized
            If there is none.
        """
        if self._current is None:
            raise NotInitialized(
                "the engine is not connected; use it between initialize() and shutdown()"
            )
        return self._current.database

    async def open(
        self,
        settings: ConnectionSettings,
        verify: Callable[[RawDatabase], Awaitable[None]] | None = None,
    ) -> None:
        """Open a connection, try it, and only then let it take the place of the current one.

        Parameters
        ----------
        settings
            Where to connect.
        verify
            Tries more than that MongoDB answers and accepts the user.

        Raises
        ------
        DatabaseUnavailable
            If MongoDB cannot be reached or refuses the user; the current connection stays.
        Exception
            Whatever ``verify`` raises; the current connection stays.
        """
        connection = self._connect(settings)
        try:
            await _ping(connection.database)
            self._driver.bound_selection(connection.client)  # what the ping resolved, it may be
            if verify is not None:
                await verify(connection.database)
        except BaseException:
            await finish(self._driver.close(connection.client))
            raise
        old, self._current = self._current, connection
        if old is not None:
            task = asyncio.create_task(self._retire(old), name="mdb-engine old connection")
            self._retired[task] = old
            task.add_done_callback(lambda done: self._retired.pop(done, None))

    async def close(self) -> None:
        """Close all connections, whatever is under way."""
        current, self._current = self._current, None
        try:
            await finish(end(*self._retired))
        finally:
            if current is not None:
                await finish(self._driver.close(current.client))

    def _connect(self, settings: ConnectionSettings) -> _Connection:
        activity = Activity()
        options = {**_defaults(settings), **settings.options}
        options["event_listeners"] = [*options.get("event_listeners", ()), activity]
        try:
            client = self._driver.connect(settings.uri.get_secret_value(), **options)
        except (PyMongoError, ValueError, TypeError, OSError) as error:
            # `from None`: a driver's complaint about a URI may repeat parts of it.
            raise DatabaseUnavailable(
                "the MongoDB URI, its options or the certificates cannot be used "
                f"({type(error).__name__}); a user name or password in the URI must be "
                "percent-encoded"
            ) from None
        return _Connection(client, client[settings.database], activity)

    async def _retire(self, connection: _Connection) -> None:
        """Close an old connection once it is idle."""
        deadline = time.monotonic() + self._retirement
        try:
            await asyncio.sleep(self._grace)
            # Polled, because the drivers tell of commands on threads of their own.
            while not connection.activity.idle and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(min(self._grace, IDLE_POLL_SECONDS))
            if not connection.activity.idle:
                _logger.warning(
                    "an old connection is closed while it is busy, after %g s", self._retirement
                )
        finally:
            await finish(self._driver.close(connection.client))


def _defaults(settings: ConnectionSettings) -> dict[str, Any]:
    """Return the library's defaults for what neither the URI nor an argument says.

    The names of options are not case-sensitive, in either place.
    """
    query = settings.uri.get_secret_value().partition("?")[2]
    said = {part.partition("=")[0].lower() for part in re.split("[&;]", query)}
    said.update(map(str.lower, settings.options))
    return {name: value for name, value in CLIENT_OPTIONS.items() if name.lower() not in said}


async def _ping(database: RawDatabase) -> None:
    try:
        async with asyncio.timeout(PING_SECONDS):
            await database.client.admin.command("ping")
    except OperationFailure as error:
        raise DatabaseUnavailable(
            f"MongoDB refuses the connection (code {error.code}); check user, password and "
            "authSource of the URI"
        ) from None
    except (PyMongoError, TimeoutError) as error:
        raise DatabaseUnavailable(
            f"MongoDB cannot be reached ({type(error).__name__}); check that it runs and that its "
            "address can be resolved from here"
        ) from None
