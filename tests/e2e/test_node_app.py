"""The example in another language in a pod: what the operator projects is all that it has."""

from __future__ import annotations

import secrets

import httpx
import pytest
from support.multi_app import World, forwarded_port, run_node_app
from support.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.root]


def test_an_app_without_the_library_writes_its_notes_and_follows_a_rotation(world: World) -> None:
    run_node_app(world)
    text = f"note {secrets.token_hex(4)}"
    with (
        forwarded_port(world, "service/node-app", 8000) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http,
    ):
        made = http.post("/notes", json={"text": text}).raise_for_status().json()
        assert made["app_id"] == "node_app"
        assert text in [note["text"] for note in http.get("/notes").json()]

        annotation = f"mdb-engine.dev/rotate-requested={secrets.token_hex(4)}"
        kubectl = world.cluster.kubectl
        kubectl("-n", world.shop, "annotate", "mdbapp/node-app", "--overwrite", annotation)

        def reconnected() -> bool:
            world.refresh_mounts("node-app")
            log = kubectl("-n", world.shop, "logs", "deployment/node-app")
            return log.count("connected as app node_app") == 2

        wait_until(reconnected, deadline=90, message="the app has connected as its new user")
        assert http.get("/ready").is_success
        assert http.post("/notes", json={"text": text}).is_success
