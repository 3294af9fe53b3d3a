"""An app as its programmers had it before: a lifespan, routers, a mounted app, and so on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware

from mdb_engine import MongoDBEngine, ScopedDatabase
from mdb_engine.fastapi import get_scoped_db, install

engine = MongoDBEngine.from_environment()
LOG = os.environ.get("EVENTS")


def note(event: str) -> None:
    if LOG:
        with Path(LOG).open("a") as events:
            events.write(f"{event}\n")


class State(TypedDict):
    found: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    db = engine.get_scoped_db("shop")
    note("up")
    yield {"found": await db.orders.count_documents({})}
    await db.orders.insert_one({"kind": "goodbye"})
    note("down")


app = FastAPI(lifespan=lifespan)
app.add_middleware(CORSMiddleware, allow_origins=["https://here.example"])
orders = APIRouter(prefix="/orders")


async def paid(db: Annotated[ScopedDatabase, Depends(get_scoped_db)]) -> AsyncIterator[Any]:
    yield db.orders
    await db.orders.insert_one({"kind": "after the response"})


@orders.post("")
async def order(db: Annotated[ScopedDatabase, Depends(get_scoped_db)]) -> dict[str, str]:
    return {"id": str((await db.orders.insert_one({"kind": "order"})).inserted_id)}


@orders.get("/count/{kind}")
async def count(kind: str, db: Annotated[ScopedDatabase, Depends(get_scoped_db)]) -> dict[str, int]:
    return {"count": await db.orders.count_documents({"kind": kind}), "process": os.getpid()}


@orders.get("/of-a-yielding-dependency")
async def yielding(collection: Annotated[Any, Depends(paid)]) -> int:
    return int(await collection.count_documents({}))


@orders.post("/later")
async def later(
    tasks: BackgroundTasks, db: Annotated[ScopedDatabase, Depends(get_scoped_db)]
) -> None:
    tasks.add_task(db.orders.insert_one, {"kind": "background"})


@orders.get("/stream")
async def stream(
    db: Annotated[ScopedDatabase, Depends(get_scoped_db)],
) -> AsyncIterator[dict[str, str]]:
    async for found in db.orders.find({"kind": "order"}):
        yield {"id": str(found["_id"])}


@orders.websocket("/live")
async def live(socket: WebSocket, db: Annotated[ScopedDatabase, Depends(get_scoped_db)]) -> None:
    await socket.accept()
    await db.orders.insert_one({"kind": await socket.receive_text()})
    await socket.send_json({"count": await db.orders.count_documents({})})
    await socket.close()


@orders.get("/foreign")
async def foreign(db: Annotated[ScopedDatabase, Depends(get_scoped_db)]) -> Any:
    return await db["bank_accounts"].find_one({})


@app.get("/state")
async def state(request: Request) -> int:
    found: int = request.state.found
    return found


@app.get("/health")
async def health() -> str:
    return "my own"


@app.get("/broken")
async def broken() -> None:
    raise ValueError("the app's own mistake")


inner = FastAPI()


@inner.get("/count")
async def inner_count(db: Annotated[ScopedDatabase, Depends(get_scoped_db)]) -> int:
    return await db.orders.count_documents({})


app.include_router(orders)
app.mount("/inner", inner)
manifest = {"slug": "shop", "managed_indexes": {"orders": []}}
install(app, engine, "shop", manifest)
