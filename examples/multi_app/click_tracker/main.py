"""ClickTracker: records clicks in its own collection and shows them as they come in.

There is no secret and no connection string in here. In a pod the engine reads both from the mounted
Secret; started by hand it reads ``MONGODB_URI``, ``MONGODB_DB`` and ``MDB_ENGINE_MASTER_KEY``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from common.web import furnish
from fastapi import Depends, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from mdb_engine import MongoDBEngine
from mdb_engine.fastapi import get_scoped_db
from mdb_engine.scoped import ScopedDatabase

HERE = Path(__file__).parent

engine = MongoDBEngine.from_environment()
app = engine.create_app(
    slug="click_tracker",
    manifest=HERE / "manifest.json",
    title="ClickTracker",
    description="Records clicks. Its data may be read by the apps that it has granted.",
    docs_url=None,  # `furnish` has a page of its own
    redoc_url=None,
)
templates = furnish(app, HERE)

Database = Annotated[ScopedDatabase, Depends(get_scoped_db)]


class Click(BaseModel):
    """One click, as the browser reports it."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    user_id: str = Field(min_length=1, max_length=128, description="Who clicked.")
    url: str = Field(min_length=1, max_length=2048, description="The page that was clicked on.")
    element: str = Field(default="", max_length=256, description="What was clicked on the page.")
    session_id: str = Field(default="", max_length=128, description="The visit it belongs to.")


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
async def page(request: Request) -> HTMLResponse:
    """Show the tracking form, the recent clicks and the statistics."""
    return templates.TemplateResponse(request, "index.html")


@app.post("/track", status_code=201)
async def track(click: Click, db: Database) -> dict[str, Any]:
    """Record one click; the server, not the browser, says when it happened."""
    result = await db.clicks.insert_one({**click.model_dump(), "timestamp": datetime.now(UTC)})
    return {"status": "tracked", "id": result.inserted_id}


@app.get("/clicks")
async def clicks(
    db: Database,
    user_id: Annotated[str | None, Query(min_length=1, max_length=128)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """Return the newest clicks, of one user or of all, with totals over every click there is."""
    chosen = {"user_id": user_id} if user_id else {}
    newest = await db.clicks.find(chosen).sort("timestamp", -1).limit(limit).to_list(limit)
    totals = await db.clicks.aggregate(totals_pipeline(chosen)).to_list(1)
    return {"clicks": newest, **(totals[0] if totals else {"total": 0, "users": 0, "urls": 0})}


def totals_pipeline(chosen: dict[str, str]) -> list[dict[str, Any]]:
    """Build the aggregation that counts clicks, users and pages, however many there are.

    Parameters
    ----------
    chosen
        A filter: which clicks.
    """
    return [
        {"$match": chosen},
        # By both first: sets of all users and pages in one document would outgrow it.
        {"$group": {"_id": {"user": "$user_id", "url": "$url"}, "clicks": {"$sum": 1}}},
        {
            "$facet": {
                "total": [{"$group": {"_id": None, "n": {"$sum": "$clicks"}}}],
                "users": [{"$group": {"_id": "$_id.user"}}, {"$count": "n"}],
                "urls": [{"$group": {"_id": "$_id.url"}}, {"$count": "n"}],
            }
        },
        {
            "$project": {
                name: {"$ifNull": [{"$first": f"${name}.n"}, 0]}
                for name in ("total", "users", "urls")
            }
        },
    ]
