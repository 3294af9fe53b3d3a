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
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from weakref import WeakSet

from pydantic import SecretStr
from pymongo.errors import OperationFailure, PyMongoError

from mdb_engine.connection.driver import Driver, RawDatabase
from mdb_engine.core.tasks import end, finish
from mdb_engine.exceptions import DatabaseUnavailable, NotInitialized

__all__ = ["Connection", "ConnectionSettings", "Connections"]

Result = TypeVar("Result")

GRACE_SECONDS: Final = 1.0
"""An old connection stays at least this long: whoever asked for it may not have sent yet."""

RETIREMENT_SECONDS: Final = 300.0
"""After this an old connection is closed whatever is under way on it: half of the usual overlap."""

IDLE_POLL_SECONDS: Final = 0.5
"""How often it is looked whether an old connection has become idle."""

SWEEP_SECONDS: Final = 1.0
"""How often it is looked which operations have run out of time, so how much longer one may take."""

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

_logger = logging.getLogger("mdb_engine.connection.pool")


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


class Connection:
    """One client, and what is under way on it.

    Whoever uses it says so: an operation adds itself to `operations` for as long as it lasts, and
    what lives longer (a cursor, a change stream) is among the `holders` until it has ended, or is
    collected.

    Parameters
    ----------
    client
        The driver's client.
    database
        Its database.
    """

    __slots__ = ("_expired", "_sweep", "_watched", "client", "database", "holders", "operations")

    def __init__(self, client: Any, database: RawDatabase) -> None:
        self.client = client
        self.database = database
        self.operations = 0
        self.holders: WeakSet[Any] = WeakSet()
        self._watched: dict[asyncio.Task[Any], float] = {}  # and when its time runs out
        self._expired: dict[asyncio.Task[Any], int] = {}  # and how often it was cancelled before
        self._sweep: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        operations = self.operations + len(self._watched)
        return f"Connection({operations} operations, {len(self.holders)} holders)"

    @property
    def idle(self) -> bool:
        """Whether nothing is under way on it."""
        return not self.operations and not self._watched and not self.holders

    @contextmanager
    def lease(self) -> Iterator[RawDatabase]:
        """Use the database for the length of a ``with`` block, in which it is not closed."""
        self.operations += 1
        try:
            yield self.database
        finally:
            self.operations -= 1

    def watch(self, deadline: float) -> asyncio.Task[Any]:
        """Begin an operation; return its task, which is cancelled when the time has run out.

        One timer looks at all of them, within ``SWEEP_SECONDS``, as one for each would cost more
        than the check of a token. A task awaits one operation at a time.

        Parameters
        ----------
        deadline
            When the time has run out, by `time.monotonic`.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an operation is awaited in a task")
        self._watched[task] = deadline
        if self._sweep is None:
            self._sweep = task.get_loop().call_later(SWEEP_SECONDS, self._look, task.get_loop())
        return task

    def unwatch(self, task: asyncio.Task[Any]) -> None:
        """End an operation."""
        self._watched.pop(task, None)
        self._expired.pop(task, None)

    def expired(self, task: asyncio.Task[Any], error: BaseException) -> bool:
        """Say whether an operation, which ended with an error, was cancelled for its time alone."""
        before = self._expired.get(task)
        if before is None or not isinstance(error, asyncio.CancelledError):
            return False
        return task.uncancel() <= before

    async def answered(
        self, call: Callable[[], Awaitable[Result]], deadline: float, late: Callable[[], Exception]
    ) -> Result:
        """Await what the server limits in time, and not for ever where its answer gets lost.

        The driver's monitor has a connection of its own, and sees nothing of one that hangs alone.

        Parameters
        ----------
        call
            Makes the call to the driver.
        deadline
            When the answer is late, by `time.monotonic`.
        late
            Makes what is raised then.
        """
        task = self.watch(deadline)
        try:
            return await call()
        except BaseException as error:
            if self.expired(task, error):
                raise late() from None
            raise
        finally:
            self.unwatch(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        for task, deadline in self._watched.items():
            if deadline <= now and task not in self._expired:
                self._expired[task] = task.cancelling()
                task.cancel()
        self._sweep = None
        if self._watched:
            self._sweep = loop.call_later(SWEEP_SECONDS, self._look, loop)


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
        self._current: Connection | None = None
        self._retired: dict[asyncio.Task[None], Connection] = {}

    @property
    def driver(self) -> Driver:
        """The driver that all connections are of."""
        return self._driver

    @property
    def retiring(self) -> int:
        """How many old connections are still open."""
        return len(self._retired)

    def current(self) -> Connection:
        """Return the connection that is current.

        Raises
        ------
        NotInitialized
            If there is none.
        """
        if self._current is None:
            raise NotInitialized(
                "the engine is not connected; use it between initialize() and shutdown()"
            )
        return self._current

    def database(self) -> RawDatabase:
        """Return the database on the connection that is current.

        Raises
        ------
        NotInitialized
            If there is none.
        """
        return self.current().database

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

    def _connect(self, settings: ConnectionSettings) -> Connection:
        options = {**_defaults(settings), **settings.options}
        try:
            client = self._driver.connect(settings.uri.get_secret_value(), **options)
        except (PyMongoError, ValueError, TypeError, OSError) as error:
            # `from None`: a driver's complaint about a URI may repeat parts of it.
            raise DatabaseUnavailable(
                "the MongoDB URI, its options or the certificates cannot be used "
                f"({type(error).__name__}); a user name or password in the URI must be "
                "percent-encoded"
            ) from None
        return Connection(client, client[settings.database])

    async def _retire(self, connection: Connection) -> None:
        """Close an old connection once it is idle."""
        deadline = time.monotonic() + self._retirement
        try:
            await asyncio.sleep(self._grace)
            # Polled, as a cursor that is collected tells nobody.
            while not connection.idle and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(min(self._grace, IDLE_POLL_SECONDS))
            if not connection.idle:
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
