"""A row of ``_mdb_engine_grants``, as pods and the registry read it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import UnionType
from typing import Any, Final

from mdb_engine.access.model import Grant, Verifier
from mdb_engine.constants import GRANTS_COLLECTION
from mdb_engine.exceptions import GrantMalformed
from mdb_engine.models.naming import app_key

__all__ = ["grant_from_document"]

_LONGEST_KEY: Final = 100
"""How much of a row's key an error repeats; a slug has at most 48 characters."""


def grant_from_document(document: Mapping[str, Any]) -> Grant:
    """Read a document of the collection.

    Parameters
    ----------
    document
        As MongoDB gives it to a client whose dates are aware (``tz_aware=True``).

    Raises
    ------
    GrantMalformed
        If it is not what the registry writes; the message names the row, and no value of it.
    """
    field = ""

    def take(source: Mapping[str, Any], name: str, kind: type | UnionType) -> Any:
        nonlocal field
        field = name
        value = source[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError
        return value

    def texts(name: str) -> frozenset[str]:
        entries = take(document, name, list)
        if not all(isinstance(entry, str) for entry in entries):
            raise TypeError
        return frozenset(entries)

    try:
        grant = Grant(
            slug=take(document, "slug", str),
            verifiers=tuple(
                Verifier(
                    sha256=bytes(take(entry, "sha256", bytes)),
                    version=take(entry, "version", int),
                    not_after=take(entry, "not_after", datetime | None),
                )
                for entry in take(document, "verifiers", list)
            ),
            read_scopes=texts("read_scopes"),
            write_scope=take(document, "write_scope", str),
            collections=texts("collections"),
            epoch=take(document, "epoch", int),
            stamped=texts("stamped") if "stamped" in document else frozenset(),
        )
        field = "_id"
        if app_key(grant.slug) != document["_id"]:
            raise ValueError  # noqa: TRY301 - as the wrong types above
    except (KeyError, TypeError, ValueError):
        # `from None`: what the row holds instead is nobody's business.
        raise GrantMalformed(
            f"row {str(document.get('_id'))[:_LONGEST_KEY]!r} of {GRANTS_COLLECTION} is malformed "
            f"(field {field!r}); remove it, and the next reconcile of the app (without Kubernetes: "
            "its next start) writes it anew"
        ) from None
    return grant
