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
from mdb_engine.connection.driver import Driver, RawDatabase, RawSession
from mdb_engine.exceptions import (
    DatabaseUnavailable,
    OptionRefused,
    QueryRefused,
)
from mdb_engine.scoped.errors import Translation

__all__ = ["Transaction", "join", "sealed"]

Value = TypeVar("Value")
Result = TypeVar("Result")

RUN_ATTEMPTS = 5
"""How often `Transaction.run` tries before it lets a transient conflict through to its caller."""

COMMIT_ATTEMPTS = 3
"""How often a commit of unknown outcome is repeated; repeating a commit is harmless."""

ABORT_SECONDS = 5.0
"""How long MongoDB is asked to abort. Not heard, it aborts by itself after a minute."""

_TRANSIENT = "TransientTransactionError"
_UNKNOWN = "UnknownTransactionCommitResult"


def sealed(value: Value) -> Callable[[], Value]:
    """Put a value where only a call gets it: no attribute of the holder leads to it."""
    return lambda: value


class Transaction:
    """One transaction; ``engine.transaction()`` makes it.

    Parameters
    ----------
    driver
        The driver that the engine runs on.
    database
        Returns the raw database to begin on. The same callable as that of the scoped databases
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

    __slots__ = ("__driver", "__gates", "__pinned", "__seconds", "__session", "__source")

    def __init__(
        self, driver: Driver, database: Callable[[], RawDatabase], *, seconds: float = 30.0
    ) -> None:
        self.__driver = driver
        self.__source = sealed(database)
        self.__seconds = seconds
        self.__gates: list[Callable[[], Gate]] = []
        self.__session: Callable[[], RawSession] | None = None
        self.__pinned: Callable[[], RawDatabase] | None = None

    def __repr__(self) -> str:
        return f"Transaction({'active' if self.active else 'not active'})"

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError(
            "a transaction belongs to this process and can be neither copied nor pickled"
        )

    @property
    def active(self) -> bool:
        """Whether operations can take part in it at this moment."""
        return self.__session is not None

    async def __aenter__(self) -> Self:
        if self.__session is not None:
            raise QueryRefused("the transaction has begun already; make another for another block")
        database = self.__source()()
        with Translation("transaction", self.__seconds):
            session = await self.__driver.start_session(database.client)
            milliseconds = int(self.__seconds * 1000)
            await self.__driver.start_transaction(session, max_commit_time_ms=milliseconds)
        self.__gates = []
        self.__pinned = sealed(database)
        self.__session = sealed(session)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        held, self.__session, self.__pinned = self.__session, None, None
        if held is None:
            return
        session = held()
        try:
            if error is None:
                await self.__commit(session)
            else:
                await self.__abort(session)
        finally:
            await session.end_session()

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

    async def __commit(self, session: RawSession) -> None:
        try:
            for gate in self.__gates:
                gate().admit()
        except BaseException:
            await self.__abort(session)
            raise
        with Translation("commit", self.__seconds):
            for attempt in range(1, COMMIT_ATTEMPTS + 1):
                try:
                    await session.commit_transaction()
                except PyMongoError as error:
                    if attempt == COMMIT_ATTEMPTS or not error.has_error_label(_UNKNOWN):
                        raise
                else:
                    return

    async def __abort(self, session: RawSession) -> None:
        """Abort; the server does so by itself later if it does not hear of it now."""
        try:
            with pymongo.timeout(ABORT_SECONDS):
                await session.abort_transaction()
        except PyMongoError:
            return

    def _join(
        self, gate: Gate, database: Callable[[], RawDatabase]
    ) -> tuple[RawDatabase, RawSession]:
        """Let an operation take part; for `join` alone."""
        if self.__session is None or self.__pinned is None:
            raise QueryRefused("the transaction is over, or its block was not entered yet")
        if self.__source() != database:
            raise QueryRefused("the transaction was made by another engine")
        if not any(known() is gate for known in self.__gates):
            self.__gates.append(sealed(gate))
        return self.__pinned(), self.__session()


def join(
    session: object, gate: Gate, database: Callable[[], RawDatabase]
) -> tuple[RawDatabase, RawSession | None]:
    """Say where an operation runs, from its ``session`` argument.

    Returns
    -------
    tuple
        The raw database, and the raw session or None.

    Raises
    ------
    OptionRefused
        If it is anything but a transaction of ours: a driver's session would lead to its client.
    QueryRefused
        If the transaction is not active, or another engine's.
    """
    if session is None:
        return database(), None
    if type(session) is not Transaction:
        raise OptionRefused(
            "session takes what `async with engine.transaction() as tx` gives, not "
            f"{type(session).__name__}"
        )
    return session._join(gate, database)  # noqa: SLF001 - the two halves of one seam


def _is_transient(error: BaseException) -> bool:
    driver = error if isinstance(error, PyMongoError) else error.__cause__
    return isinstance(driver, PyMongoError) and driver.has_error_label(_TRANSIENT)
