"""What a scoped database shows as its client, and the few commands that it takes.

Libraries that are made for a driver ask for a client's kind, tell it their own name, start sessions
on it and take their database from it; an object that does that and nothing else lets them run. A
raw command knows no scopes, so three are taken that say something of the server and nothing of
anybody's data. What they answer is cut down to what a library needs.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from pymongo.driver_info import DriverInfo

from mdb_engine.exceptions import AttributeRefused, MdbEngineError, OptionRefused, ScopeDenied
from mdb_engine.scoped.context import Context
from mdb_engine.scoped.errors import translating
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.not_offered import CLIENT_REFUSED, refusal
from mdb_engine.scoped.rewrite.refusals import shown
from mdb_engine.scoped.rewrite.values import plain_value
from mdb_engine.scoped.session import Session
from mdb_engine.scoped.transaction import AnySession, join

if TYPE_CHECKING:
    from mdb_engine.scoped.database import ScopedDatabase

__all__ = ["ANSWERS", "ScopedClient", "SessionOptions", "run_command"]

_BUILD: Final = frozenset(
    {"bits", "gitVersion", "maxBsonObjectSize", "modules", "ok", "storageEngines", "version"}
    | {"versionArray"}
)

ANSWERS: Final[Mapping[str, frozenset[str]]] = {
    "buildInfo": _BUILD,
    "buildinfo": _BUILD,
    "hello": frozenset(
        {"isWritablePrimary", "localTime", "logicalSessionTimeoutMinutes", "maxBsonObjectSize"}
        | {"maxMessageSizeBytes", "maxWireVersion", "maxWriteBatchSize", "minWireVersion"}
        | {"msg", "ok", "readOnly", "secondary", "setName"}
    ),
    "ping": frozenset({"ok"}),
}
"""The commands that a scoped database takes, and what is kept of each answer: no host, no user."""

_LONGEST_NAME: Final = 64
"""Characters of a library's name or version, which go into the server's log."""


class SessionOptions(TypedDict, total=False):
    """Options of a `Session`."""

    causal_consistency: bool | None
    snapshot: bool | None
    default_transaction_options: Any


class ScopedClient:
    """The client of a scoped database: ``db.client``.

    Parameters
    ----------
    database
        The database that it leads back to.
    context
        What the database works with.
    """

    __slots__ = ("_context", "_database")

    def __init__(self, database: ScopedDatabase, context: Context) -> None:
        self._database = database
        self._context = context

    def __repr__(self) -> str:
        return "ScopedClient()"

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError(
            "a scoped client belongs to this process and can be neither copied nor pickled"
        )

    if not TYPE_CHECKING:  # a type checker is to say so as well

        def __getattr__(self, name: str) -> Any:
            raise AttributeRefused(refusal("ScopedClient", name, CLIENT_REFUSED))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScopedClient):
            return NotImplemented
        return self._context is other._context

    def __hash__(self) -> int:
        return hash(id(self._context))

    def __getitem__(self, name: str) -> ScopedDatabase:
        return self.get_database(name)

    def get_database(self, name: str | None = None) -> ScopedDatabase:
        """Return the scoped database; there is no other.

        Raises
        ------
        ScopeDenied
            If the name is another one.
        """
        if name is not None and name != self._database.name:
            raise ScopeDenied(
                f"a scoped client has one database, which is not {shown(name)}; it is "
                "db.client[db.name]"
            )
        return self._database

    get_default_database = get_database

    @property
    def is_mongos(self) -> Answer:
        """Whether the deployment is sharded; true or false, and may be awaited."""
        client = self._context.source()().client
        return Answer(client.topology_description.topology_type_name == "Sharded")

    def append_metadata(self, driver_info: DriverInfo) -> None:
        """Take note of a library's name, for the server's log, where the driver can."""
        if type(driver_info) is not DriverInfo:
            raise OptionRefused("append_metadata takes a pymongo DriverInfo", path="driver_info")
        for text in driver_info:
            if text is not None and (type(text) is not str or len(text) > _LONGEST_NAME):
                raise OptionRefused("a library's name is a short text", path="driver_info")
        client = self._context.driver.delegate(self._context.source()().client)
        append = getattr(type(client), "append_metadata", None)  # of PyMongo 4.14
        if append is not None:
            append(client, driver_info)

    def start_session(self, **options: Unpack[SessionOptions]) -> Session:
        """Return a session for the operations of this engine's databases; see `Session`."""
        context = self._context
        for name in options:
            if name not in SessionOptions.__annotations__:
                raise OptionRefused(
                    f"start_session has no option {shown(name)}; it takes "
                    f"{', '.join(SessionOptions.__annotations__)}",
                    path=name,
                )
        return Session(context.driver, context.source(), context.limits, **options)


class Answer(int):
    """A truth value that may be awaited, as PyMongo's is and Motor's is not."""

    def __repr__(self) -> str:
        return repr(bool(self))

    def __await__(self) -> Generator[Any, None, bool]:
        yield from ()
        return bool(self)


async def run_command(
    context: Context,
    command: str | Mapping[str, Any],
    options: Mapping[str, Any],
    session: AnySession | None,
) -> dict[str, Any]:
    """Run one of the commands that say nothing of anybody's data.

    Parameters
    ----------
    context
        What the database works with.
    command
        Its name, or a mapping that holds nothing but it.
    options
        What else was given; ``comment`` is sent.
    session
        The session that it is part of.

    Raises
    ------
    OptionRefused
        If it is any other command, or says more than its name.
    """
    gate = context.gate()
    try:
        name, comment = _checked(command, options, context.limits)
        gate.admit()
    except MdbEngineError as error:
        gate.record("command", "", "", error)
        raise
    send: dict[str, Any] = {} if comment is None else {"comment": comment}
    if session is None:
        connection = context.source()()
    else:
        connection, send["session"] = join(session, gate, context.source())
    with translating("command", context.seconds), connection.lease() as database:
        answer = await database.command(name, **send)
    return {key: value for key, value in answer.items() if key in ANSWERS[name]}


def _checked(command: object, options: Mapping[str, Any], limits: Limits) -> tuple[str, Any]:
    plain = plain_value(command, limits, "command")
    rest = dict(options)
    if isinstance(plain, dict):
        name = next(iter(plain), "")
        rest = {**plain, **rest}
        rest.pop(name, None)
    else:
        name = plain
    if not isinstance(name, str) or name not in ANSWERS:
        raise OptionRefused(
            f"command is refused for {shown(str(name))}: a raw command knows no scopes; it takes "
            "buildInfo, hello and ping. Use the methods of a collection",
            path="command",
        )
    comment = rest.pop("comment", None)
    rest = {key: value for key, value in rest.items() if value is not None}
    if rest:
        raise OptionRefused(
            f"command {name} takes comment and session, not {shown(next(iter(rest)))}",
            path="command",
        )
    return name, plain_value(comment, limits, "comment")
