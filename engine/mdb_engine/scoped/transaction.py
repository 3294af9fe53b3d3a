"""Transactions: several operations that happen together or not at all.

A transaction holds on to the connection that it began on, because credentials may rotate under it
and a session belongs to one client. Its operations are admitted one by one like any other; before
it commits, every app that took part is admitted once more, so that nothing is committed for an app
that was revoked in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import pymongo
from pymongo.errors import PyMongoError

from mdb_engine.access.model import Gate
from mdb_engine.connection.driver import Driver, RawSession
from mdb_engine.connection.pool import Connection
from mdb_engine.exceptions import DatabaseUnavailable, OptionRefused, QueryRefused
from mdb_engine.scoped.errors import translating

__all__ = ["Transaction", "join"]

Result = TypeVar("Result")

RUN_ATTEMPTS = 5
"""How often `Transaction.run` tries before it lets a transient conflict through to its caller."""

COMMIT_ATTEMPTS = 3
"""How often a commit of unknown outcome is repeated; repeating a commit is harmless."""

ABORT_SECONDS = 5.0
"""How long MongoDB is asked to abort. Not heard, it aborts by itself after a minute."""

_TRANSIENT = "TransientTransactionError"
_UNKNOWN = "UnknownTransactionCommitResult"


class Transaction:
    """One transaction; ``engine.transaction()`` makes it.

    Parameters
    ----------
    driver
        The driver that the engine runs on.
    source
        Returns the connection to begin on. The same callable as that of the scoped databases
        that take part: it is how a transaction of another engine is told apart.
    seconds
        How long the commit may take.

    Notes
    -----
    Leaving the block commits; an exception aborts. A conflict with another transaction is the
    driver's `pymongo.errors.OperationFailure` with the label ``TransientTransactionError``; `run`
    repeats the work for you, a bare ``async with`` cannot.

    Examples
    --------
    ::

        async with engine.transaction() as tx:
            await db.accounts.update_one({"_id": 1}, {"$inc": {"n": -1}}, session=tx)
            await db.accounts.update_one({"_id": 2}, {"$inc": {"n": 1}}, session=tx)
    """

    __slots__ = ("_driver", "_gates", "_pinned", "_seconds", "_session", "_source")

    def __init__(
        self, driver: Driver, source: Callable[[], Connection], *, seconds: float = 30.0
    ) -> None:
        self._driver = driver
        # Behind a call, as it leads to the driver's objects.
        self._source: Callable[[], Callable[[], Connection]] = lambda: source
        self._seconds = seconds
        self._gates: list[Callable[[], Gate]] = []
        self._session: Callable[[], RawSession] | None = None
        self._pinned: Callable[[], Connection] | None = None

    def __repr__(self) -> str:
        return f"Transaction({'active' if self.active else 'not active'})"

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError(
            "a transaction belongs to this process and can be neither copied nor pickled"
        )

    @property
    def active(self) -> bool:
        """Whether operations can take part in it at this moment."""
        return self._session is not None

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise QueryRefused("the transaction has begun already; make another for another block")
        connection = self._source()()
        connection.operations += 1
        try:
            with translating("transaction", self._seconds):
                session = await self._driver.start_session(connection.client)
                milliseconds = int(self._seconds * 1000)
                await self._driver.start_transaction(session, max_commit_time_ms=milliseconds)
        except BaseException:
            connection.operations -= 1
            raise
        self._gates = []
        self._pinned = lambda: connection
        self._session = lambda: session
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is None or self._pinned is None:
            return
        session, connection = self._session(), self._pinned()
        self._session = self._pinned = None
        try:
            if error is None:
                await self._commit(session)
            else:
                await self._abort(session)
        finally:
            try:
                await session.end_session()
            finally:
                connection.operations -= 1

    async def run(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Do some work in the transaction, again if another transaction was in its way.

        Parameters
        ----------
        work
            Called with the transaction, up to 5 times. What it does besides using the database
            must bear repeating.

        Returns
        -------
        Result
            What ``work`` returned the time that was committed.

        Raises
        ------
        pymongo.errors.OperationFailure
            If the conflict is still there at the last attempt.
        """
        for attempt in range(1, RUN_ATTEMPTS + 1):
            try:
                async with self:
                    return await work(self)
            except (PyMongoError, DatabaseUnavailable) as error:
                if attempt == RUN_ATTEMPTS or not _is_transient(error):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _commit(self, session: RawSession) -> None:
        try:
            for gate in self._gates:
                gate().admit()
        except BaseException:
            await self._abort(session)
            raise
        with translating("commit", self._seconds):
            for attempt in range(1, COMMIT_ATTEMPTS + 1):
                try:
                    await session.commit_transaction()
                except PyMongoError as error:
                    if attempt == COMMIT_ATTEMPTS or not error.has_error_label(_UNKNOWN):
                        raise
                else:
                    return

    async def _abort(self, session: RawSession) -> None:
        """Abort; the server does so by itself later if it does not hear of it now."""
        try:
            with pymongo.timeout(ABORT_SECONDS):
                await session.abort_transaction()
        except PyMongoError:
            return

    def _join(self, gate: Gate, source: Callable[[], Connection]) -> tuple[Connection, RawSession]:
        """Let an operation take part; for `join` alone."""
        if self._session is None or self._pinned is None:
            raise QueryRefused("the transaction is over, or its block was not entered yet")
        if self._source() != source:
            raise QueryRefused("the transaction was made by another engine")
        if not any(known() is gate for known in self._gates):
            self._gates.append(lambda: gate)
        return self._pinned(), self._session()


def join(
    session: object, gate: Gate, source: Callable[[], Connection]
) -> tuple[Connection, RawSession]:
    """Say where an operation runs, from its ``session`` argument.

    Returns
    -------
    tuple
        The connection and the raw session.

    Raises
    ------
    OptionRefused
        If it is anything but a transaction of ours: a driver's session would lead to its client.
    QueryRefused
        If the transaction is not active, or another engine's.
    """
    if type(session) is not Transaction:
        raise OptionRefused(
            "session takes what `async with engine.transaction() as tx` gives, not "
            f"{type(session).__name__}"
        )
    return session._join(gate, source)  # noqa: SLF001 - the two halves of one thing


def _is_transient(error: BaseException) -> bool:
    driver = error if isinstance(error, PyMongoError) else error.__cause__
    return isinstance(driver, PyMongoError) and driver.has_error_label(_TRANSIENT)
