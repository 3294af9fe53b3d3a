"""At which revisions an app's rows are, by one command over the three collections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdb_engine.connection.control import control_view, translated
from mdb_engine.connection.driver import Driver, RawDatabase
from mdb_engine.constants import APPS_COLLECTION, GRANTS_COLLECTION, SECRETS_COLLECTION
from mdb_engine.models.naming import app_key
from mdb_engine.registry.models.app import Revisions

__all__ = ["RevisionStore"]


class RevisionStore:
    """Reads revisions, and nothing else of the rows.

    Parameters
    ----------
    database
        The driver's database.
    driver
        The driver that it is of.
    """

    def __init__(self, database: RawDatabase, driver: Driver) -> None:
        self._apps = control_view(database)[APPS_COLLECTION]
        self._driver = driver

    async def get(self, slug: str) -> Revisions | None:
        """Return the revisions of an app's rows; None where it has not all three."""
        pipeline: list[dict[str, Any]] = [
            {"$match": {"_id": app_key(slug)}},
            {"$project": {"incarnation": 1, "revision": 1}},
            _joined(SECRETS_COLLECTION, "secret", "revision"),
            _joined(GRANTS_COLLECTION, "grant", "epoch"),
        ]
        with translated(f"read the revisions of app {slug!r}"):
            cursor = await self._driver.aggregate(self._apps, pipeline)
            found = await cursor.to_list(1)
        return _revisions(found[0]) if found else None


def _joined(collection: str, name: str, field: str) -> dict[str, Any]:
    return {
        "$lookup": {
            "from": collection,
            "localField": "_id",
            "foreignField": "_id",
            "pipeline": [{"$project": {field: 1}}],
            "as": name,
        }
    }


def _revisions(row: Mapping[str, Any]) -> Revisions | None:
    try:
        return Revisions(
            row["incarnation"],
            row["revision"],
            row["secret"][0]["revision"],
            row["grant"][0]["epoch"],
        )
    except (IndexError, KeyError):
        return None  # a row is missing, or damaged, which whoever reads it whole says
