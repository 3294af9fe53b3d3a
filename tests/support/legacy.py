"""A database as the earlier version of the library left it, made from what is known of it.

Manifests in ``apps_config`` under ids of MongoDB's making; secrets under the slug, in base64, the
DEK under the master key, without associated data; documents with ``app_id``; indexes whose names
begin with the slug.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from support import leakscan

__all__ = ["LegacyProgram"]


@dataclass
class LegacyProgram:
    """A process of the earlier version.

    Parameters
    ----------
    database
        The driver's database.
    key
        Its master key.
    tokens
        What its apps have in their ``.env`` files.
    """

    database: Any
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    tokens: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def key_text(self) -> str:
        """What stood in the variable of its master key."""
        text = base64.b64encode(self.key).decode()
        leakscan.register(text, "the old master key")
        return text

    def register(self, manifest: Mapping[str, Any]) -> None:
        """Do what it did at each start of an app."""
        slug = manifest["slug"]
        self.database["apps_config"].replace_one({"slug": slug}, dict(manifest), upsert=True)
        if self.database["_mdb_engine_app_secrets"].find_one({"_id": slug}) is None:
            token = self.tokens[slug] = secrets.token_urlsafe(32)
            leakscan.register(token, f"the old token of {slug}")
            self.store_secret(slug, token)
        for collection, indexes in manifest.get("managed_indexes", {}).items():
            for index in indexes:
                if "keys" in index:
                    self.database[f"{slug}_{collection}"].create_index(
                        list(index["keys"].items()), name=f"{slug}_{index['name']}"
                    )

    def store_secret(self, slug: str, token: str) -> None:
        """Seal a secret and store it."""
        dek, now = secrets.token_bytes(32), datetime.now(UTC)
        row = {
            "encrypted_secret": _sealed(dek, token.encode()),
            "encrypted_dek": _sealed(self.key, dek),
            "algorithm": "AES-256-GCM",
            "created_at": now,
            "updated_at": now,
            "rotation_count": 0,
        }
        self.database["_mdb_engine_app_secrets"].replace_one({"_id": slug}, row, upsert=True)

    def insert(self, slug: str, collection: str, *documents: dict[str, Any]) -> None:
        """Write as an app did: stamped, into a collection that nobody declared."""
        stamped = [{**document, "app_id": slug} for document in documents]
        self.database[f"{slug}_{collection}"].insert_many(stamped)

    def shop(self, count: int) -> list[str]:
        """Register so many apps, each with data, of which each second reads the one before."""
        slugs = [f"app{number:02}" for number in range(count - 1)] + ["with-dash"][: count > 0]
        for number, slug in enumerate(slugs):
            scopes = [slug, slugs[number - 1]] if number % 2 else [slug]
            self.register(
                {
                    "schema_version": "2.0",
                    "slug": slug,
                    "name": f"App {number}",
                    "status": "active",
                    "auth": {"users": {"enabled": True, "collection_name": "people"}},
                    "data_access": {"read_scopes": scopes, "write_scope": slug},
                    "managed_indexes": {
                        "rows": [
                            {"type": "regular", "name": "by_n", "keys": {"n": 1}},
                            {"type": "vectorSearch", "name": "near", "definition": {"fields": []}},
                        ]
                    },
                    "websockets": {"live": {"path": "/ws"}},
                }
            )
            self.insert(slug, "rows", {"n": number}, {"n": number + 1})
            self.insert(slug, "undeclared", {"x": slug})
        return slugs

    def dump(self) -> dict[str, list[Any]]:
        """Return all that is in the database, but for who manages it, by collection."""
        names = sorted(set(self.database.list_collection_names()) - {"_mdb_engine_installation"})
        found = {name: list(self.database[name].find().sort("_id", 1)) for name in names}
        return {name: rows for name, rows in found.items() if rows}


def _sealed(key: bytes, plain: bytes) -> str:
    nonce = secrets.token_bytes(12)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, plain, None)).decode()
