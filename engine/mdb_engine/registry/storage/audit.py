"""``_mdb_engine_audit``: kept under a bound, by whoever may remove from it.

A capped collection would do that by itself, but MongoDB 6.0 allows no TTL index on one, and a pod
may insert anything. So whoever registers apps, which pods cannot, trims it from time to time.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from pymongo import ASCENDING

from mdb_engine.connection.control import control_view, translated
from mdb_engine.connection.driver import Driver, RawDatabase
from mdb_engine.constants import AUDIT_COLLECTION, AUDIT_MAX_BYTES, AUDIT_TIME_FIELD
from mdb_engine.core.clock import utcnow

__all__ = ["AuditStore"]

LARGEST_EVENT_BYTES: Final = 16_384
"""The library cuts every text of an event; what is larger is not its own."""

CLOCK_SKEW: Final = dt.timedelta(hours=1)
"""How far ahead the clock of a pod may be; what is further ahead would never expire in its turn."""

FREED: Final = 0.1
"""How much of the bound is made free at a time, so that the next trim has something to wait for."""

BATCH: Final = 1_000
"""How many events are removed by one command."""


class AuditStore:
    """Trims the trail.

    Parameters
    ----------
    database
        The driver's database.
    driver
        The driver that it is of.
    """

    def __init__(self, database: RawDatabase, driver: Driver) -> None:
        self._collection = control_view(database)[AUDIT_COLLECTION]
        self._driver = driver

    async def trim(self, most: int = AUDIT_MAX_BYTES) -> int:
        """Remove events while the trail is larger than it may be; return how many.

        First goes what no library wrote, being too large or from no time that can be, then the
        oldest. Costs one reading of the trail where there is nothing to do.

        Parameters
        ----------
        most
            How many bytes of documents the trail may hold.

        Raises
        ------
        DatabaseUnavailable
            If MongoDB does not answer, or refuses.
        """
        with translated("trim the audit trail"):
            if await self._bytes() <= most:
                return 0
            gone = await self._collection.delete_many(self._forged())
            removed: int = gone.deleted_count
            excess = await self._bytes() - int(most * (1 - FREED))
            while excess > 0:
                oldest = await (
                    self._collection.find({}, {"size": {"$bsonSize": "$$ROOT"}})
                    .sort(AUDIT_TIME_FIELD, ASCENDING)
                    .limit(BATCH)
                    .to_list(BATCH)
                )
                chosen: list[Any] = []
                for event in oldest:
                    if excess <= 0:
                        break
                    chosen.append(event["_id"])
                    excess -= event["size"]
                if not chosen:
                    break
                gone = await self._collection.delete_many({"_id": {"$in": chosen}})
                removed += gone.deleted_count
        return removed

    async def _bytes(self) -> int:
        """Add up the documents: the size that the server knows takes a right that is not given."""
        total = {"$group": {"_id": None, "bytes": {"$sum": {"$bsonSize": "$$ROOT"}}}}
        cursor = await self._driver.aggregate(self._collection, [total])
        found = await cursor.to_list(1)
        return int(found[0]["bytes"]) if found else 0

    @staticmethod
    def _forged() -> dict[str, Any]:
        possible = {"$type": "date", "$lte": utcnow() + CLOCK_SKEW}
        return {
            "$or": [
                {AUDIT_TIME_FIELD: {"$not": possible}},
                {"$expr": {"$gt": [{"$bsonSize": "$$ROOT"}, LARGEST_EVENT_BYTES]}},
            ]
        }
