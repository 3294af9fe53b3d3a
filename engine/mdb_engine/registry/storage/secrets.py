"""``_mdb_engine_app_secrets``: one document per app, with its sealed credentials.

Every write is compare-and-set on ``revision``, which grows with each; ``version`` alone would let a
re-wrap of the keys and a rotation overwrite each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

from pymongo.errors import DuplicateKeyError

from mdb_engine.connection.control import translated
from mdb_engine.connection.driver import RawDatabase
from mdb_engine.constants import SECRETS_COLLECTION
from mdb_engine.core.secret import (
    ClientCertificate,
    Envelope,
    Purpose,
    SealedVersion,
    SecretRecord,
)
from mdb_engine.exceptions import RowDamaged, VersionConflict
from mdb_engine.models.naming import app_key
from mdb_engine.registry.storage.rows import damaged_rows, parsed, parsed_all

__all__ = ["SecretStore"]

_FIELDS = {
    Purpose.APP_SECRET: "encrypted_secret",
    Purpose.SESSION_KEY: "encrypted_session_key",
    Purpose.DATABASE_PASSWORD: "encrypted_database_password",
    Purpose.CLIENT_CERTIFICATE: "encrypted_client_certificate",
}


class SecretStore:
    """Reads and writes sealed credentials."""

    def __init__(self, database: RawDatabase) -> None:
        self._collection = database[SECRETS_COLLECTION]

    async def get(self, slug: str) -> SecretRecord | None:
        """Return an app's sealed credentials, or None."""
        with translated(f"read the secret of app {slug!r}"):
            document = await self._collection.find_one({"_id": app_key(slug)})
        return parsed(SECRETS_COLLECTION, document, _record) if document else None

    async def get_many(self, slugs: Collection[str]) -> dict[str, SecretRecord]:
        """Return sealed credentials by the key of their app; damaged rows are left out."""
        query = {"_id": {"$in": sorted(set(map(app_key, slugs)))}}
        with translated("read secrets"):
            documents = await self._collection.find(query).to_list(None)
        rows = parsed_all(SECRETS_COLLECTION, documents, _record)
        return {app_key(row.slug): row for row in rows}

    async def each(self) -> AsyncIterator[tuple[str, SecretRecord | RowDamaged]]:
        """Yield the sealed credentials of all apps with their keys; of a damaged row its error."""
        with translated("read secrets"):
            async for document in self._collection.find({}).sort("_id", 1):
                try:
                    row: SecretRecord | RowDamaged = parsed(SECRETS_COLLECTION, document, _record)
                except RowDamaged as error:
                    row = error
                yield str(document["_id"]), row

    async def under_other_keys(self, key_id: str) -> list[str]:
        """Return the slugs of all apps with a version that another master key wraps."""
        with translated("look for secrets under other master keys"):
            documents = (
                await self._collection.find(
                    {
                        "$or": [
                            {"key_id": {"$ne": key_id}},
                            {"previous": {"$elemMatch": {"key_id": {"$ne": key_id}}}},
                        ]
                    },
                    {"slug": 1},
                )
                .sort("_id", 1)
                .to_list(None)
            )
        return [str(document.get("slug", document["_id"])) for document in documents]

    async def insert(self, record: SecretRecord) -> bool:
        """Add an app's credentials; False if there are some already."""
        with translated(f"store the secret of app {record.slug!r}"):
            try:
                await self._collection.insert_one(_document(record))
            except DuplicateKeyError:
                return False
        return True

    async def replace(self, record: SecretRecord) -> SecretRecord:
        """Write credentials over the revision that they were made from.

        Raises
        ------
        VersionConflict
            If somebody else wrote since.
        """
        document = _document(record)
        document["revision"] = record.revision + 1
        known = {"_id": document["_id"], "revision": record.revision}
        with translated(f"store the secret of app {record.slug!r}"):
            result = await self._collection.replace_one(known, document)
        if result.matched_count == 0:
            raise VersionConflict(f"The secret of app {record.slug!r} was changed meanwhile")
        return _record(document)

    async def damaged(self) -> list[str]:
        """Return which secrets cannot be read."""
        return await damaged_rows(SECRETS_COLLECTION, self._collection, _record)

    async def remove(self, slug: str) -> None:
        """Destroy an app's credentials, if there are any."""
        with translated(f"destroy the secret of app {slug!r}"):
            await self._collection.delete_one({"_id": app_key(slug)})


def _document(record: SecretRecord) -> dict[str, Any]:
    return {
        "_id": app_key(record.slug),
        "slug": record.slug,
        "incarnation": record.incarnation,
        **_version_document(record.current),
        "previous": [
            {**_version_document(version), "expires_at": version.expires_at}
            for version in record.previous
        ],
        "rotation_count": record.rotation_count,
        "handled": dict(record.handled),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "revision": record.revision,
    }


def _version_document(version: SealedVersion) -> dict[str, Any]:
    envelope, certificate = version.envelope, version.certificate
    document = {
        "version": version.version,
        "key_id": envelope.key_id,
        "dek_id": envelope.dek_id,
        "encrypted_dek": envelope.wrapped_dek,
        **{_FIELDS[purpose]: value for purpose, value in envelope.ciphertexts.items()},
        "verifier": version.verifier,
        "rotated_at": version.created_at,
    }
    if certificate is not None:
        document["certificate"] = {
            "issuer": certificate.issuer,
            "expires_at": certificate.expires_at,
        }
    return document


def _record(document: Mapping[str, Any]) -> SecretRecord:
    return SecretRecord(
        slug=document["slug"],
        incarnation=document["incarnation"],
        current=_version(document),
        previous=tuple(_version(version) for version in document["previous"]),
        rotation_count=document["rotation_count"],
        handled=document["handled"],
        created_at=document["created_at"],
        updated_at=document["updated_at"],
        revision=document["revision"],
    )


def _version(document: Mapping[str, Any]) -> SealedVersion:
    certificate = document.get("certificate")
    return SealedVersion(
        version=document["version"],
        envelope=Envelope(
            key_id=document["key_id"],
            dek_id=document["dek_id"],
            wrapped_dek=document["encrypted_dek"],
            ciphertexts={
                purpose: document[name] for purpose, name in _FIELDS.items() if name in document
            },
        ),
        verifier=document["verifier"],
        created_at=document["rotated_at"],
        expires_at=document.get("expires_at"),
        certificate=ClientCertificate(**certificate) if certificate else None,
    )
