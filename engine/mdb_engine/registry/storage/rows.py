"""Rows of the engine's own collections: read strictly, and the damaged ones named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from mdb_engine.connection.control import translated
from mdb_engine.exceptions import ManifestInvalid, MdbEngineError, RowDamaged
from mdb_engine.registry.storage.legacy import is_legacy

__all__ = ["damaged_rows", "parsed", "parsed_all"]

_log = logging.getLogger(__name__)

Row = TypeVar("Row")
Parse = Callable[[Mapping[str, Any]], Row]


def parsed(collection: str, document: Mapping[str, Any], parse: Parse[Row]) -> Row:
    """Read a document of the engine's own.

    Raises
    ------
    RowDamaged
        If it is not as the engine wrote it.
    """
    try:
        return parse(document)
    except KeyError as error:
        fault = f"{error.args[0]!r} is missing"
    except ManifestInvalid as error:
        fault = f"its spec is malformed at {error.path or 'the top'}"
    except (AttributeError, TypeError, ValueError) as error:
        fault = f"it is malformed ({type(error).__name__})"
    if is_legacy(document):
        raise RowDamaged(
            f"Document {document.get('_id')!r} of {collection} is of the earlier version of the "
            "library; have an administrator run mdb-operator migrate --from-legacy"
        )
    raise RowDamaged(
        f"Document {document.get('_id')!r} of {collection} is damaged: {fault}. It costs only the "
        "app that it is of; have an administrator restore it from a backup"
    )


def parsed_all(
    collection: str, documents: Iterable[Mapping[str, Any]], parse: Parse[Row]
) -> list[Row]:
    """Read documents of the engine's own; damaged ones are logged and left out."""
    rows: list[Row] = []
    for document in documents:
        try:
            rows.append(parsed(collection, document, parse))
        except RowDamaged as error:
            _log.error(error.message)
    return rows


async def damaged_rows(name: str, collection: Any, parse: Parse[Row]) -> list[str]:
    """Return which documents of a collection cannot be read, as ``collection/_id``."""
    damaged: list[str] = []
    with translated(f"look through {name}"):
        async for document in collection.find({}):
            try:
                parse(document)
            except (AttributeError, KeyError, TypeError, ValueError, MdbEngineError):
                legacy = " (of the earlier version: mdb-operator migrate --from-legacy)"
                row = f"{name}/{document.get('_id')}"
                damaged.append(row + legacy if is_legacy(document) else row)
    return damaged
