"""One operation of a scoped handle: admitted, resolved, rewritten, sent, recorded.

This module stands between the public objects and the driver. Raw driver objects pass through here
and through the cursors, always inside a call or a closure, never in an attribute of an object that
a user holds. That stops accidents (``db.clicks.database``, a debugger's ``vars()``, a serialiser);
Python cannot stop code that digs through closures on purpose. What stops that is MongoDB, which
gives the app's own user no more than the app's own privileges.

The gate is asked before every operation. As long as it answers with the same `Access` (the same
grants, the same token, its time not run out), a handle's `Plan` holds: what its name means, and the
driver's collection on the connection that is current.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from bson.codec_options import CodecOptions
from pymongo.errors import PyMongoError

from mdb_engine.access.model import Access, Gate, Target
from mdb_engine.connection.driver import Driver, RawCollection, RawSession, time_limit
from mdb_engine.connection.pool import Connection
from mdb_engine.exceptions import MdbEngineError, ScopeDenied
from mdb_engine.scoped.concerns import NO_OPTIONS
from mdb_engine.scoped.errors import raise_translated, too_slow, unanswered
from mdb_engine.scoped.limits import LATE_SECONDS, Limits
from mdb_engine.scoped.options import PARAMETERS, CommonOptions, accept
from mdb_engine.scoped.rewrite.pipelines import pipeline_key, rewrite_pipeline
from mdb_engine.scoped.rewrite.values import NO_CODECS, Codecs, plain_value
from mdb_engine.scoped.transaction import AnySession, join

__all__ = ["Context", "Handle", "Operation", "Plan", "Purpose", "Reference", "ResolvedAccess"]

Result = TypeVar("Result")

TIME_ARGUMENTS: Mapping[str, str] = {
    "count_documents": "maxTimeMS",
    "create_index": "maxTimeMS",
    "create_indexes": "maxTimeMS",
    "distinct": "maxTimeMS",
    "drop_index": "maxTimeMS",
    "drop_indexes": "maxTimeMS",
    "estimated_document_count": "maxTimeMS",
    "find_one": "max_time_ms",
    "find_one_and_delete": "maxTimeMS",
    "find_one_and_replace": "maxTimeMS",
    "find_one_and_update": "maxTimeMS",
}
"""What the time limit is called, by method. The others have no argument for it."""

MOST_PIPELINES = 128
"""How many rewritten pipelines a plan remembers: more than an app has written, and few enough that
one whose values change with every request costs no memory to speak of."""

MOST_REFERENCES = 1000
"""How many collections a handle remembers by name: names may come from a user, without end."""


class Purpose(enum.IntEnum):
    """What an operation needs of the collection."""

    READ = 0
    """That the app may read its owner's data."""

    OWN = 1
    """That it is the app's own, because the answer is about more than documents."""

    WRITE = 2
    """That it is the app's own and the handle may write."""


class Context:
    """What all objects made from one scoped database share.

    Parameters
    ----------
    gate
        Checks the token before every operation, and records it after.
    source
        Returns the connection of this moment. Asked for every operation, because credentials
        rotate.
    driver
        The driver that the connection is of.
    limits
        The limits of every operation.
    """

    __slots__ = ("connection", "driver", "gate", "limits", "references", "seconds", "source")

    def __init__(
        self, gate: Gate, source: Callable[[], Connection], driver: Driver, limits: Limits
    ) -> None:
        # Behind a call, as both lead to the driver's objects.
        self.gate: Callable[[], Gate] = lambda: gate
        self.source: Callable[[], Callable[[], Connection]] = lambda: source
        self.connection: Callable[[], Connection] = lambda: source()  # noqa: PLW0108 - as above
        self.driver = driver
        self.limits = limits
        self.seconds = limits.max_time_ms / 1000
        self.references: dict[tuple[str | None, str], Reference] = {}

    def reference(self, name: str, app: str | None = None) -> Reference:
        """Return a collection by its name, read as the database says; the same one every time."""
        found = self.references.get((app, name))
        if found is None:
            if len(self.references) >= MOST_REFERENCES:
                self.references.clear()
            found = self.references[app, name] = Reference(name, app)
        return found


Resolved = tuple[str, str | None, Target]
"""A collection's name, the app that was named with it, and what they meant."""

