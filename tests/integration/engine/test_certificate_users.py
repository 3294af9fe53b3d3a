"""Apps that log in to a real MongoDB by X.509, their users made with the operator's very rights."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from support.certificates import Authority
from support.leakscan import register

from devcluster.mongo import MongoConfig, MongoServer, TlsFiles
from mdb_engine.connection.driver import Driver, get_driver
from mdb_engine.core.clock import utcnow
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.secret import CertificateIssuer
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.database_users import DatabaseUserService
from mdb_engine.registry.models.app import AppRecord, Owner
from mdb_engine.registry.models.privileges import user_subject
from mdb_engine.registry.registry import Registry
from mdb_operator.mongodb.issuer import AppCertificates, load_issuer
from mdb_operator.mongodb.rights import (
    EXTERNAL_ROLE,
    OPERATOR_ROLE,
    create_external_role_command,
    create_role_command,
)

SLUG = "shop"
KEYS = EnvelopeEncryptionService.generate_master_key()
register(KEYS, "the master key")

Client = MongoClient[dict[str, Any]]

REFUSALS = {11, 13, 18}
"""UserNotFound and AuthenticationFailed at a login, Unauthorized after it."""


@dataclass(frozen=True)
class Server:
    """A MongoDB that accepts TLS only."""

    authority: Authority
    directory: Path
    root: Client
    hosts: str

    def client(self, pem: str) -> Client:
        """Return a client that logs in by a certificate alone."""
        file = self.directory / "client.pem"
        file.write_text(pem)
        return MongoClient(
            f"mongodb://{self.hosts}/?authMechanism=MONGODB-X509&authSource=%24external",
            tls=True,
            tlsCAFile=str(self.authority.certificate),
            tlsCertificateKeyFile=str(file),
            serverSelectionTimeoutMS=5_000,
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory)
    files = TlsFiles(
        ca=authority.certificate, certificate_and_key=authority.issue("server", ["127.0.0.1"])
    )
    with (
        MongoServer(MongoConfig(auth=True, tls=files, die_with_parent=True)) as owned,
        Client(owned.uri) as root,
    ):
        root.admin.command(create_external_role_command())
        yield Server(authority, directory, root, f"127.0.0.1:{owned.port}")


class Bench:
    """A registry and its users in one database, as the operator's user."""

    def __init__(self, server: Server, database: str, driver: Driver) -> None:
        self.server, self.name, self._driver = server, database, driver
        self.raw = server.root[database]
        self.raw.command(create_role_command(database, users=True))
        roles = [OPERATOR_ROLE, {"role": EXTERNAL_ROLE, "db": "admin"}]
        self.raw.command("createUser", "operator", pwd="pencil", roles=roles)
        self._client = driver.connect(
            f"mongodb://operator:pencil@{server.hosts}/?authSource={database}",
            tls=True,
            tlsCAFile=str(server.authority.certificate),
        )
        mounted = server.authority.write_issuer(server.directory / "issuer")
        issuer = load_issuer((mounted / "tls.crt").read_text(), (mounted / "tls.key").read_text())

        async def knock(pem: SecretStr) -> None:
            with server.client(pem.get_secret_value()) as client, pytest.raises(OperationFailure):
                client.admin.command("ping")  # let in, and nobody

        self.issuer = AppCertificates(lambda: issuer, database, timedelta(days=90), utcnow, knock)
        self.start(self.issuer)

    def start(self, issuer: CertificateIssuer | None) -> None:
        """Begin anew, as another process with an issuer, or one without."""
        database = self._client[self.name]
        encryption = EnvelopeEncryptionService(KEYS)
        self.registry = Registry(database, self._driver, encryption, utcnow, issuer)
        self.users = DatabaseUserService(database, certificates=issuer is not None)

    async def register(self, uid: str = "uid") -> AppRecord:
        spec = MdbAppSpec.parse({"slug": SLUG, "collections": [{"name": "orders"}]})
        return (await self.registry.register(spec, Owner("team", SLUG, uid))).record

    async def ensure(self, app: AppRecord) -> bool:
        outcome = await self.registry.publish(SLUG)
        return await self.users.ensure(app, outcome, await self.registry.secrets.reveal(SLUG))

    async def rotate(self) -> None:
        revealed = await self.registry.secrets.reveal(SLUG)
        await self.registry.rotate(SLUG, expected_version=revealed.version, overlap_seconds=600)

    async def pem(self) -> str:
        """Return the current version's certificate with its key."""
        pem = (await self.registry.secrets.reveal(SLUG)).current.client_certificate
        assert pem is not None
        register(pem.get_secret_value().splitlines()[-3], "an app's private key")
        return pem.get_secret_value()

    async def drop_ended(self) -> bool:
        secrets = await self.registry.secrets.get(SLUG)
        assert secrets is not None
        return await self.users.drop_ended(secrets)

    def user_names(self) -> set[str]:
        """Return the names of all users of the database, and of those in ``$external``."""
        inside = self.raw.command("usersInfo", 1)["users"]
        outside = self.server.root["$external"].command("usersInfo", 1)["users"]
        return {user["user"] for user in (*inside, *outside)} - {"operator"}

    def opens(self, pem: str) -> bool:
        """Say whether a certificate opens the app's data."""
        with self.server.client(pem) as client:
            return reads(client, self.name)

    async def aclose(self) -> None:
        await self._driver.close(self._client)
        for user in self.server.root["$external"].command("usersInfo", 1)["users"]:
            self.server.root["$external"].command("dropUser", user["user"])
        self.raw.command("dropAllUsersFromDatabase")
        self.raw.command("dropAllRolesFromDatabase")
        self.server.root.drop_database(self.name)


