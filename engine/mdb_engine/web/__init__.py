"""What FastAPI sees of the engine: the app, its health, its errors and its JSON."""

from __future__ import annotations

from mdb_engine.web.json import MdbJSONResponse, MdbRoute, MdbRouter, plain

__all__ = ["MdbJSONResponse", "MdbRoute", "MdbRouter", "plain"]
