"""The operator with exactly its documented MongoDB rights: drift, orphans, switching, TLS."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from support.certificates import Authority
from support.clusters import Cluster
from support.installation import Installation, installed, is_ready
from support.kubelet import mounted
from support.load import under_load
from support.mongo import Client, Server
from support.waiting import wait_until

from devcluster.mongo import MongoConfig, MongoServer, TlsFiles
from mdb_operator.mongodb.rights import EXTERNAL_ROLE, create_external_role_command

pytestmark = pytest.mark.long

QUICK_LEASE = {
    "LEASE_SECONDS": "3",
    "LEASE_RENEW_DEADLINE_SECONDS": "2",
    "LEASE_RETRY_SECONDS": "0.3",
}


def users(here: Installation) -> dict[str, dict[str, Any]]:
    """Return the users of the apps' database by name, but for the operator's own."""
    found = {user["user"]: user for user in here.mongo.command("usersInfo", 1)["users"]}
    found.pop("mdb-operator", None)
    return found


def roles(here: Installation) -> set[str]:
    found = here.mongo.command("rolesInfo", 1)["roles"]
    return {role["role"] for role in found} - {"mdb-engine.operator"}


def wake(here: Installation, name: str) -> None:
    """Have the operator look at an app without asking for anything."""
    here.annotate(name, "looked-at", dt.datetime.now(dt.UTC).isoformat())


def test_drift_is_repaired_and_orphans_end_and_another_operator_ends_an_overlap(
    control_plane: Cluster, mongo_auth_server: Server, tmp_path: Path
) -> None:
    settings = {"RESYNC_SECONDS": "1", **QUICK_LEASE}
    with installed(control_plane, mongo_auth_server, tmp_path, (), **settings) as here:
        here.mongo.command("createUser", "theirs", pwd="theirs", roles=["read"])
        first = here.start()
        here.apply("shop", collections=[{"name": "orders"}])
        here.wait_condition("shop")

        def works() -> bool:
            try:
                client: Client = MongoClient(here.secret("shop-mdb")["uri"])
                with client:
                    client[here.database]["shop_orders"].insert_one({"app_id": "shop"})
            except OperationFailure:
                return False
            return True

        assert works()
        right = users(here)["shop.v1"]["roles"]
        for spoil in (
            {"dropUser": "shop.v1"},
            {"dropRole": "mdb-engine.app.shop"},
            {"updateUser": "shop.v1", "pwd": "changed-by-hand"},
        ):
            here.mongo.command(spoil)
            wait_until(works, message=f"the repair after {spoil}")
        here.mongo.command("grantRolesToUser", "shop.v1", roles=["dbOwner"])
        wait_until(
            lambda: users(here).get("shop.v1", {}).get("roles") == right, message="the extra role"
        )

        here.mongo.command("createRole", "mdb-engine.app.ghost", privileges=[], roles=[])
        here.mongo.command(
            "createUser", "ghost.v1", pwd="x", roles=["mdb-engine.app.ghost"],
            customData={"managedBy": "mdb-engine", "slug": "ghost", "version": 1},
        )  # fmt: skip
        wait_until(lambda: "ghost.v1" not in users(here), message="the orphan's end")
        wait_until(lambda: roles(here) == {"mdb-engine.app.shop"}, message="its role's end")
        assert here.metrics(first)[
            'mdb_operator_writes_total{reason="sweep",target="mongodb"}'
        ] == pytest.approx(2)

        here.annotate("shop", "rotate-requested", "1")
        wait_until(
            lambda: here.secret("shop-mdb")["username"] == "shop.v2", message="the next version"
        )
        assert users(here).keys() == {"theirs", "shop.v1", "shop.v2"}
        here.kill(first)
        past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
        here.mongo["_mdb_engine_app_secrets"].update_one(
            {"slug": "shop"}, {"$set": {"previous.0.expires_at": past}, "$inc": {"revision": 1}}
        )
        second = here.start(name="operator-1")
        wait_until(
            lambda: users(here).keys() == {"theirs", "shop.v2"},
            message=lambda: f"the end of the version before: {sorted(users(here))}",
        )
        assert works()
        here.stop(second)


def test_isolation_can_be_switched_both_ways_under_load(
    control_plane: Cluster, mongo_auth_server: Server, tmp_path: Path
) -> None:
    with installed(control_plane, mongo_auth_server, tmp_path) as here:
        process = here.start()
        here.apply("shop", collections=[{"name": "orders"}])
        here.wait_condition("shop")
        root = tmp_path / "bindings"
        root.mkdir()
        with (
            mounted(here, "shop", root) as mount,
            under_load(root, "shop", "orders") as clients,
        ):

            def all_on(username: str) -> bool:
                state = mount.directory / "..data"
                return (mount.directory / "username").read_text() == username and all(
                    client.state == str(state.readlink()) for client in clients
                )

            wait_until(lambda: all_on("shop.v1"), deadline=20, message="the start")
            here.stop(process)
            process = here.start(ISOLATION="library")
            wait_until(lambda: all_on("mdb-operator"), deadline=20, message="the shared user")
            message = here.condition("shop", "DatabaseUserReady")["message"]
            assert "only the library keeps apps apart" in message
            (left,) = users(here).values()
            assert left["customData"]["retireAt"] > dt.datetime.now(dt.UTC).replace(tzinfo=None)
            over = {**left["customData"], "retireAt": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}
            here.mongo.command("updateUser", "shop.v1", customData=over)
            wake(here, "shop")
            wait_until(lambda: not users(here), message="the end of the app's own user")
            wait_until(lambda: not roles(here), message="the end of the app's role")

            here.stop(process)
            process = here.start()
            wait_until(lambda: all_on("shop.v1"), deadline=20, message="a user of its own")
            assert roles(here) == {"mdb-engine.app.shop"}
        here.stop(process)


@contextmanager
def tls_server(
    authority: Authority, *, demanding: bool, clients: Path | None = None
) -> Iterator[Server]:
    """Give a server that accepts TLS only, and perhaps only clients with a certificate."""
    files = TlsFiles(
        ca=clients or authority.certificate,
        certificate_and_key=authority.issue("server", ["127.0.0.1"]),
        client=authority.issue("administrator", []) if demanding else None,
    )
    config = MongoConfig(auth=True, tls=files, die_with_parent=True)
    with MongoServer(config) as owned, Client(owned.uri) as client:
        yield Server(owned.uri, client, owned)


@pytest.mark.parametrize("demanding", [False, True], ids=["authorities", "client-certificates"])
def test_tls_to_mongodb_reaches_the_apps_and_follows_new_files(
    control_plane: Cluster, tmp_path: Path, *, demanding: bool
) -> None:
    authority = Authority(tmp_path)
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.certificate.read_bytes())
    settings = {"MONGODB_TLS_CA_FILE": str(bundle)}
    if demanding:
        settings["MONGODB_TLS_CERTIFICATE_FILE"] = str(authority.issue("operator", []))
        settings["MONGODB_APPS_CERTIFICATE_FILE"] = str(authority.issue("apps", []))
    root = tmp_path / "bindings"
    root.mkdir()
    with (
        tls_server(authority, demanding=demanding) as server,
        installed(control_plane, server, tmp_path, (), **settings) as here,
    ):
        process = here.start()
        here.apply("shop", collections=[{"name": "orders"}])
        here.wait_all(is_ready, ["shop"], message="ready")
        entries = here.secret("shop-mdb")
        assert entries["certificates"].strip() == bundle.read_text().strip()
        assert "tls=true" in entries["uri"]
        if demanding:
            own = Path(settings["MONGODB_TLS_CERTIFICATE_FILE"]).read_text()
            apps = Path(settings["MONGODB_APPS_CERTIFICATE_FILE"]).read_text()
            assert entries["client-certificate"].strip() == apps.strip()
            assert own.splitlines()[-3] not in str(entries)
        else:
            assert entries["client-certificate"] == ""

        with mounted(here, "shop", root) as mount, under_load(root, "shop", "orders") as clients:
            state = mount.directory / "..data"
            wait_until(
                lambda: all(one.state == str(state.readlink()) for one in clients),
                deadline=20, message="the start",
            )  # fmt: skip
            before = str(state.readlink())
            if demanding:
                authority.issue("apps", [])
                wake(here, "shop")
            else:
                # The operator's own connection is made of these, too: it starts anew.
                (tmp_path / "other").mkdir()
                both = bundle.read_bytes() + Authority(tmp_path / "other").certificate.read_bytes()
                bundle.write_bytes(both)
                assert process.wait_end() == 1
                assert "A certificate for MongoDB has changed" in process.text()
                process = here.start(name="operator-1")
            wait_until(
                lambda: str(state.readlink()) != before
                and all(one.state == str(state.readlink()) for one in clients),
                deadline=20, message="the new certificates",
            )  # fmt: skip
        entries = here.secret("shop-mdb")
        if demanding:
            renewed = Path(settings["MONGODB_APPS_CERTIFICATE_FILE"]).read_text()
            assert entries["client-certificate"].strip() == renewed.strip()
        else:
            assert entries["certificates"].strip() == bundle.read_text().strip()
        here.stop(process)


def refused(entries: dict[str, str], directory: Path) -> bool:
    """Say whether MongoDB does not let in who has these entries of a Secret, that are not over."""
    (directory / "certificates").write_text(entries["certificates"])
    (directory / "client-certificate").write_text(entries["client-certificate"])
    with Client(
        entries["uri"],
        tlsCAFile=str(directory / "certificates"),
        tlsCertificateKeyFile=str(directory / "client-certificate"),
        serverSelectionTimeoutMS=5_000,
    ) as client:
        try:
            client[entries["database"]]["shop_orders"].find_one()
        except OperationFailure:
            return True
    return False


def test_apps_log_in_by_certificates_and_follow_a_rotation_and_another_authority_under_load(
    control_plane: Cluster, tmp_path: Path
) -> None:
    authority, next_one = Authority(tmp_path), Authority(tmp_path / "next", "the next authority")
    trusted = tmp_path / "trusted.pem"  # by MongoDB
    trusted.write_bytes(authority.certificate.read_bytes())
    issuer = authority.write_issuer(tmp_path / "issuer")
    settings = {
        "MONGODB_TLS_CA_FILE": str(authority.certificate),
        "MONGODB_TLS_CERTIFICATE_FILE": str(authority.issue("operator", [])),
        "MONGODB_APPS_ISSUER_DIR": str(issuer),
        "RESYNC_SECONDS": "1",
    }
    root = tmp_path / "bindings"
    root.mkdir()
    with (
        tls_server(authority, demanding=True, clients=trusted) as server,
        installed(control_plane, server, tmp_path, (), **settings) as here,
    ):
        server.client.admin.command(create_external_role_command())
        role = {"role": EXTERNAL_ROLE, "db": "admin"}
        here.mongo.command("grantRolesToUser", "mdb-operator", roles=[role])
        process = here.start()
        here.apply("shop", collections=[{"name": "orders"}])
        here.wait_all(is_ready, ["shop"], message="ready")
        first = here.secret("shop-mdb")
        assert re.fullmatch(rf"CN=shop\.v1,OU=[0-9a-f]+,O={here.database}", first["username"])
        assert first["password"] == ""
        assert "@" not in first["uri"]
        assert "authMechanism=MONGODB-X509&authSource=%24external" in first["uri"]
        assert users(here) == {}
        assert here.status("shop")["secret"]["certificateExpiresAt"] > "2026"

        with mounted(here, "shop", root) as mount, under_load(root, "shop", "orders") as clients:

            def all_on(version: int) -> bool:
                state = mount.directory / "..data"
                mine = (mount.directory / "username").read_text()
                return mine.startswith(f"CN=shop.v{version},") and all(
                    client.state == str(state.readlink()) for client in clients
                )

            wait_until(lambda: all_on(1), deadline=20, message="the start")
            here.annotate("shop", "rotate-requested", "1")
            wait_until(lambda: all_on(2), deadline=20, message="the next version")
            assert not refused(first, tmp_path)
            here.annotate("shop", "revoke-previous", "1")
            wait_until(lambda: refused(first, tmp_path), message="the end of the first")

            # Another authority, of which MongoDB has not been told: nobody is given its word.
            next_one.write_issuer(issuer)
            wait_until(
                lambda: "net.tls.CAFile" in here.condition("shop", "SecretProjected")["message"],
                deadline=30,
                message=lambda: str(here.status("shop")),
            )
            assert here.condition("shop")["status"] == "True"
            assert all_on(2)
            trusted.write_bytes(
                authority.certificate.read_bytes() + next_one.certificate.read_bytes()
            )
            server.client.admin.command("rotateCertificates")
            wait_until(lambda: all_on(3), deadline=40, message=lambda: str(here.status("shop")))

        last = here.secret("shop-mdb")
        assert not refused(last, tmp_path)
        here.kubectl("delete", "mdbapp", "shop", "--timeout=20s")
        assert refused(last, tmp_path)
        assert server.client["$external"].command("usersInfo", 1)["users"] == []
        here.stop(process)
        assert here.scan_for_leaks() > 0
