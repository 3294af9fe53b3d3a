from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from pymongo.uri_parser import parse_uri

from mdb_engine.core.secret import Credentials, RevealedSecrets
from mdb_operator.apps.conditions import Isolation
from mdb_operator.apps.projection import Address, projected_data
from mdb_operator.constants import SECRET_KEYS

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def credentials(version: int) -> Credentials:
    return Credentials(
        version=version,
        token=SecretStr(f"token-{version}"),
        session_key=SecretStr(f"session-{version}"),
        database_password=SecretStr(f"p@ss/{version}"),
    )


def revealed(*versions: int) -> RevealedSecrets:
    current, *earlier = map(credentials, versions)
    return RevealedSecrets("orders", current, tuple(earlier), "k1", NOW)


def address(uri: str, isolation: Isolation = "database", apps_uri: str | None = None) -> Address:
    public = SecretStr(apps_uri) if apps_uri else None
    return Address.parse(SecretStr(uri), public, "mdb", isolation)


def test_every_key_is_there_and_empty_where_it_does_not_apply() -> None:
    data = projected_data(address("mongodb://db:27017"), revealed(1))
    assert set(data) == set(SECRET_KEYS)
    assert [key for key in SECRET_KEYS if not data[key]] == [
        "app-secret-previous",
        "session-key-previous",
        "certificates",
        "client-certificate",
    ]
    assert (data["type"], data["provider"], data["app-slug"]) == (
        "mongodb",
        "mdb-operator",
        "orders",
    )


def test_an_app_with_a_certificate_of_its_own_has_no_password_to_lose() -> None:
    pem = SecretStr("-----BEGIN CERTIFICATE-----\n...")
    current = replace(credentials(3), client_certificate=pem)
    certified = RevealedSecrets("orders", current, (credentials(2),), "k1", NOW, "0a1b")
    data = projected_data(address("mongodb://op:pw@db/?authMechanism=PLAIN"), certified)
    assert data["uri"] == (
        "mongodb://db/mdb?tls=true&authMechanism=MONGODB-X509&authSource=%24external"
    )
    assert data["username"] == "CN=orders.v3,OU=0a1b,O=mdb"
    assert data["password"] == ""
    assert data["client-certificate"] == pem.get_secret_value()
    assert data["app-secret-previous"] == "token-2"
    assert set(data) == set(SECRET_KEYS)
    shared = projected_data(address("mongodb://op:pw@db", "library"), certified)
    assert (shared["username"], shared["client-certificate"]) == ("op", "")


def test_the_previous_entries_are_of_the_version_before() -> None:
    data = projected_data(address("mongodb://db"), revealed(3, 2, 1))
    assert (data["app-secret"], data["app-secret-previous"]) == ("token-3", "token-2")
    assert data["session-key-previous"] == "session-2"
    after_revocation = projected_data(address("mongodb://db"), revealed(3, 1))
    assert after_revocation["app-secret-previous"] == ""


def test_with_a_user_of_its_own_nothing_of_the_operators_login_is_left() -> None:
    uri = "mongodb://root:s3cret%40@a:1,b:2/admin?replicaSet=rs&tls=true"
    data = projected_data(address(uri), revealed(4))
    parsed = parse_uri(data["uri"])
    assert (parsed["username"], parsed["password"]) == ("orders.v4", "p@ss/4")
    assert parsed["nodelist"] == [("a", 1), ("b", 2)]
    assert parsed["database"] == "mdb"
    assert parsed["options"]["authSource"] == "mdb"
    assert parsed["options"]["replicaSet"] == "rs"
    assert (data["username"], data["password"]) == ("orders.v4", "p@ss/4")
    assert (data["host"], data["port"]) == ("a", "1")
    assert "root" not in str(data)
    assert "s3cret" not in str(data)


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("mongodb://root:pw%2F1@db", "admin"),
        ("mongodb://root:pw%2F1@db/users", "users"),
        ("mongodb://root:pw%2F1@db/users?authSource=other", "other"),
        ("mongodb://root:pw%2F1@db/users?authsource=other", "other"),
    ],
)
def test_a_shared_user_keeps_the_database_that_it_is_defined_in(uri: str, source: str) -> None:
    data = projected_data(address(uri, "library"), revealed(1))
    parsed = parse_uri(data["uri"])
    assert (parsed["username"], parsed["password"]) == ("root", "pw/1")
    assert parsed["options"]["authSource"] == source
    assert parsed["database"] == "mdb"


def test_apps_may_reach_mongodb_by_another_name() -> None:
    data = projected_data(
        address("mongodb://root:pw@inside", "library", "mongodb+srv://outside.example/?tls=true"),
        revealed(1),
    )
    assert data["uri"] == "mongodb+srv://root:pw@outside.example/mdb?tls=true&authSource=admin"
    assert "host" not in data


def test_an_option_that_stands_there_several_times_is_kept_in_order() -> None:
    tags = "readPreferenceTags=dc:near,rack:1&readPreferenceTags="
    data = projected_data(address(f"mongodb://db/?readPreference=nearest&{tags}"), revealed(1))
    options = parse_uri(data["uri"])["options"]
    assert options["readPreferenceTags"] == [{"dc": "near", "rack": "1"}, {}]


def test_without_a_login_there_is_none() -> None:
    data = projected_data(address("mongodb://db:27017/?replicaSet=rs", "library"), revealed(1))
    assert data["uri"] == "mongodb://db:27017/mdb?replicaSet=rs"
    assert (data["username"], data["password"]) == ("", "")


def test_no_secret_is_in_a_repr() -> None:
    assert "pw" not in repr(address("mongodb://root:pw@db", "library"))
