"""A TCP port in front of a server that can be cut off, slowed down or left hanging.

An outage without touching the server.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from urllib.parse import urlsplit

from pymongo.uri_parser import parse_uri

BUFFER_BYTES = 1 << 16


class Forwarder:
    """Forwards connections to a server until it is cut, and again after it is mended.

    Parameters
    ----------
    uri
        Of the server that is forwarded to; ``mongodb://HOST:PORT`` will do for one of any kind.

    Attributes
    ----------
    delay
        Seconds by which whatever is sent comes later, in both directions.
    hangs
        Whether whatever is sent never comes, and nobody hears of it.
    hang_at
        Bytes of a request after which it `hangs`: the request itself still comes, its answer does
        not. Empty for none.
    hangs_alone
        Whether at `hang_at` that connection alone hangs, and all others go on.
    """

    def __init__(self, uri: str) -> None:
        self._target = parse_uri(uri)["nodelist"][0]
        self._original = uri
        self.delay = 0.0
        self.hangs = False
        self.hang_at = b""
        self.hangs_alone = False
        self._late: deque[tuple[float, socket.socket, bytes]] = deque()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._hung: set[socket.socket] = set()
        self._cut = False
        self._lock = threading.Lock()
        self._closing = False
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)
        self._thread.start()

    @property
    def uri(self) -> str:
        """The URI by which a client comes through here, and only through here."""
        login = urlsplit(self._original).netloc.rpartition("@")[0]
        port = self._listener.getsockname()[1]
        prefix = f"{login}@" if login else ""
        return f"mongodb://{prefix}127.0.0.1:{port}/?directConnection=true"

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return int(self._listener.getsockname()[1])

    @property
    def hung(self) -> bool:
        """Whether there are connections that hang."""
        return bool(self._hung)

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        with self._lock:
            self._cut = True
            for one in list(self._pairs):
                self._close(one)

    def mend(self) -> None:
        """Forward again, at once; what hung stays so."""
        with self._lock:
            self._cut = self.hangs = False
            self.hang_at, self.hangs_alone, self.delay = b"", False, 0.0

    def close(self) -> None:
        """Stop for good."""
        self._closing = True
        self._thread.join()
        with self._lock:
            for one in list(self._pairs):
                self._close(one)
            self._listener.close()
            self._selector.close()

    def _run(self) -> None:
        while not self._closing:
            self._send_late()
            for key, _ in self._selector.select(timeout=0.05):
                with self._lock:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif isinstance(key.fileobj, socket.socket):
                        self._forward(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._cut:
            client.close()
            return
        server = socket.create_connection(self._target)
        for one, other in ((client, server), (server, client)):
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, one: socket.socket) -> None:
        other = self._pairs.get(one)
        if other is None:
            return
        try:
            data = one.recv(BUFFER_BYTES)
            if data and (self.hangs or one in self._hung):
                self._hung.update((one, other))  # it lacks something: it can never go on
                return
            if data and (self.delay or self._late):
                self._late.append((time.monotonic() + self.delay, other, data))
                return
            if data:
                other.sendall(data)
                if self.hang_at and self.hang_at in data:
                    self._hung.update((one, other))
                    self.hangs = not self.hangs_alone
                return
        except OSError:
            pass
        self._close(one)

    def _send_late(self) -> None:
        """Send what is due; in order, since all of it is as late."""
        with self._lock:
            while self._late and (not self.delay or self._late[0][0] <= time.monotonic()):
                _, other, data = self._late.popleft()
                if other in self._pairs:
                    try:
                        other.sendall(data)
                    except OSError:
                        self._close(other)

    def _close(self, one: socket.socket) -> None:
        other = self._pairs.pop(one, None)
        if other is None:
            return
        self._pairs.pop(other, None)
        for end in (one, other):
            self._hung.discard(end)
            with suppress(KeyError):
                self._selector.unregister(end)
            end.close()
