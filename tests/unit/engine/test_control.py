"""What the codes of MongoDB, and of what is like it, are said to mean."""

from __future__ import annotations

import pytest
from pymongo.errors import OperationFailure

from mdb_engine.connection.control import translated
from mdb_engine.exceptions import DatabaseForbidden, DatabaseFull, DatabaseUnavailable


@pytest.mark.parametrize(
    ("code", "text", "meaning"),
    [
        (18, "Authentication failed.", "the user or its password is wrong"),
        (8000, "bad auth : authentication failed", "the user or its password is wrong"),
        (8000, "CMD_NOT_ALLOWED: createUser", "isolation: library"),
        (59, "no such command: 'createRole'", "isolation: library"),
        (115, "Command createUser not supported.", "isolation: library"),
        (303, "Feature not supported: createRole", "isolation: library"),
        (13, "not authorized on mdb to execute command", "lacks the right"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_is_not(code: int, text: str, meaning: str) -> None:
    error = OperationFailure(text, code, {"errmsg": text, "code": code})
    with pytest.raises(DatabaseForbidden, match=meaning) as caught, translated("make a user"):
        raise error
    assert ("password" in str(caught.value)) is ("password" in meaning)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (14031, "available disk space of 0 bytes is less than required minimum"),
        (8, "28: No space left on device"),
        (8000, "you are over your space quota, using 525 MB of 512 MB"),
    ],
)
def test_a_full_disk_is_called_by_its_name(code: int, text: str) -> None:
    error = OperationFailure(text, code, {"errmsg": text, "code": code})
    with pytest.raises(DatabaseFull, match="no room to make") as caught, translated("make a user"):
        raise error
    assert "MB" not in str(caught.value)


def test_what_passes_is_no_refusal() -> None:
    with pytest.raises(DatabaseUnavailable) as caught, translated("make a user"):
        raise OperationFailure("not primary", 10107, {"codeName": "NotWritablePrimary"})
    assert not isinstance(caught.value, DatabaseForbidden)
