"""Sessions: operations that are to see one another, and transactions in the drivers' own way.

A session belongs to one client, and credentials may rotate under it. It is opened by the first
operation in it, on the connection of that moment; outside a transaction it moves to a new
connection by itself, with the time that it has seen. A transaction, and a session that reads one
snapshot, stay where they began.

Operations in it are admitted one by one like any other; before a transaction commits, every app
that took part is admitted once more, so that nothing is committed for an app that was revoked in
between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import partial
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from bson.timestamp import Timestamp
from pymongo.errors import AutoReconnect, PyMongoError

from mdb_engine.access.model import Gate
from mdb_engine.connection.driver import TRANSACTION_OPTIONS, Driver, RawSession, time_limit
from mdb_engine.connection.pool import Connection
from mdb_engine.exceptions import AttributeRefused, MdbEngineError, OptionRefused, QueryRefused
from mdb_engine.scoped.concerns import TransactionOptions, transaction_options
from mdb_engine.scoped.errors import translating
from mdb_engine.scoped.limits import DEFAULT_LIMITS, LATE_SECONDS, Limits
from mdb_engine.scoped.not_offered import SESSION_REFUSED, refusal

__all__ = ["ABORT_SECONDS", "Session", "TransactionBlock"]

Result = TypeVar("Result")

ABORT_SECONDS = 5.0
"""How long MongoDB is asked to abort. Not heard, it aborts by itself after a minute."""


TRANSIENT = "TransientTransactionError"
"""The label of an error after which the whole transaction may be tried again."""

UNKNOWN = "UnknownTransactionCommitResult"
"""The label of a commit's error after which the commit alone may be tried again."""


class _CommitHangs(AutoReconnect):
    def __init__(self) -> None:
        super().__init__("the connection of a commit hangs", {"errorLabels": [UNKNOWN]})


