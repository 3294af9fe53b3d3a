"""``/healthz``, ``/readyz`` and ``/metrics`` on one port, from a thread of their own.

By TLS where there is a certificate, all three: kubelet asks by HTTPS as well and checks nothing. A
token is asked for ``/metrics`` alone.

A thread, so that a main loop that is blocked is *reported* instead of making the endpoint silent
for an unclear reason. Health never looks at MongoDB: restarting the operator repairs no database,
and all replicas restarting together would only add to an outage.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

__all__ = ["Heartbeat", "ProbeServer", "Readiness", "ServerCertificate"]

BEAT_SECONDS = 1.0
"""How often the main loop shows that it is alive."""

REQUEST_SECONDS = 10
"""A client that sends nothing for so long is cut off, so that threads do not pile up."""


class Heartbeat:
    """The main loop's sign of life, read by another thread.

    Without a beat for ``limit`` seconds the loop counts as blocked. The clock is monotonic.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._last = clock()
        self.problem: str | None = None
        """What else only a new process would mend, None while nothing is wrong."""

    def beat(self) -> None:
        """Show a sign of life."""
        self._last = self._clock()

    @property
    def age(self) -> float:
        """Seconds since the last beat."""
        return self._clock() - self._last

    @property
    def alive(self) -> bool:
        """Whether the loop still turns and nothing else is wrong."""
        return self.age <= self._limit and self.problem is None

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(BEAT_SECONDS)


class Readiness:
    """Named conditions that all have to hold; safe to use from several threads.

    A replica that waits for the Lease is ready: were it not, a rolling update would never end. At
    first none holds.
    """

    def __init__(self, *names: str) -> None:
        self._lock = threading.Lock()
        self._why: dict[str, str] = dict.fromkeys(names, "not yet")

    def hold(self, name: str) -> None:
        """Say that the condition holds."""
        with self._lock:
            self._why.pop(name, None)

    def fail(self, name: str, why: str) -> None:
        """Say that the condition does not hold, and why."""
        with self._lock:
            self._why[name] = why

    def failures(self) -> dict[str, str]:
        """Return what does not hold, and why; empty when ready."""
        with self._lock:
            return dict(self._why)


class ServerCertificate:
    """A certificate with its key, which somebody renews under our hands.

    Raises
    ------
    OSError
        If the files cannot be read, or are no certificate and its key.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._loaded = self._state()

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """Return the connection by TLS; the handshake is the reader's, in a thread of its own."""
        try:
            state = self._state()
            if state != self._loaded:
                self._context.load_cert_chain(*self._files)
                self._loaded = state
        except OSError:
            pass  # half written; the one before holds until it is whole
        return self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )

    def _state(self) -> tuple[Any, ...]:
        return tuple((s.st_ino, s.st_mtime_ns, s.st_size) for s in (f.stat() for f in self._files))


class _Handler(BaseHTTPRequestHandler):
    server: ProbeServer
    server_version = "mdb-operator"
    sys_version = ""
    timeout = REQUEST_SECONDS

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        answer = {"/healthz": self._health, "/readyz": self._ready, "/metrics": self._metrics}
        answer.get(self.path.partition("?")[0], self._not_found)()

    def do_HEAD(self) -> None:
        """Answer as to GET, without the body."""
        self.do_GET()

    def _health(self) -> None:
        heartbeat = self.server.heartbeat
        status = HTTPStatus.OK if heartbeat.alive else HTTPStatus.SERVICE_UNAVAILABLE
        age = round(heartbeat.age, 1)
        self._json(status, {"heartbeat_age_seconds": age, "problem": heartbeat.problem})

    def _ready(self) -> None:
        failures = self.server.readiness.failures()
        status = HTTPStatus.SERVICE_UNAVAILABLE if failures else HTTPStatus.OK
        self._json(status, {"ready": not failures, "waiting_for": failures})

    def _metrics(self) -> None:
        if not self.server.admits(self.headers.get("Authorization", "")):
            self._answer(
                HTTPStatus.UNAUTHORIZED,
                b"Send the token of the chart's metrics.token\n",
                "text/plain",
                {"WWW-Authenticate": "Bearer"},
            )
            return
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        self._answer(HTTPStatus.OK, encode(self.server.registry), content_type)

    def _not_found(self) -> None:
        self._json(HTTPStatus.NOT_FOUND, {"paths": ["/healthz", "/readyz", "/metrics"]})

    def _json(self, status: HTTPStatus, body: object) -> None:
        self._answer(status, json.dumps(body).encode() + b"\n", "application/json")

    def _answer(
        self,
        status: HTTPStatus,
        body: bytes,
        content_type: str,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Log nothing: a probe comes every few seconds."""


class ProbeServer(ThreadingHTTPServer):
    """Serves the three paths.

    The heartbeat decides ``/healthz``, readiness ``/readyz``. An empty host is every address, port
    0 any free port.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        heartbeat: Heartbeat,
        readiness: Readiness,
        registry: CollectorRegistry,
        *,
        host: str = "",
        port: int = 0,
        certificate: ServerCertificate | None = None,
        token_file: Path | None = None,
    ) -> None:
        self._certificate = certificate
        self._token_file = token_file
        self.heartbeat = heartbeat
        self.readiness = readiness
        self.registry = registry
        self._dual = not host and socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if self._dual or ":" in host else socket.AF_INET
        everywhere = "::" if self._dual else "0.0.0.0"  # noqa: S104 - kubelet and Prometheus ask
        super().__init__((host or everywhere, port), _Handler)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.1,), name="probes", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that is served."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Start serving."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of the host's name, which may wait for a resolver."""
        if self._dual:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, without waiting for its handshake."""
        connection, address = super().get_request()
        if self._certificate is None:
            return connection, address
        return self._certificate.wrap(connection), address

    def admits(self, authorization: str) -> bool:
        """Tell whether a request's header holds the token, as its file has it at this moment."""
        if self._token_file is None:
            return True
        try:
            token = self._token_file.read_bytes().strip()
        except OSError:
            return False
        scheme, _, sent = authorization.partition(" ")
        right = hmac.compare_digest(sent.strip().encode(), token)
        return bool(token) and scheme.lower() == "bearer" and right

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a probe that hung up is no event."""
