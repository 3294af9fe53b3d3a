"""What the operator itself needs in MongoDB: everything it does, in one database, and no more.

The role is made by an administrator before the operator is installed (``mdb-operator mongodb-role``
prints the command), and by the chart's trial MongoDB. A test runs the operator with exactly this.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = [
    "EXTERNAL_ROLE",
    "OPERATOR_ROLE",
    "create_external_role_command",
    "create_role_command",
]

OPERATOR_ROLE: Final = "mdb-engine.operator"
"""The name of the role; it stands in the apps' database, beside the roles of the apps."""

EXTERNAL_ROLE: Final = "mdb-engine.operator.external"
"""The name of the role for apps' login by X.509; it stands in ``admin``, as no other database's
role can reach ``$external``."""

DATA_ACTIONS: Final = (
    "find",
    "insert",
    "update",
    "remove",
    "createCollection",
    "collMod",
    "convertToCapped",  # which it takes to make a collection that is capped
    "dropCollection",
    "listCollections",
    "createIndex",
    "dropIndex",
    "listIndexes",
    "changeStream",
)
"""On all collections of the database, because which ones there will be is what MdbApps say."""

USER_ACTIONS: Final = (
    "viewUser",
    "createUser",
    "dropUser",
    "changePassword",
    "changeCustomData",
    "setAuthenticationRestriction",
    "viewRole",
    "createRole",
    "dropRole",
    "grantRole",
    "revokeRole",
)
"""With ``isolation: database``: users and roles, of this database alone."""


EXTERNAL_ACTIONS: Final = ("viewUser", "createUser", "dropUser", "changeCustomData")
"""On ``$external``. Roles are granted in the apps' database, so none of another's can be."""


def create_external_role_command() -> dict[str, Any]:
    """Return the ``createRole`` command for logins by X.509, to be run in ``admin``."""
    return {
        "createRole": EXTERNAL_ROLE,
        "privileges": [
            {
                "resource": {"db": "$external", "collection": ""},
                "actions": sorted(EXTERNAL_ACTIONS),
            }
        ],
        "roles": [],
    }


def create_role_command(database: str, *, users: bool) -> dict[str, Any]:
    """Return the ``createRole`` command for the operator's role, to be run in the database.

    ``users`` says whether users and roles are to be managed (``isolation: database``).
    """
    actions = [*DATA_ACTIONS, *(USER_ACTIONS if users else ())]
    return {
        "createRole": OPERATOR_ROLE,
        "privileges": [
            {"resource": {"db": database, "collection": ""}, "actions": sorted(actions)}
        ],
        "roles": [],
    }
