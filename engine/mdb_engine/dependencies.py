"""The path by which documents of earlier versions import what is in `mdb_engine.fastapi`."""

from __future__ import annotations

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

__all__ = [
    "current_user",
    "end_session",
    "get_engine",
    "get_scoped_db",
    "optional_session",
    "require",
    "require_session",
    "start_session",
]
