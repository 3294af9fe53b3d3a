"""The app with Beanie in a pod, with a MongoDB user of its own: its tutorial over HTTP."""

from __future__ import annotations

import httpx
import pytest
from support.beanie_tutorial import follow_tutorial
from support.multi_app import World, forwarded_port, run_beanie_app

pytestmark = [pytest.mark.long, pytest.mark.root]


def test_the_tutorial_of_beanie_in_a_pod(world: World) -> None:
    run_beanie_app(world)
    with (
        forwarded_port(world, "service/beanie-app", 8000) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as app,
    ):
        assert app.get("/ready").is_success
        follow_tutorial(app)
