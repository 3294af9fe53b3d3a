"""``_mdb_engine_installation``: one document that says who manages the database.

There is one ``_id``, so of two installations that take a free database at once one is refused, and
a takeover names whom it takes it from.
"""

from __future__ import annotations

from typing import Any

from pymongo.errors import DuplicateKeyError

from mdb_engine.connection.control import translated
from mdb_engine.connection.driver import RawDatabase
from mdb_engine.constants import INSTALLATION_COLLECTION
from mdb_engine.exceptions import VersionConflict
from mdb_engine.registry.models.installation import Installation

__all__ = ["InstallationStore"]

_ID = "installation"


class InstallationStore:
    """Reads and writes who manages a database.

    Parameters
    ----------
    database
        The driver's database, as `control_view` returns it.
    """

    def __init__(self, database: RawDatabase) -> None:
        self._collection = database[INSTALLATION_COLLECTION]

    async def get(self) -> Installation | None:
        """Return who manages the database; None where nobody ever did."""
        with translated("read which installation manages the database"):
            document = await self._collection.find_one({"_id": _ID})
        if document is None:
            return None
        return Installation(
            document["identity"],
            document["namespace"],
            document["claimed_at"],
            tuple(document.get("adopted_from", ())),  # absent from before there were such
        )

    async def insert(self, installation: Installation) -> bool:
        """Take a database that nobody manages; False if another was faster."""
        with translated("claim the database for an installation"):
            try:
                await self._collection.insert_one(_document(installation))
            except DuplicateKeyError:
                return False
        return True

    async def replace(self, installation: Installation, former: str) -> None:
        """Replace what is known of whoever manages the database, by its identity.

        Raises
        ------
        VersionConflict
            If it is not that one's any more.
        """
        known = {"_id": _ID, "identity": former}
        with translated("take the database over"):
            result = await self._collection.replace_one(known, _document(installation))
        if result.matched_count == 0:
            raise VersionConflict(f"The database is not managed by installation {former} any more")


def _document(installation: Installation) -> dict[str, Any]:
    return {
        "_id": _ID,
        "identity": installation.identity,
        "namespace": installation.namespace,
        "claimed_at": installation.claimed_at,
        "adopted_from": list(installation.adopted_from),
    }
