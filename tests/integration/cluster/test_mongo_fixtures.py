from __future__ import annotations

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from support.mongo import Database


def test_a_database_is_empty_and_supports_transactions(mongo: Database) -> None:
    assert mongo.client[mongo.name].list_collection_names() == []

    with mongo.client.start_session() as session, session.start_transaction():
        mongo.client[mongo.name].notes.insert_one({"text": "x"}, session=session)

    assert mongo.client[mongo.name].notes.count_documents({}) == 1


@pytest.mark.long
def test_each_test_has_a_database_of_its_own(mongo: Database, mongo_auth: Database) -> None:
    assert mongo.name != mongo_auth.name
    assert mongo.client[mongo.name].list_collection_names() == []


def test_the_authenticated_server_refuses_who_does_not_log_in(mongo_auth: Database) -> None:
    mongo_auth.client[mongo_auth.name].notes.insert_one({"text": "x"})
    host = mongo_auth.uri.split("@")[1].split("/")[0]

    with (
        MongoClient[dict[str, object]](f"mongodb://{host}/?directConnection=true") as stranger,
        pytest.raises(OperationFailure, match="requires authentication"),
    ):
        stranger[mongo_auth.name].notes.find_one()


def test_users_and_roles_of_a_test_database_go_with_it(mongo_auth: Database) -> None:
    database = mongo_auth.client[mongo_auth.name]
    privilege = {"resource": {"db": mongo_auth.name, "collection": "notes"}, "actions": ["find"]}
    database.command("createRole", "reader", privileges=[privilege], roles=[])
    database.command("createUser", "ann", pwd="a-password", roles=["reader"])

    uri = mongo_auth.uri.replace("authSource=admin", f"authSource={mongo_auth.name}")
    uri = "mongodb://ann:a-password@" + uri.split("@")[1]
    with MongoClient[dict[str, object]](uri) as ann:
        assert ann[mongo_auth.name].notes.find_one() is None
        with pytest.raises(OperationFailure, match="not authorized"):
            ann[mongo_auth.name].notes.insert_one({})


def test_no_user_of_another_test_is_left(mongo_auth: Database) -> None:
    users = mongo_auth.client["admin"]["system.users"].distinct("user")

    assert "ann" not in users
