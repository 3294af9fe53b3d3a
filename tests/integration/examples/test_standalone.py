"""Both example apps as plain processes, with nothing but what ``scripts/setup.sh`` has written."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from support.mongo import Server
from support.standalone import Apps, standalone_apps


@pytest.fixture(scope="module")
def apps(mongo_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apps]:
    with standalone_apps(mongo_server, tmp_path_factory.mktemp("multi_app")) as apps:
        yield apps


@pytest.mark.long
def test_both_say_that_they_are_healthy_and_list_what_they_answer(apps: Apps) -> None:
    own = {
        "click_tracker": {"POST /track", "GET /clicks"},
        "click_tracker_dashboard": {"GET /analytics"},
    }
    for client in (apps.click_tracker, apps.dashboard):
        health = client.get("/health").json()
        assert health["status"] == "healthy"
        listed = client.get("/api").json()
        found = {f"{one['method']} {one['path']}" for one in listed["endpoints"]}
        assert found == {"GET /health", "GET /ready", "GET /api", *own[health["slug"]]}
        assert all(one["summary"] for one in listed["endpoints"])
        assert listed["app"] == client.get("/openapi.json").json()["info"]["title"]


def test_totals_count_what_is_far_beyond_the_list(apps: Apps) -> None:
    user = f"user-{secrets.token_hex(4)}"
    for number in range(30):
        apps.track(user_id=user, url=f"/{number % 3}", session_id=f"s{number % 2}")

    listed = apps.click_tracker.get("/clicks", params={"user_id": user, "limit": 10}).json()
    assert len(listed["clicks"]) == 10
    assert (listed["total"], listed["users"], listed["urls"]) == (30, 1, 3)
    times = [click["timestamp"] for click in listed["clicks"]]
    assert times == sorted(times, reverse=True)
    assert {click["user_id"] for click in listed["clicks"]} == {user}

    report = apps.dashboard.get("/analytics", params={"hours": 1}).json()
    assert {"user_id": user, "clicks": 30} in report["top_users"]
    assert sum(bar["clicks"] for bar in report["clicks_over_time"]) == report["total_clicks"]
    assert report["unique_sessions"] >= 2


def test_the_list_of_no_clicks_is_empty_and_counts_zero(apps: Apps) -> None:
    nobody = apps.click_tracker.get("/clicks", params={"user_id": "nobody"}).json()
    assert nobody == {"clicks": [], "total": 0, "users": 0, "urls": 0}


@pytest.mark.parametrize("hours", [1, 24, 168, 744])
def test_the_dashboard_looks_back_as_far_as_it_is_asked(apps: Apps, hours: int) -> None:
    apps.track()
    report = apps.dashboard.get("/analytics", params={"hours": hours}).json()
    assert report["hours"] == hours
    assert report["total_clicks"] >= 1
    page = apps.dashboard.get("/dashboard", params={"hours": hours}).text
    assert f'value="{hours}" selected' in page
    assert f"{hours} h" in apps.dashboard.get("/").text


@pytest.mark.parametrize(
    ("click", "named"),
    [
        ({"user_id": ""}, "user_id"),
        ({"user_id": "  "}, "user_id"),
        ({"user_id": "x" * 129}, "user_id"),
        ({"user_id": {"$ne": None}}, "user_id"),
        ({"url": "x" * 2049}, "url"),
        ({"element": 7}, "element"),
        ({"timestamp": "2020-01-01"}, "timestamp"),
        ({"app_id": "click_tracker_dashboard"}, "app_id"),
    ],
)
def test_a_wrong_click_is_refused_by_its_field(
    apps: Apps, click: dict[str, object], named: str
) -> None:
    answer = apps.track(**click)
    assert answer.status_code == 422
    assert answer.json()["error"] == "request_invalid"
    assert named in answer.json()["message"]
    assert "xxxx" not in answer.text


@pytest.mark.parametrize("body", [b"\xff", b'{"user_id": "\x8a"}', b"[" * 50_000])
def test_a_body_that_is_no_json_in_utf8_is_refused_like_any_other(apps: Apps, body: bytes) -> None:
    answer = apps.click_tracker.post(
        "/track", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    assert answer.json()["error"] == "request_invalid"
    assert "body" in answer.json()["message"] or "JSON" in answer.json()["message"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=x", "user_id=", "user_id=" + "x" * 129],
)
def test_a_wrong_question_about_clicks_is_refused(apps: Apps, query: str) -> None:
    answer = apps.click_tracker.get(f"/clicks?{query}")
    assert answer.status_code == 422
    assert query.partition("=")[0] in answer.json()["message"]


@pytest.mark.parametrize("hours", ["0", "-1", "745", "x", "1e9"])
def test_a_wrong_window_is_refused(apps: Apps, hours: str) -> None:
    for path in ("/analytics", "/dashboard"):
        answer = apps.dashboard.get(path, params={"hours": hours})
        assert answer.status_code == 422
        assert "hours" in answer.json()["message"]


def test_a_body_that_is_no_click_is_refused(apps: Apps) -> None:
    def post(body: object) -> int:
        headers = {"Content-Type": "application/json"}
        return apps.click_tracker.post("/track", content=body, headers=headers).status_code  # type: ignore[arg-type]

    assert post(b"{") == 422
    assert post(b"[]") == 422
    assert post(b"\xff") in {400, 422}
    assert post(rb'{"user_id": "\ud800", "url": "/", "\ud800": 1}') == 422
    assert post(b" " * (64 * 1024 + 1)) == 413
    assert post(iter([b"{}"])) == 411


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", "/health", "/common/app.css", "/nowhere"]
)
def test_every_answer_tells_browsers_to_stay_here(apps: Apps, path: str) -> None:
    for client in (apps.click_tracker, apps.dashboard):
        answer = client.get(path)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "server" not in answer.headers
        assert "://" not in answer.text.replace("http://www.w3.org", "") or path == "/openapi.json"


def test_nothing_that_was_typed_stands_in_a_page_as_markup(apps: Apps) -> None:
    apps.track(user_id="<b>x</b>", url="<b>x</b>", element="<b>x</b>", session_id="<b>x</b>")
    apps.dashboard.get("/analytics")
    for client, path in (
        (apps.click_tracker, "/"),
        (apps.dashboard, "/"),
        (apps.dashboard, "/dashboard"),
    ):
        assert "<b>x" not in client.get(path).text
    wrong = apps.dashboard.get("/dashboard", params={"hours": "<b>x</b>"})
    assert wrong.headers["content-type"] == "application/json"
    assert "<b>" not in wrong.text
