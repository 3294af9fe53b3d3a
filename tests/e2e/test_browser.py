"""What people see: both apps in a real browser, with data that crosses over, and no more."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from support.multi_app import World, forwarded_port, run_simple_app
from support.programs import program

pytestmark = [pytest.mark.long, pytest.mark.root]

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

IMAGES = Path(__file__).parents[2] / "docs" / "images"

OpenPage = Callable[[str], "Watched"]

SCREENSHOTS = "MDB_SCREENSHOTS"
"""Set to 1 to write the pictures of the README anew."""

A_DAY_OF_CLICKS = """
import asyncio, random
from datetime import UTC, datetime, timedelta
from mdb_engine import MongoDBEngine

async def main():
    random.seed(7)
    now = datetime.now(UTC)
    users = ["ada", "grace", "edsger", "barbara", "donald", "frances"]
    pages = ["/products/42", "/products/7", "/cart", "/", "/help", "/checkout"]
    clicks = []
    for hour in range(24):
        for _ in range(int(20 + 16 * random.random() + 3 * (12 - abs(12 - hour)))):
            user = random.choices(users, [7, 5, 4, 3, 2, 1])[0]
            clicks.append({
                "user_id": user,
                "url": random.choices(pages, [9, 6, 5, 4, 2, 2])[0],
                "element": random.choice(["buy-button", "menu", "search", "thumbnail"]),
                "session_id": f"{user}-{random.randrange(4)}",
                "timestamp": now - timedelta(hours=hour, seconds=random.randrange(3500)),
            })
    async with MongoDBEngine.from_environment() as engine:
        collection = engine.get_scoped_db("click_tracker").clicks
        await collection.delete_many({})
        await collection.insert_many(clicks)

asyncio.run(main())
"""


@dataclass
class Watched:
    """A page, and what must not happen on it."""

    page: Page
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def assert_clean(self) -> None:
        assert self.foreign == []
        assert self.errors == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    context = browser.new_context(
        viewport={"width": 1200, "height": 800}, color_scheme="light", locale="en-GB"
    )

    def open_url(url: str) -> Watched:
        watched = Watched(context.new_page())

        def note_request(address: str) -> None:
            if urlsplit(address).scheme != "data" and not address.startswith(origin):
                watched.foreign.append(address)

        def note_console(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                watched.errors.append(message.text)

        origin = "{0.scheme}://{0.netloc}/".format(urlsplit(url))
        watched.page.on("request", lambda request: note_request(request.url))
        watched.page.on("console", note_console)
        watched.page.on("pageerror", lambda error: watched.errors.append(str(error)))
        watched.page.on("dialog", lambda dialog: watched.errors.append(dialog.message))
        watched.page.goto(url)
        return watched

    yield open_url
    context.close()


def test_a_click_on_the_button_is_counted_in_the_dashboard(
    open_page: OpenPage, click_tracker: str, dashboard: str
) -> None:
    tracker, charts = open_page(click_tracker), open_page(f"{dashboard}/dashboard?hours=1")
    user = f"visitor-{secrets.token_hex(4)}"
    row = charts.page.locator("#top-users tr", has_text=user)
    for clicks in (1, 2):
        tracker.page.get_by_label("User").fill(user)
        tracker.page.get_by_role("button", name="Track this").click()
        expect(tracker.page.locator("#recent tr", has_text=user)).to_have_count(clicks)
    expect(row.locator(".number")).to_have_text("2", timeout=15_000)

    total = charts.page.locator("#total")
    before = int(total.inner_text().replace(",", ""))
    tracker.page.get_by_role("button", name="Track one click").click()
    expect(tracker.page.locator("#said")).to_have_text("Tracked.")
    charts.page.wait_for_function(
        "before => Number(document.getElementById('total').textContent.replace(/,/g, '')) > before",
        arg=before,
        timeout=15_000,
    )
    tracker.assert_clean()
    charts.assert_clean()


def test_a_stored_script_is_shown_as_text(
    open_page: OpenPage, click_tracker: str, dashboard: str
) -> None:
    token = secrets.token_hex(4)
    script = f"<script>alert('{token}')</script><img src=x onerror=alert(1)>"
    for _ in range(20):  # enough for the list of the most active users
        body = {"user_id": script, "url": script, "element": script, "session_id": script}
        assert httpx.post(f"{click_tracker}/track", json=body, timeout=10).status_code == 201

    tracker = open_page(click_tracker)
    row = tracker.page.locator("#recent tr").filter(has_text=token).first  # others click, too
    expect(row.locator("td").nth(1)).to_have_text(script)
    charts = open_page(f"{dashboard}/dashboard?hours=1")
    expect(charts.page.get_by_role("cell", name=script)).to_be_visible()
    about = open_page(dashboard)
    for watched in (tracker, charts, about):
        assert watched.page.locator("main script, main img").count() == 0
        watched.assert_clean()


@pytest.mark.parametrize("path", ["/docs", "/"])
def test_no_page_needs_another_server(
    open_page: OpenPage, click_tracker: str, dashboard: str, path: str
) -> None:
    for url in (click_tracker, dashboard):
        watched = open_page(url + path)
        shown = ".opblock" if path == "/docs" else "main section"
        expect(watched.page.locator(shown).first).to_be_visible(timeout=15_000)
        watched.assert_clean()


def test_the_smallest_app_keeps_a_list_in_a_pod(
    world: World, open_page: OpenPage, tmp_path: Path
) -> None:
    run_simple_app(world)
    with forwarded_port(world, "service/simple-app", 8000) as port:
        todo = open_page(f"http://127.0.0.1:{port}/")
        page = todo.page
        expect(page.get_by_role("status")).to_have_text("Nothing yet")
        texts = ["Call Grace", "<img src=x onerror=alert(1)>", "Write to Ada"]
        for text in texts:
            page.get_by_label("A new task").fill(text)
            page.keyboard.press("Enter")
            expect(page.get_by_role("listitem").first).to_contain_text(text)
        page.get_by_label("Call Grace", exact=True).check()
        expect(page.get_by_role("status")).to_have_text("2 left")
        page.get_by_role("button", name=f"Remove {texts[1]}").click()
        expect(page.get_by_role("listitem")).to_have_count(2)
        page.reload()
        expect(page.get_by_role("listitem")).to_have_count(2)
        expect(page.get_by_label("Call Grace", exact=True)).to_be_checked()
        page.screenshot(path=tmp_path / "simple-app.png")
        todo.assert_clean()


if os.environ.get(SCREENSHOTS) == "1":

    def test_pictures_are_taken(
        world: World, open_page: OpenPage, click_tracker: str, dashboard: str
    ) -> None:
        world.python("deployment/click-tracker", A_DAY_OF_CLICKS)
        IMAGES.mkdir(exist_ok=True)
        tracker = open_page(click_tracker)
        expect(tracker.page.locator("#recent tr")).to_have_count(12)
        tracker.page.screenshot(path=IMAGES / "click-tracker.png", full_page=True)
        charts = open_page(f"{dashboard}/dashboard?hours=24")
        expect(charts.page.locator("#top-users tr")).to_have_count(6)
        charts.page.screenshot(path=IMAGES / "dashboard.png", full_page=True)
