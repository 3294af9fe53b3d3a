"""The main job: two apps in pods share data under the operator's control, and only that."""

from __future__ import annotations

import secrets

import httpx
import pytest
from support.multi_app import OPERATOR, World, mdbapp, pod_spec
from support.steady_requests import Request, under_load
from support.waiting import wait_until

pytestmark = pytest.mark.root

THROUGH_THE_LIBRARY = """
import asyncio
from mdb_engine import MongoDBEngine, ScopeDenied

async def main():
    async with MongoDBEngine.from_environment() as engine:
        db = engine.get_scoped_db("click_tracker_dashboard")
        try:
            print("done", await db["{collection}"].{operation})
        except ScopeDenied as error:
            print("denied", error)

asyncio.run(main())
"""

PAST_THE_LIBRARY = """
import pathlib, pymongo
binding = pathlib.Path("/bindings/mdb")
database = (binding / "database").read_text()
with pymongo.MongoClient((binding / "uri").read_text()) as client:
    try:
        print("done", client[database]["{collection}"].{operation})
    except pymongo.errors.OperationFailure as error:
        print("denied", error.code)
"""

UNAUTHORIZED = "denied 13"
"""MongoDB's code of it."""


def click(url: str, user: str, **more: str) -> httpx.Response:
    return httpx.post(f"{url}/track", json={"user_id": user, "url": "/", **more}, timeout=10)


def counted(dashboard: str, user: str) -> int:
    """Return how many clicks of a user the Dashboard counts."""
    answer = httpx.get(f"{dashboard}/analytics", params={"hours": 1}, timeout=10)
    answer.raise_for_status()
    rows = answer.json()["top_users"]
    return sum(row["clicks"] for row in rows if row["user_id"] == user)


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/health", "/ready"])
def test_both_apps_answer(click_tracker: str, dashboard: str, path: str) -> None:
    for url in (click_tracker, dashboard):
        answer = httpx.get(url + path, timeout=10)
        assert answer.status_code == 200, answer.text


def test_what_one_app_tracks_the_other_counts(click_tracker: str, dashboard: str) -> None:
    user = f"user-{secrets.token_hex(4)}"
    for _ in range(25):
        assert click(click_tracker, user).status_code == 201

    assert counted(dashboard, user) == 25
    own = httpx.get(f"{click_tracker}/clicks", params={"user_id": user, "limit": 5}, timeout=10)
    assert own.json()["total"] == 25
    assert len(own.json()["clicks"]) == 5


def test_writing_anothers_data_is_refused_by_library_and_mongodb_and_is_audited(
    world: World,
) -> None:
    attempt = {"collection": "click_tracker_clicks", "operation": "delete_many({})"}
    through = THROUGH_THE_LIBRARY.format(**attempt)
    assert "denied" in world.python("deployment/dashboard", through)
    past = PAST_THE_LIBRARY.format(**attempt)
    assert world.python("deployment/dashboard", past).strip() == UNAUTHORIZED

    def audited() -> str:
        return world.cluster.kubectl(
            *("-n", world.system, "exec", f"deployment/{OPERATOR}", "--", "mdb-operator"),
            *("audit", "--denied", "--app", "click_tracker_dashboard"),
        )

    wait_until(
        lambda: "denied click_tracker_dashboard delete_many click_tracker_clicks" in audited(),
        message=audited,
    )


def test_reading_what_was_granted_works_past_the_library_too_and_no_more_than_that(
    world: World,
) -> None:
    def tried(collection: str, operation: str) -> str:
        script = PAST_THE_LIBRARY.format(collection=collection, operation=operation)
        return world.python("deployment/dashboard", script).strip()

    assert tried("click_tracker_clicks", "count_documents({})").startswith("done")
    for collection in ("apps_config", "_mdb_engine_app_secrets", "_mdb_engine_audit"):
        assert tried(collection, "find_one()") == UNAUTHORIZED, collection
    assert tried("_mdb_engine_grants", "delete_many({})") == UNAUTHORIZED


def requests_of(click_tracker: str, dashboard: str) -> tuple[Request, ...]:
    return (
        ("POST", f"{click_tracker}/track", {"user_id": "load", "url": "/rotation"}),
        ("GET", f"{dashboard}/analytics?hours=1", None),
    )


def test_a_rotation_fails_no_request(world: World, click_tracker: str, dashboard: str) -> None:
    before = world.get(world.shop, "mdbapp/click-tracker")["status"]["secret"]["version"]

    with under_load(requests_of(click_tracker, dashboard)) as load:
        world.cluster.kubectl(
            *("-n", world.shop, "annotate", "mdbapp/click-tracker", "--overwrite"),
            f"mdb-engine.dev/rotate-requested={secrets.token_hex(4)}",
        )
        wait_until(
            lambda: (
                world.get(world.shop, "mdbapp/click-tracker")["status"]["secret"]["version"]
                > before
            ),
            deadline=20,
            message="the operator makes a new version",
        )
        world.refresh_mounts("click-tracker")
        swapped = f"app click_tracker uses its new credentials: version {before} to {before + 1}"
        wait_until(
            lambda: (
                swapped
                in world.cluster.kubectl(
                    "-n", world.shop, "logs", "deployment/click-tracker", "--tail=200"
                )
            ),
            deadline=120,
            message="the running pod uses the new version",
        )
        enough = load.sent + 25
        wait_until(lambda: load.sent > enough, deadline=30, message="clicks with the new version")

    assert load.failures == []
    assert load.sent > 25
    pods = world.cluster.kubectl(
        *("-n", world.shop, "get", "pods", "-l", "app.kubernetes.io/name=click-tracker"),
        *("-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}"),
    )
    assert pods == "0"


def test_a_third_app_that_consents_to_nobody_cannot_be_read(world: World) -> None:
    token = secrets.token_hex(4)
    closed, abroad, snoop = f"closed-{token}", f"abroad-{token}", f"snoop-{token}"
    closing = {"dataAccess": {"crossAppPolicy": "DenyAll"}}
    world.apply(world.shop, mdbapp(closed, **closing))
    world.apply(world.elsewhere, mdbapp(abroad))  # a namespace is a border without any policy
    world.await_app(world.shop, closed)
    world.await_app(world.elsewhere, abroad)

    world.apply(world.shop, mdbapp(snoop, dataAccess={"readScopes": [snoop, closed, abroad]}))
    conditions = world.await_app(world.shop, snoop)["status"]["conditions"]
    [resolved] = [row for row in conditions if row["type"] == "GrantsResolved"]
    assert (resolved["status"], resolved["reason"]) == ("False", "NotGranted")
    assert closed in resolved["message"]
    assert abroad in resolved["message"]

    pod = pod_spec(world, f"{snoop}-mdb", command=["sleep", "300"], args=[])
    metadata = {"name": snoop}
    world.apply(world.shop, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})
    wait = ("wait", "--for=condition=Ready", "--timeout=50s", f"pod/{snoop}")
    world.cluster.kubectl("-n", world.shop, *wait)
    for slug in (closed, abroad):
        attempt = {"collection": f"{slug}_pages", "operation": "find_one({})"}
        through = THROUGH_THE_LIBRARY.replace("click_tracker_dashboard", snoop)
        assert "denied" in world.python(f"pod/{snoop}", through.format(**attempt))
        past = PAST_THE_LIBRARY.format(**attempt)
        assert world.python(f"pod/{snoop}", past).strip() == UNAUTHORIZED