def reads(client: Client, database: str) -> bool:
    try:
        client[database].shop_orders.find_one()
    except OperationFailure as error:
        if error.code not in REFUSALS:
            raise
        return False
    return True


@pytest.fixture(params=["motor", "pymongo"])
async def bench(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Bench]:
    bench = Bench(server, "apps", get_driver(request.param))
    yield bench
    await bench.aclose()


async def test_an_app_logs_in_by_its_certificate_to_its_own_data_and_by_no_password(
    bench: Bench,
) -> None:
    app = await bench.register()
    assert await bench.ensure(app)
    assert not await bench.ensure(app)
    subject = user_subject("apps", SLUG, 1, app.incarnation)
    assert bench.user_names() == {subject}
    with bench.server.client(await bench.pem()) as client:
        mine = client["apps"]
        mine.shop_orders.insert_one({"app_id": SLUG})
        assert mine.shop_orders.count_documents({}) == 1
        seen = client.admin.command("connectionStatus")["authInfo"]["authenticatedUsers"]
        assert seen == [{"user": subject, "db": "$external"}]
        for refused in ("apps_config", "_mdb_engine_app_secrets"):
            with pytest.raises(OperationFailure):
                mine[refused].find_one()
        with pytest.raises(OperationFailure):
            client["$external"].command("createUser", "CN=me", roles=[])


async def test_a_version_that_ended_is_refused_at_once_although_its_certificate_is_valid(
    bench: Bench,
) -> None:
    app = await bench.register()
    await bench.ensure(app)
    first = await bench.pem()
    with bench.server.client(first) as open_since:
        assert reads(open_since, "apps")
        await bench.rotate()
        await bench.ensure(app)
        second = await bench.pem()
        assert second != first
        assert bench.opens(first)  # the overlap
        assert bench.opens(second)
        await bench.registry.revoke_previous(SLUG)
        assert await bench.drop_ended()
        assert not reads(open_since, "apps")
    assert not bench.opens(first)
    assert bench.opens(second)
    assert not await bench.ensure(app)


async def test_a_certificate_of_a_deleted_app_opens_no_later_one_of_the_same_slug(
    bench: Bench,
) -> None:
    app = await bench.register()
    await bench.ensure(app)
    former = await bench.pem()
    # The worst way to go: the data is gone, and users and roles stay.
    bench.server.root.drop_database("apps")
    bench.start(bench.issuer)
    again = await bench.register("another-uid")
    assert await bench.ensure(again)
    assert bench.user_names() == {user_subject("apps", SLUG, 1, again.incarnation)}
    assert bench.opens(await bench.pem())
    assert not bench.opens(former)


