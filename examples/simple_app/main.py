"""The smallest app: a to-do list in a collection of its own.

In a pod it reads who it is and where MongoDB is from the Secret that the operator projects; started
by hand, from ``MONGODB_URI``, ``MONGODB_DB`` and ``MDB_ENGINE_MASTER_KEY``. See README.md.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from fastapi import Depends, FastAPI, HTTPException
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import Route

from mdb_engine import MongoDBEngine, ScopedDatabase
from mdb_engine.fastapi import get_scoped_db

HERE = Path(__file__).parent

engine = MongoDBEngine.from_environment()
app: FastAPI = engine.create_app(
    slug="simple_app", manifest=HERE / "manifest.json", title="To do", docs_url=None, redoc_url=None
)
Database = Annotated[ScopedDatabase, Depends(get_scoped_db)]


class NewTask(BaseModel):
    """What somebody wants to do."""

    model_config = ConfigDict(str_strip_whitespace=True)

    text: str = Field(min_length=1, max_length=200)


class Progress(BaseModel):
    """Whether it is done."""

    done: bool


@app.get("/tasks")
async def tasks(db: Database) -> list[dict[str, Any]]:
    """Return the newest tasks."""
    return await db.tasks.find({}).sort("created_at", -1).to_list(100)


@app.post("/tasks", status_code=201)
async def add(task: NewTask, db: Database) -> dict[str, Any]:
    """Add a task."""
    new = {"_id": uuid4().hex, "text": task.text, "done": False, "created_at": datetime.now(UTC)}
    await db.tasks.insert_one(new)
    return new


@app.patch("/tasks/{task_id}", status_code=204)
async def change(task_id: str, progress: Progress, db: Database) -> None:
    """Say whether a task is done."""
    done = {"$set": {"done": progress.done}}
    if not (await db.tasks.update_one({"_id": task_id}, done)).matched_count:
        raise HTTPException(404, "there is no such task")


@app.delete("/tasks/{task_id}", status_code=204)
async def remove(task_id: str, db: Database) -> None:
    """Remove a task."""
    await db.tasks.delete_one({"_id": task_id})


@app.get("/api")
async def api() -> dict[str, Any]:
    """List what this app answers."""
    return {
        "app": app.title,
        "endpoints": [
            {"method": method, "path": route.path, "summary": route.name.replace("_", " ")}
            for route in app.routes
            if isinstance(route, Route) and route.include_in_schema
            for method in sorted((route.methods or set()) - {"HEAD"})
        ],
    }


app.mount("/", StaticFiles(directory=HERE / "page", html=True))
