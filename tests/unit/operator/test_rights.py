"""What the operator's MongoDB role allows: what the documents list, in one database."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mdb_operator.mongodb import rights

MONGODB = Path(__file__).parents[3] / "docs" / "mongodb.md"


@pytest.mark.parametrize("users", [True, False], ids=["database", "library"])
def test_the_operators_role_reaches_one_database_and_inherits_nothing(*, users: bool) -> None:
    command = rights.create_role_command("mdb", users=users)
    assert command["roles"] == []
    assert [one["resource"] for one in command["privileges"]] == [{"db": "mdb", "collection": ""}]
    actions = {action for one in command["privileges"] for action in one["actions"]}
    assert actions == {*rights.DATA_ACTIONS, *(rights.USER_ACTIONS if users else ())}


def test_the_further_role_reaches_users_with_certificates_alone_and_grants_nothing() -> None:
    command = rights.create_external_role_command()
    assert command["roles"] == []
    [privilege] = command["privileges"]
    assert privilege["resource"] == {"db": "$external", "collection": ""}
    assert not [action for action in privilege["actions"] if "ole" in action]


def test_the_documents_list_every_action_of_the_operators() -> None:
    section = MONGODB.read_text().partition("## The operator's rights")[2].partition("\n## ")[0]
    data, users = re.findall(r"^- .+?(?=^- |^$)", section, re.MULTILINE | re.DOTALL)
    listed = [set(re.findall(r"`([a-zA-Z]+)`", text)) for text in (data, users)]
    assert listed == [set(rights.DATA_ACTIONS), set(rights.USER_ACTIONS)]
    [external] = re.findall(r"certificates.*? on `\$external`", section, re.DOTALL)
    assert set(re.findall(r"`([a-zA-Z]+)`", external)) == set(rights.EXTERNAL_ACTIONS)
