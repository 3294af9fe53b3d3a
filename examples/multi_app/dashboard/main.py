"""Dashboard: reads the clicks that ClickTracker has granted it, and writes only its own reports.

Everything is counted by MongoDB over all clicks of the window; nothing is taken from a capped list.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from common.web import furnish
from fastapi import Depends, Query, Request
from fastapi.responses import HTMLResponse

from mdb_engine import MongoDBEngine
from mdb_engine.fastapi import get_scoped_db
from mdb_engine.scoped import ScopedDatabase

HERE = Path(__file__).parent

CLICKS = "click_tracker_clicks"
"""ClickTracker's collection, by its full name; writing to it raises ``ScopeDenied``."""

TOP = 10
"""How many of the most clicked pages and most active users are listed."""

engine = MongoDBEngine.from_environment()
app = engine.create_app(
    slug="click_tracker_dashboard",
    manifest=HERE / "manifest.json",
    title="Click Tracker Dashboard",
    description="Analytics over ClickTracker's clicks, which this app may read and never change.",
    docs_url=None,  # `furnish` has a page of its own
    redoc_url=None,
)
templates = furnish(app, HERE)

Database = Annotated[ScopedDatabase, Depends(get_scoped_db)]
Hours = Annotated[int, Query(ge=1, le=24 * 31, description="How far back to look, in hours.")]


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
async def index(request: Request, db: Database) -> HTMLResponse:
    """Say what this app is, what it may read, and what it wrote last."""
    reports = await db.reports.find({}).sort("created_at", -1).limit(5).to_list(5)
    return templates.TemplateResponse(request, "index.html", {"reports": reports})


@app.get("/dashboard", response_class=HTMLResponse, include_in_schema=False)
async def dashboard(request: Request, hours: Hours = 24) -> HTMLResponse:
    """Show the charts; the page fetches ``/analytics`` and refreshes itself."""
    return templates.TemplateResponse(request, "dashboard.html", {"hours": hours})


@app.get("/analytics")
async def analytics(db: Database, hours: Hours = 24) -> dict[str, Any]:
    """Count the clicks of the last hours: over time, by page, by user, by session."""
    now = datetime.now(UTC)
    since = now - timedelta(hours=hours)
    unit = "minute" if hours <= 2 else "hour" if hours <= 72 else "day"  # noqa: PLR2004
    found = await db[CLICKS].aggregate(clicks_pipeline(since, unit)).to_list(1)
    report = {
        "hours": hours,
        "since": since,
        "until": now,
        "unit": unit,
        "total_clicks": _only(found[0]["total"], "n"),
        "unique_users": _only(found[0]["users"], "n"),
        "unique_sessions": _only(found[0]["sessions"], "n"),
        "clicks_over_time": found[0]["over_time"],
        "top_urls": found[0]["top_urls"],
        "top_users": found[0]["top_users"],
    }
    await db.reports.update_one(
        {"hours": hours},
        {"$set": {"created_at": now, "total_clicks": report["total_clicks"]}},
        upsert=True,
    )
    return report


def clicks_pipeline(since: datetime, unit: str) -> list[dict[str, Any]]:
    """Build the one aggregation that answers every question of the page.

    Parameters
    ----------
    since
        The start of the window (UTC, aware).
    unit
        The width of a bar of the chart: ``minute``, ``hour`` or ``day``.
    """
    return [
        {"$match": {"timestamp": {"$gte": since}}},
        {
            "$facet": {
                "total": [{"$count": "n"}],
                "users": [{"$group": {"_id": "$user_id"}}, {"$count": "n"}],
                "sessions": [
                    {"$match": {"session_id": {"$ne": ""}}},
                    {"$group": {"_id": "$session_id"}},
                    {"$count": "n"},
                ],
                "over_time": [
                    {
                        "$group": {
                            "_id": {"$dateTrunc": {"date": "$timestamp", "unit": unit}},
                            "clicks": {"$sum": 1},
                        }
                    },
                    {"$sort": {"_id": 1}},
                    {"$project": {"_id": 0, "at": "$_id", "clicks": 1}},
                ],
                "top_urls": _top("url"),
                "top_users": _top("user_id"),
            }
        },
    ]


def _top(field: str) -> list[dict[str, Any]]:
    return [
        {"$group": {"_id": f"${field}", "clicks": {"$sum": 1}}},
        {"$sort": {"clicks": -1, "_id": 1}},
        {"$limit": TOP},
        {"$project": {"_id": 0, field: "$_id", "clicks": 1}},
    ]


def _only(rows: list[dict[str, int]], key: str) -> int:
    """Return the figure of a ``$count``, which yields no row at all for zero."""
    return rows[0][key] if rows else 0
