"""The app that is measured, its documents, and what the operator would have written of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

DATABASE: Final = "bench"
SLUG: Final = "shop"
OTHER: Final = "stock"
TOKEN: Final = "a token of nobody's"

BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)

INDEXES: Final = [{"name": "n", "type": "regular", "keys": {"n": 1}}]

MANIFEST: Final[Mapping[str, Any]] = {
    "schema_version": "2.0",
    "slug": SLUG,
    "name": "Shop",
    "data_access": {"read_scopes": [SLUG, OTHER], "write_scope": SLUG},
    "managed_indexes": {"clicks": INDEXES, "pages": [], "written": []},
}

OTHER_MANIFEST: Final[Mapping[str, Any]] = {
    "schema_version": "2.0",
    "slug": OTHER,
    "name": "Stock",
    "data_access": {
        "read_scopes": [OTHER],
        "write_scope": OTHER,
    },
    "managed_indexes": {"items": INDEXES},
}


def clicks(count: int, stamp: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return documents of ten fields, as an app would keep them; about 250 bytes each."""
    return [
        {
            "_id": number,
            **stamp,
            "n": number,
            "user": "ada" if number % 2 else "bob",
            "url": f"/{number % 20}",
            "at": BEGIN + timedelta(seconds=number),
            "agent": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101",
            "size": {"width": 1280, "height": 720},
            "tags": ["new", "eu", "shop"],
            "seconds": number / 7,
            "paid": number % 3 == 0,
        }
        for number in range(count)
    ]


def wide(number: int = 0) -> dict[str, Any]:
    """Return a document of 20 fields."""
    return {f"field_{n}": f"text {number}" if n % 3 else n for n in range(20)}


def grant_rows() -> Sequence[Mapping[str, Any]]:
    """Return the rows of both apps as the registry writes them."""
    digest = hashlib.sha256(TOKEN.encode()).digest()
    collections = {SLUG: ["clicks", "pages", "written"], OTHER: ["items"]}
    return [
        {
            "_id": slug,
            "slug": slug,
            "verifiers": [{"sha256": digest, "version": 1, "not_after": None}],
            "read_scopes": sorted({slug, OTHER}),
            "write_scope": slug,
            "collections": names,
            "stamped": names,
            "epoch": 1,
        }
        for slug, names in collections.items()
    ]


def binding(uri: str) -> Mapping[str, str]:
    """Return what the operator would have projected into a pod of the app."""
    return {
        "type": "mongodb",
        "provider": "mdb-operator",
        "uri": uri,
        "database": DATABASE,
        "app-slug": SLUG,
        "app-secret": TOKEN,
        "session-key": "k" * 44,
        "secret-version": "1",
    }
