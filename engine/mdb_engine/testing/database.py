"""A scoped database over a driver's, without a registry: for a test that needs scopes alone."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping

from pymongo.asynchronous.database import AsyncDatabase

from mdb_engine.access.granted import GrantedAccess, NameIndex
from mdb_engine.access.model import Access, Grant
from mdb_engine.config import EngineSettings
from mdb_engine.connection.binding import find_binding
from mdb_engine.connection.driver import RawDatabase, get_driver
from mdb_engine.connection.pool import Connection
from mdb_engine.exceptions import MdbEngineError, ScopeDenied
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.scoped import DEFAULT_LIMITS, Limits, ScopedDatabase

__all__ = ["refuse_in_a_pod", "scoped_database"]

_logger = logging.getLogger("mdb_engine.testing")


def scoped_database(
    raw: RawDatabase,
    slug: str,
    *,
    collections: Collection[str] = (),
    reads: Iterable[str] | Mapping[str, Collection[str]] = (),
    read_only: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> ScopedDatabase:
    """Return what an app sees of a driver's database; nothing is registered, nothing is asked for.

    It rewrites, stamps and refuses as the engine's does. No token is checked, as there is none.

    Parameters
    ----------
    raw
        An ``AsyncDatabase`` of PyMongo, or Motor's, on the loop of the test.
    slug
        The app.
    collections
        What it declares. Names that are not declared work as with the engine: without ``-``, ``_``.
    reads
        The apps that it may read, by slug; with what each declares, where a name has ``-`` or
        ``_``.
    read_only
        Whether the handle is to refuse all writing.
    limits
        The limits of every operation.

    Raises
    ------
    TypeError
        If the database is no asynchronous one.
    ManifestInvalid
        If a slug or a collection's name is malformed.
    ScopeDenied
        Where a binding of the operator is mounted: there the engine gives an app its database.
    """
    refuse_in_a_pod("scoped_database")
    motor = type(raw).__module__.partition(".")[0] == "motor"
    if not motor and not isinstance(raw, AsyncDatabase):
        raise TypeError(
            "scoped_database takes a database of AsyncMongoClient or of Motor, not "
            f"{type(raw).__module__}.{type(raw).__name__}"
        )
    owners = reads if isinstance(reads, Mapping) else dict.fromkeys(reads, ())
    grants = {name: _grant(name, declared) for name, declared in owners.items()}
    grants[slug] = _grant(slug, collections, owners)
    connection = Connection(raw.client, raw)
    gate = _Gate(slug, NameIndex(grants), read_only=read_only)
    return ScopedDatabase(
        gate, lambda: connection, get_driver("motor" if motor else "pymongo"), limits
    )


def refuse_in_a_pod(what: str) -> None:
    """Refuse to work where a binding of the operator is mounted, whoever's it is.

    Raises
    ------
    ScopeDenied
        There.
    """
    root = EngineSettings.from_environment().binding_root
    try:
        found = find_binding(root) is not None
    except (MdbEngineError, OSError):
        found = True
    if found:
        raise ScopeDenied(
            f"mdb_engine.testing.{what} checks no token, so it is refused where a binding of the "
            "operator is mounted (SERVICE_BINDING_ROOT); use engine.get_scoped_db"
        )


def _grant(slug: str, collections: Collection[str], reads: Iterable[str] = ()) -> Grant:
    spec = MdbAppSpec.parse(
        {
            "slug": slug,
            "dataAccess": {"readScopes": sorted({slug, *reads})},
            "collections": [{"name": name} for name in collections],
        }
    )
    return Grant(
        slug=spec.slug,
        verifiers=(),
        read_scopes=frozenset({slug, *reads}),
        write_scope=spec.slug,
        collections=frozenset(collections),
        epoch=1,
    )


class _Gate:
    """Lets an app in without a token, and tells the log of denials."""

    notes_all = False

    def __init__(self, slug: str, index: NameIndex, *, read_only: bool) -> None:
        self._access = GrantedAccess(slug, index, read_only=read_only)

    def admit(self) -> Access:
        return self._access

    def record(self, operation: str, collection: str, owner: str, denied: Exception | None) -> None:
        if denied is not None:
            _logger.info("%s of %s (app %s) was denied", operation, collection, owner)