class Session:
    """A session; ``engine.session()`` and ``db.client.start_session()`` make it.

    Parameters
    ----------
    driver
        The driver that the engine runs on.
    source
        Returns the connection. The same callable as that of the scoped databases that use it: it is
        how a session of another engine is told apart.
    limits
        Their ``max_time_ms`` is how long a commit may take.
    causal_consistency
        Whether a read sees what was written before it in the session; without ``snapshot``, it does
        unless this is False.
    snapshot
        Whether all reads see the data of one moment.
    default_transaction_options
        A `pymongo.client_session.TransactionOptions`, or a mapping of the names of
        `TransactionOptions`.

    Notes
    -----
    It may be awaited, as Motor's ``start_session`` is, or not, as PyMongo's.

    Examples
    --------
    ::

        async with engine.session() as session:
            await db.orders.insert_one({"item": "pen"}, session=session)
            async with session.start_transaction():
                await db.orders.update_one({"item": "pen"}, {"$inc": {"n": 1}}, session=session)
    """

    __slots__ = (
        "__weakref__",
        "_driver",
        "_ended",
        "_gates",
        "_left",
        "_limits",
        "_options",
        "_raw",
        "_source",
    )

    def __init__(
        self,
        driver: Driver,
        source: Callable[[], Connection],
        limits: Limits = DEFAULT_LIMITS,
        *,
        causal_consistency: bool | None = None,
        snapshot: bool | None = False,
        default_transaction_options: Any = None,
    ) -> None:
        self._driver = driver
        # Behind calls, as they lead to the driver's objects.
        self._source: Callable[[], Callable[[], Connection]] = lambda: source
        self._limits = limits
        self._options = _session_options(
            causal_consistency, snapshot, default_transaction_options, limits
        )
        self._gates: list[Callable[[], Gate]] = []
        self._raw: Callable[[], tuple[Connection, RawSession]] | None = None
        self._left: list[Callable[[], RawSession]] = []
        self._ended = False

    def __repr__(self) -> str:
        if self._ended:
            return "Session(ended)"
        return f"Session({'in a transaction' if self.in_transaction else ''})"

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError("a session belongs to this process and can be neither copied nor pickled")

    if not TYPE_CHECKING:  # a type checker is to say so as well

        def __getattr__(self, name: str) -> Any:
            raise AttributeRefused(refusal("Session", name, SESSION_REFUSED))

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.end_session()

    @property
    def has_ended(self) -> bool:
        """Whether it takes no more operations."""
        return self._ended

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction has begun in it that is neither committed nor aborted."""
        return self._raw is not None and bool(self._raw()[1].in_transaction)

    @property
    def operation_time(self) -> Timestamp | None:
        """The time of the last operation in it, for `advance_operation_time` of another session."""
        time: Timestamp | None = None if self._raw is None else self._raw()[1].operation_time
        return time

    def advance_operation_time(self, operation_time: Timestamp) -> None:
        """Let the reads in it see what was written up to a time, in whatever process."""
        if type(operation_time) is not Timestamp:
            raise OptionRefused(
                "operation_time has to be a bson.timestamp.Timestamp", path="operation_time"
            )
        self._place()[1].advance_operation_time(operation_time)

    def start_transaction(
        self,
        read_concern: Any = None,
        write_concern: Any = None,
        read_preference: Any = None,
        max_commit_time_ms: int | None = None,
    ) -> TransactionBlock:
        """Return what begins a transaction: by ``async with``, which commits, or by ``await``.

        Parameters
        ----------
        read_concern, write_concern, read_preference, max_commit_time_ms
            See `TransactionOptions`; what is not given is as ``default_transaction_options`` say.
        """
        given = {
            "read_concern": read_concern,
            "write_concern": write_concern,
            "read_preference": read_preference,
            "max_commit_time_ms": max_commit_time_ms,
        }
        options = transaction_options(given, self._limits, "start_transaction")
        return TransactionBlock(self, lambda: self._begin(options))

    async def commit_transaction(self) -> None:
        """Commit the transaction, after every app that took part is admitted once more."""
        raw = self._begun("commit_transaction")
        try:
            self._admit()
        except BaseException:
            await self._abort_quietly()
            raise
        with translating("commit", self._seconds):
            await self._commit(raw.commit_transaction)

    async def abort_transaction(self) -> None:
        """Abort the transaction."""
        raw = self._begun("abort_transaction")
        with translating("abort", self._seconds), time_limit(ABORT_SECONDS):
            await raw.abort_transaction()

    async def with_transaction(
        self,
        callback: Callable[[Session], Awaitable[Result]],
        read_concern: Any = None,
        write_concern: Any = None,
        read_preference: Any = None,
        max_commit_time_ms: int | None = None,
    ) -> Result:
        """Do some work in a transaction, again for as long as others are in its way: two minutes.

        Parameters
        ----------
        callback
            Called with the session. What it does besides using the database must bear repeating.
        read_concern, write_concern, read_preference, max_commit_time_ms
            As in `start_transaction`.
        """
        given = {
            "read_concern": read_concern,
            "write_concern": write_concern,
            "read_preference": read_preference,
            "max_commit_time_ms": max_commit_time_ms,
        }
        options = self._with_default(transaction_options(given, self._limits, "with_transaction"))

        async def work(_: RawSession) -> Result:
            self._gates = []
            try:
                result = await callback(self)
            except MdbEngineError as error:
                cause = error.__cause__
                if isinstance(cause, PyMongoError) and error.has_error_label(TRANSIENT):
                    raise cause from None  # which the driver knows what to do about
                raise
            self._admit()
            return result

        _, raw = self._place()
        # The driver's loop commits by this; only for its length, as the session then holds itself.
        raw.commit_transaction = partial(self._commit, raw.commit_transaction)
        try:
            with translating("with_transaction", self._seconds):
                done: Result = await raw.with_transaction(work, **options)
        finally:
            del raw.commit_transaction
        return done

    async def end_session(self) -> None:
        """End it; a transaction that is not committed is aborted."""
        if self._ended:
            return
        self._ended = True
        raws = [left() for left in self._left]
        if self._raw is not None:
            connection, raw = self._raw()
            connection.holders.discard(self)
            raws.append(raw)
        self._raw, self._left, self._gates = None, [], []
        for raw in raws:
            with translating("end_session", self._seconds), time_limit(ABORT_SECONDS):
                await raw.end_session()

    @property
    def _seconds(self) -> float:
        return self._limits.max_time_ms / 1000

    def _place(self) -> tuple[Connection, RawSession]:
        """Return the raw session and the connection that it is on, opened or moved if need be."""
        if self._ended:
            raise QueryRefused("the session, or its transaction, is over; start another")
        if self._raw is None:
            return self._open(None)
        connection, raw = self._raw()
        if raw.in_transaction or self._options.get("snapshot"):
            return connection, raw
        if connection is self._source()():
            return connection, raw
        return self._open(raw)

    def _open(self, before: RawSession) -> tuple[Connection, RawSession]:
        connection = self._source()()
        raw = self._driver.start_session(connection.client, **self._options)
        if before is not None:
            if before.cluster_time is not None:
                raw.advance_cluster_time(before.cluster_time)
            if before.operation_time is not None:
                raw.advance_operation_time(before.operation_time)
            # A cursor may still be on it; it ends with this one.
            self._left.append(lambda: before)
            if self._raw is not None:
                self._raw()[0].holders.discard(self)
        connection.holders.add(self)
        self._raw = lambda: (connection, raw)
        return connection, raw

    async def _begin(self, options: Mapping[str, Any]) -> None:
        _, raw = self._place()
        with translating("start_transaction", self._seconds):
            await self._driver.start_transaction(raw, **self._with_default(options))
        self._gates = []

    def _with_default(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Let a commit end within the time limit, unless the app says when."""
        defaults = self._options.get("default_transaction_options") or {}
        milliseconds = defaults.get("max_commit_time_ms", self._limits.max_time_ms)
        return {"max_commit_time_ms": milliseconds, **options}

    def _begun(self, method: str) -> RawSession:
        if self._raw is None:
            raise QueryRefused(f"{method}: no transaction has begun in the session")
        return self._raw()[1]

    def _admit(self) -> None:
        for gate in self._gates:
            gate().admit()

    async def _commit(self, commit: Callable[[], Awaitable[None]]) -> None:
        """Commit, and do not wait for ever for an answer that gets lost with its connection.

        It is repeated once, on another, which is harmless where it has happened. The drivers
        themselves do that only for connections that they see break.

        Raises
        ------
        pymongo.errors.AutoReconnect
            If that answer is ``LATE_SECONDS`` late as well: it may have happened.
        """
        assert self._raw is not None  # noqa: S101 - a transaction has begun in it
        connection = self._raw()[0]

        def answered() -> Awaitable[None]:
            deadline = monotonic() + self._seconds + LATE_SECONDS
            return connection.answered(commit, deadline, _CommitHangs)

        try:
            await answered()
        except _CommitHangs:
            await answered()

    async def _abort_quietly(self) -> None:
        """Abort; the server does so by itself later if it does not hear of it now."""
        if self._raw is None:
            return
        raw = self._raw()[1]
        try:
            with time_limit(ABORT_SECONDS):
                await raw.abort_transaction()
        except PyMongoError:
            return

    def _join(self, gate: Gate, source: Callable[[], Connection]) -> tuple[Connection, RawSession]:
        """Let an operation take part; for `join` alone."""
        if self._source() != source:
            raise QueryRefused("the session or transaction was made by another engine")
        placed = self._place()
        if placed[1].in_transaction and not any(known() is gate for known in self._gates):
            self._gates.append(lambda: gate)
        return placed


