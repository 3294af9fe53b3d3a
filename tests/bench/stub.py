"""A MongoDB server that takes no time: it answers every command with a reply made beforehand.

A process of its own behind a real socket, so that the drivers are used as they are. What it cannot
show is a ratio, since the drivers wait for it as well; it shows the microseconds that an operation
costs more, without the noise of a database at work. It speaks OP_MSG, and OP_QUERY for the
handshake (https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/).
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from subprocess import PIPE, Popen
from typing import Any, Final

import bson

from bench.data import DATABASE, SLUG, clicks, grant_rows

OP_REPLY: Final = 1
OP_QUERY: Final = 2004
OP_MSG: Final = 2013

GRANTS: Final = "_mdb_engine_grants"

FIRST_BATCH: Final = 101
"""How many documents MongoDB gives at first where no batch size is asked for."""

NO_CHANGE_STREAM: Final = 40573
"""The code by which a server without a replica set refuses a change stream."""

HELLO: Final = {
    "ismaster": True,
    "isWritablePrimary": True,
    "helloOk": True,
    "maxBsonObjectSize": 16 * 1024**2,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
    "connectionId": 1,
    "minWireVersion": 0,
    "maxWireVersion": 17,
    "readOnly": False,
    "ok": 1.0,
}


class Replies:
    """What is answered, encoded once for every kind of question."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], bytes] = {}
        self._stamped = clicks(1000, {"app_id": SLUG})
        self._plain = clicks(1000, {})

    def to(self, command: Mapping[str, Any]) -> bytes:
        """Return the reply to a command, as BSON."""
        name = next(iter(command))
        key: tuple[Any, ...]
        match name:
            case "find":
                key = (name, command["find"], command.get("limit", 0), command.get("batchSize", 0))
            case "getMore":
                key = (name, command["collection"])
            case "aggregate":
                pipeline = command["pipeline"]
                key = (name, command["aggregate"], *(next(iter(stage)) for stage in pipeline))
            case _:
                key = (name,)
        reply = self._made.get(key)
        if reply is None:
            reply = self._made[key] = bson.encode(self._reply(name, command))
        return reply

    def _reply(self, name: str, command: Mapping[str, Any]) -> Mapping[str, Any]:
        match name:
            case "hello" | "isMaster" | "ismaster":
                return HELLO
            case "find":
                return self._find(command)
            case "getMore":
                rest = self._documents(command["collection"])[FIRST_BATCH:]
                return _cursor(command["collection"], rest, first=False)
            case "aggregate":
                return self._aggregate(command)
            case "insert" | "update":
                return {"n": 1, "nModified": 1, "ok": 1.0}
            case _:
                return {"ok": 1.0}

    def _find(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        if command["find"] == GRANTS:
            return _cursor(command["find"], grant_rows())
        found = self._documents(command["find"])
        limit = command.get("limit", 0)
        if limit:
            return _cursor(command["find"], found[:limit])
        return _cursor(command["find"], found[:FIRST_BATCH], more=True)

    def _aggregate(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        stages = [next(iter(stage)) for stage in command["pipeline"]]
        if "$changeStream" in stages:
            text = "The $changeStream stage is only supported on replica sets"
            return {"ok": 0.0, "errmsg": text, "code": NO_CHANGE_STREAM}
        if command["aggregate"] == GRANTS:
            slugs = [{"_id": row["_id"], "slug": row["slug"]} for row in grant_rows()]
            return _cursor(GRANTS, [{"_id": None, "slugs": slugs}])
        if stages[-1] == "$group":
            return _cursor(command["aggregate"], [{"_id": 1, "n": 50}])
        return _cursor(command["aggregate"], [{"_id": f"/{n}", "clicks": n} for n in range(5)])

    def _documents(self, collection: str) -> Sequence[Mapping[str, Any]]:
        return self._plain if collection.startswith("plain") else self._stamped


def _cursor(
    collection: str,
    documents: Sequence[Mapping[str, Any]],
    *,
    more: bool = False,
    first: bool = True,
) -> Mapping[str, Any]:
    batch = "firstBatch" if first else "nextBatch"
    cursor = {batch: documents, "id": bson.Int64(int(more)), "ns": f"{DATABASE}.{collection}"}
    return {"cursor": cursor, "ok": 1.0}


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._waiting = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every message that is complete."""
        assert self._transport is not None
        self._waiting += data
        while len(self._waiting) >= 4:
            (length,) = struct.unpack_from("<i", self._waiting)
            if len(self._waiting) < length:
                return
            message = bytes(self._waiting[:length])
            del self._waiting[:length]
            self._transport.write(self._answer(message))

    def _answer(self, message: bytes) -> bytes:
        _, request, _, opcode = struct.unpack_from("<iiii", message)
        if opcode == OP_QUERY:
            body = self._replies.to(_command(message, message.index(b"\0", 20) + 9))
            head = struct.pack("<iqii", 8, 0, 0, 1)
            return struct.pack("<iiii", 36 + len(body), 0, request, OP_REPLY) + head + body
        body = self._replies.to(_command(message, 21))
        return struct.pack("<iiiiiB", 21 + len(body), 0, request, OP_MSG, 0, 0) + body


def _command(message: bytes, start: int) -> Mapping[str, Any]:
    (length,) = struct.unpack_from("<i", message, start)
    command: Mapping[str, Any] = bson.decode(message[start : start + length])
    return command


async def serve() -> None:
    """Serve on a free port, and print it."""
    replies = Replies()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(replies), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def stub_server() -> Iterator[str]:
    """Run the server in a process of its own; gives its URI."""
    command = [sys.executable, "-m", "bench.stub"]
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with Popen(command, stdout=PIPE, text=True, env=path) as process:
        try:
            assert process.stdout is not None
            yield f"mongodb://127.0.0.1:{int(process.stdout.readline())}/?directConnection=true"
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(serve())
