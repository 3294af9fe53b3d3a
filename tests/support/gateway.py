"""A proxy in front of the API server, in which a test makes watches hang, expire and be refused."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import aiohttp
import yaml
from aiohttp import web

Watches = Literal["pass", "refuse", "expire", "hang"]

Hangs = Literal["", "watches", "all"]

GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}


@dataclass
class Gateway:
    """The proxy; `gateway` makes and ends it.

    Parameters
    ----------
    watches
        What becomes of kopf's requests: its lists and watches of MdbApps are refused (503), its
        watches expire (410) once and pass from then on, or are opened and show nothing.
    status
        What the operator's writes are answered with in the place of the API server, but for those
        of its Lease; 0 for the API server's own answers.
    hangs
        Whether streams that are open show nothing any more, without an end and also afterwards; or
        all of it, so that each request is done and its answer never comes.
    requests
        The path and query of every request that came through.
    """

    watches: Watches = "pass"
    status: int = 0
    hangs: Hangs = ""
    requests: list[str] = field(default_factory=list)
    port: int = 0
    _streams: set[asyncio.Transport] = field(default_factory=set)
    _server: str = ""
    _client: aiohttp.ClientSession | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    def cut(self) -> None:
        """End all streams, so that whoever watches asks again."""
        assert self._loop is not None
        for stream in list(self._streams):
            self._loop.call_soon_threadsafe(stream.abort)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        self.requests.append(request.path_qs)
        watch = request.query.get("watch") == "true"
        ours = "PartialObjectMetadata" in request.headers.get("Accept", "")
        listed = request.method == "GET" and request.path.endswith("/mdbapps")
        if listed and not ours and request.query.get("limit") != "1":
            if self.watches == "refuse":
                return web.json_response({"kind": "Status", "code": 503}, status=503)
            if watch and self.watches == "expire":
                self.watches = "pass"
                return web.Response(text=json.dumps(GONE) + "\n", content_type="application/json")
            if watch and self.watches == "hang":
                return await self._stream(request, None)
        if self.status and request.method != "GET" and "/leases" not in request.path:
            return self._refusal()
        assert self._client is not None
        async with self._client.request(
            request.method,
            self._server + request.path_qs,
            headers={
                name: value
                for name, value in request.headers.items()
                if name.lower() not in {"host", "content-length", "accept-encoding"}
            },
            data=await request.read() or None,
        ) as answer:
            if watch:
                return await self._stream(request, answer)
            body = await answer.read()
            if self.hangs == "all":
                await _forever()
            return web.Response(status=answer.status, body=body, content_type=answer.content_type)

    def _refusal(self) -> web.Response:
        reasons = {409: "Conflict", 422: "Invalid", 429: "TooManyRequests"}
        reason = reasons.get(self.status, "InternalError")
        body = {"kind": "Status", "code": self.status, "reason": reason, "message": "injected"}
        headers = {"Retry-After": "1"} if self.status == 429 else {}
        return web.json_response(body, status=self.status, headers=headers)

    async def _stream(
        self, request: web.Request, answer: aiohttp.ClientResponse | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            status=answer.status if answer else 200, headers={"Content-Type": "application/json"}
        )
        await response.prepare(request)
        assert request.transport is not None
        stream = request.transport
        self._streams.add(stream)
        try:
            if answer is None:
                await _forever()
            else:
                async for part in answer.content.iter_any():
                    if self.hangs:
                        await _forever()
                    await response.write(part)
        except (aiohttp.ClientError, ConnectionError):
            pass  # one of the sides has gone
        finally:
            self._streams.discard(stream)
        return response

    async def serve(self, server: str, ready: threading.Event, stop: asyncio.Event) -> None:
        """Serve until the event is set."""
        self._loop = asyncio.get_running_loop()
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        self._server = server
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        ready.set()
        await stop.wait()
        await self._client.close()
        with suppress(TimeoutError):
            await runner.cleanup()


async def _forever() -> None:
    """Wait until the request is cancelled, with its connection."""
    await asyncio.Event().wait()


@contextmanager
def gateway(kubeconfig: Path) -> Iterator[Gateway]:
    """Put a gateway in front of the API server of a kubeconfig, and point the file at it."""
    found, ready = Gateway(), threading.Event()
    stop: list[asyncio.Event] = []
    before = kubeconfig.read_text()
    config = yaml.safe_load(before)
    server = config["clusters"][0]["cluster"]["server"]

    async def work() -> None:
        stop.append(asyncio.Event())
        await found.serve(server, ready, stop[0])

    thread = threading.Thread(target=lambda: asyncio.run(work()), name="gateway", daemon=True)
    thread.start()
    assert ready.wait(10), "the gateway does not start"
    config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{found.port}"}
    kubeconfig.write_text(yaml.safe_dump(config))
    try:
        yield found
    finally:
        kubeconfig.write_text(before)
        assert found._loop is not None
        found._loop.call_soon_threadsafe(stop[0].set)
        thread.join(10)