Pipeline = tuple[list[dict[str, Any]], list[Resolved]]
"""A rewritten pipeline, and the collections that its names meant."""


class Plan:
    """What one purpose of a handle comes to, while the gate answers with the same `Access`.

    Parameters
    ----------
    access
        What it was made from, compared by identity.
    target
        What the handle's name means.
    options
        Arguments of the driver's ``get_collection``.
    noted
        Whether the gate is told of what came to its end, as it is of denials.
    """

    __slots__ = ("access", "collection", "noted", "pipelines", "target")

    def __init__(
        self, access: Access, target: Target, options: Mapping[str, Any], *, noted: bool
    ) -> None:
        self.access = access
        self.target = target
        self.noted = noted
        self.pipelines: dict[bytes, Pipeline] = {}
        self.collection = _locator(target.physical, options)


def _locator(physical: str, options: Mapping[str, Any]) -> Callable[[Connection], RawCollection]:
    """Return what finds a collection on a connection, and remembers the last one."""
    last: Connection | None = None
    found: RawCollection = None

    def locate(connection: Connection) -> RawCollection:
        nonlocal last, found
        if connection is not last:
            found = connection.database.get_collection(physical, **options)
            last = connection
        return found

    return locate


class Reference:
    """A collection as the caller named it, how it is to be read, and the plans made for it.

    Parameters
    ----------
    name
        What `Access.resolve` is asked.
    app
        The other app, where the caller named one.
    options
        Arguments of the driver's ``get_collection``: concerns, preference, codec.
    """

    __slots__ = ("app", "codecs", "name", "options", "plans")

    def __init__(
        self, name: str, app: str | None = None, options: Mapping[str, Any] = NO_OPTIONS
    ) -> None:
        self.name = name
        self.app = app
        self.options = options
        self.codecs = _codecs(options.get("codec_options"))
        self.plans: list[Plan | None] = [None] * len(Purpose)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reference):
            return NotImplemented
        return (self.name, self.app, self.options) == (other.name, other.app, other.options)

    def __hash__(self) -> int:
        return hash((self.name, self.app))


def _codecs(options: CodecOptions[Any] | None) -> Codecs:
    """Return an app's own type codecs, which the driver keeps where only its encoder looks."""
    if options is None:
        return NO_CODECS
    registry = options.type_registry
    encoders, fallback = registry._encoder_map, registry._fallback_encoder  # noqa: SLF001
    return Codecs(dict(encoders), fallback)


class ResolvedAccess:
    """An `Access` that remembers every collection that was resolved through it.

    So a cursor can ask later whether all of them still mean the same and are still granted, and the
    audit trail names the collections that a pipeline reached besides its own.
    """

    __slots__ = ("_access", "denied", "resolved")

    def __init__(self, access: Access) -> None:
        self._access = access
        self.denied: tuple[str, str | None] | None = None
        self.resolved: list[Resolved] = []

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


