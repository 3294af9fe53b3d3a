"""One operation of a scoped handle: admitted, resolved, rewritten, sent, recorded.

This module is the private seam behind the public objects. Raw driver objects pass through here and
through the cursors, always inside a call or a closure, never in an attribute of an object that a
user holds. That stops accidents (``db.clicks.database``, a debugger's ``vars()``, a serialiser);
Python cannot stop code that digs through closures on purpose. What stops that is MongoDB, which
gives the app's own user no more than the app's own privileges.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import pymongo

from mdb_engine.access.model import Access, Gate, Target
from mdb_engine.connection.driver import Driver, RawCollection, RawDatabase, RawSession
from mdb_engine.exceptions import MdbEngineError, ScopeDenied
from mdb_engine.scoped.errors import Translation
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.options import accept
from mdb_engine.scoped.transaction import Transaction, join, sealed

__all__ = ["Handle", "Operation", "Purpose", "Reference", "Seam", "Witness"]

Result = TypeVar("Result")

TIME_ARGUMENTS: Mapping[str, str] = {
    "count_documents": "maxTimeMS",
    "create_index": "maxTimeMS",
    "create_indexes": "maxTimeMS",
    "distinct": "maxTimeMS",
    "drop_index": "maxTimeMS",
    "drop_indexes": "maxTimeMS",
    "find_one": "max_time_ms",
    "find_one_and_delete": "maxTimeMS",
    "find_one_and_replace": "maxTimeMS",
    "find_one_and_update": "maxTimeMS",
}
"""What the time limit is called, by method. The others have no argument for it."""


class Purpose(enum.Enum):
    """What an operation needs of the collection."""

    READ = enum.auto()
    """That the app may read its owner's data."""

    OWN = enum.auto()
    """That it is the app's own, because the answer is about more than documents."""

    WRITE = enum.auto()
    """That it is the app's own and the handle may write."""


class Seam:
    """What all objects made from one scoped database share.

    Parameters
    ----------
    gate
        Checks the token before every operation, and records it after.
    source
        Returns the raw database. Asked anew for every operation, because credentials rotate.
    driver
        The driver that the database is of.
    limits
        The limits of every operation.
    """

    __slots__ = ("driver", "gate", "limits", "source")

    def __init__(
        self, gate: Gate, source: Callable[[], RawDatabase], driver: Driver, limits: Limits
    ) -> None:
        self.gate = sealed(gate)
        self.source = sealed(source)
        self.driver = driver
        self.limits = limits

    def database(self) -> RawDatabase:
        """Return the raw database of this moment."""
        return self.source()()

    @property
    def seconds(self) -> float:
        """The time limit of one operation."""
        return self.limits.max_time_ms / 1000


@dataclass(frozen=True, slots=True)
class Reference:
    """A collection as the caller named it, and how it is to be read.

    Parameters
    ----------
    name
        What `Access.resolve` is asked.
    app
        The other app, where the caller named one.
    options
        Arguments of the driver's ``get_collection``: concerns, preference, codec.
    """

    name: str
    app: str | None = None
    options: tuple[tuple[str, Any], ...] = ()


class Witness:
    """An `Access` that remembers every collection that was resolved through it.

    So a cursor can ask later whether all of them still mean the same and are still granted, and the
    audit trail names the collections that a pipeline reached besides its own.
    """

    __slots__ = ("_access", "denied", "resolved")

    def __init__(self, access: Access) -> None:
        self._access = access
        self.denied: tuple[str, str | None] | None = None
        self.resolved: list[tuple[str, str | None, Target]] = []

    @property
    def slug(self) -> str:
        """The app that asks."""
        return self._access.slug

    @property
    def read_scopes(self) -> frozenset[str]:
        """The slugs that this handle may read."""
        return self._access.read_scopes

    @property
    def write_scope(self) -> str | None:
        """The app's own slug, or None for a handle that only reads."""
        return self._access.write_scope

    def resolve(self, name: str, *, app: str | None = None) -> Target:
        """Say which collection a name means to this app, and remember the answer."""
        try:
            target = self._access.resolve(name, app=app)
        except MdbEngineError:
            self.denied = (name, app)
            raise
        self.resolved.append((name, app, target))
        return target

    def confirm(self, access: Access) -> None:
        """Compare with what holds now.

        Raises
        ------
        ScopeDenied
            If one of the collections is granted no longer, or its name means another one.
        """
        for name, app, then in self.resolved:
            now = access.resolve(name, app=app)
            if now != then:
                raise ScopeDenied(
                    f"the grant of collection {then.physical} changed while it was being read; "
                    "start the operation again"
                )


