"""Serve the present content of /secret/value, read anew for each request."""

from __future__ import annotations

import http.server
import signal
import sys
from pathlib import Path

VALUE = Path("/secret/value")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every GET with the value."""

    def do_GET(self) -> None:
        """Answer."""
        body = VALUE.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # process 1 ignores it otherwise
    everywhere = ("0.0.0.0", 8080)  # noqa: S104 - a pod is reached on its own address
    with http.server.ThreadingHTTPServer(everywhere, Handler) as server:
        server.serve_forever()
