from __future__ import annotations

import pytest

from mdb_engine.config import secret_from_environment, secret_variable


@pytest.mark.parametrize(
    ("slug", "variable"),
    [
        ("shop", "SHOP_SECRET"),
        ("click-tracker", "CLICK_TRACKER_SECRET"),
        ("2nd_shop", "2ND_SHOP_SECRET"),
        ("jwt", "MDB_JWT_SECRET"),
        ("client", "MDB_CLIENT_SECRET"),
        ("github-client", "MDB_GITHUB_CLIENT_SECRET"),
        ("stripe_webhook", "MDB_STRIPE_WEBHOOK_SECRET"),
        ("client_portal", "CLIENT_PORTAL_SECRET"),
    ],
)
def test_an_apps_variable_is_not_the_usual_name_of_another_secret(
    slug: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert secret_variable(slug) == variable
    monkeypatch.setenv(f"{slug.upper().replace('-', '_')}_SECRET", "another")
    monkeypatch.setenv(variable, " its own ")
    found = secret_from_environment(slug)
    assert found is not None
    assert found.get_secret_value() == "its own"
    monkeypatch.delenv(variable)
    assert secret_from_environment(slug) is None
