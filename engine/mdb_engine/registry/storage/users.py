"""Users and roles of the apps in MongoDB, kept in the apps' own database.

In that database rather than in ``admin``, so that whoever manages them needs no right outside it,
and dropping the database's users takes them all. A user that logs in by X.509 has to be in
``$external``, which is one for the whole server: such a one says in its custom data whose it is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import SecretStr
from pymongo.errors import OperationFailure

from mdb_engine.connection.control import translated
from mdb_engine.connection.driver import RawDatabase
from mdb_engine.registry.models.privileges import ROLE_PREFIX, Privileges

__all__ = [
    "EXTERNAL",
    "MANAGED_BY",
    "MECHANISM",
    "DatabaseRole",
    "DatabaseUser",
    "UserStore",
    "is_external",
    "matches_password",
]

MANAGED_BY: Final = "mdb-engine"
"""The value of ``customData.managedBy`` by which a user is known as ours."""

MECHANISM: Final = "SCRAM-SHA-256"
"""The only mechanism: SCRAM-SHA-1 would keep an MD5 of the password beside it."""

EXTERNAL: Final = "external"
"""What MongoDB shows as the mechanism of a user of ``$external``."""

_EXTERNAL_DATABASE: Final = "$external"

_USER_EXISTS: Final = 51003
_ROLE_EXISTS: Final = 51002
_USER_NOT_FOUND: Final = 11
_OF_USERS: Final = frozenset({_USER_EXISTS, _USER_NOT_FOUND})
_ROLE_NOT_FOUND: Final = 31


@dataclass(frozen=True, slots=True)
class DatabaseUser:
    """A user of ours, as MongoDB has it.

    Parameters
    ----------
    name
        Its name: ``<slug>.v<version>``, or the subject of a certificate.
    slug
        The app that it is of, by its custom data.
    roles
        Names of its roles, as (database, role).
    custom_data
        Its custom data.
    mechanisms
        The mechanisms that it can log in by.
    credential
        What MongoDB keeps to check its password by: iterations, salt and keys in base64.
    """

    name: str
    slug: str
    roles: frozenset[tuple[str, str]]
    custom_data: Mapping[str, Any]
    mechanisms: frozenset[str]
    credential: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class DatabaseRole:
    """A role of ours, as MongoDB has it.

    Parameters
    ----------
    name
        Its name.
    privileges
        What it allows by itself.
    inherits
        Names of the roles that it takes privileges from, of the same database; ours have none.
    """

    name: str
    privileges: Privileges
    inherits: frozenset[str]


class UserStore:
    """Reads and writes users and roles of one database.

    Parameters
    ----------
    database
        The driver's database.
    """

    def __init__(self, database: RawDatabase) -> None:
        self._database = database

    @property
    def database_name(self) -> str:
        """The database in which users, roles and data are."""
        return str(self._database.name)

    async def users(self, slug: str, *, external: bool) -> list[DatabaseUser]:
        """Return the users of one app, with what their passwords are checked by."""
        query = {"customData.managedBy": MANAGED_BY, "customData.slug": slug}
        found = await self._users_info({"usersInfo": 1, "filter": query})
        return found + (await self.external_users(slug) if external else [])

    async def external_users(self, slug: str) -> list[DatabaseUser]:
        """Return the users of one app that log in by X.509, of whatever registration."""
        query = self._external({"customData.slug": slug})
        return await self._users_info({"usersInfo": 1, "filter": query}, self._external_database)

    async def any_external(self) -> bool:
        """Say whether there is a user of this database that logs in by X.509."""
        query = {"usersInfo": 1, "filter": self._external({})}
        return bool(await self._users_info(query, self._external_database))

    async def named(self, names: Iterable[str]) -> dict[str, DatabaseUser]:
        """Return those users of these names that there are, ours or not.

        Names are asked for exactly: MongoDB then looks these up instead of walking all users.
        """
        wanted = [{"user": name, "db": self._database_of(name).name} for name in names]
        found = await self._users_info({"usersInfo": wanted}) if wanted else []
        return {user.name: user for user in found}

    async def names_without(
        self, slugs: Collection[str], *, external: bool
    ) -> list[tuple[str, str]]:
        """Return the names of our users whose app is none of these, each with its app's slug.

        The apps are told to MongoDB, because all users at once do not fit into one answer, of
        which there is no second page: it would end at 59,000 of them.
        """
        query = {
            "customData.managedBy": MANAGED_BY,
            "customData.slug": {"$nin": sorted(slugs)},
        }
        with translated("look for database users whose app is gone"):
            reply = await self._database.command({"usersInfo": 1, "filter": query})
            documents = list(reply["users"])
            if external:
                reply = await self._external_database.command(
                    {"usersInfo": 1, "filter": self._external(query)}
                )
                documents += reply["users"]
        return [
            (str(document["user"]), str(document["customData"].get("slug", "")))
            for document in documents
        ]

    async def roles(self, names: Iterable[str]) -> dict[str, DatabaseRole]:
        """Return those roles of these names that there are."""
        wanted = [{"role": name, "db": self.database_name} for name in names]
        if not wanted:
            return {}
        with translated("read the apps' database roles"):
            reply = await self._database.command({"rolesInfo": wanted, "showPrivileges": True})
        return {document["role"]: self._role(document) for document in reply["roles"]}

    async def role_names(self) -> list[str]:
        """Return the names of all roles of ours."""
        with translated("read the apps' database roles"):
            reply = await self._database.command({"rolesInfo": 1})
        names = (str(document["role"]) for document in reply["roles"])
        return sorted(name for name in names if name.startswith(ROLE_PREFIX))

    async def create_role(self, name: str, privileges: Privileges) -> bool:
        """Create a role; False if there is one of that name already."""
        command = {
            "createRole": name,
            "privileges": privileges.documents(self.database_name),
            "roles": [],
        }
        return await self._run(f"create database role {name!r}", command, unless=_ROLE_EXISTS)

    async def change_role(self, role: DatabaseRole, wanted: Privileges) -> None:
        """Bring a role to what it has to be: first take away, then add; what stays is not touched.

        ``updateRole`` would do it at once, but demands the right to revoke in all databases.
        """
        if role.inherits:
            await self._role_command("revokeRolesFromRole", role.name, roles=sorted(role.inherits))
        if surplus := role.privileges.without(wanted).documents(self.database_name):
            await self._role_command("revokePrivilegesFromRole", role.name, privileges=surplus)
        if missing := wanted.without(role.privileges).documents(self.database_name):
            await self._role_command("grantPrivilegesToRole", role.name, privileges=missing)

    async def drop_role(self, name: str) -> bool:
        """Drop a role, also from every user that has it; False if it is gone."""
        command = {"dropRole": name}
        return await self._run(f"drop database role {name!r}", command, unless=_ROLE_NOT_FOUND)

    async def create_user(
        self, name: str, password: SecretStr, role: str, custom_data: Mapping[str, Any]
    ) -> bool:
        """Create a user; False if there is one of that name already, ours or not."""
        if is_external(name):
            roles = [{"role": role, "db": self.database_name}]
            definition: Mapping[str, Any] = {"roles": roles, "customData": dict(custom_data)}
        else:
            definition = _definition(password, role, custom_data)
        command = {"createUser": name, **definition}
        return await self._run(f"create database user {name!r}", command, unless=_USER_EXISTS)

    async def update_user(
        self, name: str, password: SecretStr, role: str, custom_data: Mapping[str, Any]
    ) -> bool:
        """Give a user with a password its role, that and custom data; its other roles stay.

        Returns
        -------
        bool
            False if it is gone.
        """
        what = f"repair database user {name!r}"
        granting = {"grantRolesToUser": name, "roles": [role]}
        if not await self._run(what, granting, unless=_USER_NOT_FOUND):
            return False
        definition = _definition(password, role, custom_data)
        del definition["roles"]  # which would demand the right to revoke in all databases
        return await self._run(what, {"updateUser": name, **definition}, unless=_USER_NOT_FOUND)

    async def mark_user(self, name: str, custom_data: Mapping[str, Any]) -> bool:
        """Replace the custom data of a user alone; False if it is gone."""
        command = {"updateUser": name, "customData": dict(custom_data)}
        return await self._run(f"mark database user {name!r}", command, unless=_USER_NOT_FOUND)

    async def drop_user(self, name: str) -> bool:
        """Drop a user, which ends its connections' rights at once; False if it is gone."""
        command = {"dropUser": name}
        return await self._run(f"drop database user {name!r}", command, unless=_USER_NOT_FOUND)

    @property
    def _external_database(self) -> RawDatabase:
        return self._database.client[_EXTERNAL_DATABASE]

    def _external(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Return a query for users of ``$external``: those of this database alone."""
        ours = {"customData.managedBy": MANAGED_BY, "customData.database": self.database_name}
        return {**ours, **query}

    def _database_of(self, name: str) -> RawDatabase:
        return self._external_database if is_external(name) else self._database

    async def _users_info(
        self, command: Mapping[str, Any], database: RawDatabase | None = None
    ) -> list[DatabaseUser]:
        with translated("read the apps' database users"):
            reply = await (self._database if database is None else database).command(
                {**command, "showCredentials": True},
                codec_options=self._database.codec_options,  # which a command does not inherit
            )
        return [_user(document) for document in reply["users"]]

    async def _role_command(self, command: str, name: str, **arguments: Any) -> None:
        # A role that is gone meanwhile is made anew by whoever looks next.
        action = f"change database role {name!r}"
        await self._run(action, {command: name, **arguments}, unless=_ROLE_NOT_FOUND)

    async def _run(self, action: str, command: Mapping[str, Any], *, unless: int) -> bool:
        document = {**command, "writeConcern": {"w": "majority", "wtimeout": 10_000}}
        user = next(iter(command.values())) if unless in _OF_USERS else ""
        with translated(action):
            try:
                await self._database_of(user).command(document)
            except OperationFailure as error:
                if error.code == unless:
                    return False
                raise
        return True

    def _role(self, document: Mapping[str, Any]) -> DatabaseRole:
        return DatabaseRole(
            name=document["role"],
            privileges=Privileges.from_documents(document["privileges"]),
            inherits=frozenset(role["role"] for role in document["roles"]),
        )


def is_external(name: str) -> bool:
    """Say whether a name of ours is that of a user of ``$external``: the subject of a certificate.

    The others begin with a slug, which has no capital letters.
    """
    return name.startswith("CN=")


def _definition(password: SecretStr, role: str, custom_data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pwd": password.get_secret_value(),
        "roles": [role],
        "customData": dict(custom_data),
        "mechanisms": [MECHANISM],
        "authenticationRestrictions": [],
    }


def _user(document: Mapping[str, Any]) -> DatabaseUser:
    custom_data = document.get("customData", {})
    return DatabaseUser(
        name=document["user"],
        slug=str(custom_data.get("slug", "")),
        roles=frozenset((role["db"], role["role"]) for role in document["roles"]),
        custom_data=custom_data,
        mechanisms=frozenset(document.get("mechanisms", ())),
        credential=document.get("credentials", {}).get(MECHANISM, {}),
    )


def matches_password(credential: Mapping[str, Any], password: SecretStr) -> bool:
    """Say whether a SCRAM-SHA-256 credential was made from a password.

    Parameters
    ----------
    credential
        `DatabaseUser.credential`.
    password
        ASCII, as ours are: SASLprep then changes nothing.

    Notes
    -----
    RFC 5802: ``StoredKey := H(HMAC(SaltedPassword, "Client Key"))``, where ``SaltedPassword`` is
    PBKDF2. It takes some milliseconds, on purpose; call it in a thread.
    """
    try:
        salt = base64.b64decode(credential["salt"])
        stored = base64.b64decode(credential["storedKey"])
        iterations = int(credential["iterationCount"])
    except (KeyError, ValueError, TypeError):
        return False
    secret = password.get_secret_value().encode("ascii")
    salted = hashlib.pbkdf2_hmac("sha256", secret, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), stored)
