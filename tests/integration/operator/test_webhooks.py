"""Admission webhooks of others on Secrets: the status names them, and nobody is flooded."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from support.credentials import opens
from support.installation import Installation
from support.leakscan import register
from support.waiting import wait_until
from support.webhooks import dead_webhook, patched, webhook

pytestmark = pytest.mark.long

ROUND_SECONDS = 8.0

HOLDS_WITHIN = 20.0
"""Seconds until an API server goes by a webhook's configuration, or by its end."""


def wait_in_force(here: Installation, probe: str, *, refused: bool) -> None:
    """Wait until the API server asks the webhook, or does so no more."""

    def holds() -> bool:
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": probe}}
        try:
            here.cluster.api.create(manifest, here.apps)
        except AssertionError:
            return refused
        here.cluster.api.delete("Secret", probe, here.apps)
        return not refused

    wait_until(holds, deadline=HOLDS_WITHIN, message="the API server goes by the webhook")


def test_a_dead_webhook_is_named_in_the_status_and_nothing_stays_of_it(
    installation: Installation, tmp_path: Path
) -> None:
    here = installation
    process = here.start()
    here.apply("before")
    here.wait_condition("before")
    with dead_webhook(here, tmp_path) as name:
        wait_in_force(here, "probe", refused=True)
        here.apply("new")
        row = here.wait_condition("new", "KubernetesUnavailable", deadline=30)
        assert row["status"] == "False"
        assert name in row["message"]
        assert here.get("Secret", "new-mdb") is None
        assert "binding" not in here.status("new")
        # One that has its Secret works on, and what is withdrawn from it does not wait.
        old = here.secret("before-mdb")
        here.annotate("before", "rotate-requested", "now")
        here.wait_condition("before", "KubernetesUnavailable", "SecretProjected", deadline=30)
        assert here.secret("before-mdb") == old
        assert opens(old["uri"]), "the version that pods have works on in the overlap"
        said = here.condition("before", "SecretProjected")["message"]
        assert name in said
    wait_in_force(here, "probe", refused=False)
    here.wait_condition("new", deadline=40)
    here.wait_condition("before", deadline=40)
    assert here.secret("before-mdb")["secret-version"] == "2"
    here.stop(process)


def test_a_webhook_that_refuses_is_named_and_what_it_quotes_is_not_repeated(
    installation: Installation, tmp_path: Path
) -> None:
    here, quoted = installation, "quoted-by-a-webhook-4711"
    process = here.start()
    register(quoted, "what a webhook quotes")

    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        return {"allowed": False, "status": {"code": 403, "message": f"it holds {quoted}"}}

    with webhook(here, tmp_path, refuse):
        wait_in_force(here, "probe", refused=True)
        here.apply("refused")
        message = here.wait_condition("refused", "SecretConflict", deadline=30)["message"]
        assert f"secrets.{here.apps}.example.com" in message
    events = str(here.cluster.api.objects("Event", here.apps))
    assert not any(quoted in text for text in (message, process.text(), events))
    here.wait_condition("refused", deadline=40)
    here.stop(process)


def test_a_webhook_that_changes_what_is_written_is_said_and_makes_no_loop(
    installation: Installation, tmp_path: Path
) -> None:
    here = installation
    process = here.start()
    for name in ("fought", "bystander"):
        here.apply(name)
        here.wait_condition(name)
    operations: list[dict[str, Any]] = [
        {"op": "add", "path": "/data/app-slug", "value": ""},
        {"op": "add", "path": "/metadata/annotations", "value": {"by": "webhook"}},
    ]

    def mutate(request: dict[str, Any]) -> dict[str, Any]:
        mine = request["name"] == "fought-mdb"
        return patched(operations) if mine else {"allowed": True}

    with webhook(here, tmp_path, mutate) as asked:

        def asks() -> bool:
            wait_in_force(here, "probe", refused=False)
            return bool(asked)

        wait_until(asks, deadline=HOLDS_WITHIN, message="the webhook is asked")
        here.cluster.api.delete("Secret", "fought-mdb", here.apps)
        row = here.wait_condition("fought", "Contended", "SecretProjected", deadline=30)
        assert row["status"] == "False"
        assert "webhook" in row["message"]
        assert here.condition("fought")["status"] == "False"
        began = time.monotonic()
        wait_until(
            lambda: time.monotonic() > began + ROUND_SECONDS,
            deadline=ROUND_SECONDS + 5,
            message="a round of the fight",
        )
        assert len([one for one in asked if one > began]) <= 4, "writes in eight seconds"
        here.annotate("bystander", "rotate-requested", "now")
        wait_until(
            lambda: here.secret("bystander-mdb")["secret-version"] == "2",
            deadline=5,
            message="the rotation of another app",
        )
    here.wait_condition("fought", kind="SecretProjected", deadline=90)
    assert here.secret("fought-mdb")["app-slug"] == "fought"
    here.stop(process)
