"""Users and roles of the apps in a real MongoDB, made with exactly the operator's rights."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from support.mongo import Database

from mdb_engine.connection.driver import get_driver
from mdb_engine.core.clock import utcnow
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.secret import Credentials
from mdb_engine.exceptions import DatabaseUnavailable
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.database_users import BATCH, DatabaseUserService
from mdb_engine.registry.models.app import AppRecord, Owner
from mdb_engine.registry.registry import Registry
from mdb_operator.mongodb.rights import OPERATOR_ROLE, create_role_command

UNAUTHORIZED = 13


@dataclass
class Bench:
    """A registry with its users, and MongoDB as each app sees it."""

    registry: Registry
    users: DatabaseUserService
    mongo: Database

    async def register(
        self, slug: str, *collections: str, reads: tuple[str, ...] = ()
    ) -> AppRecord:
        spec = MdbAppSpec.parse(
            {
                "slug": slug,
                "collections": [{"name": name} for name in collections],
                "dataAccess": {"readScopes": [slug, *reads]},
            }
        )
        done = await self.registry.register(spec, Owner("team", slug, f"uid-{slug}"))
        return done.record

    async def ensure(self, app: AppRecord) -> bool:
        outcome = await self.registry.publish(app.slug)
        revealed = await self.registry.secrets.reveal(app.slug)
        return await self.users.ensure(app, outcome, revealed)

    async def rotate(self, app: AppRecord) -> None:
        revealed = await self.registry.secrets.reveal(app.slug)
        await self.registry.rotate(app.slug, expected_version=revealed.version, overlap_seconds=600)

    async def login(self, app: AppRecord) -> MongoClient[dict[str, Any]]:
        revealed = await self.registry.secrets.reveal(app.slug)
        return self.as_version(app, revealed.current)

    def as_version(self, app: AppRecord, version: Credentials) -> MongoClient[dict[str, Any]]:
        return MongoClient(
            self.mongo.uri,
            username=f"{app.slug}.v{version.version}",
            password=version.database_password.get_secret_value(),
            authSource=self.mongo.name,
            authMechanism="SCRAM-SHA-256",
            serverSelectionTimeoutMS=5000,
        )

    @property
    def raw(self) -> Any:
        return self.mongo.client[self.mongo.name]

    def user_names(self) -> set[str]:
        return {user["user"] for user in self.raw.command("usersInfo", 1)["users"]} - {"operator"}


@pytest.fixture(params=["motor", "pymongo"])
async def bench(request: pytest.FixtureRequest, mongo_auth: Database) -> AsyncIterator[Bench]:
    driver = get_driver(request.param)
    database = mongo_auth.client[mongo_auth.name]
    database.command(create_role_command(mongo_auth.name, users=True))
    database.command("createUser", "operator", pwd="pencil", roles=[OPERATOR_ROLE])
    client = driver.connect(
        mongo_auth.uri, username="operator", password="pencil", authSource=mongo_auth.name
    )
    database = client[mongo_auth.name]
    encryption = EnvelopeEncryptionService(EnvelopeEncryptionService.generate_master_key())
    yield Bench(Registry(database, driver, encryption), DatabaseUserService(database), mongo_auth)
    await driver.close(client)


def refused(action: Any, *arguments: Any) -> bool:
    """Say whether MongoDB itself refuses."""
    try:
        action(*arguments)
    except OperationFailure as error:
        return error.code == UNAUTHORIZED
    return False


async def test_a_second_look_writes_nothing(bench: Bench) -> None:
    app = await bench.register("shop", "clicks")
    assert await bench.ensure(app)
    assert not await bench.ensure(app)
    # A new process remembers no password, and must still see that nothing differs.
    fresh = DatabaseUserService(bench.users._users._database)
    revealed = await bench.registry.secrets.reveal("shop")
    assert not await fresh.ensure(app, await bench.registry.publish("shop"), revealed)


async def test_a_grant_and_its_revocation_change_the_readers_role(bench: Bench) -> None:
    shop = await bench.register("shop", "clicks")
    dash = await bench.register("dash", "reports", reads=("shop",))
    await bench.ensure(shop)
    await bench.ensure(dash)
    bench.raw.shop_clicks.insert_one({"app_id": "shop"})
    with await bench.login(dash) as client:
        mine = client[bench.mongo.name]
        assert mine.shop_clicks.count_documents({}) == 1
        assert refused(mine.shop_clicks.insert_one, {"x": 1})
        spec = MdbAppSpec.parse(
            {
                "slug": "shop",
                "collections": [{"name": "clicks"}],
                "dataAccess": {"crossAppPolicy": "DenyAll"},
            }
        )
        await bench.registry.register(spec, Owner("team", "shop", "uid-shop"))
        assert await bench.users.refresh_roles(["dash"])
        assert refused(mine.shop_clicks.find_one)
        assert mine.dash_reports.insert_one({"app_id": "dash"}).acknowledged


async def test_a_collection_added_to_the_spec_appears_in_the_role(bench: Bench) -> None:
    app = await bench.register("shop", "clicks")
    await bench.ensure(app)
    with await bench.login(app) as client:
        mine = client[bench.mongo.name]
        assert refused(mine.shop_orders.insert_one, {"x": 1})
        await bench.ensure(await bench.register("shop", "clicks", "orders"))
        assert mine.shop_orders.insert_one({"app_id": "shop"}).acknowledged


async def test_a_version_that_ended_has_no_rights_on_a_connection_that_is_open(
    bench: Bench,
) -> None:
    app = await bench.register("shop", "clicks")
    await bench.ensure(app)
    with await bench.login(app) as client:
        clicks = client[bench.mongo.name].shop_clicks
        clicks.insert_one({"app_id": "shop"})
        await bench.rotate(app)
        await bench.ensure(app)
        assert clicks.count_documents({}) == 1, "the overlap"
        await bench.registry.revoke_previous("shop")
        assert await bench.ensure(app)
        assert refused(clicks.find_one)
        assert refused(clicks.insert_one, {"app_id": "shop"})


async def test_both_versions_work_during_the_overlap_and_only_one_after(bench: Bench) -> None:
    app = await bench.register("shop", "clicks")
    await bench.ensure(app)
    first = (await bench.registry.secrets.reveal("shop")).current
    await bench.rotate(app)
    await bench.ensure(app)
    second = (await bench.registry.secrets.reveal("shop")).current
    for version in (first, second):
        with bench.as_version(app, version) as client:
            assert client[bench.mongo.name].shop_clicks.count_documents({}) == 0
    await bench.registry.revoke_previous("shop")
    assert await bench.ensure(app)
    assert bench.user_names() == {"shop.v2"}


@pytest.mark.long
@pytest.mark.parametrize(
    "spoil",
    [
        {"updateUser": "shop.v1", "pwd": "changed-by-hand"},
        {"updateUser": "shop.v1", "roles": ["dbOwner"]},
        {"updateUser": "shop.v1", "customData": {}},
        {"revokeRolesFromUser": "shop.v1", "roles": ["mdb-engine.app.shop"]},
        {"dropUser": "shop.v1"},
        {"dropRole": "mdb-engine.app.shop"},
        {"grantRolesToRole": "mdb-engine.app.shop", "roles": ["read"]},
        {
            "grantPrivilegesToRole": "mdb-engine.app.shop",
            "privileges": [{"resource": {"collection": ""}, "actions": ["find"]}],
        },
        {
            "revokePrivilegesFromRole": "mdb-engine.app.shop",
            "privileges": [
                {
                    "resource": {"collection": "shop_clicks"},
                    "actions": ["insert"],
                }
            ],
        },
    ],
    ids=lambda command: "-".join(map(str, next(iter(command.items())))),
)
async def test_what_somebody_changed_by_hand_is_repaired(
    bench: Bench, spoil: dict[str, Any]
) -> None:
    app = await bench.register("shop", "clicks")
    await bench.ensure(app)
    command = copy.deepcopy(spoil)
    for privilege in command.get("privileges", ()):
        privilege["resource"]["db"] = bench.mongo.name
    bench.raw.command(command)
    assert await bench.ensure(app)
    assert not await bench.ensure(app)
    with await bench.login(app) as client:
        mine = client[bench.mongo.name]
        mine.shop_clicks.insert_one({"app_id": "shop"})
        assert refused(mine.apps_config.find_one)


async def test_a_user_of_somebody_else_is_never_touched(bench: Bench) -> None:
    app = await bench.register("shop", "clicks")
    bench.raw.command("createUser", "shop.v1", pwd="theirs", roles=["read"])
    with pytest.raises(DatabaseUnavailable, match=r"'shop\.v1'.*not ours"):
        await bench.ensure(app)
    (user,) = bench.raw.command("usersInfo", "shop.v1")["users"]
    assert [role["role"] for role in user["roles"]] == ["read"]


async def test_a_deleted_app_leaves_no_user_and_no_role(bench: Bench) -> None:
    app = await bench.register("shop", "clicks")
    await bench.ensure(app)
    assert await bench.users.drop("shop")
    assert bench.user_names() == set()
    assert [role["role"] for role in bench.raw.command("rolesInfo", 1)["roles"]] == [OPERATOR_ROLE]
    assert not await bench.users.drop("shop")


async def test_a_sweep_takes_orphans_of_ours_and_nothing_else(bench: Bench) -> None:
    shop = await bench.register("shop", "clicks")
    gone = await bench.register("gone", "things")
    await bench.ensure(shop)
    await bench.ensure(gone)
    bench.raw.command("createUser", "somebody", pwd="theirs", roles=["read"])
    bench.raw.command("createUser", "gone.v9", pwd="theirs", roles=["read"])

    async def active() -> list[str]:
        return ["shop"]

    assert await bench.users.sweep(active) == ["gone.v1", "mdb-engine.app.gone"]
    assert bench.user_names() == {"shop.v1", "somebody", "gone.v9"}
    assert await bench.users.sweep(active) == []


async def test_a_sweep_asks_again_before_it_drops_users_of_an_app_that_has_just_come(
    bench: Bench,
) -> None:
    app = await bench.register("shop", "clicks")
    await bench.ensure(app)

    async def active() -> list[str]:
        return ["shop"]

    assert await bench.users.sweep(active, known=[]) == []
    assert bench.user_names() == {"shop.v1"}


async def test_users_that_somebody_changed_are_told_of_until_they_are_right_again(
    bench: Bench,
) -> None:
    apps = [await bench.register(slug, "clicks") for slug in ("shop", "dash", "late")]
    for app in apps:
        await bench.ensure(app)
    assert await bench.users.altered() == []
    assert await bench.users.altered() == []
    bench.raw.command("updateUser", "shop.v1", pwd="changed by hand")
    bench.raw.command("grantRolesToUser", "dash.v1", roles=["read"])
    bench.raw.command("dropUser", "late.v1")
    for _ in range(2):
        assert await bench.users.altered() == ["dash", "late", "shop"]
    for app in apps:
        assert await bench.ensure(app)
    assert await bench.users.altered() == []
    await bench.users.drop("late")
    assert await bench.users.altered() == []


@pytest.mark.long
async def test_many_roles_follow_their_grants_at_once(bench: Bench) -> None:
    await bench.register("hub", "clicks")
    readers = [f"reader-{number}" for number in range(2 * BATCH + 1)]
    for slug in readers:
        await bench.register(slug, reads=("hub",))
    assert await bench.users.refresh_roles(readers) == sorted(readers)
    assert await bench.users.refresh_roles(readers) == []
    await bench.register("hub", "clicks", "orders")
    assert await bench.users.refresh_roles(readers) == sorted(readers)
    role = bench.raw.command("rolesInfo", "mdb-engine.app.reader-7", showPrivileges=True)
    names = {one["resource"]["collection"] for one in role["roles"][0]["privileges"]}
    assert {"hub_clicks", "hub_orders"} <= names


async def test_revisions_tell_of_every_write_and_of_nothing_else(bench: Bench) -> None:
    registry = bench.registry
    assert await registry.revisions("shop") is None
    app = await bench.register("shop", "clicks")
    first = await registry.revisions("shop")
    assert first is not None
    assert first.incarnation == app.incarnation
    await registry.publish("shop")
    assert await registry.revisions("shop") == first
    await registry.rotate("shop", expected_version=1, overlap_seconds=600)
    rotated = await registry.revisions("shop")
    assert rotated is not None
    assert (rotated.registration, rotated.secret) == (first.registration, first.secret + 1)
    assert rotated.epoch > first.epoch
    await bench.register("shop", "clicks", "orders")
    changed = await registry.revisions("shop")
    assert changed is not None
    assert changed.registration > rotated.registration
    bench.raw["_mdb_engine_grants"].delete_one({"slug": "shop"})
    assert await registry.revisions("shop") is None


async def test_users_end_after_the_overlap_when_isolation_is_given_up(bench: Bench) -> None:
    app = await bench.register("shop", "clicks")
    await bench.ensure(app)
    now = utcnow()
    assert not await bench.users.drop_retired("shop", now=now + timedelta(days=1))
    assert bench.users.is_to_retire("shop")
    assert await bench.users.retire(app, now=now)
    assert not bench.users.is_to_retire("shop")
    assert not await bench.users.retire(app, now=now + timedelta(seconds=599))
    assert not await bench.users.drop_retired("shop", now=now + timedelta(seconds=599))
    assert bench.user_names() == {"shop.v1"}
    assert not bench.users.is_settled("shop")
    assert await bench.users.drop_retired("shop", now=now + timedelta(seconds=601))
    assert bench.users.is_settled("shop")
    assert bench.user_names() == set()
    roles = bench.raw.command("rolesInfo", 1)["roles"]
    assert [role["role"] for role in roles] == [OPERATOR_ROLE]
    assert not await bench.users.drop_retired("shop", now=now + timedelta(seconds=602))


async def test_taking_isolation_up_again_keeps_the_users(bench: Bench) -> None:
    app = await bench.register("shop", "clicks")
    await bench.ensure(app)
    await bench.users.retire(app)
    assert await bench.ensure(app)
    assert not await bench.users.drop_retired("shop", now=utcnow() + timedelta(days=1))
    assert bench.user_names() == {"shop.v1"}
