"""Indexes for ``$search`` and ``$vectorSearch``, which only some servers have.

They are made and changed, and never dropped: MongoDB builds them outside of the database, for
minutes, and whatever queries one that is gone finds nothing without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdb_engine.exceptions import DatabaseForbidden
from mdb_engine.models.naming import physical_name
from mdb_engine.registry.models.app import AppRecord
from mdb_engine.registry.models.layout import LayoutConflict
from mdb_engine.registry.storage.layout import LayoutStore, OptionsRefusedError

__all__ = ["ensure_search_indexes"]


async def ensure_search_indexes(store: LayoutStore, app: AppRecord) -> list[LayoutConflict]:
    """Make an app's search indexes what its spec says; costs nothing where it has none.

    Returns
    -------
    list
        What stands against it, ``SearchNotEnabled`` above all: where the server has none.
    """
    conflicts: list[LayoutConflict] = []
    for collection in app.spec.collections:
        wanted = [index.document() for index in collection.search_indexes]
        if not wanted:
            continue
        physical = physical_name(app.slug, collection.name)
        try:
            found = await store.search_indexes(physical)
            for index in wanted if found is not None else ():
                await _ensure(store, physical, index, (found or {}).get(index["name"]))
        except DatabaseForbidden:
            text = "the registry's MongoDB user lacks a right, such as createSearchIndexes"
            conflicts.append(_conflict(collection.name, "Unauthorized", text))
        except OptionsRefusedError as error:
            text = f"MongoDB does not take a definition ({error.reason}); correct it"
            conflicts.append(_conflict(collection.name, error.reason, text))
        else:
            if found is None:
                text = "the server has no search; use one that has, or take them out of the spec"
                conflicts.append(_conflict(collection.name, "SearchNotEnabled", text))
    return conflicts


async def _ensure(
    store: LayoutStore, physical: str, wanted: Mapping[str, Any], found: Mapping[str, Any] | None
) -> None:
    if found is None:
        await store.create_search_index(physical, wanted)
    elif found.get("latestDefinition") != wanted["definition"]:
        await store.update_search_index(physical, wanted)


def _conflict(name: str, reason: str, text: str) -> LayoutConflict:
    message = f"The search indexes of collection {name!r} are not built: {text}"
    return LayoutConflict(name, None, reason, message)
