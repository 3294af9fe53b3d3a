"""What a FastAPI app uses of the engine: its dependencies, its routers and its JSON.

`MongoDBEngine.create_app` makes an app, `install` furnishes one that there is; policies, health and
errors come with it.
"""

from __future__ import annotations

from mdb_engine.fastapi.app import install
from mdb_engine.fastapi.dependencies import (
    current_user,
    end_session,
    get_engine,
    get_scoped_db,
    optional_session,
    require,
    require_session,
    start_session,
)
from mdb_engine.fastapi.json import MdbJSONResponse, MdbRoute, MdbRouter, plain

__all__ = [
    "MdbJSONResponse",
    "MdbRoute",
    "MdbRouter",
    "current_user",
    "end_session",
    "get_engine",
    "get_scoped_db",
    "install",
    "optional_session",
    "plain",
    "require",
    "require_session",
    "start_session",
]
