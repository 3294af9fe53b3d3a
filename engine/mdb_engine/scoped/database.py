"""The database as one app sees it: its own collections, and those that it was granted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypedDict, Unpack

from pymongo.collation import Collation
from pymongo.errors import OperationFailure

from mdb_engine.access.model import Access, Gate
from mdb_engine.connection.driver import Driver
from mdb_engine.connection.pool import Connection
from mdb_engine.core.stamp import stamped_validator
from mdb_engine.exceptions import (
    AttributeRefused,
    MdbEngineError,
    OptionRefused,
    QueryRefused,
    ScopeDenied,
)
from mdb_engine.scoped.client import ScopedClient, run_command
from mdb_engine.scoped.collection import ScopedCollection
from mdb_engine.scoped.concerns import NO_OPTIONS, CollectionOptions, Concerns, merge_options
from mdb_engine.scoped.context import Context, Operation, Purpose, Reference
from mdb_engine.scoped.errors import translating
from mdb_engine.scoped.limits import DEFAULT_LIMITS, Limits
from mdb_engine.scoped.not_offered import DATABASE_REFUSED, refusal
from mdb_engine.scoped.options import CommonOptions, collation_document, unknown_option
from mdb_engine.scoped.rewrite.filters import check_filter
from mdb_engine.scoped.rewrite.values import plain_mapping, plain_value
from mdb_engine.scoped.transaction import AnySession, join

__all__ = ["ScopedApp", "ScopedDatabase"]


class ListOptions(TypedDict, total=False):
    """Options of ``list_collection_names``; the last two are as it is done anyway."""

    session: AnySession | None
    comment: Any
    authorizedCollections: bool | None
    nameOnly: bool | None


class CreateOptions(CollectionOptions, total=False):
    """Options of ``create_collection``; MongoDB checks by itself whether it exists."""

    capped: bool
    check_exists: bool | None
    changeStreamPreAndPostImages: Mapping[str, Any]  # noqa: N815 - by its name in MongoDB
    collation: Collation | Mapping[str, Any]
    max: int
    session: AnySession | None
    size: int
    validationAction: str  # noqa: N815 - as above
    validationLevel: str  # noqa: N815 - as above
    validator: Mapping[str, Any]


class ScopedDatabase(Concerns):
    """The database as one app sees it. ``engine.get_scoped_db(slug)`` makes it.

    Parameters
    ----------
    gate
        Checks the app's token before every operation, and records it after.
    source
        Returns the connection; it is asked for every operation, because credentials rotate. All
        databases of one engine, and its transactions, are given the same (equal) callable.
    driver
        The driver that the connection is of.
    limits
        The limits of every operation.

    Examples
    --------
    ::

        await db.clicks.insert_one({"page": "/"})           # the app's own
        db["click_tracker_clicks"].find({})                 # another app's, where granted
        db.app("click_tracker").clicks.find({})             # the same
    """

    __slots__ = ("_context", "_options")

    def __init__(
        self,
        gate: Gate,
        source: Callable[[], Connection],
        driver: Driver,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._context = Context(gate, source, driver, limits)
        self._options = NO_OPTIONS

    def __repr__(self) -> str:
        return "ScopedDatabase()"

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError(
            "a scoped database belongs to this process and can be neither copied nor pickled; "
            "ask the engine for another"
        )

    def __getattr__(self, name: str) -> ScopedCollection:
        if name.startswith("_"):
            raise AttributeRefused(
                f"ScopedDatabase has no attribute {name!r}, and no app has a collection whose name "
                "begins with an underscore"
            )
        if name in DATABASE_REFUSED:
            raise AttributeRefused(refusal("ScopedDatabase", name, DATABASE_REFUSED))
        return self.get_collection(name)

    def __getitem__(self, name: str) -> ScopedCollection:
        return self.get_collection(name)

    def __iter__(self) -> NoReturn:
        raise OptionRefused("a database cannot be iterated; use await db.list_collection_names()")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScopedDatabase):
            return NotImplemented
        same = self._context.gate() is other._context.gate()
        return same and self._options == other._options

    def __hash__(self) -> int:
        return hash(id(self._context.gate()))

    @property
    def client(self) -> ScopedClient:
        """What libraries ask of a driver's client, and nothing else."""
        return ScopedClient(self, self._context)

    @property
    def name(self) -> str:
        """The name of the database in MongoDB."""
        name: str = self._context.source()().database.name
        return name

    def app(self, slug: str) -> ScopedApp:
        """Return another app's collections, by their own names.

        Parameters
        ----------
        slug
            The app. Whether it has granted this one is seen when a collection is used.
        """
        return ScopedApp(self._context, _text(slug, "an app's slug"), self._options)

    def get_collection(self, name: str, **options: Unpack[CollectionOptions]) -> ScopedCollection:
        """Return a collection; what the name means is decided by each operation on it.

        Parameters
        ----------
        name
            The name of an own collection, or another app's with its slug before it.
        **options
            See `CollectionOptions`.
        """
        context = self._context
        merged = merge_options(self._options, options, context.limits)
        return ScopedCollection(context, _reference(context, name, None, merged))

    def with_options(self, **options: Unpack[CollectionOptions]) -> ScopedDatabase:
        """Return the same database, whose collections are read and written in another way."""
        context = self._context
        other = ScopedDatabase(context.gate(), context.source(), context.driver, context.limits)
        other._options = merge_options(self._options, options, context.limits)
        return other

    async def list_collection_names(self, **options: Unpack[ListOptions]) -> list[str]:
        """Return the names of the collections that exist and may be read.

        Parameters
        ----------
        **options
            See `ListOptions`.

        Returns
        -------
        list
            Own collections by their own name, others with the app's slug before it: what
            ``db[name]`` takes. Sorted.
        """
        context = self._context
        gate = context.gate()
        try:
            access = gate.admit()
            send = _list_options(options, context.limits)
            connection, session = context.source()(), options.get("session")
            if session is not None:
                connection, send["session"] = join(session, gate, context.source())
                if send["session"].in_transaction:
                    raise QueryRefused(
                        "MongoDB cannot list collections in a transaction", path="session"
                    )
        except MdbEngineError as error:
            gate.record("list_collection_names", "", "", error)
            raise
        with translating("list_collection_names", context.seconds), connection.lease() as database:
            found = await database.list_collection_names(
                authorizedCollections=True, maxTimeMS=context.limits.max_time_ms, **send
            )
        names = (_name_of(physical, access) for physical in found)
        return sorted(name for name in names if name is not None)

    async def command(
        self,
        command: str | Mapping[str, Any],
        value: Any = 1,
        *,
        session: AnySession | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Run ``buildInfo``, ``hello`` or ``ping``; every other command is refused.

        Parameters
        ----------
        command
            Its name, or a mapping of it alone.
        value
            What stands beside the name: 1.

        Returns
        -------
        dict
            The answer, without what names hosts.
        """
        if value != 1:
            raise OptionRefused("the value of a command that is allowed is 1", path="value")
        return await run_command(self._context, command, options, session)

    async def create_collection(
        self, name: str, **options: Unpack[CreateOptions]
    ) -> ScopedCollection:
        """Make an own collection; MongoDB makes it by itself at the first insert, too.

        MongoDB is to hold the app's stamp in it, by a validator beside the caller's own. One that
        the manifest declares is there already: while it is empty, making it does nothing.

        Parameters
        ----------
        name
            Its own name.
        **options
            See `CreateOptions`. A view is refused: it could show another app's data.

        Raises
        ------
        ScopeDenied
            If the name is another app's.
        pymongo.errors.OperationFailure
            If it exists already.
        """
        context = self._context
        settings = {key: options.pop(key) for key in _SETTINGS if key in options}  # type: ignore[misc]
        merged = merge_options(self._options, settings, context.limits)
        reference = _reference(context, name, None, merged)
        with Operation(context, "create_collection", reference, Purpose.WRITE) as operation:
            plain = _create_options(options, operation.target.owner, context.limits)
        collection, connection, raw_session = operation.place(options.get("session"))
        if raw_session is not None:
            plain["session"] = raw_session
        made = ScopedCollection(context, reference)
        try:
            await operation.send(
                lambda: collection.database.create_collection(
                    operation.target.physical, check_exists=False, **plain
                ),
                connection,
                bounded=True,
            )
        except OperationFailure as error:
            asked = options.keys() - {"session", "check_exists"}
            if error.code != _NAMESPACE_EXISTS or asked or not operation.target.declared:
                raise
            if await made.find_one({}, {"_id": 1}) is not None:
                raise
        return made

    async def drop_collection(
        self, name_or_collection: str | ScopedCollection, **options: Unpack[CommonOptions]
    ) -> None:
        """Drop an own collection; as `ScopedCollection.drop`."""
        if isinstance(name_or_collection, ScopedCollection):
            await name_or_collection.drop(**options)
        else:
            await self.get_collection(name_or_collection).drop(**options)

    def _setting(self, name: str) -> Any:
        given = self._options
        return given[name] if name in given else getattr(self._context.source()().database, name)


class ScopedApp:
    """The collections of another app; ``db.app(slug)`` makes it.

    Parameters
    ----------
    context
        What the database works with.
    slug
        The other app.
    options
        How its collections are read.
    """

    __slots__ = ("_context", "_options", "_slug")

    def __init__(self, context: Context, slug: str, options: Mapping[str, Any]) -> None:
        self._context = context
        self._slug = slug
        self._options = options

    def __repr__(self) -> str:
        return f"ScopedApp({self._slug!r})"

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError(
            "a scoped handle belongs to this process and can be neither copied nor pickled"
        )

    def __getattr__(self, name: str) -> ScopedCollection:
        if name.startswith("_"):
            raise AttributeRefused(f"ScopedApp has no attribute {name!r}")
        return self[name]

    def __getitem__(self, name: str) -> ScopedCollection:
        reference = _reference(self._context, name, self._slug, self._options)
        return ScopedCollection(self._context, reference)

    def __iter__(self) -> NoReturn:
        raise OptionRefused("an app's collections cannot be iterated")


def _list_options(options: ListOptions, limits: Limits) -> dict[str, Any]:
    for name, value in options.items():
        if name not in ListOptions.__annotations__:
            if name == "filter" and not value:
                continue
            raise unknown_option("list_collection_names", name, ListOptions.__annotations__)
        if name in {"authorizedCollections", "nameOnly"} and value not in {None, True}:
            raise OptionRefused(f"{name} is always True", path=name)
    comment = options.get("comment")
    return {} if comment is None else {"comment": plain_value(comment, limits, "comment")}


def _create_options(options: CreateOptions, slug: str, limits: Limits) -> dict[str, Any]:
    """Check and copy the options that the server gets, with the validator of the stamp."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in CreateOptions.__annotations__:
            raise unknown_option("create_collection", name, CreateOptions.__annotations__)
    for name in ("session", "check_exists"):
        given.pop(name, None)
    if "collation" in given:
        given["collation"] = collation_document(given["collation"], limits, "collation")
    plain = plain_mapping(given, limits, "options")
    own = plain.get("validator", {})
    check_filter(own, "validator", text=False)
    for name, only in _ENFORCED.items():
        if plain.setdefault(name, only) != only:
            raise OptionRefused(
                f"{name} has to be {only!r}: the same validator holds the app's stamp", path=name
            )
    plain["validator"] = stamped_validator(slug, own, collated="collation" in plain)
    return plain


def _reference(
    context: Context, name: str, app: str | None, options: Mapping[str, Any]
) -> Reference:
    text = _text(name, "a name")
    return Reference(text, app, options) if options else context.reference(text, app)


_NAMESPACE_EXISTS = 48

_SETTINGS = tuple(CollectionOptions.__annotations__)

_ENFORCED = {"validationLevel": "strict", "validationAction": "error"}


def _text(value: object, what: str) -> str:
    if type(value) is str:
        return value
    if not isinstance(value, str):
        raise OptionRefused(f"{what} has to be a string, not {type(value).__name__}")
    return str.__str__(value)


def _name_of(physical: str, access: Access) -> str | None:
    """Return the name by which an app reaches a collection, or None if it may not."""
    own = physical.removeprefix(f"{access.slug}_")
    for name in (own, physical) if own != physical else (physical,):
        try:
            if access.resolve(name).physical == physical:
                return name
        except (ScopeDenied, QueryRefused):
            continue
    return None
