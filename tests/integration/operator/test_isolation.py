"""With ``isolation: database`` what is handed out is a MongoDB user of the app's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from pymongo.errors import OperationFailure
from support.clusters import Cluster
from support.installation import Installation, installed
from support.mongo import Client, Server
from support.waiting import wait_until


def users(installation: Installation) -> set[str]:
    found = {user["user"] for user in installation.mongo.command("usersInfo", 1)["users"]}
    return found - {"mdb-operator"}


def test_users_and_roles_follow_grants_rotation_and_deletion(
    control_plane: Cluster, mongo_auth_server: Server, tmp_path: Path
) -> None:
    with installed(control_plane, mongo_auth_server, tmp_path, ISOLATION="database") as here:
        process = here.start()
        here.apply("own", collections=[{"name": "things"}])
        here.apply(
            "reader",
            collections=[{"name": "notes"}],
            dataAccess={"readScopes": ["reader", "own"]},
        )
        here.wait_condition("own")
        here.wait_condition("reader", "Provisioned", "GrantsResolved")
        here.mongo["own_things"].insert_one({"app_id": "own"})
        entries = here.secret("reader-mdb")
        assert entries["username"] == "reader.v1"
        with Client(entries["uri"]) as client:
            database = client.get_default_database()
            database["reader_notes"].insert_one({"app_id": "reader"})
            assert database["own_things"].count_documents({}) == 1
            with pytest.raises(OperationFailure):
                database["own_things"].insert_one({})
            for engines in ("_mdb_engine_app_secrets", "apps_config"):
                with pytest.raises(OperationFailure):
                    database[engines].find_one()

            # Consent withdrawn: MongoDB itself refuses, without anyone touching the reader.
            here.apply("own", dataAccess={"crossAppPolicy": "DenyAll"})
            here.wait_condition("reader", "NotGranted", "GrantsResolved")
            with pytest.raises(OperationFailure):
                database["own_things"].count_documents({})

        here.annotate("reader", "rotate-requested", "1")
        wait_until(
            lambda: here.secret("reader-mdb")["username"] == "reader.v2", message="the new user"
        )
        with Client(entries["uri"]) as client:  # the previous works on
            assert client.get_default_database()["reader_notes"].count_documents({}) == 1
        here.annotate("reader", "revoke-previous", "1")
        wait_until(lambda: users(here) == {"own.v1", "reader.v2"}, message="the end of the other")
        with Client(here.secret("reader-mdb")["uri"]) as client:
            assert client.get_default_database()["reader_notes"].count_documents({}) == 1

        here.kubectl("delete", "mdbapp", "own", "reader", "--timeout=20s")
        assert users(here) == set()
        roles = here.mongo.command("rolesInfo", 1)["roles"]
        assert [role["role"] for role in roles] == ["mdb-engine.operator"]
        here.stop(process)
        assert here.scan_for_leaks() > 0
