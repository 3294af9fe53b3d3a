from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from support import leakscan

from mdb_engine.exceptions import InvalidToken, TokenRequired
from mdb_engine.sessions import SessionKeys, Sessions, cookie_name, derive_session_key

OLD, NEW = b"o" * 32, b"n" * 32


def sessions(slug: str = "shop", current: int = 1, **keys: bytes) -> Sessions:
    made = Sessions(slug, timedelta(hours=1))
    made.use(SessionKeys(current, {int(name[1:]): key for name, key in keys.items()}))
    return made


def forged(key: bytes = OLD, kid: str | None = "1", alg: str = "HS256", **claims: Any) -> str:
    now = datetime.now(UTC)
    payload = {
        "iss": "shop",
        "aud": "shop",
        "sub": "ada",
        "iat": now,
        "exp": now + timedelta(hours=1),
        "jti": "x",
        **claims,
    }
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, key, alg, headers={} if kid is None else {"kid": kid})


def test_a_session_says_whose_it_is() -> None:
    made = sessions(v1=OLD)
    session = made.verify(made.issue("ada", {"role": "admin"}))
    assert (session.subject, session.claims) == ("ada", {"role": "admin"})
    assert session.expires_at > datetime.now(UTC)


def test_a_session_outlives_a_rotation_but_not_its_overlap() -> None:
    made = sessions(v1=OLD)
    token = made.issue("ada")
    made.use(SessionKeys(2, {1: OLD, 2: NEW}))
    assert made.verify(token).subject == "ada"
    assert jwt.get_unverified_header(made.issue("ada"))["kid"] == "2"
    made.use(SessionKeys(2, {2: NEW}))
    with pytest.raises(InvalidToken, match="no longer accepted"):
        made.verify(token)


def test_a_key_whose_overlap_is_over_is_not_accepted() -> None:
    made = sessions(v1=OLD)
    token = made.issue("ada")
    now = datetime.now(UTC)
    made.use(SessionKeys(2, {1: OLD, 2: NEW}, {1: now + timedelta(minutes=1)}))
    assert made.verify(token).subject == "ada"
    made.use(SessionKeys(2, {1: OLD, 2: NEW}, {1: now}))
    with pytest.raises(InvalidToken, match="no longer accepted"):
        made.verify(token)


@pytest.mark.parametrize(
    "token",
    [
        forged(NEW),
        forged(iss="bank"),
        forged(aud="bank"),
        forged(sub=None),
        forged(exp=None),
        forged(jti=None),
        forged(exp=datetime.now(UTC) - timedelta(minutes=1)),
        forged(iat=datetime.now(UTC) + timedelta(minutes=5)),
        forged(kid=None),
        forged(kid="9"),
        forged(kid="1" * 5000),
        forged(kid="../../key"),
        forged(OLD * 2, alg="HS512"),
        jwt.encode({"sub": "ada"}, "", "none", headers={"kid": "1"}),
        "not.a.token",
        "x",
        forged() + "x",
    ],
)
def test_what_is_not_a_valid_session_is_refused_without_being_repeated(token: str) -> None:
    with pytest.raises(InvalidToken) as caught:
        sessions(v1=OLD).verify(token)
    assert token not in str(caught.value)


@pytest.mark.parametrize("token", [None, ""])
def test_no_session_is_told_from_a_bad_one(token: str | None) -> None:
    with pytest.raises(TokenRequired):
        sessions(v1=OLD).verify(token)


def test_an_app_without_a_key_issues_nothing() -> None:
    with pytest.raises(TokenRequired):
        Sessions("shop", timedelta(hours=1)).issue("ada")


@pytest.mark.parametrize(("subject", "claims"), [("", {}), ("ada", {"aud": "bank"})])
def test_reserved_claims_cannot_be_set(subject: str, claims: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"subject|set by the engine"):
        sessions(v1=OLD).issue(subject, claims)


def test_a_derived_key_is_each_apps_own_and_not_the_token() -> None:
    token = "the-app-secret-of-256-random-bits"
    assert derive_session_key(token, "shop") != derive_session_key(token, "bank")
    assert token.encode() not in derive_session_key(token, "shop")


def test_nothing_secret_is_shown() -> None:
    leakscan.register(OLD, "a session key")
    assert leakscan.occurrences(repr(SessionKeys(1, {1: OLD}))) == []


def test_cookies_of_apps_on_one_host_differ() -> None:
    assert cookie_name("shop") != cookie_name("bank")
