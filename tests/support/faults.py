"""Let exactly one of the operator's calls fail: any request to the API server, any command.

What stands between the operator and a MongoDB is a proxy that reads MongoDB's protocol, and
between it and the API server a wrapper around the one function that sends a request. Both are on
the outside: nothing of the operator is replaced, and both servers are real.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import SimpleNamespace
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import bson
from pymongo.uri_parser import parse_uri

from mdb_operator.kubernetes.client import KubeClient

__all__ = ["Call", "Fault", "Faults", "MongoProxy"]

OP_MSG = 2013

UNCOUNTED = {
    "hello", "isMaster", "ismaster", "ping", "saslStart", "saslContinue", "endSessions",
    "killCursors", "buildInfo", "connectionStatus",
}  # fmt: skip
"""Commands of the driver itself, and the look whether MongoDB is there."""


READS = ("GET", "find", "aggregate", "count", "list", "getMore", "usersInfo", "rolesInfo")


class Fault(StrEnum):
    """How a call fails."""

    ERROR = "error"
    """The server refuses; nothing happened."""
    TIME_OUT = "time-out"
    """No answer comes, and nothing happened."""
    LOST_ANSWER = "lost-answer"
    """It happened, and the answer did not come."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the operator: to whom, and what for."""

    target: str
    what: str

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return not self.what.startswith(READS)

    def __str__(self) -> str:
        return f"{self.target}: {self.what}"


@dataclass
class Faults:
    """Counts the calls, and fails one.

    Attributes
    ----------
    calls
        Those since `watch` or `fail`, the failed one included.
    failed
        The one that was failed, or None.
    status
        The HTTP status of an `Fault.ERROR` of the API server.
    """

    calls: list[Call] = field(default_factory=list)
    failed: Call | None = None
    status: int = 500
    before: Callable[[Call], None] | None = None
    """Called before every call; a test changes the world there."""
    last: float = field(default_factory=time.monotonic)
    """When the last call was made."""
    _index: int | None = None
    _matching: Callable[[Call], bool] | None = None
    _fault: Fault = Fault.ERROR

    def watch(self) -> None:
        """Begin to count, and fail nothing."""
        self.calls.clear()
        self.failed = self._index = self._matching = None

    def fail(self, index: int, fault: Fault, status: int = 500) -> None:
        """Begin to count, and fail the call of that number."""
        self.watch()
        self._index, self._fault, self.status = index, fault, status

    def fail_next(
        self, matching: Callable[[Call], bool], fault: Fault = Fault.ERROR, status: int = 500
    ) -> None:
        """Fail the next call that fits."""
        self.watch()
        self._matching, self._fault, self.status = matching, fault, status

    def take(self, call: Call) -> Fault | None:
        """Count a call; return how it has to fail, if it has to."""
        self.calls.append(call)
        self.last = time.monotonic()
        if self.before is not None:
            self.before(call)
        due = self._index == len(self.calls) - 1
        if self._matching is not None and self.failed is None:
            due = self._matching(call)
        if not due:
            return None
        self.failed = call
        return self._fault

    def attach(self, kube: KubeClient) -> None:
        """Stand between a client and its API server."""
        send = kube._api.call_api

        async def call_api(method: str, url: str, *rest: Any, **options: Any) -> Any:
            parts = urlsplit(url)
            fault = self.take(Call("kubernetes", f"{method} {parts.path}"))
            if fault is None:
                return await send(method, url, *rest, **options)
            if fault is Fault.ERROR:
                return SimpleNamespace(response=_Refusal(self.status))
            if fault is Fault.LOST_ANSWER:
                answer = await send(method, url, *rest, **options)
                async with answer.response as response:
                    await response.read()
                raise aiohttp.ServerDisconnectedError
            raise TimeoutError

        kube._api.call_api = call_api  # type: ignore[method-assign]


class _Refusal:
    """An answer of an API server that refuses."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.reason = "Injected"
        self.headers: dict[str, str] = {"Retry-After": "1"} if status == 429 else {}

    async def read(self) -> bytes:
        reason = {404: "NotFound", 422: "Invalid", 429: "TooManyRequests", 403: "Forbidden"}
        body = {"kind": "Status", "code": self.status, "message": "injected by a test"}
        return json.dumps({**body, "reason": reason.get(self.status, "InternalError")}).encode()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


class MongoProxy:
    """A port in front of a mongod that counts commands and fails one.

    Parameters
    ----------
    uri
        Of the server, with login and database of login.
    faults
        Which one.
    """

    def __init__(self, uri: str, faults: Faults) -> None:
        self._uri = uri
        self._target = parse_uri(uri)["nodelist"][0]
        self._faults = faults
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def uri(self) -> str:
        """The URI by which a client comes through here, and only through here."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        login = urlsplit(self._uri).netloc.rpartition("@")[0]
        source = parse_uri(self._uri)["options"].get("authSource", "admin")
        return (
            f"mongodb://{login}@127.0.0.1:{port}/?directConnection=true&authSource={source}"
            "&retryReads=false"
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[MongoProxy]:
        """Serve for as long as the context."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield self
        finally:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_connection(*self._target)
            while True:
                await self._forward(await _message(reader), writer, answers, upstream)
        except (asyncio.IncompleteReadError, ConnectionError, _HungUp):
            pass
        finally:
            self._tasks.discard(task)
            for end in (writer, upstream):
                if end is not None:
                    end.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _forward(
        self,
        request: bytes,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> None:
        """Pass one request on and its answer back, or fail it."""
        command = _command(request)
        fault = None
        if command is not None and next(iter(command)) not in UNCOUNTED:
            name = next(iter(command))
            about = command[name] if isinstance(command[name], str) else ""
            fault = self._faults.take(Call("mongodb", f"{name} {about}".strip()))
        if fault is Fault.TIME_OUT:
            raise _HungUp
        if fault is Fault.ERROR:
            writer.write(_refusal(request))
            await writer.drain()
            return
        upstream.write(request)
        await upstream.drain()
        answer = await _message(answers)
        if fault is Fault.LOST_ANSWER:
            raise _HungUp
        writer.write(answer)
        await writer.drain()


class _HungUp(Exception):
    """Ends a connection."""


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    (length,) = struct.unpack("<i", head)
    return head + await reader.readexactly(length - 4)


def _command(message: bytes) -> dict[str, Any] | None:
    """Return the command of a message, or None where it is an older protocol's greeting."""
    (opcode,) = struct.unpack_from("<i", message, 12)
    if opcode != OP_MSG or message[20] != 0:
        return None
    (length,) = struct.unpack_from("<i", message, 21)
    return bson.decode(message[21 : 21 + length])


def _refusal(request: bytes) -> bytes:
    """Return an answer that refuses a request."""
    (request_id,) = struct.unpack_from("<i", request, 4)
    error = {"ok": 0.0, "errmsg": "injected by a test", "code": 8, "codeName": "UnknownError"}
    body = struct.pack("<I", 0) + b"\x00" + bson.encode(error)
    return struct.pack("<iiii", 16 + len(body), 1, request_id, OP_MSG) + body
