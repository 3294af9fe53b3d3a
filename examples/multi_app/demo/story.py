"""What there is to see: clicks that cross over, a denied access, a rotation nobody notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import click
import httpx
import settings
from installation import Installation

from devcluster.progress import Progress

PAGES = ("/products/42", "/products/7", "/cart", "/", "/help")
USERS = ("ada", "grace", "edsger", "barbara")

REFUSED_BY = ("  the library:", "  MongoDB:")
"""How the lines begin that `TRESPASS` prints."""

ROTATION_DEADLINE_SECONDS = 150
"""kubelet takes up to about a minute and a half to bring a changed Secret into a pod."""

AFTER_ROTATION_SECONDS = 3
"""How long is clicked on after the new secret was mounted: the app takes it within a second."""

TRESPASS = """
import asyncio, pymongo
from pathlib import Path
from mdb_engine import MongoDBEngine, ScopeDenied

async def through_the_library():
    async with MongoDBEngine.from_environment() as engine:
        db = engine.get_scoped_db("click_tracker_dashboard")
        try:
            await db["click_tracker_clicks"].delete_many({})
        except ScopeDenied as error:
            print("  the library:", error)

def past_the_library():
    binding = Path("/bindings/mdb")
    with pymongo.MongoClient((binding / "uri").read_text()) as client:
        try:
            client[(binding / "database").read_text()].click_tracker_clicks.delete_many({})
        except pymongo.errors.OperationFailure as error:
            print("  MongoDB:    ", error.details["codeName"], "(code %d)" % error.code)

asyncio.run(through_the_library())
past_the_library()
"""
"""What somebody with a shell in the Dashboard's pod would try, with the library and without."""


@dataclass
class Tally:
    """What came of a stream of requests."""

    sent: int = 0
    failed: int = 0


def track_clicks(progress: Progress, count: int) -> None:
    """Track clicks, and show them through the Dashboard."""
    before = analytics()["total_clicks"]
    with progress.step(f"Tracking {count} clicks"), httpx.Client() as client:
        for number in range(count):
            _click(client, number).raise_for_status()
    report = analytics()
    counted = report["total_clicks"] - before
    pages = ", ".join(f"{row['url']} {row['clicks']}" for row in report["top_urls"][:3])
    progress.note(
        f"  the Dashboard counts {counted} more: {report['total_clicks']} clicks of "
        f"{report['unique_users']} users; most on {pages}"
    )
    if counted != count:
        raise click.ClickException(f"{count} clicks were tracked, but {counted} are counted")


def show_denied_access(installation: Installation, progress: Progress) -> None:
    """Let the Dashboard try to delete ClickTracker's data, and show what was recorded of it."""
    with progress.step("Trying to delete the clicks from inside the Dashboard's pod"):
        said = installation.run(
            *("kubectl", "-n", settings.SHOP, "exec", "deployment/dashboard", "--"),
            *("python", "-c", TRESPASS),
        )
    refusals = [line for line in said.splitlines() if line.startswith(REFUSED_BY)]
    progress.note("\n".join(refusals))
    if len(refusals) != len(REFUSED_BY) or "Unauthorized" not in said:
        raise click.ClickException("the access was not refused by both; that must not be")
    with progress.step("Reading the audit trail"):
        recorded = installation.run(
            *("kubectl", "-n", settings.SYSTEM, "exec", f"deployment/{settings.RELEASE}", "--"),
            *("mdb-operator", "audit", "--denied", "--limit", "1"),
        )
    progress.note(f"  {recorded.strip().splitlines()[-1]}")


def rotate_while_clicking(installation: Installation, progress: Progress) -> None:
    """Rotate ClickTracker's secret, and go on clicking until its pod uses the new one."""
    version = _mounted_version(installation)
    title = "Rotating ClickTracker's secret while clicking on"
    with progress.step(title) as step, _clicking() as tally:
        installation.run(
            *("kubectl", "-n", settings.SHOP, "annotate", "mdbapp/click-tracker"),
            *("--overwrite", f"mdb-engine.dev/rotate-requested={time.time_ns()}"),
        )
        deadline = time.monotonic() + ROTATION_DEADLINE_SECONDS
        while (now := _mounted_version(installation)) == version:
            if time.monotonic() > deadline:
                raise click.ClickException("the new secret did not reach the pod in time")
            step.detail = f"{tally.sent} clicks"
            _refresh_mounts(installation)
            time.sleep(0.5)
        time.sleep(AFTER_ROTATION_SECONDS)
    progress.note(
        f"  version {version} became {now} in the running pod; of {tally.sent} clicks meanwhile "
        f"{tally.failed} failed"
    )
    if tally.failed:
        raise click.ClickException("a rotation must not be noticed")


def analytics() -> dict[str, Any]:
    """Return what the Dashboard reports."""
    answer = httpx.get(f"{settings.DASHBOARD}/analytics", params={"hours": 24}, timeout=10)
    answer.raise_for_status()
    report: dict[str, Any] = answer.json()
    return report


def await_urls(progress: Progress) -> None:
    """Wait until both apps answer on this machine."""
    with progress.step("Opening the ports of both apps on this machine"):
        for url in (settings.CLICK_TRACKER, settings.DASHBOARD):
            _await_ready(url)


def _await_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/ready", timeout=2).is_success:
                return
        time.sleep(0.2)
    raise click.ClickException(f"{url} does not answer; see kubectl -n {settings.SHOP} get pods")


def _click(client: httpx.Client, number: int) -> httpx.Response:
    user = USERS[number % len(USERS)]
    return client.post(
        f"{settings.CLICK_TRACKER}/track",
        json={
            "user_id": user,
            "url": PAGES[number * number % len(PAGES)],
            "element": "demo",
            "session_id": f"{user}-{number % 3}",
        },
        timeout=10,
    )


@contextmanager
def _clicking() -> Iterator[Tally]:
    """Click all the time, in a thread."""
    tally, ended = Tally(), threading.Event()

    def work() -> None:
        with httpx.Client() as client:
            while not ended.wait(0.02):
                tally.sent += 1
                try:
                    tally.failed += not _click(client, tally.sent).is_success
                except httpx.HTTPError:
                    tally.failed += 1

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield tally
    finally:
        ended.set()
        thread.join()


def _refresh_mounts(installation: Installation) -> None:
    """Let kubelet look at the pod's volumes now; left alone it does so about once a minute."""
    installation.run(
        *("kubectl", "-n", settings.SHOP, "annotate", "pods", "--overwrite"),
        *("-l", "app.kubernetes.io/name=click-tracker", f"mdb-demo/look={time.time_ns()}"),
    )


def _mounted_version(installation: Installation) -> str:
    return installation.run(
        *("kubectl", "-n", settings.SHOP, "exec", "deployment/click-tracker", "--"),
        *("cat", "/bindings/mdb/secret-version"),
    ).strip()
