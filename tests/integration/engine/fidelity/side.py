"""One case on one database, a driver's or a scoped one, and what came of it in one form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pymongo
from bson.errors import InvalidDocument
from pymongo import ReadPreference
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern
from pymongo.results import (
    BulkWriteResult,
    DeleteResult,
    InsertManyResult,
    InsertOneResult,
    UpdateResult,
)
from pymongo.write_concern import WriteConcern
from support.scoped_world import Commands

from mdb_engine.connection.driver import TRANSACTION_OPTIONS
from mdb_engine.exceptions import MdbEngineError, QueryRefused
from mdb_engine.scoped.errors import translated

from .cases import Case, Step

__all__ = ["REFUSED", "Outcome", "Side"]

REFUSED = "refused before it is sent"

_LABELS = (
    "NoWritesPerformed",
    "RetryableWriteError",
    "TransientTransactionError",
    "UnknownTransactionCommitResult",
)

_SHOWN = {
    DeleteResult: ("deleted_count",),
    InsertManyResult: ("inserted_ids",),
    InsertOneResult: ("inserted_id",),
    UpdateResult: ("matched_count", "modified_count", "upserted_id"),
    BulkWriteResult: (
        "inserted_count",
        "matched_count",
        "modified_count",
        "deleted_count",
        "upserted_ids",
    ),
}

_NOT_COUNTED = {"endSessions", "killCursors"}


@dataclass
class Outcome:
    """What came of a case."""

    answers: list[Any] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    documents: list[Any] = field(default_factory=list)


class Side:
    """A collection and a client of one kind.

    Parameters
    ----------
    collection, copies
        The collection that cases are on, and another.
    start_session
        Starts a session.
    commands
        What the client sends.
    """

    def __init__(
        self,
        collection: Any,
        copies: Any,
        start_session: Callable[..., Any],
        commands: Commands,
    ) -> None:
        self._collection = collection
        self._copies = copies
        self._start_session = start_session
        self._commands = commands
        self._session: Any = None
        self._stream: Any = None

    async def run(self, case: Case) -> Outcome:
        """Run the operations of a case, whatever comes of them."""
        outcome = Outcome()
        self._session = self._stream = None
        self._commands.clear()
        try:
            for step in case.steps:
                try:
                    outcome.answers.append(plain(await self._step(step)))
                except (
                    *(PyMongoError, MdbEngineError, InvalidDocument, TypeError, ValueError),
                ) as error:
                    outcome.answers.append(said(error))
            outcome.commands = [name for name in self._commands.names if name not in _NOT_COUNTED]
        finally:
            with suppress(PyMongoError, MdbEngineError):
                if self._stream is not None:
                    await self._stream.close()
                if self._session is not None:
                    await self._session.end_session()
        return outcome

    async def _step(self, step: Step) -> Any:
        name, arguments = step
        if name.startswith("@"):
            own: Callable[..., Awaitable[Any]] = getattr(self, f"_do_{name[1:]}")
            return await own(**arguments)
        return await self._operation(name, arguments)

    async def _operation(self, name: str, arguments: Mapping[str, Any]) -> Any:
        given = dict(arguments)
        if given.get("session") == "@":
            given["session"] = await self._sessioned()
        if "requests" in given:
            given["requests"] = [
                getattr(pymongo, kind)(**fields) for kind, fields in given["requests"]
            ]
        method = getattr(self._collection, name)
        if name == "find":
            return await method(**given).to_list()
        if name == "aggregate":
            return await (await method(**given)).to_list()
        return await method(**given)

    async def _sessioned(self) -> Any:
        if self._session is None:
            await self._do_session()
        return self._session

    async def _do_session(self, defaults: Mapping[str, Any] | None = None, **options: Any) -> None:
        if defaults is not None:
            made = TRANSACTION_OPTIONS[0](**concerns(defaults))
            options["default_transaction_options"] = made
        self._session = self._start_session(**options)

    async def _do_start(self, **options: Any) -> None:
        await (await self._sessioned()).start_transaction(**concerns(options))

    async def _do_commit(self) -> None:
        await (await self._sessioned()).commit_transaction()

    async def _do_abort(self) -> None:
        await (await self._sessioned()).abort_transaction()

    async def _do_end(self) -> None:
        await (await self._sessioned()).end_session()

    async def _do_run(self, step: Step, **options: Any) -> Any:
        async def work(_: Any) -> Any:
            return await self._operation(*step)

        return await (await self._sessioned()).with_transaction(work, **concerns(options))

    async def _do_copies(self) -> Any:
        return await self._copies.find({}, sort=[("_id", 1)]).to_list()

    async def _do_watch(self, **options: Any) -> None:
        self._stream = await self._collection.watch(max_await_time_ms=100, **options)

    async def _do_resume(self) -> None:
        token = self._stream.resume_token
        await self._stream.close()
        self._stream = await self._collection.watch(max_await_time_ms=100, resume_after=token)

    async def _do_changes(self) -> Any:
        changes = []
        if self._stream is None:
            return None
        while (change := await self._stream.try_next()) is not None:
            changes.append(
                {
                    name: part
                    for name, part in change.items()
                    if name in {"operationType", "documentKey", "fullDocument", "more"}
                    or name == "updateDescription"
                }
            )
        # How often it was asked depends on the time that passed.
        self._commands.clear()
        return changes


def concerns(options: Mapping[str, Any]) -> dict[str, Any]:
    """Make the drivers' objects of their names."""
    made = dict(options)
    if "read_concern" in made:
        made["read_concern"] = ReadConcern(made["read_concern"])
    if "write_concern" in made:
        made["write_concern"] = WriteConcern(made["write_concern"])
    if "read_preference" in made:
        made["read_preference"] = getattr(ReadPreference, made["read_preference"].upper())
    return made


def plain(value: Any) -> Any:
    """Return an answer without what differs on purpose: the stamp."""
    for kind, names in _SHOWN.items():
        if isinstance(value, kind):
            return {name: getattr(value, name) for name in names}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items() if name != "app_id"}
    return value if isinstance(value, int | str | type(None)) else repr(value)


def said(error: BaseException) -> Any:
    """Return an error in the form that both sides have in common."""
    if isinstance(error, QueryRefused):
        return REFUSED
    if isinstance(error, MdbEngineError):
        return [type(error).__name__, sorted(error.labels)]
    if not isinstance(error, PyMongoError):
        return REFUSED
    labels = sorted(label for label in _LABELS if error.has_error_label(label))
    domain = translated(error, "", 0)
    if domain is not None and not isinstance(domain[0], QueryRefused):
        return [type(domain[0]).__name__, labels]
    if isinstance(error, BulkWriteError):
        details = error.details
        errors = [(one["index"], one["code"]) for one in details["writeErrors"]]
        return ["BulkWriteError", labels, details["nInserted"], errors]
    if isinstance(error, ConfigurationError | InvalidOperation):
        return REFUSED
    code = error.code if isinstance(error, OperationFailure) else None
    return [type(error).__name__, code, labels]
