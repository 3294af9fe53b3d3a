from __future__ import annotations

import sys
from typing import Any

import pytest

from mdb_engine.authz import (
    Authorizer,
    AuthorizerUnavailable,
    PolicyDenied,
    make_authorizer,
)
from mdb_engine.authz.authorizer import authorize
from mdb_engine.exceptions import ManifestInvalid, ScopeDenied
from mdb_engine.models.manifest import Policy

CASBIN = {
    "model": "rbac",
    "policies": [["editor", "reports", "write"], ["reader", "reports", "read"], ["root", "*", "*"]],
    "roles": [["ada", "editor"], ["editor", "reader"], ["eve", "root"]],
}
OSO = {
    "policy": """
        allow(user, action, "reports") if has_role(user, role) and can(role, action);
        allow("eve", _action, _resource);
        has_role("ada", "editor");
        can("editor", "write");
        can("editor", "read");
    """
}


@pytest.mark.parametrize(("provider", "settings"), [("casbin", CASBIN), ("oso", OSO)])
async def test_each_provider_answers_from_its_policy(
    provider: str, settings: dict[str, Any]
) -> None:
    authorizer = make_authorizer(
        Policy.model_validate({"provider": provider, "authorization": settings})
    )
    assert isinstance(authorizer, Authorizer)
    for subject, action, resource, expected in (
        ("ada", "write", "reports", True),
        ("ada", "read", "reports", True),
        ("ada", "read", "salaries", False),
        ("bob", "read", "reports", False),
        ("eve", "delete", "salaries", True),
        ("", "", "", False),
    ):
        assert await authorizer.allows(subject, action, resource) is expected


async def test_only_a_yes_lets_through() -> None:
    class Answers:
        def __init__(self, answer: object) -> None:
            self.answer = answer

        async def allows(self, *_: str) -> Any:
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    yes: object = True
    await authorize(Answers(yes), "ada", "read", "reports")
    for answer in (False, None, 0, "yes", 1):
        with pytest.raises(PolicyDenied) as denied:
            await authorize(Answers(answer), "ada", "read", "reports")
        assert isinstance(denied.value, ScopeDenied)
    with pytest.raises(AuthorizerUnavailable) as failed:
        await authorize(Answers(RuntimeError("about ada")), "ada", "read", "reports")
    assert "about ada" not in str(failed.value)


@pytest.mark.parametrize(
    ("policy", "path"),
    [
        ({"provider": "casbin", "authorization": {"policys": []}}, "authorization.policys"),
        ({"provider": "casbin", "authorization": {"model": "nonsense"}}, "authorization"),
        ({"provider": "oso", "authorization": {}}, "authorization.policy"),
        ({"provider": "oso", "authorization": {"policy": "allow("}}, "authorization"),
        ({"provider": "custom"}, "provider"),
    ],
)
def test_a_policy_that_cannot_work_refuses_the_start(policy: dict[str, Any], path: str) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        make_authorizer(Policy.model_validate(policy))
    assert refused.value.path is not None
    assert refused.value.path.endswith(path)


@pytest.mark.parametrize("provider", ["casbin", "oso"])
def test_a_provider_that_is_not_installed_refuses_the_start(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"mdb_engine.authz.{provider}", raising=False)
    monkeypatch.setitem(sys.modules, provider, None)
    with pytest.raises(ManifestInvalid, match=rf"install mdbapp-engine\[{provider}\]"):
        make_authorizer(Policy.model_validate({"provider": provider}))
