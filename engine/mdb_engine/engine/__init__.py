"""The engine: what an app's process holds.

In a pod it takes what the operator projects; alone it registers its app itself.
"""

from __future__ import annotations

from mdb_engine.engine.mongodb_engine import MongoDBEngine

__all__ = ["MongoDBEngine"]
