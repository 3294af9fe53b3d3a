"""Put a database of MongoDB back to what it was, with its users and roles, as mongorestore does."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pymongo.errors import CollectionInvalid, OperationFailure

from support.mongo import Client

__all__ = ["MongoBackup", "back_up_mongodb"]

ATTEMPTS = 20

USERS, ROLES = "tempusers", "temproles"
"""Where MongoDB takes users and roles from that are to be merged."""


@dataclass(frozen=True, slots=True)
class MongoBackup:
    """A database as it was at one moment."""

    client: Client
    name: str
    collections: list[dict[str, Any]]  # as listed, with their options
    indexes: dict[str, list[dict[str, Any]]]
    documents: dict[str, list[dict[str, Any]]]
    users: list[dict[str, Any]]
    roles: list[dict[str, Any]]

    def restore(self) -> None:
        """Bring everything of the database back, and take away what came later."""
        database = self.client[self.name]
        for name in set(database.list_collection_names()) - set(self.documents):
            database.drop_collection(name)
        for one in self.collections:
            name = one["name"]
            self._make_anew(name, one["options"])
            for index in self.indexes[name]:
                kept = {key: value for key, value in index.items() if key not in {"v", "ns"}}
                if kept["name"] != "_id_":
                    database.command("createIndexes", name, indexes=[kept])
            for document in self.documents[name]:
                database[name].replace_one({"_id": document["_id"]}, document, upsert=True)
        self._merge_users()

    def _make_anew(self, name: str, options: dict[str, Any]) -> None:
        """Make a collection empty; an operator at work may be faster, and is no error."""
        database = self.client[self.name]
        for _ in range(ATTEMPTS):
            database.drop_collection(name)
            with suppress(CollectionInvalid):
                database.create_collection(name, **options)
                return
        raise AssertionError(f"{name} is made again faster than it can be restored")

    def _merge_users(self) -> None:
        admin = self.client.admin
        merge: dict[str, Any] = {"_mergeAuthzCollections": 1, "db": self.name, "drop": True}
        for key, collection, rows in (
            ("tempUsersCollection", USERS, self.users),
            ("tempRolesCollection", ROLES, self.roles),
        ):
            admin.drop_collection(collection)
            if rows:
                admin[collection].insert_many(rows)
                merge[key] = f"admin.{collection}"
        if self.users:
            admin.command(merge)
        for collection in (USERS, ROLES):
            admin.drop_collection(collection)


def back_up_mongodb(client: Client, name: str) -> MongoBackup:
    """Keep a database as it is; nothing may write to it meanwhile."""
    database = client[name]
    collections = [
        {"name": one["name"], "options": one.get("options", {})}
        for one in database.list_collections()
        if one["type"] == "collection" and not one["name"].startswith("system.")
    ]
    names = [one["name"] for one in collections]

    def of_admin(collection: str) -> list[dict[str, Any]]:
        try:
            return list(client.admin[collection].find({"db": name}))
        except OperationFailure:
            return []  # a server without authentication

    return MongoBackup(
        client,
        name,
        collections,
        {one: [dict(index) for index in database[one].list_indexes()] for one in names},
        {one: list(database[one].find()) for one in names},
        of_admin("system.users"),
        of_admin("system.roles"),
    )
