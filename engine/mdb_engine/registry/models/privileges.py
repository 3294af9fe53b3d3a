"""What one app may do in MongoDB itself, and what its user and role are called.  Pure.

This is the second wall: it holds against code that ignores the library, in any language. It names
collections, never a pattern, so it can only ever be as wide as what was declared and granted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mdb_engine.access.model import Grant
from mdb_engine.constants import AUDIT_COLLECTION, GRANTS_COLLECTION
from mdb_engine.models.naming import physical_name

__all__ = [
    "ROLE_PREFIX",
    "Privileges",
    "app_privileges",
    "role_name",
    "slug_of_role",
    "user_name",
    "user_subject",
    "version_of_user",
]

OWN_ACTIONS: Final = frozenset(
    {
        "find",
        "insert",
        "update",
        "remove",
        "createIndex",
        "dropIndex",
        "listIndexes",
        "changeStream",
    }
)
"""On the app's own collections: what the library offers on them, and nothing that reaches further.

``collMod``, ``renameCollectionSameDB``, ``bypassDocumentValidation`` and ``dropCollection`` are
left out on purpose: the validator that holds the app's stamp must not be undone by the app that it
binds. ``insert`` lets it make a collection that is not there, so they are made before its user can
log in, and one that it cannot drop it cannot make again.
"""

GRANTED_ACTIONS: Final = frozenset({"find", "changeStream"})
"""On the collections of apps that granted it: reading, also as a change stream."""

GRANTS_ACTIONS: Final = frozenset({"find", "changeStream"})
"""On the grants: every pod checks tokens and scopes against them."""

AUDIT_ACTIONS: Final = frozenset({"insert"})
"""On the audit trail: it can be added to, and neither read nor changed."""

ROLE_PREFIX: Final = "mdb-engine.app."
"""What the name of every role of ours begins with. Roles carry no custom data to tell them by, so
the prefix is reserved: a role that bears it is ours to repair and to remove."""

_USER: Final = re.compile(r"^(?P<slug>[a-z0-9][a-z0-9_-]{0,47})\.v(?P<version>[1-9][0-9]*)$")


def role_name(slug: str) -> str:
    """Return the name of an app's role."""
    return f"{ROLE_PREFIX}{slug}"


def slug_of_role(name: str) -> str | None:
    """Return the app that a role is of, or None for a role that is not ours."""
    return name.removeprefix(ROLE_PREFIX) if name.startswith(ROLE_PREFIX) else None


def user_name(slug: str, version: int) -> str:
    """Return the name of the user of one version of an app's credentials."""
    return f"{slug}.v{version}"


def user_subject(database: str, slug: str, version: int, incarnation: str) -> str:
    """Return the subject (RFC 2253) of a version's client certificate, which is its user's name.

    ``$external`` is one for the whole server, and a certificate outlives its user. So the name is
    of one database and one registration: that of an app which was deleted opens no later one.
    """
    return f"CN={user_name(slug, version)},OU={incarnation},O={database}"


def version_of_user(name: str, slug: str) -> int | None:
    """Return the version that a user of an app is for, or None if its name says nothing of it."""
    match = _USER.match(name)
    return int(match["version"]) if match and match["slug"] == slug else None


@dataclass(frozen=True, slots=True)
class Privileges:
    """What a role allows: actions by the name of a collection, in one database.

    Parameters
    ----------
    by_collection
        Actions by physical name.
    """

    by_collection: Mapping[str, frozenset[str]]

    def documents(self, database: str) -> list[dict[str, Any]]:
        """Return them as the commands that make and change roles take them."""
        return [
            {
                "resource": {"db": database, "collection": collection},
                "actions": sorted(self.by_collection[collection]),
            }
            for collection in sorted(self.by_collection)
        ]

    def without(self, others: Privileges) -> Privileges:
        """Return what is allowed here and not there."""
        left = {
            collection: actions - others.by_collection.get(collection, frozenset())
            for collection, actions in self.by_collection.items()
        }
        return Privileges({collection: actions for collection, actions in left.items() if actions})

    @classmethod
    def from_documents(cls, documents: Iterable[Mapping[str, Any]]) -> Privileges:
        """Read what ``rolesInfo`` shows of a role outside ``admin``.

        MongoDB lets such a role hold nothing but privileges on its own database, so the name of the
        collection says it all; an empty one means all collections.
        """
        found: dict[str, frozenset[str]] = {}
        for document in documents:
            collection = document["resource"]["collection"]
            found[collection] = found.get(collection, frozenset()) | set(document["actions"])
        return cls(found)


def app_privileges(slug: str, collections: Collection[str], granted: Iterable[Grant]) -> Privileges:
    """Return what an app's role allows.

    Parameters
    ----------
    slug
        The app.
    collections
        The logical names of its declared collections.
    granted
        The published grants of the apps whose data it may read; its own is passed over.
    """
    by_collection = {
        GRANTS_COLLECTION: GRANTS_ACTIONS,
        AUDIT_COLLECTION: AUDIT_ACTIONS,
    }
    for owner in granted:
        if owner.slug != slug:
            for name in owner.collections:
                by_collection[physical_name(owner.slug, name)] = GRANTED_ACTIONS
    for name in collections:
        by_collection[physical_name(slug, name)] = OWN_ACTIONS
    return Privileges(by_collection)
