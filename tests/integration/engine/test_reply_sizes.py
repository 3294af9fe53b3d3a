"""How large the replies are that grow with the number of apps, as docs/scaling.md takes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import bson
import pytest
from bench import scaling
from pydantic import SecretStr
from support.mongo import Database

from mdb_engine.access.grant_source import SLUGS
from mdb_engine.connection.driver import get_driver
from mdb_engine.constants import GRANTS_COLLECTION
from mdb_engine.registry.models.privileges import app_privileges, role_name, user_name
from mdb_engine.registry.storage.users import MANAGED_BY, UserStore

APPS = 40


@pytest.fixture
async def users(mongo_auth: Database) -> AsyncIterator[UserStore]:
    driver = get_driver("pymongo")
    client = driver.connect(mongo_auth.uri)
    yield UserStore(client[mongo_auth.name])
    await driver.close(client)


def grown(reply: Mapping[str, Any], name: str) -> float:
    """Return the bytes that each entry adds to a reply."""
    return len(bson.encode({name: reply[name]})) / APPS


@pytest.mark.long
async def test_a_reply_about_all_apps_grows_by_what_the_simulation_takes(
    users: UserStore, mongo_auth: Database
) -> None:
    database = mongo_auth.client[mongo_auth.name]
    slugs = [scaling.slug(number) for number in range(APPS)]
    for name in slugs:
        await users.create_role(role_name(name), app_privileges(name, ["c"], []))
        data = {"managedBy": MANAGED_BY, "slug": name, "version": 1}
        await users.create_user(user_name(name, 1), SecretStr("pencil"), role_name(name), data)
        database[GRANTS_COLLECTION].insert_one({"_id": name.replace("-", "_"), "slug": name})
    of_roles = grown(database.command("rolesInfo", 1), "roles")
    query = {"customData.managedBy": MANAGED_BY}
    of_users = grown(database.command("usersInfo", 1, filter=query), "users")
    (of_slugs,) = database[GRANTS_COLLECTION].aggregate(SLUGS)
    given = scaling.CONSTANTS
    assert of_roles == pytest.approx(given.role_bytes, rel=0.1)
    assert of_users == pytest.approx(given.user_bytes, rel=0.1)
    assert len(bson.encode(of_slugs)) == pytest.approx(scaling.slugs_bytes(APPS), rel=0.02)
