from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdb_operator.logging import REDACTED, redact, redact_value

KEY = bytes(range(7, 39))


@pytest.mark.parametrize(
    "text",
    [
        "mongodb://app.v1:hunter2@db-0:27017,db-1:27017/mdb?replicaSet=rs0",
        "mongodb+srv://app:hunter2@cluster.example.com/",
        "cannot connect to 'mongodb://app:hun/ter2@db' at once",
        "mongodb://app:hunt@er2@db/",
        "Authorization: Bearer hunter2hunter2",
        "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----",
        "cut off -----BEGIN RSA PRIVATE KEY-----\nhunter2",
    ],
)
def test_a_credential_in_a_text_is_hidden(text: str) -> None:
    shown = redact(text)
    assert REDACTED in shown
    assert "hunt" not in shown
    assert "er2" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "Secret shop/dashboard-mdb is not ours",
        "6d1c2b1a-0f5e-4a53-9d0a-3b5f0a2e7c11",
        "mongodb://db-0.mongodb.svc:27017/mdb?replicaSet=rs0",
        "https://kubernetes.default.svc/apis/mdb-engine.dev/v1/namespaces/shop/mdbapps/click-tracker",
        "a-very-long-kubernetes-object-name-that-goes-on-and-on-with-digits-0123456789",
        "click_tracker_dashboard_reports_of_the_year_2026_and_more",
        "2026-11-24T10:50:00.123456Z",
        "mdb_engine.exceptions.ManifestInvalid: spec.dataAccess.readScopes[0]",
    ],
)
def test_what_people_need_to_read_stays(text: str) -> None:
    assert redact(text) == text


@given(key=st.binary(min_size=32, max_size=64), before=st.sampled_from(["", "key=", "'", " "]))
def test_no_key_survives_in_any_of_its_usual_spellings(key: bytes, before: str) -> None:
    assert key.hex() not in redact(f"{before}{key.hex()} end")
    for spelt in (base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode()):
        if spelt.lower() != spelt != spelt.upper():
            assert spelt.rstrip("=") not in redact(f"{before}{spelt} end")


@pytest.mark.parametrize(
    "name", ["password", "app-secret", "app-secret-previous", "uri", "token", "master_key", "data"]
)
def test_a_field_that_is_named_as_a_secret_is_hidden_whatever_its_value(name: str) -> None:
    assert redact_value({name: "short"}) == {name: REDACTED}
    assert redact_value({"deep": [{name: {"a": "short"}}]}) == {"deep": [{name: REDACTED}]}


def test_numbers_names_and_nothing_pass_and_bytes_do_not() -> None:
    event = {"secret_version": 3, "secret": None, "app": "dashboard", "raw": KEY}
    assert redact_value(event) == {
        "secret_version": 3,
        "secret": None,
        "app": "dashboard",
        "raw": REDACTED,
    }
