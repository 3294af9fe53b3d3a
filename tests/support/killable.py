"""The operator, but for a call of its own at which it is killed; run in place of ``mdb-operator``.

What counts is what changes something: a request to the API server that is no read, a command to
MongoDB that is none. Between two of those nothing outside of the process differs, and SIGKILL
leaves nothing inside of it; so these are all the states that a process which dies can leave behind.

A file says which call: ``{"number": 3, "when": "before"}``, counted from when the file appears.
Each call is added to the file of that name with ``.calls`` at its end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubernetes.aio.client import ApiClient
from pymongo import monitoring

from mdb_operator.cli.main import main

FILE = "MDB_TEST_KILL"
"""The variable that names the file."""

_READS = {
    "aggregate", "buildInfo", "connectionStatus", "count", "distinct", "endSessions", "find",
    "getMore", "hello", "isMaster", "ismaster", "killCursors", "listCollections", "listIndexes",
    "ping", "rolesInfo", "saslContinue", "saslStart", "usersInfo",
}  # fmt: skip


class Killer:
    """Counts calls, and kills the process at one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._order: dict[str, Any] | None = None
        self._count = 0
        self._lock = threading.Lock()

    def before(self, what: str) -> int:
        """Take in that a call begins; return its number."""
        with self._lock:
            try:
                order = json.loads(self._file.read_text())
            except FileNotFoundError:
                self._order = None
                return -1
            if order != self._order:
                self._order, self._count = order, 0
            number = self._count
            self._count += 1
            with self._file.with_suffix(".calls").open("a") as calls:
                calls.write(f"{what}\n")
            self._kill_if("before", number)
        return number

    def after(self, number: int) -> None:
        """Take in that it happened, before anything here knows of it."""
        with self._lock:
            self._kill_if("after", number)

    def _kill_if(self, when: str, number: int) -> None:
        order = self._order
        if order is not None and (order["number"], order["when"]) == (number, when):
            os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait()  # the signal may take a moment; nothing more is sent


class _Commands(monitoring.CommandListener):
    def __init__(self, killer: Killer) -> None:
        self._killer = killer
        self._numbers: dict[int, int] = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name not in _READS:
            what = f"mongodb {event.command_name} {event.command.get(event.command_name)}"
            self._numbers[event.request_id] = self._killer.before(what)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self._end(event.request_id)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self._end(event.request_id)

    def _end(self, request: int) -> None:
        number = self._numbers.pop(request, None)
        if number is not None:
            self._killer.after(number)


def _watch_requests(killer: Killer) -> None:
    send = ApiClient.call_api

    async def call_api(self: ApiClient, method: str, url: str, *rest: Any, **options: Any) -> Any:
        path = urlsplit(url).path
        if method == "GET" or "/leases/" in path or path.endswith("/leases"):
            return await send(self, method, url, *rest, **options)
        number = killer.before(f"kubernetes {method} {path}")
        answer = await send(self, method, url, *rest, **options)
        killer.after(number)
        return answer

    ApiClient.call_api = call_api  # type: ignore[method-assign]


if __name__ == "__main__":
    the_killer = Killer(Path(os.environ[FILE]))
    monitoring.register(_Commands(the_killer))
    _watch_requests(the_killer)
    sys.exit(main())
