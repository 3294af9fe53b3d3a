"""What one app may reach at this moment, and what a collection's name means to it.

An `Access` is made from cached grants by whoever checked the app's token, and is all that the
scoped database needs to know: it decides without I/O, so an operation costs one server command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

__all__ = ["Access", "Gate", "Grant", "Target", "Verifier"]


@dataclass(frozen=True, slots=True)
class Verifier:
    """The digest by which one version of an app's secret is recognised.

    Parameters
    ----------
    sha256
        SHA-256 of the token's bytes (32 bytes). The token has 256 random bits, so that its
        digest cannot be inverted by search.
    version
        The secret's version.
    not_after
        When this version stops being accepted (UTC, aware). None for the current one, and for an
        earlier one whose successor was not handed out yet.
    """

    sha256: bytes = field(repr=False)
    version: int
    not_after: datetime | None = None

    def accepted(self, now: datetime) -> bool:
        """Whether this version is accepted at a time (UTC, aware)."""
        return self.not_after is None or now < self.not_after


@dataclass(frozen=True, slots=True)
class Grant:
    """One app's row of the grants collection.

    Parameters
    ----------
    slug
        The app.
    verifiers
        The versions of its secret that may be accepted, newest first.
    read_scopes
        The slugs whose data it may really read, its own included.
    write_scope
        The slug that it may write: its own.
    collections
        Logical names of its declared collections.
    epoch
        Grows with every change of the row.
    stamped
        Those of the collections in which MongoDB itself refuses documents of another stamp, and
        which hold none.
    """

    slug: str
    verifiers: tuple[Verifier, ...]
    read_scopes: frozenset[str]
    write_scope: str
    collections: frozenset[str]
    epoch: int
    stamped: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Target:
    """A collection as one app sees it.

    Parameters
    ----------
    physical
        Its name in MongoDB, ``<owner>_<name>``.
    owner
        The slug of the app that it belongs to; every document in it carries that ``app_id``.
    writable
        Whether it is the asking app's own and its handle may write.
    declared
        Whether its app declared it, so that it is the platform's to make and to drop.
    stamped
        Whether MongoDB itself refuses documents of another stamp in it, and it holds none.
    implied
        Whether it is the asking app's own and ``stamped``, so that reading it needs no predicate on
        the stamp: every document that the validator lets in is one that the predicate matches.
    """

    physical: str
    owner: str
    writable: bool
    declared: bool = field(default=False, compare=False)
    stamped: bool = field(default=False, compare=False)
    implied: bool = field(default=False, compare=False)


class Access(Protocol):
    """What one app may reach, decided from cached grants.  No method does I/O."""

    @property
    def slug(self) -> str:
        """The app that asks."""

    @property
    def read_scopes(self) -> frozenset[str]:
        """The slugs that this handle may read: granted, then narrowed by the caller."""

    @property
    def write_scope(self) -> str | None:
        """The app's own slug, or None for a handle narrowed to reading."""

    def resolve(self, name: str, *, app: str | None = None) -> Target:
        """Say which collection a name means to this app.

        Parameters
        ----------
        name
            A logical name (``clicks``: the app's own), or another app's physical one
            (``click_tracker_clicks``); with ``app``, a logical name of that app.
        app
            The slug of the app whose collection is meant.

        Raises
        ------
        ScopeDenied
            If the collection belongs to an app that this handle may not read, or is the engine's.
        QueryRefused
            If the name is malformed, or it is not declared and could be another app's.
        """


class Gate(Protocol):
    """Stands before every operation of one scoped database."""

    notes_all: bool
    """Whether it is told of every operation, and not only of denials and of others' data."""

    def admit(self) -> Access:
        """Check the token against the cached verifiers, in constant time and without I/O.

        Raises
        ------
        TokenRequired, InvalidToken
            If no token or a wrong one is held.
        DatabaseUnavailable
            If the cached grants are too old to be trusted.
        NotInitialized
            If the engine is not running.
        """

    def record(self, operation: str, collection: str, owner: str, denied: Exception | None) -> None:
        """Note an access for the audit trail; never blocks and never raises."""


GrantTable = Mapping[str, Grant]
"""All known grants by slug."""