async def test_a_deletion_and_the_sweep_drop_the_users_of_this_database_alone(
    bench: Bench,
) -> None:
    other = Bench(bench.server, "others", get_driver("pymongo"))
    theirs = await other.register()
    await other.ensure(theirs)
    app = await bench.register()
    await bench.ensure(app)
    assert await bench.users.drop(SLUG)
    kept = {user_subject("others", SLUG, 1, theirs.incarnation)}
    assert bench.user_names() == kept

    await bench.ensure(app)

    async def nobody() -> list[str]:
        return []

    assert len(await bench.users.sweep(nobody)) == 2  # the user, and the role
    assert bench.user_names() == kept
    assert other.opens(await other.pem())
    await other.aclose()


async def test_what_somebody_gave_a_user_by_hand_is_taken_off_and_one_that_was_dropped_is_back(
    bench: Bench,
) -> None:
    app = await bench.register()
    await bench.ensure(app)
    subject = user_subject("apps", SLUG, 1, app.incarnation)
    outside = bench.server.root["$external"]
    outside.command("grantRolesToUser", subject, roles=[{"role": "read", "db": "apps"}])
    assert await bench.users.altered() == [SLUG]
    assert await bench.ensure(app)
    [user] = outside.command("usersInfo", subject)["users"]
    assert user["roles"] == [{"role": "mdb-engine.app.shop", "db": "apps"}]
    outside.command("dropUser", subject)
    assert await bench.ensure(app)
    assert bench.opens(await bench.pem())


async def test_passwords_give_way_to_certificates_and_back_with_an_overlap_each(
    bench: Bench,
) -> None:
    bench.start(None)
    app = await bench.register()
    await bench.ensure(app)
    assert bench.user_names() == {"shop.v1"}
    bench.start(bench.issuer)
    await bench.rotate()
    await bench.ensure(app)
    certified = user_subject("apps", SLUG, 2, app.incarnation)
    assert bench.user_names() == {"shop.v1", certified}
    await bench.registry.revoke_previous(SLUG)
    assert await bench.drop_ended()
    assert bench.user_names() == {certified}
    pem = await bench.pem()
    bench.start(None)
    await bench.rotate()
    await bench.ensure(app)
    assert bench.user_names() == {certified, "shop.v3"}
    await bench.registry.revoke_previous(SLUG)
    bench.start(None)  # a process that never saw a certificate
    await bench.users.prepare()
    assert await bench.drop_ended()
    assert bench.user_names() == {"shop.v3"}
    assert not bench.opens(pem)


async def test_a_certificate_that_the_authority_made_for_somebody_else_is_nobody(
    bench: Bench,
) -> None:
    app = await bench.register()
    await bench.ensure(app)
    stranger = bench.server.authority.issue(f"{SLUG}.v1", []).read_text()
    assert not bench.opens(stranger)


async def test_a_password_is_all_that_an_operator_without_the_further_role_needs(
    bench: Bench,
) -> None:
    bench.raw.command(
        "revokeRolesFromUser", "operator", roles=[{"role": EXTERNAL_ROLE, "db": "admin"}]
    )
    bench.start(None)
    await bench.users.prepare()
    app = await bench.register()
    await bench.ensure(app)
    assert not await bench.ensure(app)
    await bench.rotate()
    await bench.ensure(app)
    await bench.registry.revoke_previous(SLUG)
    assert await bench.drop_ended()
    assert await bench.users.drop(SLUG)
    assert bench.user_names() == set()


@pytest.mark.long
async def test_a_server_trusts_an_old_and_a_new_authority_from_one_file(tmp_path: Path) -> None:
    old, new = (Authority(tmp_path / name, f"the {name} one") for name in ("old", "new"))
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(old.certificate.read_bytes() + new.certificate.read_bytes())
    for serving in (old, new):
        files = TlsFiles(
            ca=bundle,
            certificate_and_key=serving.issue("server", ["127.0.0.1"]),
            client=old.issue("administrator", []),
        )
        with MongoServer(MongoConfig(tls=files, die_with_parent=True)) as owned:
            for trusted, certifying, served in (
                (bundle, old, True),
                (bundle, new, True),
                (serving.certificate, new, True),
                ((new if serving is old else old).certificate, new, False),
            ):
                with MongoClient[dict[str, Any]](
                    f"mongodb://127.0.0.1:{owned.port}/?tls=true",
                    tlsCAFile=str(trusted),
                    tlsCertificateKeyFile=str(certifying.issue("client", [])),
                    serverSelectionTimeoutMS=5_000 if served else 300,
                ) as client:
                    try:
                        client.admin.command("ping")
                    except PyMongoError:
                        assert not served
                    else:
                        assert served
