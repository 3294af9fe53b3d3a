from __future__ import annotations

import sys
from typing import Any

import pytest

from mdb_engine.authz import Authorizer, make_authorizer
from mdb_engine.authz.authorizer import authorize
from mdb_engine.exceptions import (
    AuthorizerUnavailable,
    ManifestInvalid,
    PolicyDenied,
    ScopeDenied,
)
from mdb_engine.models.manifest import Manifest, Policy

CASBIN = {
    "model": "rbac",
    "policies": [["editor", "reports", "write"], ["reader", "reports", "read"], ["root", "*", "*"]],
    "roles": [["ada", "editor"], ["editor", "reader"], ["eve", "root"]],
}


def casbin(**settings: Any) -> Authorizer:
    return make_authorizer(Policy.model_validate({"provider": "casbin", "authorization": settings}))


async def test_casbin_answers_from_its_policy() -> None:
    authorizer = casbin(**CASBIN)
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


@pytest.mark.parametrize(
    "name", ["editor", "reader", "root", "role:editor", "role:root", "user:eve", "*", "user:ada"]
)
async def test_a_user_who_is_called_like_a_role_does_not_have_it(name: str) -> None:
    authorizer = casbin(**CASBIN)
    for action in ("read", "write", "delete"):
        assert await authorizer.allows(name, action, "reports") is False


async def test_a_line_may_be_about_a_user_a_role_or_whoever_has_no_session() -> None:
    authorizer = casbin(
        policies=[
            ["user:ada", "/own", "read"],
            ["anonymous", "/login", "write"],
            ["role:auditor", "/logs/*", "read"],
            ["clerk", "/orders/{id}", "*"],
        ],
        roles=[["bob", "clerk"], ["user:clerk", "role:auditor"], ["anonymous", "guest"]],
    )
    for subject, action, resource, expected in (
        ("ada", "read", "/own", True),
        ("anonymous", "write", "/login", True),
        ("ada", "write", "/login", False),
        ("bob", "write", "/orders/{id}", True),
        ("bob", "read", "/orders/export", False),
        ("clerk", "read", "/orders/{id}", False),
        ("clerk", "read", "/logs/2026/a", True),
        ("clerk", "read", "/logs", False),
        ("clerk", "read", "/logsecret", False),
        ("anonymous", "read", "/own", False),
    ):
        assert await authorizer.allows(subject, action, resource) is expected, (subject, resource)


async def test_without_roles_every_name_is_a_users() -> None:
    authorizer = casbin(model="acl", policies=[["ada", "/own", "read"], ["anonymous", "/", "read"]])
    assert await authorizer.allows("ada", "read", "/own") is True
    assert await authorizer.allows("anonymous", "read", "/") is True
    assert await authorizer.allows("user:ada", "read", "/own") is False


MODEL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = r.sub == p.sub && keyMatch2(r.obj, p.obj) && r.act == p.act
"""


async def test_a_model_of_ones_own_gets_its_lines_as_they_are() -> None:
    lines = [["user:ada", "/a/*/b", "read", "allow"], ["user:ada", "/a/x/b", "read", "deny"]]
    authorizer = casbin(model=MODEL, policies=lines)
    assert await authorizer.allows("ada", "read", "/a/y/b") is True
    assert await authorizer.allows("ada", "read", "/a/x/b") is False


@pytest.mark.parametrize(
    ("settings", "line", "said"),
    [
        ({"policies": [["root", "*", "*"], ["clerk", "/orders"]]}, "policies[1]", "not 3"),
        ({"policies": [["clerk", "/orders", "read", "x"]]}, "policies[0]", "4 parts"),
        ({"policies": [[]]}, "policies[0]", "0 parts"),
        ({"policies": [["", "/orders", "read"]]}, "policies[0]", "'"),
        ({"policies": [["ada", "/orders", "read"]]}, "policies[0]", "'user:ada' if that is a user"),
        ({"policies": [["user:a", "/orders/*/lines", "read"]]}, "policies[0]", "more than it says"),
        ({"policies": [["user:a", "/orders*", "read"]]}, "policies[0]", "more than it says"),
        ({"policies": [["user:a", "*/orders", "read"]]}, "policies[0]", "more than it says"),
        ({"policies": [["user:a", "/*/*", "read"]]}, "policies[0]", "more than it says"),
        ({"roles": [["ada", "user:clerk"]]}, "roles[0]", "is no role"),
        ({"roles": [["ada", "anonymous"]]}, "roles[0]", "is no role"),
        ({"model": "acl", "roles": [["ada", "clerk"]]}, "roles", "use rbac"),
        ({"model": MODEL, "policies": [["user:a", "/", "read"]]}, "policies[0]", "not 4"),
    ],
)
def test_a_line_that_cannot_be_meant_refuses_the_start_and_is_named(
    settings: dict[str, Any], line: str, said: str
) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        casbin(**settings)
    faults = {fault.path: fault.message for fault in refused.value.faults}
    assert said in faults[f"auth.policy.authorization.{line}"]


def test_a_matcher_that_cannot_be_evaluated_refuses_the_start() -> None:
    with pytest.raises(ManifestInvalid, match="casbin refuses it"):
        casbin(
            model=MODEL.replace("keyMatch2", "noSuchFunction"),
            policies=[["user:ada", "/", "read", "allow"]],
        )
    with pytest.raises(ManifestInvalid, match="casbin refuses it"):
        casbin(model=MODEL.replace("r = sub, obj, act", "r = sub, act"))


def test_the_oso_library_is_no_provider_any_more() -> None:
    with pytest.raises(ManifestInvalid, match=r"given up by its makers.*authorizer=") as refused:
        Manifest.load(
            {"slug": "shop", "managed_indexes": {}, "auth": {"policy": {"provider": "oso"}}}
        )
    assert refused.value.path == "auth.policy.provider"


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
        ({"provider": "custom"}, "provider"),
    ],
)
def test_a_policy_that_cannot_work_refuses_the_start(policy: dict[str, Any], path: str) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        make_authorizer(Policy.model_validate(policy))
    assert refused.value.path is not None
    assert refused.value.path.endswith(path)


def test_a_provider_that_is_not_installed_refuses_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "mdb_engine.authz.casbin", raising=False)
    monkeypatch.setitem(sys.modules, "casbin", None)
    with pytest.raises(ManifestInvalid, match=r"install mdbapp-engine\[casbin\]"):
        casbin()
