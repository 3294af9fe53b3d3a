"""The chart's trial MongoDB without storage: its pod is replaced, and all goes on from nothing.

It and the operator run as a user that their images do not know, as they do on OpenShift.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.clusters import RESTRICTED, create_namespace
from support.multi_app import (
    AS_ON_OPENSHIFT,
    OPERATOR,
    TRIAL,
    World,
    forwarded,
    install_release,
    mongod_image,
    remove_release,
    run_click_tracker,
)
from support.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.root]


@pytest.fixture
def trial(world: World, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Install a release with a trial MongoDB of its own; give its namespace and that of its app."""
    token = secrets.token_hex(4)
    system, apps = namespaces = f"trial-{token}", f"trial-apps-{token}"
    for name in namespaces:
        create_namespace(world.cluster, name, RESTRICTED)
    image = mongod_image(world.cluster)
    mongodb = {"trial": {"enabled": True, "image": image, "podSecurityContext": AS_ON_OPENSHIFT}}
    install_release(world, system, apps, tmp_path, mongodb, podSecurityContext=AS_ON_OPENSHIFT)
    yield system, apps
    remove_release(world, system, apps)


def test_all_goes_on_with_an_empty_database_when_the_pod_is_replaced(
    world: World, trial: tuple[str, str]
) -> None:
    system, apps = trial
    kubectl = world.cluster.kubectl
    who = ("--", "python", "-c", "import os; print(os.getuid())")
    for pod in (("-c", "setup", f"{TRIAL}-0"), (f"deployment/{OPERATOR}",)):
        assert kubectl("-n", system, "exec", *pod, *who).strip() == "1000650000"
    run_click_tracker(world, apps)
    with forwarded(world, "click-tracker", apps) as url:

        def track() -> bool:
            click = {"user_id": "ada", "url": "/"}
            return httpx.post(f"{url}/track", json=click, timeout=10).is_success

        def clicks() -> int:
            return len(httpx.get(f"{url}/clicks", timeout=10).raise_for_status().json()["clicks"])

        assert track()
        assert clicks() == 1
        before = world.get(apps, "secret/click-tracker-mdb")["data"]["app-secret"]
        kubectl("-n", system, "delete", "pod", f"{TRIAL}-0", "--timeout=50s")

        def new_secret() -> bool:
            data = world.get(apps, "secret/click-tracker-mdb")["data"]
            return bool(data["app-secret"] != before)

        def logged() -> str:
            return kubectl("-n", system, "logs", f"deployment/{OPERATOR}", "--tail=20")

        wait_until(new_secret, deadline=60, message=logged)
        world.await_app(apps, "click-tracker")
        world.refresh_mounts("click-tracker", apps)
        wait_until(track, deadline=30, message="ClickTracker works again", ignoring=httpx.HTTPError)
        assert clicks() == 1
