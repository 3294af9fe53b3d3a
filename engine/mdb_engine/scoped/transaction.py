"""Transactions: several operations that happen together or not at all.

A transaction is a `Session` that commits when its block is left. What it is made with, which
connection it holds and who is asked again before it commits stands there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from pymongo.errors import PyMongoError

from mdb_engine.access.model import Gate
from mdb_engine.connection.driver import Driver, RawSession
from mdb_engine.connection.pool import Connection
from mdb_engine.exceptions import DatabaseUnavailable, OptionRefused, QueryRefused
from mdb_engine.scoped.concerns import TransactionOptions, transaction_options
from mdb_engine.scoped.limits import DEFAULT_LIMITS, Limits
from mdb_engine.scoped.session import TRANSIENT, UNKNOWN, Session

__all__ = ["AnySession", "Transaction", "join"]

Result = TypeVar("Result")

RUN_ATTEMPTS = 5
"""How often `Transaction.run` tries before it lets a transient conflict through to its caller."""

COMMIT_ATTEMPTS = 3
"""How often a commit of unknown outcome is repeated; repeating a commit is harmless."""


class Transaction:
    """One transaction; ``engine.transaction()`` makes it.

    Parameters
    ----------
    driver
        The driver that the engine runs on.
    source
        Returns the connection to begin on. The same callable as that of the scoped databases
        that take part: it is how a transaction of another engine is told apart.
    limits
        Their ``max_time_ms`` is how long the commit may take.
    **options
        See `TransactionOptions`.

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

    __slots__ = ("_make", "_options", "_session")

    def __init__(
        self,
        driver: Driver,
        source: Callable[[], Connection],
        limits: Limits = DEFAULT_LIMITS,
        **options: Unpack[TransactionOptions],
    ) -> None:
        self._options = transaction_options(options, limits, "transaction")
        # Behind a call, as it leads to the driver's objects.
        self._make: Callable[[], Session] = lambda: Session(driver, source, limits)
        self._session: Session | None = None

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
        session = self._make()
        try:
            await session.start_transaction(**self._options)
        except BaseException:
            await session.end_session()
            raise
        self._session = session
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            if error is None:
                await _commit(session)
            else:
                await session._abort_quietly()  # noqa: SLF001 - the two halves of one thing
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
                if attempt == RUN_ATTEMPTS or not error.has_error_label(TRANSIENT):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _join(self, gate: Gate, source: Callable[[], Connection]) -> tuple[Connection, RawSession]:
        """Let an operation take part; for `join` alone."""
        if self._session is None:
            raise QueryRefused("the transaction is over, or its block was not entered yet")
        return self._session._join(gate, source)  # noqa: SLF001 - as above


AnySession = Session | Transaction
"""What an operation takes as ``session``."""


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
        If it is anything but one of ours: a driver's session would lead to its client.
    QueryRefused
        If it is over, or another engine's.
    """
    if type(session) is not Transaction and type(session) is not Session:
        raise OptionRefused(
            "session takes what `async with engine.transaction() as tx` or `engine.session()` "
            f"gives, not {type(session).__name__}"
        )
    return session._join(gate, source)  # noqa: SLF001 - as above


async def _commit(session: Session) -> None:
    for attempt in range(1, COMMIT_ATTEMPTS + 1):
        try:
            await session.commit_transaction()
        except (PyMongoError, DatabaseUnavailable) as error:
            if attempt == COMMIT_ATTEMPTS or not error.has_error_label(UNKNOWN):
                raise
        else:
            return