class TransactionBlock:
    """What `Session.start_transaction` returns: ``async with`` it, or ``await`` it."""

    __slots__ = ("_begin", "_session")

    def __init__(self, session: Session, begin: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        self._begin = begin

    def __repr__(self) -> str:
        return "TransactionBlock()"

    def __await__(self) -> Generator[Any, None, AwaitedBlock]:
        yield from self._begin().__await__()
        return AwaitedBlock(self._session)

    async def __aenter__(self) -> Session:
        await self._begin()
        return self._session

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await _leave(self._session, error)


class AwaitedBlock:
    """A transaction that has begun: of PyMongo's ``async with await start_transaction()``."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    async def __aenter__(self) -> Session:
        return self._session

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await _leave(self._session, error)


async def _leave(session: Session, error: BaseException | None) -> None:
    if not session.in_transaction:
        return
    if error is None:
        await session.commit_transaction()
    else:
        await session._abort_quietly()  # noqa: SLF001 - the two halves of one thing


def _session_options(
    causal_consistency: object,
    snapshot: object,
    defaults: Any,
    limits: Limits,
) -> dict[str, Any]:
    for name, value in (("causal_consistency", causal_consistency), ("snapshot", snapshot)):
        if value is not None and not isinstance(value, bool):
            raise OptionRefused(f"{name} has to be True or False", path=name)
    if snapshot and causal_consistency:
        raise OptionRefused("snapshot reads exclude causal_consistency=True", path="snapshot")
    options: dict[str, Any] = {"causal_consistency": causal_consistency, "snapshot": bool(snapshot)}
    if defaults is not None:
        path = "default_transaction_options"
        if type(defaults) in TRANSACTION_OPTIONS:
            names = TransactionOptions.__annotations__
            defaults = {name: getattr(defaults, name) for name in names}
        if not isinstance(defaults, Mapping):
            raise OptionRefused(f"{path} has to be a pymongo TransactionOptions", path=path)
        options[path] = transaction_options(dict(defaults), limits, path)
    return options