class Operation:
    """One operation. Its ``with`` block is the rewriting, which makes no call to the server.

    Parameters
    ----------
    context
        What the handle works with.
    name
        The operation's name, as the caller called it.
    reference
        The collection that it is on.
    purpose
        What it needs of the collection.
    earlier
        An operation that this one goes on from; what that resolved has to mean the same now.

    Notes
    -----
    An error of the engine inside the block is recorded as a denial. ``__enter__`` raises what the
    gate, `Access.resolve` and the purpose have against the operation.
    """

    __slots__ = (
        "codecs",
        "context",
        "earlier",
        "limits",
        "name",
        "others",
        "plan",
        "purpose",
        "reference",
        "target",
    )

    plan: Plan
    target: Target

    def __init__(
        self,
        context: Context,
        name: str,
        reference: Reference,
        purpose: Purpose,
        earlier: Operation | None = None,
    ) -> None:
        self.context = context
        self.limits = context.limits
        self.codecs = reference.codecs
        self.name = name
        self.reference = reference
        self.purpose = purpose
        self.earlier = earlier
        self.others: ResolvedAccess | None = None

    @property
    def access(self) -> ResolvedAccess:
        """What resolves the collections that the operation names besides its own."""
        if self.others is None:
            self.others = ResolvedAccess(self.plan.access)
        return self.others

    def __enter__(self) -> Self:
        try:
            access = self.context.gate().admit()
            plan = self.reference.plans[self.purpose]
            if plan is None or plan.access is not access:
                plan = self._planned(access)
            self.plan = plan
            self.target = plan.target
            if self.earlier is not None:
                self.earlier.confirm(access)
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
        if error is not None and isinstance(error, MdbEngineError):
            self.record(error)

    def pipeline(self, pipeline: Any, *, collated: bool) -> list[dict[str, Any]]:
        """Scope a pipeline, or find what the same one became under the same grants.

        Parameters
        ----------
        pipeline
            The caller's.
        collated
            Whether it compares strings by a collation.
        """
        plan, limits = self.plan, self.limits
        plain = plain_value(pipeline, limits, "pipeline", codecs=self.reference.codecs)
        key = pipeline_key(plain, collated=collated)
        known = None if key is None else plan.pipelines.get(key)
        if known is not None:
            stages, resolved = known
            if resolved:
                self.access.resolved.extend(resolved)
            return stages
        stages = rewrite_pipeline(plain, plan.target, self.access, limits, collated=collated)
        if key is not None:
            if len(plan.pipelines) >= MOST_PIPELINES:
                plan.pipelines.clear()
            plan.pipelines[key] = (stages, list(self.access.resolved))
        return stages

    def again(self, name: str, purpose: Purpose) -> Operation:
        """Make another operation on the same collection, admitted anew, with what this one made.

        Parameters
        ----------
        name
            Its name.
        purpose
            What it needs of the collection.
        """
        return Operation(self.context, name, self.reference, purpose, self)

    def confirm(self, access: Access) -> None:
        """Compare what was resolved with what holds now.

        Raises
        ------
        ScopeDenied
            If one of the collections is granted no longer, or its name means another one.
        """
        if access is self.plan.access:
            return
        reference = self.reference
        resolved = [(reference.name, reference.app, self.plan.target)]
        if self.others is not None:
            resolved += self.others.resolved
        for name, app, then in resolved:
            now = access.resolve(name, app=app)
            if now != then or (then.stamped and not now.stamped):
                raise ScopeDenied(
                    f"the grant of collection {then.physical} changed while it was being read; "
                    "start the operation again"
                )

    def recheck(self) -> None:
        """Admit the operation again, as it goes on longer than one command.

        Raises
        ------
        MdbEngineError
            If the token, the grants or the meaning of a name would not let it begin now.
        """
        try:
            self.confirm(self.context.gate().admit())
        except MdbEngineError as error:
            self.record(error)
            raise

    def place(
        self, session: AnySession | None
    ) -> tuple[RawCollection, Connection, RawSession | None]:
        """Return the raw collection, in the transaction's connection where there is one."""
        if session is None:
            connection = self.context.connection()
            return self.plan.collection(connection), connection, None
        connection, raw_session = join(session, self.context.gate(), self.context.source())
        return self.plan.collection(connection), connection, raw_session

    async def run(
        self,
        method: str,
        *arguments: Any,
        session: AnySession | None = None,
        by_id: bool = False,
        **options: Any,
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
        by_id
            Whether it is on one document that its ``_id`` finds, which the server does at once or
            not at all: it needs no time limit of the server's.
        **options
            Its keyword arguments; those that are None are left out.
        """
        if session is None:
            connection = self.context.connection()
            collection = self.plan.collection(connection)
        else:
            collection, connection, options["session"] = self.place(session)
        call = getattr(collection, method)
        if not by_id or not self.context.driver.cancellable:
            argument = TIME_ARGUMENTS.get(method)
            if argument is not None and argument not in options:
                options[argument] = self.limits.max_time_ms
            bounded = argument is None
            return await self.send(lambda: call(*arguments, **options), connection, bounded=bounded)
        began = monotonic()
        task = connection.watch(began + self.context.seconds)
        try:
            result = await call(*arguments, **options)
        except BaseException as error:
            self._failed(error, began, expired=connection.expired(task, error))
            raise
        finally:
            connection.unwatch(task)
        if self.plan.noted or self.others is not None:
            self.record(None)
        return result

    async def send(
        self, call: Callable[[], Awaitable[Result]], connection: Connection, *, bounded: bool
    ) -> Result:
        """Await what a call to the driver returns, and record it.

        Parameters
        ----------
        call
            Makes the call.
        connection
            What it is made on, which is not closed until it has ended.
        bounded
            Whether the driver is to keep the time limit, because the call has no argument for it.
        """
        began = monotonic()
        connection.operations += 1
        try:
            if bounded:
                # The driver adds the time limit to the command, and waits no longer itself.
                with time_limit(self.context.seconds):
                    result = await call()
            else:
                result = await self.answered(call, connection)
        except BaseException as error:
            self._failed(error, began)
            raise
        finally:
            connection.operations -= 1
        if self.plan.noted or self.others is not None:
            self.record(None)
        return result

    def answered(
        self, call: Callable[[], Awaitable[Result]], connection: Connection
    ) -> Awaitable[Result]:
        """Await an answer until it is ``LATE_SECONDS`` late, see `Connection.answered`.

        Raises
        ------
        DatabaseUnavailable
            If it is.
        """
        deadline = monotonic() + self.context.seconds + LATE_SECONDS
        return connection.answered(call, deadline, lambda: unanswered(self.name))

    def _failed(self, error: BaseException, began: float, *, expired: bool = False) -> None:
        """Record an operation that ended in an error, and raise the domain's for the driver's."""
        try:
            if expired:
                raise too_slow(self.name, self.context.seconds) from None
            if isinstance(error, PyMongoError):
                raise_translated(error, self.name, self.context.seconds, began)
        except ScopeDenied as denied:
            self.record(denied)
            raise
        except MdbEngineError:
            self.record(None)  # it may have happened
            raise
        self.record(None)

    def denied(self, error: BaseException, began: float) -> NoReturn:
        """Raise the domain's error for a driver's that a cursor met; record it if it is a denial.

        Parameters
        ----------
        error
            What the driver raised.
        began
            When the call began (`time.monotonic`).
        """
        try:
            if isinstance(error, PyMongoError):
                raise_translated(error, self.name, self.context.seconds, began)
        except ScopeDenied as denied:
            self.record(denied)
            raise
        raise error

    def record(self, denied: MdbEngineError | None) -> None:
        """Tell the audit trail of the collection, and of those that a pipeline reached besides."""
        gate = self.context.gate()
        plan: Plan | None = getattr(self, "plan", None)
        if plan is None:
            gate.record(self.name, self.reference.name, self.reference.app or "", denied)
            return
        target, others = plan.target, self.others
        if others is None:
            gate.record(self.name, target.physical, target.owner, denied)
            return
        if denied is not None and others.denied is not None:  # a collection of a pipeline
            name, app = others.denied
            gate.record(self.name, str(name), app or "", denied)
            return
        gate.record(self.name, target.physical, target.owner, denied)
        if denied is None:
            for _, _, other in others.resolved:
                if other.physical != target.physical:
                    gate.record(self.name, other.physical, other.owner, None)

    def _planned(self, access: Access) -> Plan:
        reference = self.reference
        target = access.resolve(reference.name, app=reference.app)
        noted = target.owner != access.slug or self.context.gate().notes_all
        plan = Plan(access, target, reference.options, noted=noted)
        self._check_purpose(target, access.slug, plan)
        reference.plans[self.purpose] = plan
        return plan

    def _check_purpose(self, target: Target, slug: str, plan: Plan) -> None:
        if self.purpose is Purpose.READ or target.writable:
            return
        self.plan = plan  # so that the denial is recorded with the collection
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
    context
        What the handle works with.
    reference
        The collection that it is on.
    """

    __slots__ = ("_context", "_reference")

    def __init__(self, context: Context, reference: Reference) -> None:
        self._context = context
        self._reference = reference

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError(
            "a scoped handle belongs to this process and can be neither copied nor pickled; "
            "pass the collection's name"
        )

    def _begin(self, name: str, purpose: Purpose) -> Operation:
        return Operation(self._context, name, self._reference, purpose)

    def _common(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked options of a method that takes what every operation does."""
        return accept(name, given, CommonOptions, self._context.limits)

    def _options(
        self, name: str, given: tuple[Any, ...], unknown: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the checked options of a method that `takes` some, from what it was given."""
        parameters = PARAMETERS[name]
        if given == parameters.nothing and not unknown:
            return {}
        options = {**dict(zip(parameters.names, given, strict=True)), **unknown}
        return accept(name, options, parameters.allowed, self._context.limits)