class Operation:
    """One operation. Its ``with`` block is the rewriting, which makes no call to the server.

    Parameters
    ----------
    seam
        What the handle works with.
    name
        The operation's name, as the caller called it.
    reference
        The collection that it is on.
    purpose
        What it needs of the collection.
    earlier
        What an operation that this one goes on from resolved; it has to mean the same now.

    Notes
    -----
    An error of the engine inside the block is recorded as a denial. ``__enter__`` raises what the
    gate, `Access.resolve` and the purpose have against the operation.
    """

    __slots__ = ("access", "earlier", "name", "purpose", "reference", "seam", "target")

    access: Witness
    target: Target

    def __init__(
        self,
        seam: Seam,
        name: str,
        reference: Reference,
        purpose: Purpose,
        earlier: Witness | None = None,
    ) -> None:
        self.seam = seam
        self.name = name
        self.reference = reference
        self.purpose = purpose
        self.earlier = earlier

    def __enter__(self) -> Self:
        reference = self.reference
        try:
            self.access = Witness(self.seam.gate().admit())
            self.target = self.access.resolve(reference.name, app=reference.app)
            self._check_purpose()
            if self.earlier is not None:
                self.earlier.confirm(self.access)
        except MdbEngineError as error:
            self.record(error)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, MdbEngineError):
            self.record(error)

    def again(self, name: str, purpose: Purpose) -> Operation:
        """Make another operation on the same collection, admitted anew, with what this one made.

        Parameters
        ----------
        name
            Its name.
        purpose
            What it needs of the collection.
        """
        return Operation(self.seam, name, self.reference, purpose, self.access)

    def recheck(self) -> None:
        """Admit the operation again, as it goes on longer than one command.

        Raises
        ------
        MdbEngineError
            If the token, the grants or the meaning of a name would not let it begin now.
        """
        try:
            self.access.confirm(self.seam.gate().admit())
        except MdbEngineError as error:
            self.record(error)
            raise

    def place(self, session: Transaction | None) -> tuple[RawCollection, RawSession | None]:
        """Return the raw collection, in the transaction's connection where there is one."""
        database, raw_session = join(session, self.seam.gate(), self.seam.source())
        collection = database.get_collection(self.target.physical, **dict(self.reference.options))
        return collection, raw_session

    async def run(
        self, method: str, *arguments: Any, session: Transaction | None = None, **options: Any
    ) -> Any:
        """Call one method of the driver's collection, within the time limit.

        Parameters
        ----------
        method
            Its name.
        *arguments
            Its positional arguments, rewritten already.
        session
            The transaction that it is part of.
        **options
            Its keyword arguments; those that are None are left out.
        """
        collection, raw_session = self.place(session)
        given = {key: value for key, value in options.items() if value is not None}
        if raw_session is not None:
            given["session"] = raw_session
        argument = TIME_ARGUMENTS.get(method)
        if argument is not None:
            given.setdefault(argument, self.seam.limits.max_time_ms)
        call = partial(getattr(collection, method), *arguments, **given)
        return await self.send(call, bounded=argument is None)

    async def send(self, call: Callable[[], Awaitable[Result]], *, bounded: bool) -> Result:
        """Await what a call to the driver returns, and record it; ``bounded`` as in `ask`."""
        try:
            result = await self.ask(call, bounded=bounded)
        except ScopeDenied:
            raise
        except BaseException:
            self.record(None)  # it may have happened
            raise
        self.record(None)
        return result

    async def ask(self, call: Callable[[], Awaitable[Result]], *, bounded: bool) -> Result:
        """Await what a call to the driver returns; record it only if MongoDB denies it.

        Parameters
        ----------
        call
            Makes the call.
        bounded
            Whether the driver is to keep the time limit, because the call has no argument for it.
        """
        try:
            with Translation(self.name, self.seam.seconds):
                if not bounded:
                    return await call()
                return await self._bounded(call)
        except ScopeDenied as error:
            self.record(error)
            raise

    async def _bounded(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Let the driver add the time limit to the command, and wait no longer itself."""
        with pymongo.timeout(self.seam.seconds):
            return await call()

    def record(self, denied: MdbEngineError | None) -> None:
        """Tell the audit trail of the collection, and of those that a pipeline reached besides."""
        gate = self.seam.gate()
        target = getattr(self, "target", None)
        if target is None:
            gate.record(self.name, self.reference.name, self.reference.app or "", denied)
            return
        if denied is not None and self.access.denied is not None:  # a collection of a pipeline
            name, app = self.access.denied
            gate.record(self.name, str(name), app or "", denied)
            return
        gate.record(self.name, target.physical, target.owner, denied)
        if denied is None:
            for _, _, other in self.access.resolved[1:]:
                if other.physical != target.physical:
                    gate.record(self.name, other.physical, other.owner, None)

    def _check_purpose(self) -> None:
        target, slug = self.target, self.access.slug
        if self.purpose is Purpose.READ or target.writable:
            return
        if target.owner != slug:
            raise ScopeDenied(
                f"{self.name} is refused: collection {target.physical} is app {target.owner!r}'s, "
                f"and read only for app {slug!r}"
            )
        if self.purpose is Purpose.WRITE:
            raise ScopeDenied(
                f"{self.name} is refused: this handle of app {slug!r} is read only "
                "(it was made with another write_scope)"
            )


class Handle:
    """What the parts of `ScopedCollection` have in common: they begin operations.

    Parameters
    ----------
    seam
        What the handle works with.
    reference
        The collection that it is on.
    """

    __slots__ = ("__reference", "__seam")

    def __init__(self, seam: Seam, reference: Reference) -> None:
        self.__seam = seam
        self.__reference = reference

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError(
            "a scoped handle belongs to this process and can be neither copied nor pickled; "
            "pass the collection's name"
        )

    def _begin(self, name: str, purpose: Purpose) -> Operation:
        return Operation(self.__seam, name, self.__reference, purpose)

    def _options(self, name: str, given: Mapping[str, Any], allowed: type) -> dict[str, Any]:
        return accept(name, given, allowed, self.__seam.limits)
