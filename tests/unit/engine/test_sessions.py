from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from support import leakscan

from mdb_engine.access.sessions import (
    PUBLICATION_SECONDS,
    SessionKeys,
    Sessions,
    cookie_name,
    derive_session_key,
)
from mdb_engine.exceptions import InvalidToken, SessionInvalid, SessionRequired, TokenRequired

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


def signed_with(made: Sessions) -> str:
    return str(jwt.get_unverified_header(made.issue("ada"))["kid"])


def test_a_session_outlives_a_rotation_but_not_its_overlap() -> None:
    made = sessions(v1=OLD)
    token = made.issue("ada")
    made.use(SessionKeys(2, {1: OLD, 2: NEW}))
    assert made.verify(token).subject == "ada"
    made.use(SessionKeys(2, {2: NEW}))
    with pytest.raises(InvalidToken, match="no longer accepted"):
        made.verify(token)


def test_a_key_is_accepted_at_once_and_signs_when_all_replicas_have_it() -> None:
    now = datetime.now(UTC)
    first = Sessions("shop", timedelta(hours=1), clock=lambda: now)
    other = sessions(v1=OLD)
    first.use(SessionKeys(1, {1: OLD}))
    assert signed_with(first) == "1"
    first.use(SessionKeys(2, {1: OLD, 2: NEW}))
    assert other.verify(first.issue("ada")).subject == "ada"
    now += timedelta(seconds=PUBLICATION_SECONDS - 1)
    assert signed_with(first) == "1"
    first.use(SessionKeys(2, {1: OLD, 2: NEW}))  # the same mount again changes nothing
    now += timedelta(seconds=1)
    assert signed_with(first) == "2"


@pytest.mark.parametrize(
    ("keys", "version"),
    [
        (SessionKeys(2, {2: NEW}), "2"),
        (SessionKeys(3, {2: NEW, 3: OLD}), "3"),
        (SessionKeys(2, {1: OLD, 2: NEW}, {1: datetime.now(UTC)}), "2"),
    ],
)
def test_a_key_that_is_revoked_signs_no_more_although_the_next_is_new(
    keys: SessionKeys, version: str
) -> None:
    made = sessions(v1=OLD)
    made.use(keys)
    assert signed_with(made) == version


def test_a_process_that_has_just_started_signs_with_the_newest() -> None:
    assert signed_with(sessions(current=2, v1=OLD, v2=NEW)) == "2"


def test_a_key_whose_overlap_is_over_is_not_accepted() -> None:
    made = sessions(v1=OLD)
    token = made.issue("ada")
    now = datetime.now(UTC)
    made.use(SessionKeys(2, {1: OLD, 2: NEW}, {1: now + timedelta(minutes=1)}))
    assert made.verify(token).subject == "ada"
    made.use(SessionKeys(2, {1: OLD, 2: NEW}, {1: now}))
    with pytest.raises(InvalidToken, match="no longer accepted"):
        made.verify(token)


# Made in the test and not here: a token holds the time, and workers that collect in different
# seconds would have different names for one test.
INVALID: dict[str, Callable[[], str]] = {
    "another key": lambda: forged(NEW),
    "another issuer": lambda: forged(iss="bank"),
    "another audience": lambda: forged(aud="bank"),
    "no subject": lambda: forged(sub=None),
    "no end": lambda: forged(exp=None),
    "no id": lambda: forged(jti=None),
    "over": lambda: forged(exp=datetime.now(UTC) - timedelta(minutes=1)),
    "of the future": lambda: forged(iat=datetime.now(UTC) + timedelta(minutes=5)),
    "no key id": lambda: forged(kid=None),
    "an unknown key id": lambda: forged(kid="9"),
    "a long key id": lambda: forged(kid="1" * 5000),
    "a path as key id": lambda: forged(kid="../../key"),
    "another algorithm": lambda: forged(OLD * 2, alg="HS512"),
    "no signature": lambda: jwt.encode({"sub": "ada"}, "", "none", headers={"kid": "1"}),
    "no token": lambda: "not.a.token",
    "a letter": lambda: "x",
    "a letter more": lambda: forged() + "x",
}


@pytest.mark.parametrize("made", INVALID.values(), ids=INVALID)
def test_what_is_not_a_valid_session_is_refused_without_being_repeated(
    made: Callable[[], str],
) -> None:
    token = made()
    with pytest.raises(SessionInvalid) as caught:
        sessions(v1=OLD).verify(token)
    assert isinstance(caught.value, InvalidToken)
    assert token not in str(caught.value)


@pytest.mark.parametrize("token", [None, ""])
def test_no_session_is_told_from_a_bad_one(token: str | None) -> None:
    with pytest.raises(SessionRequired) as caught:
        sessions(v1=OLD).verify(token)
    assert isinstance(caught.value, TokenRequired)


def test_an_app_without_a_key_issues_nothing() -> None:
    with pytest.raises(TokenRequired) as caught:
        Sessions("shop", timedelta(hours=1)).issue("ada")
    assert not isinstance(caught.value, SessionRequired), "that is the app's fault, so no 401"


@pytest.mark.parametrize(("subject", "claims"), [("", {}), ("ada", {"aud": "bank"})])
def test_reserved_claims_cannot_be_set(subject: str, claims: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"subject|set by the engine"):
        sessions(v1=OLD).issue(subject, claims)


@pytest.mark.parametrize("subject", [42, None, b"ada", ["ada"]])
def test_a_subject_that_no_request_could_be_made_with_is_refused_when_it_is_issued(
    subject: Any,
) -> None:
    with pytest.raises(TypeError, match="subject is a string"):
        sessions(v1=OLD).issue(subject)


def test_nobody_is_called_anonymous() -> None:
    made = sessions(v1=OLD)
    with pytest.raises(ValueError, match="nobody's name"):
        made.issue("anonymous")
    with pytest.raises(SessionInvalid):
        made.verify(forged(sub="anonymous"))
    assert made.verify(made.issue("Anonymous")).subject == "Anonymous"


def test_a_derived_key_is_each_apps_own_and_not_the_token() -> None:
    token = "the-app-secret-of-256-random-bits"
    assert derive_session_key(token, "shop") != derive_session_key(token, "bank")
    assert token.encode() not in derive_session_key(token, "shop")


def test_nothing_secret_is_shown() -> None:
    leakscan.register(OLD, "a session key")
    assert leakscan.occurrences(repr(SessionKeys(1, {1: OLD}))) == []


def test_cookies_of_apps_on_one_host_differ() -> None:
    assert cookie_name("shop") != cookie_name("bank")
