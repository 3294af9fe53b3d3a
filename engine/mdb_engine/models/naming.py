"""How an app's slug and a collection's logical name become a name in MongoDB.

``<slug>_<name>`` is what people expect to see in a shell, but it can be cut in more than one place:
``click_tracker`` + ``dashboard_x`` and ``click_tracker_dashboard`` + ``x`` are one name. So a name
is never taken apart here: it is looked up among the names that registered apps have claimed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from mdb_engine.constants import COLLECTION_PATTERN, ENGINE_COLLECTIONS, SLUG_PATTERN

__all__ = [
    "app_key",
    "is_engine_collection",
    "longer_slug",
    "longest_owner",
    "physical_name",
]

_SLUG: Final = re.compile(SLUG_PATTERN)
_COLLECTION: Final = re.compile(COLLECTION_PATTERN)


class ManagedName(NamedTuple):
    """An index that the registry made.

    Parameters
    ----------
    name
        Its name in MongoDB.
    digest
        The `fingerprint` of its definition (`models.layout`). One of that name and another
        definition is not ours.
    """

    name: str
    digest: str


def app_key(slug: str) -> str:
    """Return the key under which a slug is unique: ``-`` and ``_`` count as one character."""
    return slug.replace("-", "_")


def physical_name(slug: str, collection: str) -> str:
    """Return the name in MongoDB of an app's collection."""
    return f"{slug}_{collection}"


def is_engine_collection(physical: str) -> bool:
    """Say whether a physical name is the engine's own or MongoDB's."""
    return physical in ENGINE_COLLECTIONS or physical.startswith(("_mdb_engine", "system."))


def longest_owner(physical: str, slugs: Iterable[str]) -> str | None:
    """Return the longest of the slugs into which a physical name falls, or None.

    An undeclared name belongs to that app and to no shorter one, so that what an app writes under
    an undeclared name can never turn up in the collection of another.
    """
    owners = (slug for slug in slugs if physical.startswith(f"{slug}_"))
    return max(owners, key=len, default=None)


def longer_slug(slug: str, collection: str) -> str | None:
    """Return a slug, registered or not, that could own a collection of this app, or None.

    ``shop`` + ``eu_orders`` is ``shop_eu`` + ``orders`` as soon as somebody registers that; and
    ``eu-orders`` reads like it, as ``-`` and ``_`` count as one character in a slug.
    """
    for match in re.finditer("[-_]", collection):
        longer = physical_name(slug, collection[: match.start()])
        if _SLUG.fullmatch(longer) and _COLLECTION.fullmatch(collection[match.end() :]):
            return longer
    return None
