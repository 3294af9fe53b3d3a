"""Authorisation by Casbin, embedded: policies come from the manifest and live in memory.

Users and roles are two kinds of name. Casbin has one, and a user who could choose to be called like
a role would have it; so here a user is ``user:ada`` to Casbin, a role ``role:clerk``, and whoever
has no session ``anonymous``. A manifest may leave out the kind where it settles it by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import casbin
from pydantic import BaseModel, ConfigDict, Field

from mdb_engine.constants import ANONYMOUS
from mdb_engine.exceptions import Fault, ManifestInvalid

__all__ = ["CasbinAuthorizer", "CasbinSettings"]

ACL: Final = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && (p.obj == "*" || keyMatch(r.obj, p.obj)) && (p.act == "*" || r.act == p.act)
"""
"""Who may do what, one by one; a resource may end in ``/*``."""

RBAC: Final = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && (p.obj == "*" || keyMatch(r.obj, p.obj)) && (p.act == "*" || r.act == p.act)
"""
"""The same through roles, which may hold other roles."""

BUILT_IN: Final = {"acl": ACL, "rbac": RBAC}

USER: Final = "user:"
ROLE: Final = "role:"

AT: Final = "auth.policy.authorization"
"""Where in a manifest the settings stand."""


class CasbinSettings(BaseModel):
    """``auth.policy.authorization`` of a manifest whose provider is casbin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        default="rbac", description="acl, rbac, or the text of a Casbin model of one's own."
    )
    policies: tuple[tuple[str, ...], ...] = Field(
        default=(), description="Lines of the policy: user or role, resource, action."
    )
    roles: tuple[tuple[str, str], ...] = Field(
        default=(), description="Who has which role: user or role, role."
    )


class CasbinAuthorizer:
    """Answers from a Casbin model and policy.

    Parameters
    ----------
    model
        ``rbac``, ``acl``, or the text of a model whose request is ``sub, obj, act``. To a model of
        one's own, policies and roles are passed as they are, and a user is ``user:ada``.
    policies
        Lines of the policy: user or role, resource, action.
    roles
        Pairs of user or role, and role.

    Raises
    ------
    ManifestInvalid
        With all lines that could not be meant as they stand.
    """

    def __init__(
        self,
        model: str = "rbac",
        policies: Sequence[Sequence[str]] = (),
        roles: Sequence[Sequence[str]] = (),
    ) -> None:
        parsed = casbin.Model()
        parsed.load_model_from_text(BUILT_IN.get(model, model))
        if model in BUILT_IN:
            policies, roles = _understood(model, policies, roles)
        else:
            _refuse_lines(_wrong_lengths(policies, len(parsed["p"]["p"].tokens)))
        self._enforcer = casbin.Enforcer(parsed)
        for policy in policies:
            self._enforcer.add_policy(*policy)
        for role in roles:
            self._enforcer.add_grouping_policy(*role)
        # Whether the matcher can be evaluated shows when it is: now, not at the first request. What
        # a line names gets farther in it than a stranger.
        for probe in ((ANONYMOUS, "/", "read"), *policies[:1]):
            self._enforcer.enforce(*probe[:3])

    async def allows(self, subject: str, action: str, resource: str) -> bool:
        """Say whether a user may do an action on a resource."""
        name = ANONYMOUS if subject == ANONYMOUS else USER + subject
        return bool(self._enforcer.enforce(name, resource, action))


def _understood(
    model: str, policies: Sequence[Sequence[str]], roles: Sequence[Sequence[str]]
) -> tuple[list[list[str]], list[list[str]]]:
    """Return policies and roles with the kind of every name, or refuse those that have two."""
    faults = _wrong_lengths(policies, 3)
    if model == "acl" and roles:
        faults["roles"] = "the model acl has no roles; use rbac"
    _refuse_lines(faults)
    given = {_named(role, ROLE) for _, role in roles}
    for index, (subject, resource, _) in enumerate(policies):
        line = f"policies[{index}]"
        if model == "rbac" and not _has_kind(subject) and ROLE + subject not in given:
            faults[line] = (
                f"nobody has the role {subject!r}: write {USER + subject!r} if that is a user, or "
                f"{ROLE + subject!r} if it is a role that nobody has yet"
            )
        elif "*" in resource.removesuffix("/*") and resource != "*":
            faults[line] = (
                f"{resource!r} would match more than it says: * stands for all that is below, so "
                "only at the end, as in '/orders/*'; write the parameters of a route as the route "
                "does, '/orders/{id}/lines'"
            )
    for index, (_, role) in enumerate(roles):
        if role == ANONYMOUS or role.startswith(USER):
            faults[f"roles[{index}]"] = f"{role!r} is no role; the second name has to be one"
    _refuse_lines(faults)
    kind = ROLE if model == "rbac" else USER
    return (
        [[_named(subject, kind), *rest] for subject, *rest in policies],
        [
            [_named(member, ROLE if ROLE + member in given else USER), _named(role, ROLE)]
            for member, role in roles
        ],
    )


def _has_kind(name: str) -> bool:
    return name == ANONYMOUS or name.startswith((USER, ROLE))


def _named(name: str, kind: str) -> str:
    return name if _has_kind(name) else kind + name


def _wrong_lengths(policies: Sequence[Sequence[str]], expected: int) -> dict[str, str]:
    return {
        f"policies[{index}]": f"has {len(policy)} parts, {', '.join(policy)!r}, not {expected}"
        for index, policy in enumerate(policies)
        if len(policy) != expected or not all(policy)
    }


def _refuse_lines(faults: dict[str, str]) -> None:
    if faults:
        raise ManifestInvalid([Fault(f"{AT}.{line}", text) for line, text in faults.items()])
