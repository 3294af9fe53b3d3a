from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.certificates import Authority
from support.waiting import wait_until

from mdb_operator.process.metrics import Metrics
from mdb_operator.process.probes import Heartbeat, ProbeServer, Readiness, ServerCertificate


class Probes:
    def __init__(self, limit: float = 60, **options: Any) -> None:
        self.heartbeat = Heartbeat(limit)
        self.readiness = Readiness("kubernetes")
        self.server = ProbeServer(self.heartbeat, self.readiness, Metrics().registry, **options)
        self.server.start()

    def get(self, path: str, host: str = "127.0.0.1") -> httpx.Response:
        return httpx.get(f"http://{host}:{self.server.port}{path}", trust_env=False, timeout=5)


@pytest.fixture
def probes() -> Iterator[Probes]:
    probes = Probes()
    yield probes
    probes.server.stop()


def test_a_blocked_loop_is_noticed_and_its_end_too() -> None:
    probes = Probes(limit=1.2)
    block, blocked, seen = threading.Event(), threading.Event(), threading.Event()

    async def main() -> None:
        beating = asyncio.create_task(probes.heartbeat.run())
        await asyncio.sleep(0)
        blocked.set()
        block.wait(20)  # what a reconcile must not do: block the loop itself
        await asyncio.to_thread(seen.wait, 10)
        beating.cancel()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        blocked.wait(5)
        assert probes.get("/healthz").status_code == 200
        wait_until(
            lambda: probes.get("/healthz").status_code == 503, message="the blocked loop shows"
        )
        block.set()
        wait_until(lambda: probes.get("/healthz").status_code == 200, message="it is well again")
    finally:
        block.set()
        seen.set()
        thread.join()
        probes.server.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_it_answers_on_both_families(probes: Probes, host: str) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("NOT TESTED: this machine has no IPv6")
    assert probes.get("/healthz", host).status_code == 200


def test_ready_says_what_it_waits_for_until_everything_holds(probes: Probes) -> None:
    answer = probes.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["waiting_for"] == {"kubernetes": "not yet"}
    probes.readiness.fail("kubernetes", "get /api: Forbidden")
    assert "Forbidden" in probes.get("/readyz").json()["waiting_for"]["kubernetes"]
    probes.readiness.hold("kubernetes")
    assert probes.get("/readyz").status_code == 200


def test_metrics_are_served_to_prometheus(probes: Probes) -> None:
    answer = probes.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "mdb_operator_build_info{version=" in answer.text


def test_other_paths_are_not_found_and_say_which_there_are(probes: Probes) -> None:
    answer = probes.get("/")
    assert answer.status_code == 404
    assert json.loads(answer.text)["paths"] == ["/healthz", "/readyz", "/metrics"]


def test_a_client_that_sends_nothing_does_not_keep_others_waiting(probes: Probes) -> None:
    with socket.create_connection(("127.0.0.1", probes.server.port)):
        started = time.monotonic()
        assert probes.get("/healthz").status_code == 200
        assert time.monotonic() - started < 2


def test_the_age_of_a_heartbeat_is_measured_by_a_monotonic_clock() -> None:
    now: list[Any] = [100.0]
    heartbeat = Heartbeat(30, clock=lambda: now[0])
    now[0] = 130.0
    assert heartbeat.alive
    now[0] = 130.1
    assert heartbeat.age > 30
    assert [heartbeat.alive] == [False]
    heartbeat.beat()
    assert [heartbeat.alive] == [True]


def test_the_port_speaks_tls_and_takes_up_a_renewed_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    file = tmp_path / "served.pem"
    file.write_bytes(authority.issue("first", ["127.0.0.1"]).read_bytes())
    probes = Probes(certificate=ServerCertificate(file, file))
    trust = ssl.create_default_context(cafile=authority.certificate)

    def served() -> str:
        address = ("127.0.0.1", probes.server.port)
        with (
            socket.create_connection(address, timeout=5) as plain,
            trust.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            found: Any = connection.getpeercert()
            return str(found["subject"][0][0][1])

    try:
        url = f"https://127.0.0.1:{probes.server.port}/metrics"
        assert httpx.get(url, verify=trust, trust_env=False).status_code == 200
        assert served() == "first"
        with pytest.raises(httpx.RemoteProtocolError):
            probes.get("/healthz")  # without TLS
        file.write_text("half written")
        assert served() == "first"
        file.write_bytes(authority.issue("second", ["127.0.0.1"]).read_bytes())
        assert served() == "second"
        with socket.create_connection(("127.0.0.1", probes.server.port)):  # shakes no hands
            assert served() == "second"
    finally:
        probes.server.stop()


def test_what_is_no_certificate_ends_the_start(tmp_path: Path) -> None:
    file = tmp_path / "served.pem"
    file.write_text("nothing of the kind")
    with pytest.raises(OSError, match="PEM"):
        ServerCertificate(file, file)


def test_metrics_ask_for_the_token_that_is_in_the_file_now(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first-token\n")
    probes = Probes(token_file=file)

    def status(header: str | None) -> int:
        headers = {} if header is None else {"Authorization": header}
        url = f"http://127.0.0.1:{probes.server.port}/metrics"
        return httpx.get(url, headers=headers, trust_env=False, timeout=5).status_code

    try:
        assert status(None) == status("Bearer other") == status("Basic first-token") == 401
        assert status("Bearer first-token") == status("bearer first-token") == 200
        file.write_text("second-token")
        assert status("Bearer first-token") == 401
        assert status("Bearer second-token") == 200
        file.write_text("")
        assert status("Bearer") == 401, "no token is not an empty one"
        file.unlink()
        assert status("Bearer second-token") == 401
        assert probes.get("/healthz").status_code == 200, "kubelet has no token"
        refused = probes.get("/metrics")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert "mdb_operator" not in refused.text
    finally:
        probes.server.stop()
