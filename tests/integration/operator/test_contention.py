"""Somebody who undoes every write of the operator slows it down, and is named in the status."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.api import Api
from support.installation import Installation
from support.waiting import wait_until

pytestmark = pytest.mark.long

ROUND_SECONDS = 8.0


@contextmanager
def undoing(here: Installation, name: str) -> Iterator[list[float]]:
    """Empty an entry of a Secret whenever it is there; give the times at which that was done."""
    done, times = threading.Event(), list[float]()
    api = Api(here.cluster.kubeconfig)  # of its own, in its own thread

    def work() -> None:
        while not done.is_set():
            found = api.get("Secret", name, here.apps)
            if found is not None and found["data"].get("app-slug"):
                api.patch("Secret", name, {"data": {"app-slug": ""}}, here.apps)
                times.append(time.monotonic())
            done.wait(0.02)

    thread = threading.Thread(target=work, name="undoing", daemon=True)
    thread.start()
    try:
        yield times
    finally:
        done.set()
        thread.join()
        api.close()


def test_a_fight_over_a_secret_is_slowed_down_and_named(installation: Installation) -> None:
    here = installation
    process = here.start()
    for name in ("fought", "bystander"):
        here.apply(name)
        here.wait_condition(name)
    with undoing(here, "fought-mdb") as times:
        wait_until(lambda: times, message="the first repair")
        message = here.wait_condition("fought", "Contended", "SecretProjected", deadline=30)
        assert message["status"] == "False"
        assert "fought-mdb" in message["message"]
        began = time.monotonic()
        wait_until(
            lambda: time.monotonic() > began + ROUND_SECONDS,
            deadline=ROUND_SECONDS + 5,
            message="a round of the fight",
        )
        assert len([one for one in times if one > began]) <= 6, "less than once a second"
        # Others do not suffer, and what is withdrawn from this one does not wait.
        here.annotate("bystander", "rotate-requested", "now")
        wait_until(
            lambda: here.secret("bystander-mdb")["secret-version"] == "2",
            deadline=5,
            message="the rotation of another app",
        )
        here.annotate("fought", "rotate-requested", "now")
        wait_until(
            lambda: here.secret("fought-mdb")["secret-version"] == "2",
            deadline=5,
            message="the rotation of the app that is fought over",
        )
    here.wait_condition("fought", kind="SecretProjected", deadline=60)
    assert here.secret("fought-mdb")["app-slug"] == "fought"
    here.stop(process)


def test_a_secret_that_is_deleted_twice_is_no_fight(running: Installation) -> None:
    running.apply("mended")
    running.wait_condition("mended")
    for _ in range(2):
        running.cluster.api.delete("Secret", "mended-mdb", running.apps)
        wait_until(
            lambda: running.get("Secret", "mended-mdb"), deadline=5, message="the repaired Secret"
        )
    assert running.condition("mended", "SecretProjected")["status"] == "True"
